//! Plots as SVG, drawn without any library so that a report is one file.

use std::fmt::Write as _;

use crate::cluster::Cluster;
use crate::faults::describe;
use crate::manifest::Manifest;

const WIDTH: f64 = 1_000.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 15.0;
const TOP: f64 = 30.0;
/// Points of one plot, at most; more are thinned out evenly.
const POINTS_MAX: usize = 6_000;
/// Views of the timeline, at most: the first ones.
const VIEWS_MAX: usize = 400;
/// Validators of the timeline, at most: more rows cannot be told apart.
const ROWS_MAX: usize = 100;

/// An opened picture with its title.
fn open(height: f64, title: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/><text x=\"{LEFT}\" y=\"18\" font-weight=\"bold\">{}</text>\n",
        escape(title)
    )
}

/// Text inside XML.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A round step that divides `span` into about `parts`.
fn step(span: f64, parts: f64) -> f64 {
    let raw = (span / parts).max(1e-9);
    let scale = 10f64.powf(raw.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|it| it * scale).find(|it| *it >= raw).unwrap_or(raw)
}

/// The place of a moment on the horizontal axis.
fn across(at: u64, end: u64) -> f64 {
    LEFT + (WIDTH - LEFT - RIGHT) * at as f64 / end.max(1) as f64
}

/// The seconds below a plot, and the perturbations behind it.
fn axis(text: &mut String, manifest: &Manifest, end: u64, bottom: f64) {
    for perturb in &manifest.perturb {
        let from = across(perturb.at.0.min(end), end);
        let until = perturb.lasts.map_or(end, |lasts| (perturb.at.0 + lasts.0).min(end));
        let _ = writeln!(
            text,
            "<rect x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"#c33\" opacity=\"0.08\"><title>{}</title></rect>",
            (across(until, end) - from).max(1.0),
            bottom - TOP,
            escape(&describe(perturb))
        );
    }
    let seconds = end as f64 / 1e6;
    let step = step(seconds, 10.0);
    let mut at = 0.0;
    while at <= seconds {
        let x = across((at * 1e6) as u64, end);
        let _ = writeln!(
            text,
            "<line x1=\"{x:.1}\" y1=\"{bottom}\" x2=\"{x:.1}\" y2=\"{}\" stroke=\"#666\"/><text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{} s</text>",
            bottom + 4.0,
            bottom + 17.0,
            (at * 1e3).round() / 1e3
        );
        at += step;
    }
}

/// Each transaction's finality over the moment it was submitted, with timed-out views.
pub(crate) fn finality(manifest: &Manifest, cluster: &Cluster) -> String {
    let submissions = cluster.clients.submissions.iter();
    let points: Vec<(u64, u64)> =
        submissions.filter_map(|it| Some((it.submitted, it.seen_at? - it.submitted))).collect();
    let timed_out: Vec<u64> = cluster.record.views.values().filter_map(|row| row.timed_out).collect();
    finality_plot(manifest, cluster.now, &points, &timed_out)
}

/// A plot of `points`, each the moment of a submission and how long its finality took, as SVG. The manifest's
/// perturbations are shaded, views that timed out marked. All times in microseconds after the start.
pub fn finality_plot(manifest: &Manifest, end: u64, points: &[(u64, u64)], timed_out: &[u64]) -> String {
    let (height, bottom, end) = (360.0, 320.0, end.max(1));
    let mut text = open(height, "Finality of each transaction, by the moment it was submitted");
    let most = points.iter().map(|(_, took)| *took).max().unwrap_or(1_000).max(1_000) as f64;
    let down = |took: f64| bottom - (bottom - TOP) * took / (most * 1.05);
    axis(&mut text, manifest, end, bottom);
    let step = step(most / 1e3, 6.0);
    let mut at = 0.0;
    while at * 1e3 <= most * 1.05 {
        let y = down(at * 1e3);
        let _ = writeln!(
            text,
            "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{}\" y2=\"{y:.1}\" stroke=\"#ddd\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{} ms</text>",
            WIDTH - RIGHT,
            LEFT - 5.0,
            y + 4.0,
            (at * 1e3).round() / 1e3
        );
        at += step;
    }
    for at in timed_out {
        let x = across(*at, end);
        let _ = writeln!(
            text,
            "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\" stroke=\"#e80\" stroke-dasharray=\"2 3\"><title>a view timed out</title></line>"
        );
    }
    for (submitted, took) in points.iter().step_by(points.len().div_ceil(POINTS_MAX).max(1)) {
        let (x, y) = (across(*submitted, end), down(*took as f64));
        let _ =
            writeln!(text, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"1.6\" fill=\"#246\" opacity=\"0.55\"/>");
    }
    text.push_str("</svg>\n");
    text
}

/// One column for each view, one row for each validator: who led, who voted, who gave up.
pub(crate) fn views(manifest: &Manifest, cluster: &Cluster) -> String {
    let rows = manifest.keyed().min(ROWS_MAX);
    let tall = (480.0 / rows as f64).clamp(4.0, 24.0);
    let bottom = TOP + tall * rows as f64;
    let shown: Vec<_> = cluster.record.views.iter().take(VIEWS_MAX).collect();
    let mut text = open(bottom + 60.0, "Views: who led, who voted, who gave up");
    let wide = (WIDTH - LEFT - RIGHT) / shown.len().max(1) as f64;
    let cell = |text: &mut String, column: usize, row: u16, colour: &str, title: &str| {
        let (x, y) = (LEFT + wide * column as f64, TOP + tall * f64::from(row));
        let _ = writeln!(
            text,
            "<rect x=\"{x:.2}\" y=\"{y:.1}\" width=\"{:.2}\" height=\"{:.1}\" fill=\"{colour}\"><title>{title}</title></rect>",
            (wide * 0.92).max(0.4),
            tall * 0.9
        );
    };
    for row in 0..rows {
        let y = TOP + tall * (row as f64 + 0.7);
        let role = cluster.record.roles.iter().find(|(node, _)| *node == row);
        let (colour, title) = role.map_or(("#000", String::new()), |(_, kind)| ("#c00", format!("{kind:?}")));
        if tall >= 9.0 || role.is_some() {
            let _ = writeln!(
                text,
                "<text x=\"{}\" y=\"{y:.1}\" text-anchor=\"end\" fill=\"{colour}\" font-size=\"{:.0}\">v{row}<title>{title}</title></text>",
                LEFT - 5.0,
                tall.min(11.0)
            );
        }
    }
    for (column, ((epoch, view), row)) in shown.iter().enumerate() {
        let view = if *epoch == 0 { view.to_string() } else { format!("{view} of epoch {epoch}") };
        for (validator, _) in &row.voted {
            let both = row.commit_voted.iter().any(|(other, _)| other == validator);
            let (colour, what) = if both { ("#4a4", "voted and commit-voted") } else { ("#bd9", "voted") };
            cell(&mut text, column, *validator, colour, &format!("v{validator} {what} in view {view}"));
        }
        for (validator, _) in
            row.commit_voted.iter().filter(|it| row.voted.iter().all(|other| other.0 != it.0))
        {
            cell(&mut text, column, *validator, "#7bb", &format!("v{validator} commit-voted in view {view}"));
        }
        for (validator, _) in &row.gave_up {
            cell(&mut text, column, *validator, "#e80", &format!("v{validator} gave up view {view}"));
        }
        let (x, y) = (LEFT + wide * (column as f64 + 0.46), TOP + tall * (f64::from(row.leader) + 0.45));
        let fill = if row.proposed.is_some() { "#124" } else { "none" };
        let _ = writeln!(
            text,
            "<circle cx=\"{x:.2}\" cy=\"{y:.1}\" r=\"{:.2}\" fill=\"{fill}\" stroke=\"#124\"><title>v{} leads view {view}</title></circle>",
            (wide * 0.3).min(tall * 0.3).max(0.8),
            row.leader
        );
    }
    legend(&mut text, bottom + 20.0, shown.len(), cluster.record.views.len());
    text.push_str("</svg>\n");
    text
}

fn legend(text: &mut String, y: f64, shown: usize, all: usize) {
    let mut x = LEFT;
    for (colour, what) in [
        ("#4a4", "voted and commit-voted"),
        ("#bd9", "voted only"),
        ("#7bb", "commit-voted only"),
        ("#e80", "gave up"),
        ("#124", "leader (filled: proposed)"),
    ] {
        let _ = writeln!(
            text,
            "<rect x=\"{x}\" y=\"{}\" width=\"10\" height=\"10\" fill=\"{colour}\"/><text x=\"{}\" y=\"{y}\">{what}</text>",
            y - 9.0,
            x + 14.0
        );
        x += 175.0;
    }
    let which =
        if shown < all { format!("the first {shown} of {all} views") } else { format!("{all} views") };
    let _ = writeln!(text, "<text x=\"{LEFT}\" y=\"{}\">{which}, left to right</text>", y + 22.0);
}
