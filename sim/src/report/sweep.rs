//! Sweeps: one run for each combination of the values of some keys.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Result;
use toml::Value;

use super::plots::escape;
use super::{Run, page};
use crate::manifest::Manifest;

/// Combinations of one sweep, at most.
const COMBINATIONS_MAX: usize = 10_000;

type Varied = Vec<(String, String)>;

/// Every combination, with the manifest it stands for.
pub(super) fn combinations(manifest: &Manifest) -> Result<Vec<(Varied, Manifest)>, String> {
    let mut plain = manifest.clone();
    plain.sweep.clear();
    let base: Value = Value::try_from(&plain).map_err(|error| error.to_string())?;
    let mut all: Vec<(Varied, Value)> = vec![(Vec::new(), base)];
    for (key, values) in &manifest.sweep {
        if values.is_empty() {
            return Err(format!("sweep.\"{key}\" is empty; expected at least one value"));
        }
        if all.len() * values.len() > COMBINATIONS_MAX {
            return Err(format!("the sweep has more than {COMBINATIONS_MAX} combinations"));
        }
        let mut next = Vec::new();
        for (varied, tree) in &all {
            for value in values {
                let mut tree = tree.clone();
                set(&mut tree, key, value.clone())?;
                let mut varied = varied.clone();
                varied.push((key.clone(), text(value)));
                next.push((varied, tree));
            }
        }
        all = next;
    }
    all.into_iter()
        .map(|(varied, tree)| {
            let manifest: Manifest = tree.try_into().map_err(|error| format!("sweep {varied:?}: {error}"))?;
            manifest.check().map_err(|why| format!("sweep {varied:?}: {why}"))?;
            Ok((varied, manifest))
        })
        .collect()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn set(tree: &mut Value, key: &str, value: Value) -> Result<(), String> {
    let mut at = tree;
    for part in key.split('.') {
        let table =
            at.as_table_mut().ok_or_else(|| format!("sweep key `{key}`: nothing lies below `{part}`"))?;
        at = table.entry(part).or_insert_with(|| Value::Table(toml::Table::new()));
    }
    *at = value;
    Ok(())
}

/// A folder for a combination.
pub(super) fn folder_name(varied: &Varied) -> String {
    let part = |(key, value): &(String, String)| format!("{key}-{value}");
    let name = varied.iter().map(part).collect::<Vec<_>>().join("_");
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect()
}

/// The table of all runs, as CSV and as a page.
pub(super) fn write(folder: &Path, manifest: &Manifest, runs: &[Run], command: &str) -> Result<()> {
    let keys: Vec<&String> = manifest.sweep.keys().collect();
    let columns = [
        "finality_p50_ms",
        "finality_p95_ms",
        "finality_p99_ms",
        "transactions_per_s",
        "blocks_per_s",
        "timed_out_views",
        "bytes_per_validator_and_view",
        "verify_ms_per_validator_and_view",
    ];
    let mut csv = keys.iter().map(|key| key.as_str()).chain(columns).collect::<Vec<_>>().join(",");
    csv.push_str(",good,event_hash\n");
    let mut html = page::open(&manifest.name);
    let _ = writeln!(html, "<p>{}</p><table><tr>", escape(&manifest.about));
    for name in keys.iter().map(|key| key.as_str()).chain(columns).chain(["report"]) {
        let _ = write!(html, "<th>{}</th>", escape(&name.replace('_', " ")));
    }
    html.push_str("</tr>\n");
    for run in runs {
        let cells = cells(run);
        let good = if run.is_good() { "yes" } else { "no" };
        let _ = writeln!(csv, "{},{good},{}", cells.join(","), run.outcome.hash);
        let place =
            run.folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        html.push_str("<tr>");
        cells.iter().for_each(|cell| html.push_str(&format!("<td>{}</td>", escape(cell))));
        let _ = writeln!(html, "<td><a href=\"{}/report.html\">{good}</a></td></tr>", escape(&place));
    }
    let _ = writeln!(html, "</table><h2>Again</h2><pre>{}</pre></body></html>", escape(command));
    fs::create_dir_all(folder)?;
    fs::write(folder.join("sweep.csv"), csv)?;
    fs::write(folder.join("report.html"), html)?;
    fs::write(folder.join("manifest.toml"), manifest.to_toml())?;
    fs::write(folder.join("rerun.txt"), format!("{command}\n"))?;
    Ok(())
}

fn cells(run: &Run) -> Vec<String> {
    let ms = |time: Option<u64>| time.map(|us| format!("{:.1}", us as f64 / 1e3)).unwrap_or_default();
    let figures = &run.figures;
    let mut cells: Vec<String> = run.varied.iter().map(|(_, value)| value.clone()).collect();
    cells.extend(figures.finality.map(ms));
    cells.push(format!("{:.1}", figures.transactions_per_s));
    cells.push(format!("{:.2}", figures.blocks_per_s));
    cells.push(run.outcome.timeouts.to_string());
    cells.push(format!("{:.0}", figures.bytes_per_view));
    cells.push(format!("{:.2}", figures.verify_us_per_view / 1e3));
    cells
}
