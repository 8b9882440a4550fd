//! One page for people: everything in it, nothing fetched.

use std::fmt::Write as _;

use serde_json::Value;

use super::Run;
use super::assertions::ms;
use super::plots::escape;

const STYLE: &str = "body{font:15px/1.5 sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#111}\
    table{border-collapse:collapse}td,th{padding:.2rem .8rem;border-bottom:1px solid #ddd;text-align:left}\
    td:last-child{text-align:right;font-variant-numeric:tabular-nums}pre{background:#f5f5f5;padding:.8rem;overflow-x:auto}\
    .bad{color:#b00;font-weight:bold}.good{color:#070;font-weight:bold}svg{width:100%;height:auto}";

/// The beginning of a page.
pub(super) fn open(title: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n"
    )
}

/// The report of one run.
pub(super) fn one(run: &Run, plots: &[String], command: &str) -> String {
    let mut text = open(&run.name());
    if !run.manifest.about.is_empty() {
        let _ = writeln!(text, "<p>{}</p>", escape(&run.manifest.about));
    }
    text.push_str(&verdict(run));
    for plot in plots {
        let _ = writeln!(text, "{plot}");
    }
    text.push_str("<h2>Figures</h2>\n<table>\n");
    rows(&mut text, "", &run.figures.json(&run.outcome));
    text.push_str("</table>\n");
    epochs(&mut text, run);
    let _ = writeln!(
        text,
        "<h2>Again</h2>\n<pre>{}</pre>\n<p>seed {}, event hash <code>{}</code></p>\n<h2>Manifest</h2>\n<pre>{}</pre>\n</body></html>",
        escape(command),
        run.manifest.seed,
        run.outcome.hash,
        escape(&run.manifest.to_toml())
    );
    text
}

/// The table of epochs; of very many, the last ones.
fn epochs(text: &mut String, run: &Run) {
    const ROWS_MAX: usize = 200;
    let Some(cluster) = run.outcome.cluster.as_ref().filter(|_| run.manifest.epochs.is_some()) else {
        return;
    };
    let all = &cluster.record.epochs;
    let shown = &all[all.len().saturating_sub(ROWS_MAX)..];
    let _ = writeln!(
        text,
        "<h2>Epochs</h2>\n<p>the last {} of {} that began after the first</p>\n<table><tr><th>epoch</th><th>began, ms</th>\
         <th>at the last of its nodes</th><th>above height</th><th>carriers</th><th>convicted</th><th>validators</th></tr>",
        shown.len(),
        all.len()
    );
    for row in shown {
        let _ = writeln!(
            text,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            row.number,
            ms(row.began),
            ms(row.last_began),
            row.root,
            row.carriers,
            row.convicted,
            escape(&row.members)
        );
    }
    text.push_str("</table>\n");
}

/// Whether all is well, and what is not.
pub(super) fn verdict(run: &Run) -> String {
    let mut text = String::new();
    match &run.outcome.violation {
        None => text.push_str("<p class=\"good\">No invariant was violated.</p>\n"),
        Some(violation) => {
            let _ = writeln!(text, "<p class=\"bad\">Violated: {}</p>", escape(&violation.to_string()));
        }
    }
    for missed in &run.missed {
        let _ = writeln!(text, "<p class=\"bad\">Missed: {}</p>", escape(missed));
    }
    text
}

fn rows(text: &mut String, prefix: &str, value: &Value) {
    let Value::Object(fields) = value else { return };
    for (key, value) in fields {
        let name = format!("{prefix}{}", key.replace('_', " "));
        match value {
            Value::Object(_) => rows(text, &format!("{name} "), value),
            Value::Number(number) => {
                let shown = number.as_f64().filter(|_| number.is_f64());
                let shown = shown.map_or_else(|| number.to_string(), |float| format!("{float:.1}"));
                let _ = writeln!(text, "<tr><td>{}</td><td>{shown}</td></tr>", escape(&name));
            }
            _ => {}
        }
    }
}
