//! `cairn testnet`: the verbs and what they print.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use cairn_types::Scheme;
use clap::{Args, Subcommand};
use serde_json::json;

use crate::create::Options;
use crate::demo;
use crate::experiment::{self, ExperimentArgs};
use crate::fault::Fault;
use crate::layout::{Layout, Manifest};
use crate::load::parse_scheme;
use crate::network::{LocalNetwork, NodeState, READY_PATIENCE};
use crate::ports;

/// Validators of a network unless told otherwise: the fewest of which one may fail.
const VALIDATORS: u16 = 4;

/// `cairn testnet ...`.
#[derive(Args, Clone, Debug)]
pub struct TestnetArgs {
    #[command(subcommand)]
    verb: Verb,
    /// Where the network lives
    #[arg(long, value_name = "DIR", default_value = ".testnet", global = true)]
    dir: PathBuf,
}

#[derive(Subcommand, Clone, Debug)]
enum Verb {
    /// Create a network, unless there is one, and start it
    Up(Shape),
    /// From a batch of real digests to receipts that verify with the network stopped
    Demo {
        #[command(flatten)]
        shape: Shape,
        /// A source tree with a Cargo.lock: what is anchored
        #[arg(long, value_name = "DIR", default_value = ".")]
        source: PathBuf,
    },
    /// Stop every node
    Down,
    /// What each node is doing
    Status,
    /// End a node as a crash would (SIGKILL)
    Kill {
        /// The node's number
        node: u16,
    },
    /// Stop a node if it runs, and start it
    Restart {
        /// The node's number
        node: u16,
    },
    /// Add and start a node without a validator key, which knows one address: node 0's
    AddFollower,
    /// Run an experiment with real processes, faulty links and kills, in a network of its own
    Run(ExperimentArgs),
    /// Stop the network and delete its directory
    Clean,
}

/// What a new network should be; an existing one must match what is given.
#[derive(Args, Clone, Debug)]
struct Shape {
    /// Number of validators [default: 4]
    #[arg(long, value_name = "N")]
    validators: Option<u16>,
    /// Signature scheme of the validators: dilithium3 or ml-dsa-65 [default: dilithium3]
    #[arg(long, value_name = "SCHEME", value_parser = parse_scheme)]
    scheme: Option<Scheme>,
    /// Node i listens on PORT + 10 i to PORT + 10 i + 4; 0 finds free ports [default: 27000]
    #[arg(long, value_name = "PORT")]
    base_port: Option<u16>,
}

impl Shape {
    /// The network in `dir`, made when there is none.
    fn open_or_create(&self, dir: &Path, binary: &Path) -> Result<(LocalNetwork, bool), Fault> {
        match Manifest::read(&Layout::new(dir)?) {
            Ok(manifest) => {
                self.check(dir, &manifest)?;
                Ok((LocalNetwork::open(dir, binary)?, false))
            }
            Err(Fault::NoNetwork(_)) => {
                let defaults = Options::new(dir);
                let options = Options {
                    validators: self.validators.unwrap_or(VALIDATORS),
                    scheme: self.scheme.unwrap_or(defaults.scheme),
                    base_port: self.base_port.unwrap_or(ports::BASE_PORT),
                    ..defaults
                };
                Ok((LocalNetwork::create(&options, binary)?, true))
            }
            Err(fault) => Err(fault),
        }
    }

    fn check(&self, dir: &Path, manifest: &Manifest) -> Result<(), Fault> {
        let asked = [
            ("validators", self.validators.map(|n| n.to_string()), manifest.validators.to_string()),
            ("scheme", self.scheme.map(|s| s.name().to_owned()), manifest.scheme.clone()),
            // 0 asks for any free ports: those it has will do.
            (
                "base port",
                self.base_port.filter(|p| *p != 0).map(|p| p.to_string()),
                manifest.base_port.to_string(),
            ),
        ];
        for (what, asked, existing) in asked {
            if let Some(asked) = asked.filter(|asked| *asked != existing) {
                return Err(Fault::OtherNetwork { dir: dir.to_owned(), what, existing, asked });
            }
        }
        Ok(())
    }
}

/// Runs a verb with `binary` as the nodes' program. With `as_json`, what is printed is one JSON object.
///
/// # Errors
/// A sentence for the person at the terminal.
pub async fn run(args: TestnetArgs, binary: &Path, as_json: bool) -> Result<()> {
    let dir = &args.dir;
    match args.verb {
        Verb::Up(shape) => up(&shape, dir, binary, as_json).await,
        Verb::Demo { shape, source } => {
            let (network, fresh) = shape.open_or_create(dir, binary)?;
            demo::run(network, fresh, &source, as_json).await
        }
        Verb::Down => down(LocalNetwork::open(dir, binary)?, as_json),
        Verb::Status => status(&LocalNetwork::open(dir, binary)?, as_json).await,
        Verb::Kill { node } => {
            let pid = LocalNetwork::open(dir, binary)?.kill_node(node)?;
            let text = format!(
                "node {node} (process {pid}) was killed; `cairn testnet restart {node}` starts it again"
            );
            say(as_json, &text, json!({ "killed": node, "pid": pid }));
            Ok(())
        }
        Verb::Restart { node } => restart(LocalNetwork::open(dir, binary)?, node, as_json).await,
        Verb::Run(experiment) => {
            let good = experiment::run(&experiment, binary, as_json).await?;
            ensure!(good, "the experiment did not go as it should");
            Ok(())
        }
        Verb::AddFollower => add_follower(LocalNetwork::open(dir, binary)?, as_json).await,
        Verb::Clean => {
            let network = LocalNetwork::open(dir, binary)?;
            let was = network.layout().dir().to_owned();
            network.clean()?;
            say(as_json, &format!("{} is gone", was.display()), json!({ "removed": was }));
            Ok(())
        }
    }
}

fn say(as_json: bool, text: &str, value: serde_json::Value) {
    if as_json { println!("{value}") } else { println!("{text}") }
}

async fn up(shape: &Shape, dir: &Path, binary: &Path, as_json: bool) -> Result<()> {
    let (mut network, fresh) = shape.open_or_create(dir, binary)?;
    network.start_all()?;
    let took = network.wait_ready(network.nodes(), READY_PATIENCE).await?;
    let made = if fresh { "created and started" } else { "started" };
    let manifest = network.manifest();
    let text = format!(
        "{made} {} validators ({}) and {} followers in {}, ready after {} ms\n{}",
        manifest.validators,
        manifest.scheme,
        manifest.followers,
        network.layout().dir().display(),
        took.as_millis(),
        demo::where_everything_is(&network)?
    );
    let value = json!({ "created": fresh, "ready_ms": took.as_millis() as u64, "network": manifest,
        "dir": network.layout().dir(), "nodes": network.status().await });
    say(as_json, &text, value);
    Ok(())
}

fn down(mut network: LocalNetwork, as_json: bool) -> Result<()> {
    let running = network.running();
    let killed = network.stop_all()?;
    let text = match (running.len(), killed.as_slice()) {
        (0, _) => "no node was running".to_owned(),
        (count, []) => format!("stopped {count} nodes; `cairn testnet up` goes on from here"),
        (count, killed) => {
            format!("stopped {count} nodes; nodes {killed:?} did not end by SIGTERM and were killed")
        }
    };
    say(as_json, &text, json!({ "stopped": running, "killed": killed }));
    Ok(())
}

async fn restart(mut network: LocalNetwork, node: u16, as_json: bool) -> Result<()> {
    network.stop_node(node)?;
    network.start_node(node)?;
    let took = network.wait_ready([node], READY_PATIENCE).await?;
    let text = format!("node {node} is ready after {} ms", took.as_millis());
    say(as_json, &text, json!({ "restarted": node, "ready_ms": took.as_millis() as u64 }));
    Ok(())
}

async fn add_follower(mut network: LocalNetwork, as_json: bool) -> Result<()> {
    let node = network.add_follower()?;
    network.start_node(node)?;
    let took = network.wait_ready([node], READY_PATIENCE).await?;
    let url = network.api(node)?.url().to_owned();
    let text =
        format!("node {node} follows without a validator key, ready after {} ms, at {url}", took.as_millis());
    say(as_json, &text, json!({ "follower": node, "ready_ms": took.as_millis() as u64, "rpc": url }));
    Ok(())
}

async fn status(network: &LocalNetwork, as_json: bool) -> Result<()> {
    let states = network.status().await;
    if as_json {
        println!(
            "{}",
            json!({ "dir": network.layout().dir(), "network": network.manifest(), "nodes": states })
        );
        return Ok(());
    }
    println!("chain {} in {}", network.manifest().chain, network.layout().dir().display());
    println!(
        "{:<5}{:<11}{:<9}{:>8}{:>8}{:>7}{:>9}  rpc",
        "node", "role", "process", "height", "view", "peers", "MiB"
    );
    states.iter().for_each(|state| println!("{}", status_line(state)));
    Ok(())
}

fn status_line(state: &NodeState) -> String {
    let field = |name: &str| state.status[name].as_u64().map_or_else(|| "-".to_owned(), |n| n.to_string());
    format!(
        "{:<5}{:<11}{:<9}{:>8}{:>8}{:>7}{:>9}  {}",
        state.node,
        state.role,
        state.pid.map_or_else(|| "down".to_owned(), |pid| pid.to_string()),
        field("height"),
        field("view"),
        field("peers"),
        state.resident_kib.map_or_else(|| "-".to_owned(), |kib| (kib / 1_024).to_string()),
        state.rpc
    )
}

#[cfg(test)]
#[path = "cli_tests.rs"]
mod tests;
