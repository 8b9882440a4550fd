//! An experiment as a TOML file: what the network is, what goes wrong in it, who misbehaves, what clients do,
//! what is varied and what must come out. Unknown keys are refused.

use std::collections::BTreeMap;
use std::path::Path;

use cairn_types::Params;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::byzantine::RoleKind;
pub use crate::plan::{Epochs, PlannedChange};
use crate::units::{Bandwidth, Between, Micros};

/// Validators of one network, at most: what one thread can carry, far above the protocol's usual sizes.
pub const NODES_MAX: usize = 256;
/// Perturbations of one experiment, at most: far more than anybody writes by hand.
pub const PERTURBATIONS_MAX: usize = 10_000;

/// A whole experiment. Everything has a default; an empty file is four quiet validators for ten seconds.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Manifest {
    /// A name for people and folders.
    pub name: String,
    /// One sentence on what it shows.
    pub about: String,
    /// Everything random follows from this number.
    pub seed: u64,
    /// Virtual time.
    pub duration: Micros,
    /// Stand-ins, or real Dilithium3.
    pub signatures: Signatures,
    /// Whether every node executes by itself.
    pub execution: Execution,
    /// Bytes after which a journal opens the next segment of its log; a node's when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub journal_segment_bytes: Option<u64>,
    /// The network.
    pub net: Net,
    /// What work costs in virtual time.
    pub cpu: Cpu,
    /// The chain's parameters, where they differ from the defaults.
    pub params: ParamsPlan,
    /// What clients do.
    pub load: Load,
    /// Who misbehaves, and how.
    pub byzantine: Byzantine,
    /// How the validators change; they do not without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<Epochs>,
    /// What goes wrong, and when.
    pub perturb: Vec<Perturb>,
    /// What is varied: a dotted key and its values; every combination is one run.
    pub sweep: BTreeMap<String, Vec<toml::Value>>,
    /// What must come out.
    pub assert: Assertions,
}

/// What signatures are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Signatures {
    /// Keyed hashes: quick, and as bound to signer and bytes as long as nobody cheats.
    #[default]
    Mock,
    /// Dilithium3 by the production code.
    Real,
}

/// Who executes blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Execution {
    /// Every node by itself, on storage of its own.
    #[default]
    Own,
    /// The first node that needs a block's outcome executes it, the others look it up: the same verdicts in a
    /// fraction of time and memory, but a node whose state differs would not be noticed.
    Shared,
}

/// The network.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Net {
    /// Validators.
    pub n: usize,
    /// Nodes without a validator key.
    pub followers: usize,
    /// One way, on every link; not used with a matrix.
    pub latency: Between,
    /// Round trips between regions: `cloud` for the shipped table, or a CSV file.
    pub matrix: Option<String>,
    /// Regions of the matrix to place nodes in, in turn; all of them when empty.
    pub regions: Vec<String>,
    /// Added to each message's latency, drawn evenly.
    pub jitter: Between,
    /// Of all messages, lost.
    pub loss: f64,
    /// Of all messages, delivered twice.
    pub duplicate: f64,
    /// Of all messages, overtaken by later ones of the same link.
    pub reorder: f64,
    /// Each node's link, each way.
    pub bandwidth: Bandwidth,
    /// How far clocks are off at the start, at most, either way.
    pub clock_skew: Micros,
    /// How certificates travel inside messages.
    pub certificates: Certificates,
    /// How blocks travel inside proposals.
    pub proposals: Proposals,
}

/// How a leader's block travels to everyone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proposals {
    /// As the leaves of its transactions; a receiver finds them in its pool, or asks for what it lacks.
    #[default]
    Compact,
    /// With every transaction.
    Whole,
}

/// How certificates travel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Certificates {
    /// Whole, in every message that carries them.
    #[default]
    Inline,
    /// By name; a receiver that lacks one pulls it from the sender first.
    Reference,
}

/// What work costs in virtual time; zero everywhere keeps simulation fast.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cpu {
    /// To check one signature.
    pub verify: Micros,
    /// To make one.
    pub sign: Micros,
    /// Cores that check signatures side by side; 0 means 1.
    pub cores: u32,
    /// To execute one transaction.
    pub execute: Micros,
    /// One `fdatasync`.
    pub sync: Micros,
}

/// Network parameters that differ from the defaults.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ParamsPlan {
    /// First view timeout.
    pub timeout_base: Option<Micros>,
    /// Longest view timeout.
    pub timeout_cap: Option<Micros>,
    /// How far ahead a block's time may be.
    pub drift: Option<Micros>,
    /// How far behind.
    pub lag_max: Option<Micros>,
    /// A leader's shortest wait.
    pub interval_min: Option<Micros>,
    /// Heartbeat of an idle chain.
    pub interval_idle: Option<Micros>,
    /// Largest block body, bytes.
    pub block_bytes_max: Option<u32>,
}

/// What clients do.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Load {
    /// Transactions per second, all clients together.
    pub rate: f64,
    /// When the first comes.
    pub start: Micros,
    /// When the last comes; the end of the run when not given.
    pub stop: Option<Micros>,
    /// Proofs in each.
    pub proofs: u32,
    /// Client keys.
    pub clients: u32,
    /// When a client whose transaction is not final sends it again, to another node.
    pub retry: Micros,
    /// Left out of the figures at the beginning.
    pub warmup: Micros,
}

/// Who misbehaves: for each role, how many validators or which.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Byzantine {
    /// More than `f` of them, on purpose: something should break.
    pub beyond_f: bool,
    /// The roles.
    #[serde(flatten)]
    pub roles: BTreeMap<RoleKind, Which>,
}

/// Validators, by number or by count.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Which {
    /// This many, taken from the end.
    Count(usize),
    /// These.
    Nodes(Vec<usize>),
}

/// Something that goes wrong.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Perturb {
    /// What.
    pub kind: PerturbKind,
    /// When it begins.
    pub at: Micros,
    /// `at` counts from the first proposal of a block that ends this epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boundary: Option<u64>,
    /// How long it lasts; to the end when not given.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<Micros>,
    /// Again after this long, until the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<Micros>,
    /// The nodes it strikes; all when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<usize>,
    /// Of a partition: who hears whom. Nodes in no group hear nobody.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Vec<usize>>,
    /// Of a one-way cut: who is no longer heard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<usize>,
    /// Of a one-way cut: by whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<usize>,
    /// Of a crash: what becomes of writes that were not synced.
    #[serde(skip_serializing_if = "Unsynced::is_default")]
    pub unsynced: Unsynced,
    /// Of a crash at a write: how many disk operations from now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<u64>,
    /// Of noise, the share of messages; of crashing, the chance at each durable step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// Of slowness and clocks: by how much.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<Micros>,
    /// Of clocks: back instead of forward.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub back: bool,
}

/// What goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PerturbKind {
    /// `groups` do not hear each other.
    Partition,
    /// `to` does not hear `from`.
    OneWay,
    /// `nodes` neither hear nor are heard.
    Isolate,
    /// `nodes` are heard and hear nothing; their connections stand.
    Deaf,
    /// `nodes` do nothing, and go on where they were.
    Pause,
    /// `nodes` lose what is not synced, and start again.
    #[default]
    Crash,
    /// One of `nodes` crashes at the given disk operation from now.
    CrashAtWrite,
    /// At each durable step, each of `nodes` crashes with the chance `share`.
    Crashes,
    /// The disks of `nodes` take nothing more.
    DiskFull,
    /// The clocks of `nodes` jump `by` this much.
    ClockJump,
    /// Messages of `nodes` take `by` longer.
    Slow,
    /// `share` of all messages is lost.
    Loss,
    /// `share` of all messages comes twice.
    Duplicate,
    /// `share` of all messages is overtaken.
    Reorder,
}

/// What becomes of writes that were not synced.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unsynced {
    /// Drawn each time.
    #[default]
    Any,
    /// All lost.
    Lost,
    /// Kept up to a point, where one is torn.
    Torn,
    /// Each sector kept or not.
    Partial,
    /// All kept, as when the process dies and the power stays.
    Kept,
}

impl Unsynced {
    fn is_default(&self) -> bool {
        *self == Self::Any
    }
}

/// What must come out; a run that misses one fails.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Assertions {
    /// Finality in the middle, at most.
    pub finality_p50_max: Option<Micros>,
    /// Finality of 95 of 100, at most.
    pub finality_p95_max: Option<Micros>,
    /// Finality of 99 of 100, at most.
    pub finality_p99_max: Option<Micros>,
    /// Final blocks, at least.
    pub blocks_min: Option<u64>,
    /// Final transactions, at least.
    pub transactions_min: Option<u64>,
    /// Views that timed out, at most.
    pub timeouts_max: Option<u64>,
    /// Epochs that ended, at least.
    pub epochs_min: Option<u64>,
    /// Violations of an invariant, at least: for runs that are meant to break.
    pub violations_min: Option<u64>,
    /// Evidence of contradicting signatures, at least.
    pub accusations_min: Option<u64>,
}

impl Default for Manifest {
    fn default() -> Self {
        Self {
            name: "experiment".into(),
            about: String::new(),
            seed: 1,
            duration: Micros::secs(10),
            signatures: Signatures::default(),
            execution: Execution::default(),
            journal_segment_bytes: None,
            net: Net::default(),
            cpu: Cpu::default(),
            params: ParamsPlan::default(),
            load: Load::default(),
            byzantine: Byzantine::default(),
            epochs: None,
            perturb: Vec::new(),
            sweep: BTreeMap::new(),
            assert: Assertions::default(),
        }
    }
}

impl Default for Net {
    fn default() -> Self {
        Self {
            n: 4,
            followers: 0,
            latency: Between::exactly(Micros::ms(20)),
            matrix: None,
            regions: Vec::new(),
            jitter: Between::default(),
            loss: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            bandwidth: Bandwidth(None),
            clock_skew: Micros(0),
            certificates: Certificates::Inline,
            proposals: Proposals::Compact,
        }
    }
}

impl Default for Load {
    fn default() -> Self {
        Self {
            rate: 10.0,
            start: Micros::ms(100),
            stop: None,
            proofs: 1,
            clients: 4,
            retry: Micros::secs(5),
            warmup: Micros(0),
        }
    }
}

/// Why a manifest is refused.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum ManifestFault {
    #[error("cannot read {path}: {source}")]
    Read { path: String, source: std::io::Error },
    #[error("{path}: {source}")]
    Syntax { path: String, source: Box<toml::de::Error> },
    #[error("{0}")]
    Rule(String),
}

impl Manifest {
    /// Reads and checks the manifest in `path`.
    ///
    /// # Errors
    /// When it cannot be read, is no TOML, has unknown keys, or contradicts itself.
    pub fn read(path: &Path) -> Result<Self, ManifestFault> {
        let place = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|source| ManifestFault::Read { path: place.clone(), source })?;
        Self::parse(&text, &place)
    }

    /// Reads and checks a manifest's text.
    ///
    /// # Errors
    /// As [`Manifest::read`].
    pub fn parse(text: &str, place: &str) -> Result<Self, ManifestFault> {
        let manifest: Self = toml::from_str(text)
            .map_err(|source| ManifestFault::Syntax { path: place.to_owned(), source: Box::new(source) })?;
        manifest.check().map_err(|why| ManifestFault::Rule(format!("{place}: {why}")))?;
        Ok(manifest)
    }

    /// The network parameters it asks for.
    pub fn chain_params(&self) -> Params {
        crate::world::params(&self.params)
    }

    /// What every link adds to a message's way, jitter included: from, to, and between which times.
    ///
    /// # Errors
    /// When its matrix cannot be read or lacks a region.
    pub fn delays(&self) -> Result<Vec<(usize, usize, Between)>, String> {
        let network = crate::network::Network::new(self, self.nodes())?;
        let pairs = (0..self.nodes()).flat_map(|from| (0..self.nodes()).map(move |to| (from, to)));
        let delay = |(from, to)| (from, to, network.delay(from, to));
        Ok(pairs.filter(|(from, to)| from != to).map(delay).collect())
    }

    /// The manifest as TOML, defaults written out.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_default()
    }

    /// Nodes that run honest software under a key of their own: validators, candidates and followers.
    pub fn nodes(&self) -> usize {
        self.keyed() + self.net.followers
    }

    /// Relations between its parts.
    ///
    /// # Errors
    /// The first thing wrong, and what was expected.
    pub fn check(&self) -> Result<(), String> {
        if !(1..=NODES_MAX).contains(&self.net.n) || self.net.followers > NODES_MAX {
            return Err(format!("net.n = {}; expected 1 to {NODES_MAX} validators", self.net.n));
        }
        let shares =
            [("loss", self.net.loss), ("duplicate", self.net.duplicate), ("reorder", self.net.reorder)];
        for (key, share) in shares {
            check_share(&format!("net.{key}"), share)?;
        }
        if !(0.0..=1e6).contains(&self.load.rate) {
            return Err(format!("load.rate = {}; expected 0 to 1000000 per second", self.load.rate));
        }
        if !(1..=256).contains(&self.load.proofs) || !(1..=1_000).contains(&self.load.clients) {
            return Err("load: expected 1 to 256 proofs in each transaction, and 1 to 1000 clients".into());
        }
        if self.perturb.len() > PERTURBATIONS_MAX {
            return Err(format!("more than {PERTURBATIONS_MAX} perturbations"));
        }
        for (index, perturb) in self.perturb.iter().enumerate() {
            perturb.check(self.nodes()).map_err(|why| format!("perturb {index}: {why}"))?;
        }
        self.check_params()?;
        let faulty: Vec<usize> = crate::byzantine::assign(self)?.into_iter().map(|(node, _)| node).collect();
        self.check_epochs(&faulty)
    }

    fn check_params(&self) -> Result<(), String> {
        let params = crate::world::params(&self.params);
        if params.timeout_base_ms == 0 || params.timeout_cap_ms < params.timeout_base_ms {
            return Err("params: expected 1ms <= timeout_base <= timeout_cap".into());
        }
        if params.drift_ms >= params.timeout_base_ms {
            return Err("params: expected drift below timeout_base".into());
        }
        Ok(())
    }
}

fn check_share(key: &str, share: f64) -> Result<(), String> {
    if (0.0..=1.0).contains(&share) { Ok(()) } else { Err(format!("{key} = {share}; expected 0 to 1")) }
}

impl Perturb {
    /// Whether it is done to `node`: one of those it names, or any when it names none.
    pub fn strikes(&self, node: usize) -> bool {
        self.nodes.is_empty() || self.nodes.contains(&node)
    }

    /// Whether `to` does not hear `from` while it lasts. Of those that part nodes; `false` for all others.
    pub fn cuts(&self, from: usize, to: usize) -> bool {
        let group = |node: usize| self.groups.iter().position(|group| group.contains(&node));
        match self.kind {
            PerturbKind::OneWay => self.from == Some(from) && self.to == Some(to),
            PerturbKind::Isolate => self.strikes(from) || self.strikes(to),
            PerturbKind::Partition => group(from).is_none() || group(from) != group(to),
            _ => false,
        }
    }

    fn check(&self, nodes: usize) -> Result<(), String> {
        let named = self.nodes.iter().chain(self.groups.iter().flatten()).chain(&self.from).chain(&self.to);
        if let Some(node) = named.into_iter().find(|node| **node >= nodes) {
            return Err(format!("node {node} does not exist; expected 0 to {}", nodes - 1));
        }
        if let Some(share) = self.share {
            check_share("share", share)?;
        }
        if self.every.is_some_and(|every| every == Micros(0)) {
            return Err("every = 0s; expected a time".into());
        }
        let missing = |what: &str| Err(format!("a {:?} needs `{what}`", self.kind));
        match self.kind {
            PerturbKind::Partition if self.groups.is_empty() => missing("groups"),
            PerturbKind::OneWay if self.from.is_none() || self.to.is_none() => missing("from` and `to"),
            PerturbKind::CrashAtWrite if self.operation.is_none() || self.nodes.len() != 1 => {
                missing("operation` and one of `nodes")
            }
            PerturbKind::Crashes | PerturbKind::Loss | PerturbKind::Duplicate | PerturbKind::Reorder
                if self.share.is_none() =>
            {
                missing("share")
            }
            PerturbKind::ClockJump | PerturbKind::Slow if self.by.is_none() => missing("by"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
