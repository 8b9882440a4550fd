//! What an experiment leaves in its output folder: the resolved manifest, tables, plots, one page, and the command
//! that does it again.

mod assertions;
mod figures;
mod page;
mod plots;
mod sweep;
mod tables;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use serde_json::{Value, json};

use crate::manifest::{Manifest, Signatures};
use crate::run::Outcome;
use crate::transcript::Transcript;

pub(crate) use assertions::missed;
pub(crate) use figures::Figures;
pub use plots::finality_plot;

/// Lines of a broken run's transcript that are kept in its folder.
const TRANSCRIPT_LINES: usize = 20_000;

/// One run of an experiment with what it showed.
pub(crate) struct Run {
    /// What of the sweep is special to it: key and value.
    pub(crate) varied: Vec<(String, String)>,
    pub(crate) manifest: Manifest,
    pub(crate) outcome: Outcome,
    pub(crate) figures: Figures,
    pub(crate) missed: Vec<String>,
    pub(crate) folder: PathBuf,
}

impl Run {
    /// Whether everything is as the manifest wants it. A run that is meant to break must.
    pub(crate) fn is_good(&self) -> bool {
        let meant_to_break = self.manifest.assert.violations_min.unwrap_or_default() > 0;
        self.missed.is_empty() && (self.outcome.violation.is_none() || meant_to_break)
    }

    fn name(&self) -> String {
        if self.varied.is_empty() {
            return self.manifest.name.clone();
        }
        let part = |(key, value): &(String, String)| format!("{key}={value}");
        self.varied.iter().map(part).collect::<Vec<_>>().join(" ")
    }

    fn json(&self) -> Value {
        let mut value = self.figures.json(&self.outcome);
        value["run"] = json!(self.name());
        value["folder"] = json!(self.folder.display().to_string());
        value["seed"] = json!(self.manifest.seed);
        value["hash"] = json!(self.outcome.hash.to_string());
        value["missed"] = json!(self.missed);
        value["violation"] = json!(self.outcome.violation);
        value
    }
}

/// Runs the experiment in `path` and writes its folder. `Ok(false)` when an invariant or an assertion does not hold.
///
/// # Errors
/// When the manifest is refused, or the folder cannot be written.
pub(crate) fn experiment(
    path: &Path,
    seed: Option<u64>,
    real: bool,
    out: Option<&Path>,
    as_json: bool,
) -> Result<bool> {
    let mut manifest = Manifest::read(path)?;
    manifest.seed = seed.unwrap_or(manifest.seed);
    if real {
        manifest.signatures = Signatures::Real;
    }
    let folder = out.map_or_else(|| Path::new("sim-results").join(&manifest.name), Path::to_owned);
    let command = rerun_command(path, seed, real, out);
    let mut runs = Vec::new();
    for (varied, manifest) in sweep::combinations(&manifest).map_err(|why| anyhow!(why))? {
        let place = if varied.is_empty() { folder.clone() } else { folder.join(sweep::folder_name(&varied)) };
        let run = one(varied, manifest, place, &command)?;
        if !as_json {
            println!("{}", run.figures.line(&run.name(), &run.outcome));
            run.missed.iter().for_each(|missed| println!("  MISSED: {missed}"));
            if let Some(violation) = &run.outcome.violation {
                println!(
                    "  VIOLATION: {violation}\n  transcript: {}",
                    run.folder.join("transcript.txt").display()
                );
            }
        }
        runs.push(run);
    }
    if runs.len() > 1 {
        sweep::write(&folder, &manifest, &runs, &command)?;
    }
    let good = runs.iter().all(Run::is_good);
    if as_json {
        let runs: Vec<Value> = runs.iter().map(Run::json).collect();
        println!("{}", json!({ "experiment": manifest.name, "good": good, "runs": runs, "rerun": command }));
    } else {
        println!("results in {}; again: {command}", folder.display());
    }
    Ok(good)
}

/// Runs one combination and writes its folder.
fn one(varied: Vec<(String, String)>, manifest: Manifest, folder: PathBuf, command: &str) -> Result<Run> {
    let broken = manifest.byzantine.beyond_f;
    let transcript = if broken { Transcript::kept() } else { Transcript::default() };
    let mut outcome = crate::run::run(&manifest, true, &transcript).map_err(|why| anyhow!(why))?;
    let mut lines = transcript.tail(TRANSCRIPT_LINES);
    if outcome.violation.is_some() && !broken {
        // The same events again, this time written down.
        let transcript = Transcript::kept();
        outcome = crate::run::run(&manifest, true, &transcript).map_err(|why| anyhow!(why))?;
        lines = transcript.tail(TRANSCRIPT_LINES);
    }
    let figures = Figures::of(&manifest, &outcome);
    let missed = missed(&manifest, &outcome, &figures);
    let run = Run { varied, manifest, outcome, figures, missed, folder };
    write(&run, &lines, command).with_context(|| format!("cannot write {}", run.folder.display()))?;
    Ok(run)
}

fn write(run: &Run, transcript: &str, command: &str) -> Result<()> {
    fs::create_dir_all(&run.folder)?;
    let put = |name: &str, text: String| fs::write(run.folder.join(name), text);
    put("manifest.toml", resolved(run, command))?;
    put("summary.json", format!("{:#}\n", run.json()))?;
    put("rerun.txt", format!("{command}\n"))?;
    if let Some(cluster) = &run.outcome.cluster {
        put("blocks.csv", tables::blocks(cluster))?;
        put("views.csv", tables::views(cluster))?;
        if run.manifest.epochs.is_some() {
            put("epochs.csv", tables::epochs(cluster))?;
        }
        put("tx.csv", tables::transactions(cluster))?;
        put("messages.csv", tables::messages(cluster))?;
        let (finality, views) =
            (plots::finality(&run.manifest, cluster), plots::views(&run.manifest, cluster));
        put("finality.svg", finality.clone())?;
        put("views.svg", views.clone())?;
        put("report.html", page::one(run, &[finality, views], command))?;
    }
    if !transcript.is_empty() {
        put("transcript.txt", format!("{transcript}\n"))?;
    }
    Ok(())
}

/// The manifest with every default written out, its seed, and what ran it.
fn resolved(run: &Run, command: &str) -> String {
    let mut manifest = run.manifest.clone();
    manifest.sweep.clear();
    format!(
        "# cairn {} (protocol header version {})\n# {command}\n# event hash {}\n{}",
        env!("CARGO_PKG_VERSION"),
        cairn_types::block::HEADER_VERSION,
        run.outcome.hash,
        manifest.to_toml()
    )
}

fn rerun_command(path: &Path, seed: Option<u64>, real: bool, out: Option<&Path>) -> String {
    let mut command = format!("cairn sim run {}", path.display());
    if let Some(seed) = seed {
        command.push_str(&format!(" --seed {seed}"));
    }
    if real {
        command.push_str(" --real-signatures");
    }
    if let Some(out) = out {
        command.push_str(&format!(" --out {}", out.display()));
    }
    command
}

#[cfg(test)]
#[path = "../report_tests.rs"]
mod tests;
