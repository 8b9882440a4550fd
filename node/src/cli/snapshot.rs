//! `cairn snapshot`: a final state in one file, so that a new node need not replay the chain.
//!
//! A file is `cairn-snapshot-1`, then frames of `u32 little-endian length ‖ bytes`: the head, and the chunks.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use cairn_crypto::Verifier;
use cairn_state::{
    CHUNK_BYTES_MAX, Intake, RocksStorage, SignatureCheck, SnapshotFault, SnapshotHead, State,
};
use cairn_types::{CommitCert, EpochProof, Genesis, ValidatorSet, decode};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::output::{bytes, pairs, time};
use crate::cli::{Common, init};
use crate::config::Config;
use crate::exit::{Exit, WithExit};
use crate::home::Home;

/// The beginning of every snapshot file.
const MAGIC: &[u8] = b"cairn-snapshot-1";

/// `cairn snapshot ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotVerb {
    /// Write the state of this home to a file; the node must not run
    Create {
        /// Where to write it
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Check every chunk of a snapshot against a genesis file
    Check {
        #[command(flatten)]
        sources: Sources,
        /// The chain it must belong to
        #[arg(long, value_name = "FILE")]
        genesis: PathBuf,
    },
    /// Put a snapshot into this home, which must have no blocks yet
    Restore {
        #[command(flatten)]
        sources: Sources,
    },
}

/// Copies of one snapshot.
#[derive(Debug, Args)]
pub(crate) struct Sources {
    /// The snapshot; with more than one copy, a chunk that is bad in one is taken from the next
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

pub(crate) fn run(common: &Common, verb: &SnapshotVerb) -> anyhow::Result<Exit> {
    match verb {
        SnapshotVerb::Create { out } => create(common, out),
        SnapshotVerb::Check { sources, genesis } => {
            let genesis = cairn_genesis::load(genesis).exit_with(Exit::Config)?;
            let header = read(&sources.files, &genesis, |intake| Ok(intake.header().clone()));
            report(common, "valid", &header.exit_with(Exit::No)?, &sources.files);
            Ok(Exit::Yes)
        }
        SnapshotVerb::Restore { sources } => {
            let (home, config, genesis) = open(common)?;
            let install =
                |intake: Intake<'_>| Ok(State::install(&storage(&home, &config)?, &genesis, intake)?);
            let header = read(&sources.files, &genesis, install).exit_with(Exit::No)?;
            report(common, "restored", &header, &sources.files);
            Ok(Exit::Yes)
        }
    }
}

/// The home, locked: a running node has it.
fn open(common: &Common) -> anyhow::Result<(Home, Config, Genesis)> {
    let mut home = Home::open(&common.home())?;
    home.lock()?;
    let config = Config::load(home.root(), &[])?.config;
    let genesis = init::home_genesis(&home)?;
    Ok((home, config, genesis))
}

fn storage(home: &Home, config: &Config) -> anyhow::Result<RocksStorage> {
    let cache = usize::try_from(config.state.cache_mib).unwrap_or(usize::MAX).saturating_mul(1 << 20);
    Ok(RocksStorage::open_with(home.data(), cache, false)?)
}

fn create(common: &Common, out: &Path) -> anyhow::Result<Exit> {
    let (home, config, genesis) = open(common)?;
    let state = State::open(Arc::new(storage(&home, &config)?), &genesis)?;
    let fault = || format!("cannot write {}", out.display());
    let mut file = BufWriter::new(File::create_new(out).with_context(fault)?);
    file.write_all(MAGIC).with_context(fault)?;
    let header = state.snapshot(&mut |frame| {
        let length = u32::try_from(frame.len()).map_err(std::io::Error::other)?;
        file.write_all(&length.to_le_bytes())?;
        file.write_all(&frame)
    });
    let header = match header {
        Ok(Some(header)) => header,
        Ok(None) => {
            std::fs::remove_file(out).with_context(fault)?;
            bail!(
                "the newest block has no certificate of its own, or ends its epoch; let the node run for a moment and \
                 try again"
            );
        }
        Err(error) => {
            std::fs::remove_file(out).with_context(fault)?;
            return Err(error.into());
        }
    };
    file.into_inner()
        .map_err(|error| error.into_error())
        .and_then(|file| file.sync_all())
        .with_context(fault)?;
    report(common, "written", &header, std::slice::from_ref(&out.to_path_buf()));
    Ok(Exit::Yes)
}

fn report(common: &Common, what: &str, header: &cairn_types::Header, files: &[PathBuf]) {
    let length: u64 = files.first().and_then(|file| file.metadata().ok()).map_or(0, |found| found.len());
    let rows = [
        ("snapshot", what.to_owned()),
        ("height", header.height.to_string()),
        ("block", header.id().to_string()),
        ("time", time(header.time_ms)),
        ("records", header.anchors_size.to_string()),
        ("size", bytes(length)),
    ];
    let value = json!({
        "snapshot": what,
        "height": header.height.get(),
        "block": header.id().to_string(),
        "time_ms": header.time_ms,
        "records": header.anchors_size,
        "bytes": length,
    });
    common.output().show(&pairs(rows), &value);
}

/// One copy, read frame by frame.
struct Copy {
    path: PathBuf,
    file: BufReader<File>,
}

impl Copy {
    fn open(path: &Path) -> anyhow::Result<Self> {
        let fault = || format!("cannot read {}", path.display());
        let mut file = BufReader::new(File::open(path).with_context(fault)?);
        let mut magic = [0; MAGIC.len()];
        if file.read_exact(&mut magic).is_err() || magic != MAGIC {
            bail!("{} is no snapshot", path.display());
        }
        Ok(Self { path: path.to_owned(), file })
    }

    fn frame(&mut self) -> anyhow::Result<Vec<u8>> {
        let cut = || format!("{} ends too soon", self.path.display());
        let mut length = [0; 4];
        self.file.read_exact(&mut length).with_context(cut)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > CHUNK_BYTES_MAX {
            bail!(
                "{}: a chunk of {length} bytes; at most {CHUNK_BYTES_MAX} are allowed",
                self.path.display()
            );
        }
        let mut frame = vec![0; length];
        self.file.read_exact(&mut frame).with_context(cut)?;
        Ok(frame)
    }
}

/// Signatures, checked against the sets that the hand-overs lead to.
struct Signatures(Verifier);

impl SignatureCheck for Signatures {
    fn commit(&self, set: &ValidatorSet, certificate: &Arc<CommitCert>) -> Result<(), String> {
        self.0.commit_cert(set, Arc::clone(certificate)).map(drop).map_err(|fault| fault.to_string())
    }

    fn epoch_proof(&self, set: &ValidatorSet, proof: &EpochProof) -> Result<(), String> {
        self.0.epoch_proof(set, Arc::new(proof.clone())).map(drop).map_err(|fault| fault.to_string())
    }
}

/// Reads and verifies everything, and hands it to `then`. A copy that gives something wrong is used no more.
fn read<T>(
    files: &[PathBuf],
    genesis: &Genesis,
    then: impl FnOnce(Intake<'_>) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let signatures = Signatures(Verifier::new(genesis.chain()));
    let mut copies = files.iter().map(|path| Copy::open(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut heads = Vec::new();
    for copy in &mut copies {
        heads.push(head(copy)?);
    }
    let head = heads.first().context("no file was given")?;
    if heads.iter().any(|other| other.header.id() != head.header.id() || other.chunks != head.chunks) {
        bail!("the files are not copies of one snapshot");
    }
    let chunks = head.chunks;
    let first = files.first().map(|path| path.display().to_string()).unwrap_or_default();
    let mut intake = Intake::new(head.clone(), genesis, &signatures).context(first)?;
    for number in 1..=chunks {
        let mut why = None;
        copies.retain_mut(|copy| match copy.frame() {
            // Another copy has brought it: this one is only moved on.
            Ok(_) if why.as_ref().is_some_and(Option::is_none) => true,
            Ok(frame) => match intake.add(&frame) {
                Ok(()) => {
                    why = Some(None);
                    true
                }
                Err(fault) => drop_copy(copy, number, &fault.into(), &mut why),
            },
            Err(error) => drop_copy(copy, number, &error, &mut why),
        });
        if let Some(Some(fault)) = why {
            bail!("no copy has a good chunk {number} of {chunks}: {fault}");
        }
    }
    intake.check_complete()?;
    then(intake)
}

fn drop_copy(copy: &Copy, number: u32, error: &anyhow::Error, why: &mut Option<Option<String>>) -> bool {
    eprintln!("{}: chunk {number} is bad, so this copy is used no more: {error}", copy.path.display());
    if why.as_ref().is_none_or(Option::is_some) {
        *why = Some(Some(error.to_string()));
    }
    false
}

fn head(copy: &mut Copy) -> anyhow::Result<SnapshotHead> {
    decode(&copy.frame()?)
        .map_err(|error| SnapshotFault::Malformed(error.to_string()))
        .with_context(|| copy.path.display().to_string())
}
