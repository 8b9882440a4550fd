//! `cairn sim`: the verbs and what they print.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::campaign;
use crate::manifest::Manifest;
use crate::run::Outcome;
use crate::transcript::Transcript;
use crate::units::Micros;

/// Lines of a failure's transcript that are printed.
const TRANSCRIPT_LINES: usize = 60;

/// `cairn sim ...`.
#[derive(Args, Clone, Debug)]
pub struct SimArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Clone, Debug)]
enum Verb {
    /// Run an experiment: every combination of its sweep, with figures, plots and a report
    Run {
        /// The experiment, a TOML file (docs/SIMULATOR.md)
        manifest: PathBuf,
        /// Another seed than the manifest's
        #[arg(long, value_name = "N")]
        seed: Option<u64>,
        /// Real Dilithium3 signatures instead of stand-ins
        #[arg(long)]
        real_signatures: bool,
        /// Where results go [default: sim-results/NAME]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Play seed after seed: random faults and misbehaviour, then calm; stops at the first violation
    Seeds(Seeds),
    /// Play one seed of `seeds` again, with its transcript
    Replay {
        #[command(flatten)]
        shape: Shape,
        /// The seed
        #[arg(long, value_name = "N")]
        seed: u64,
        /// Lines of the transcript, counted from its end; 0 for all
        #[arg(long, value_name = "N", default_value_t = 0)]
        lines: usize,
        /// Write the experiment that the seed stands for, as a manifest
        #[arg(long, value_name = "FILE")]
        manifest: Option<PathBuf>,
    },
}

/// The networks of a campaign.
#[derive(Args, Clone, Copy, Debug)]
struct Shape {
    /// Validators
    #[arg(long, value_name = "N", default_value_t = 4)]
    n: usize,
    /// Virtual time of each seed's faults
    #[arg(long, value_name = "TIME", default_value = "12s")]
    duration: Micros,
}

#[derive(Args, Clone, Copy, Debug)]
struct Seeds {
    #[command(flatten)]
    shape: Shape,
    /// The first seed
    #[arg(long, value_name = "N", default_value_t = 0)]
    first: u64,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 200)]
    count: u64,
    /// Or: as many as this much wall time allows, in minutes
    #[arg(long, value_name = "MINUTES", conflicts_with = "count")]
    minutes: Option<f64>,
}

/// Does what the arguments ask for. `Ok(false)` when an invariant or an assertion does not hold.
///
/// # Errors
/// When a manifest is refused or a file cannot be written.
pub fn run(args: &SimArgs, json: bool) -> Result<bool> {
    match &args.verb {
        Verb::Run { manifest, seed, real_signatures, out } => {
            crate::report::experiment(manifest, *seed, *real_signatures, out.as_deref(), json)
        }
        Verb::Seeds(seeds) => seeds_played(*seeds, json),
        Verb::Replay { shape, seed, lines, manifest } => {
            replay(*shape, *seed, *lines, manifest.as_ref(), json)
        }
    }
}

/// Sums over a campaign.
#[derive(Default)]
struct Totals {
    seeds: u64,
    events: u64,
    simulated: Duration,
    blocks: u64,
    transactions: u64,
    crashes: u64,
    syncs: u64,
    timeouts: u64,
    accusations: u64,
    epochs: u64,
    convicted: u64,
}

impl Totals {
    fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.events += outcome.events;
        self.simulated += outcome.simulated;
        self.blocks += outcome.height;
        self.transactions += outcome.finals;
        self.crashes += outcome.crashes;
        self.syncs += outcome.syncs;
        self.timeouts += outcome.timeouts;
        self.accusations += outcome.accusations;
        self.epochs += outcome.epochs;
        self.convicted += outcome.convicted;
    }

    fn json(&self, took: Duration) -> serde_json::Value {
        let took = took.as_secs_f64().max(1e-9);
        json!({
            "seeds": self.seeds,
            "events": self.events,
            "simulated_s": self.simulated.as_secs_f64(),
            "took_s": took,
            "simulated_s_per_s": self.simulated.as_secs_f64() / took,
            "seeds_per_hour": self.seeds as f64 * 3_600.0 / took,
            "blocks": self.blocks,
            "transactions": self.transactions,
            "crashes": self.crashes,
            "journal_syncs": self.syncs,
            "timed_out_views": self.timeouts,
            "accusations": self.accusations,
            "epochs": self.epochs,
            "convicted": self.convicted,
        })
    }
}

fn seeds_played(seeds: Seeds, json: bool) -> Result<bool> {
    let started = Instant::now();
    let limit = seeds.minutes.map(|minutes| Duration::from_secs_f64(minutes.max(0.0) * 60.0));
    let mut totals = Totals::default();
    let mut seed = seeds.first;
    loop {
        let over = match limit {
            Some(limit) => started.elapsed() >= limit,
            None => totals.seeds >= seeds.count,
        };
        if over {
            break;
        }
        let manifest = campaign::scenario(seed, seeds.shape.n, seeds.shape.duration);
        let outcome = campaign::play(&manifest, &Transcript::default()).map_err(|why| anyhow!(why))?;
        totals.add(&outcome);
        if let Some(violation) = &outcome.violation {
            report_failure(seeds.shape, seed, &violation.to_string(), json, &totals, started.elapsed())?;
            return Ok(false);
        }
        seed += 1;
    }
    let value = totals.json(started.elapsed());
    if json {
        println!("{value}");
    } else {
        println!(
            "{} seeds, no violation: {:.0} s simulated in {:.1} s ({:.0} s per s, {:.0} seeds per hour)",
            totals.seeds,
            totals.simulated.as_secs_f64(),
            started.elapsed().as_secs_f64(),
            value["simulated_s_per_s"].as_f64().unwrap_or_default(),
            value["seeds_per_hour"].as_f64().unwrap_or_default(),
        );
        println!(
            "{} events, {} blocks, {} transactions, {} crashes, {} synced writes, {} views timed out, {} accusations, {} epochs ended, {} convicted",
            totals.events,
            totals.blocks,
            totals.transactions,
            totals.crashes,
            totals.syncs,
            totals.timeouts,
            totals.accusations,
            totals.epochs,
            totals.convicted
        );
    }
    Ok(true)
}

/// The command that plays a seed again.
fn replay_command(shape: Shape, seed: u64) -> String {
    format!("cairn sim replay --n {} --duration {} --seed {seed}", shape.n, shape.duration)
}

fn report_failure(
    shape: Shape,
    seed: u64,
    violation: &str,
    json: bool,
    totals: &Totals,
    took: Duration,
) -> Result<()> {
    let manifest = campaign::scenario(seed, shape.n, shape.duration);
    let transcript = Transcript::kept();
    campaign::play(&manifest, &transcript).map_err(|why| anyhow!(why))?;
    let command = replay_command(shape, seed);
    if json {
        let mut value = totals.json(took);
        value["violation"] = json!({ "seed": seed, "what": violation, "replay": command });
        println!("{value}");
    } else {
        println!("{}", transcript.tail(TRANSCRIPT_LINES));
        println!("\nseed {seed} after {:.1} s: {violation}\nreplay: {command}", took.as_secs_f64());
    }
    Ok(())
}

fn replay(shape: Shape, seed: u64, lines: usize, save: Option<&PathBuf>, json: bool) -> Result<bool> {
    let manifest: Manifest = campaign::scenario(seed, shape.n, shape.duration);
    if let Some(path) = save {
        std::fs::write(path, manifest.to_toml())?;
    }
    let transcript = Transcript::kept();
    let outcome = campaign::play(&manifest, &transcript).map_err(|why| anyhow!(why))?;
    if outcome.events == 0 {
        bail!("seed {seed} is an empty run");
    }
    let violation = outcome.violation.as_ref().map(ToString::to_string);
    if json {
        let value = json!({
            "seed": seed,
            "hash": outcome.hash.to_string(),
            "events": outcome.events,
            "height": outcome.height,
            "simulated_s": outcome.simulated.as_secs_f64(),
            "violation": violation,
        });
        println!("{value}");
    } else {
        println!("{}", transcript.tail(if lines == 0 { usize::MAX } else { lines }));
        let verdict = violation.clone().unwrap_or_else(|| "no violation".to_owned());
        println!(
            "\nseed {seed}: {verdict}\n{} events in {:.1} virtual seconds, height {}, event hash {}",
            outcome.events,
            outcome.simulated.as_secs_f64(),
            outcome.height,
            outcome.hash
        );
    }
    Ok(outcome.violation.is_none())
}
