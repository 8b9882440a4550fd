//! The demonstration: one batch of real digests from submission to receipts that verify with the network
//! stopped. Every step prints what happened, with its figure.

pub mod input;
mod tamper;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use cairn_client::{Anchored, Batch, Client, Salting};
use cairn_receipt::Trusted;
use cairn_types::{Genesis, ProofKind, TreeKind};
use serde_json::{Map, Value, json};

use crate::anchoring::Anchorer;
use crate::create::open_sender;
use crate::fault::Fault;
use crate::invariants;
use crate::network::{LocalNetwork, READY_PATIENCE};
use crate::process;

/// Longest wait for the batch to become final.
const FINAL_PATIENCE: Duration = Duration::from_secs(30);

/// The source file whose verification is shown line by line, when there is one of this name.
const SHOWN_FILE: &str = "Cargo.toml";

/// A receipt on disk, and what it is for.
struct Written {
    item: input::Item,
    file: PathBuf,
    bytes: usize,
}

/// What is told, or collected when the answer is to be JSON.
struct Story {
    as_json: bool,
    figures: Map<String, Value>,
}

impl Story {
    fn step(&self, title: &str) {
        if !self.as_json {
            println!("\n{title}");
        }
    }

    fn tell(&self, text: &str) {
        if !self.as_json {
            println!("   {text}");
        }
    }

    fn figure(&mut self, name: &str, value: impl Into<Value>) {
        self.figures.insert(name.to_owned(), value.into());
    }
}

/// Tells the whole story on `network`, anchoring the source tree in `source`, and leaves the network running.
///
/// # Errors
/// The first step that did not go as it should.
pub async fn run(mut network: LocalNetwork, fresh: bool, source: &Path, as_json: bool) -> Result<()> {
    let mut story = Story { as_json, figures: Map::new() };
    let items = input::collect(source)?;
    start(&mut network, fresh, &mut story).await?;
    let genesis = cairn_genesis::load(&network.layout().genesis()).context("the network's genesis file")?;
    let receipts = anchor(&network, &genesis, items, &mut story).await?;
    verify_offline(&mut network, source, &receipts, &mut story)?;
    go_on(&mut network, genesis, &mut story).await?;
    let place = where_everything_is(&network)?;
    if as_json {
        println!("{}", Value::Object(story.figures));
    } else {
        println!("\nThe network is running.\n{place}");
    }
    Ok(())
}

async fn start(network: &mut LocalNetwork, fresh: bool, story: &mut Story) -> Result<()> {
    story.step("1. A network of real processes");
    let manifest = network.manifest().clone();
    if fresh {
        let dir = network.layout().dir().display();
        story.tell(&format!(
            "made keys ({}) and a genesis for {} validators in {dir}",
            manifest.scheme, manifest.validators
        ));
        story.tell(&format!("chain {}", manifest.chain));
    }
    let began = Instant::now();
    if network.running().is_empty() {
        network.start_all()?;
    } else {
        for node in network.nodes() {
            if network.pid(node).is_none() {
                network.start_node(node)?;
            }
        }
    }
    network.wait_ready(network.nodes(), READY_PATIENCE).await?;
    let ready_ms = millis(began.elapsed());
    let height = invariants::height(&network.api(0)?).await.context("node 0 tells no height")?;
    story.tell(&format!(
        "{} processes, each with its own home, ports and RocksDB, ready after {ready_ms} ms at height {height}",
        manifest.nodes()
    ));
    story.figure("nodes", manifest.nodes());
    story.figure("ready_ms", ready_ms);
    story.figure("height_at_start", height);
    Ok(())
}

async fn anchor(
    network: &LocalNetwork,
    genesis: &Genesis,
    items: Vec<input::Item>,
    story: &mut Story,
) -> Result<Vec<Written>> {
    story.step("2. Anchor a batch of real digests");
    let packages = items.iter().filter(|item| item.algorithm == "sha256").count();
    story.tell(&format!(
        "{packages} package checksums from Cargo.lock (SHA-256), {} source files (BLAKE3)",
        items.len() - packages
    ));
    let began = Instant::now();
    let leaves = items
        .iter()
        .map(|item| cairn_client::Item { digest: item.digest, algorithm: item.algorithm.to_owned() });
    let batch = Batch::new(leaves.collect(), TreeKind::CairnB3V1, Salting::Random)?;
    let (leaves, root) = (batch.leaves(), batch.root());
    story.tell(&format!(
        "batch tree of {leaves} salted leaves in {:.1} ms, root {root}",
        fine(began.elapsed())
    ));
    let url = network.api(0)?.url().to_owned();
    let client =
        Client::connect(&url)?.with_genesis(genesis.clone())?.with_key(open_sender(network.layout())?);
    let began = Instant::now();
    let anchored = client.anchor_batch(&batch.proof(ProofKind::Batch, "demo".to_owned())).await;
    let final_ms = fine(began.elapsed());
    let anchored = anchored.context("the batch was not anchored")?;
    let height = anchored.record().height.get();
    story.tell(&format!(
        "one signed PROOF transaction to {url}: final in block {height} after {final_ms:.1} ms, its answer verified"
    ));
    let dir = network.layout().receipts();
    let receipts = write_receipts(&anchored, &batch, items, &dir)?;
    let sizes = || receipts.iter().map(|receipt| receipt.bytes);
    let (least, most) = (sizes().min().unwrap_or_default(), sizes().max().unwrap_or_default());
    story.tell(&format!("{} receipts of {least} to {most} bytes in {}", receipts.len(), dir.display()));
    story.figure("leaves", leaves);
    story.figure("height", height);
    story.figure("final_ms", final_ms);
    story.figure("receipt_bytes", json!([least, most]));
    story.figure("receipts", dir.display().to_string());
    Ok(receipts)
}

/// Writes the receipt of every leaf, in place of those of an earlier run.
fn write_receipts(
    anchored: &Anchored,
    batch: &Batch,
    items: Vec<input::Item>,
    dir: &Path,
) -> Result<Vec<Written>> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("removing {}", dir.display()))?;
    }
    fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
    let mut written = Vec::with_capacity(items.len());
    for (index, item) in (0..).zip(items) {
        let text = anchored.receipt(batch, index)?.to_json();
        let name = item.name.replace('/', "_");
        let file = dir.join(format!("{index:05}-{name}.{}", cairn_receipt::EXTENSION));
        fs::write(&file, &text).with_context(|| format!("writing {}", file.display()))?;
        written.push(Written { item, file, bytes: text.len() });
    }
    Ok(written)
}

fn verify_offline(
    network: &mut LocalNetwork,
    source: &Path,
    receipts: &[Written],
    story: &mut Story,
) -> Result<()> {
    story.step("3. Stop every node, and verify with the genesis file alone");
    let began = Instant::now();
    let killed = network.stop_all()?;
    ensure!(killed.is_empty(), "nodes {killed:?} did not end by SIGTERM");
    ensure!(network.running().is_empty(), "nodes {:?} still run", network.running());
    story.tell(&format!("stopped by SIGTERM in {} ms; nothing listens any more", millis(began.elapsed())));
    let genesis = network.layout().genesis();
    let trusted = Trusted::genesis(&cairn_genesis::load(&genesis)?).context("the genesis validators")?;
    let began = Instant::now();
    for receipt in receipts {
        let text = read(&receipt.file)?;
        let parsed = cairn_receipt::parse(&text)?;
        // A verifier of its own for each, as a stranger with one receipt has.
        let verdict = cairn_receipt::verify(&parsed, &trusted);
        if let Some(failed) = verdict.failed() {
            bail!("{} is refused: {}: {}", receipt.file.display(), failed.name, failed.detail);
        }
        ensure!(
            verdict.valid && parsed.subject.digest == receipt.item.digest,
            "{} is for another digest",
            receipt.file.display()
        );
    }
    let each = fine(began.elapsed()) / receipts.len() as f64;
    story.tell(&format!(
        "{} of {0} receipts valid, {each:.2} ms each, certificate signatures included",
        receipts.len()
    ));
    story.figure("verify_ms", each);
    verify_by_command(network, source, receipts, story)?;
    refuse_tampered(receipts, &trusted, story)
}

/// The same for one file as a user would: the command line, the file, its receipt, the genesis.
fn verify_by_command(
    network: &LocalNetwork,
    source: &Path,
    receipts: &[Written],
    story: &Story,
) -> Result<()> {
    let files = || receipts.iter().filter(|receipt| receipt.item.algorithm == "blake3");
    let known = files().find(|receipt| receipt.item.name == SHOWN_FILE);
    let Some(receipt) = known.or_else(|| files().next()) else { return Ok(()) };
    let file = source.join(&receipt.item.name);
    let genesis = network.layout().genesis();
    let mut command = process::cairn(network.binary());
    command.arg("verify").arg(&file).arg("--receipt").arg(&receipt.file).arg("--genesis").arg(&genesis);
    let output = command.output().context("running cairn verify")?;
    story.tell(&format!(
        "$ cairn verify {} --receipt {} --genesis {}",
        file.display(),
        receipt.file.display(),
        genesis.display()
    ));
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        story.tell(&format!("  {line}"));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cairn verify ended with {}: {}", output.status, said.trim());
    Ok(())
}

fn refuse_tampered(receipts: &[Written], trusted: &Trusted, story: &mut Story) -> Result<()> {
    let receipt = receipts.first().context("there is a receipt")?;
    let text = read(&receipt.file)?;
    story.tell(&format!("one bit changed in the receipt of {}:", receipt.item.name));
    let verifier = cairn_receipt::ReceiptVerifier::new(trusted.clone());
    let mut refused = Vec::new();
    for place in tamper::PLACES {
        let verdict = verifier.verify_json(&tamper::flip(&text, place)?);
        let failed =
            verdict.failed().with_context(|| format!("a changed bit in {} went unnoticed", place.name))?;
        ensure!(!verdict.valid, "a receipt with a changed bit in {} is called valid", place.name);
        story.tell(&format!("  in {:<16} refused: {}: {}", place.name, failed.name, failed.detail));
        refused.push(json!({ "in": place.name, "check": failed.name.name(), "detail": failed.detail }));
    }
    story.figure("refused", refused);
    Ok(())
}

async fn go_on(network: &mut LocalNetwork, genesis: Genesis, story: &mut Story) -> Result<()> {
    story.step("4. Start it again: the chain goes on from where it was");
    let before = story.figures.get("height").and_then(Value::as_u64).unwrap_or_default();
    network.start_all()?;
    let took = network.wait_ready(network.nodes(), READY_PATIENCE).await?;
    let api = network.api(network.manifest().validators.saturating_sub(1))?;
    let height = invariants::height(&api).await.context("the last validator tells no height")?;
    ensure!(height >= before, "the chain was at {before} and is now at {height}");
    story.tell(&format!("ready after {} ms at height {height}", millis(took)));
    let mut anchorer = Anchorer::new(genesis, open_sender(network.layout())?.public().scheme())?;
    let began = Instant::now();
    let answer = anchorer.anchor_within(&api, FINAL_PATIENCE).await;
    let answer = answer.map_err(|fault| anyhow!("nothing can be anchored after the restart: {fault}"))?;
    let next = answer["height"].as_u64().unwrap_or_default();
    ensure!(next > before, "the new anchor is in block {next}, not after {before}");
    story.tell(&format!(
        "another anchor through {} is final in block {next} after {:.1} ms",
        api.url(),
        fine(began.elapsed())
    ));
    story.figure("height_after_restart", next);
    Ok(())
}

/// Addresses, files and commands, for people.
///
/// # Errors
/// When a port passes 65535.
pub fn where_everything_is(network: &LocalNetwork) -> Result<String, Fault> {
    let (layout, binary) = (network.layout(), network.binary().display());
    let dir = layout.dir().display();
    let mut text = String::new();
    // Writing to a String cannot fail.
    for node in network.nodes() {
        let ports = network.ports(node)?;
        let _ = writeln!(
            text,
            "   node {node}   JSON-RPC and web page http://127.0.0.1:{}   gRPC 127.0.0.1:{}   metrics http://127.0.0.1:{}/metrics",
            ports.rpc, ports.grpc, ports.metrics
        );
    }
    let url = format!("http://127.0.0.1:{}", network.ports(0)?.rpc);
    let _ = write!(
        text,
        "   homes    {dir}/node-N     logs {dir}/node-N.log\n   \
         genesis  {}\n   receipts {}\n\n   \
         stamp a file   {binary} stamp FILE --url {url} --key {} --passphrase-file {}\n   \
         verify it      {binary} verify FILE --genesis {}\n   \
         look           {binary} testnet status --dir {dir}\n   \
         load           {binary} load --dir {dir} --rate 200\n   \
         stop           {binary} testnet down --dir {dir}",
        layout.genesis().display(),
        layout.receipts().display(),
        layout.sender_key().display(),
        layout.passphrase().display(),
        layout.genesis().display(),
    );
    Ok(text)
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds with their fraction.
fn fine(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
