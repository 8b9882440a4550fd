//! `cairn snapshot`: a final state in one file, so that a new node need not replay the chain.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use cairn_crypto::Verifier;
use cairn_state::{Intake, RocksStorage, SnapshotHead, State, StateError, StorageError, Unsynced};
use cairn_types::{Genesis, Header, Height};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::output::{bytes, pairs, table, time};
use crate::cli::{Common, init};
use crate::config::Config;
use crate::exit::{Exit, WithExit};
use crate::home::Home;
use crate::snapshots::{Folder, Signatures, Writer, read_frame, read_head};

/// How often the data of a running node is read before giving up, and the pause in between: some blocks of a busy chain.
const TRIES: u32 = 20;
const TRY_AGAIN: Duration = Duration::from_millis(250);

/// `cairn snapshot ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotVerb {
    /// Write the state of this home to a file, whether its node runs or not
    Create {
        /// Where to write it
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// The snapshots that the running node has made
    List,
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
        SnapshotVerb::List => list(common),
        SnapshotVerb::Check { sources, genesis } => {
            let genesis = cairn_genesis::load(genesis).exit_with(Exit::Config)?;
            let header = read(&sources.files, &genesis, |intake| Ok(intake.header().clone()));
            report(common, "valid", &header.exit_with(Exit::No)?, &sources.files);
            Ok(Exit::Yes)
        }
        SnapshotVerb::Restore { sources } => {
            let (home, config, genesis) = open(common)?;
            let install = |intake: Intake| Ok(State::install(&storage(&home, &config)?, &genesis, intake)?);
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
    Ok(RocksStorage::open_with(home.data(), cache, Unsynced::Stays)?)
}

/// Writes a snapshot of the newest block, whether the node runs or not: the data is read beside the node, which is
/// neither asked nor held up.
fn create(common: &Common, out: &Path) -> anyhow::Result<Exit> {
    let home = Home::open(&common.home())?;
    let genesis = init::home_genesis(&home)?;
    if out.exists() {
        bail!("{} exists already; nothing was changed", out.display());
    }
    if !home.data().join("CURRENT").exists() {
        bail!("{} has no blocks yet: start the node first", home.root().display());
    }
    let mut left = TRIES;
    let header = loop {
        left = left.saturating_sub(1);
        match write_beside(&home, &genesis, out) {
            Ok(Some(header)) => break header,
            // The next block may do; a node that is stopped has no next one.
            Ok(None) if left > 0 => {}
            Ok(None) => bail!(
                "the newest block has no certificate of its own, or ends its epoch; let the node run for a moment and \
                 try again"
            ),
            // Files may go away under a reader when the node compacts them.
            Err(error) if left > 0 && may_pass(&error) => tracing::debug!(%error, "reading again"),
            Err(error) => return Err(error),
        }
        std::thread::sleep(TRY_AGAIN);
    };
    report(common, "written", &header, std::slice::from_ref(&out.to_path_buf()));
    Ok(Exit::Yes)
}

/// Whether another attempt may do better than one that ended with this.
fn may_pass(error: &anyhow::Error) -> bool {
    match error.downcast_ref::<StateError>() {
        Some(StateError::Storage(StorageError::DiskFull { .. }) | StateError::Pruned { .. }) | None => false,
        Some(_) => true,
    }
}

/// One attempt. What was written is read back and verified before it gets its name.
fn write_beside(home: &Home, genesis: &Genesis, out: &Path) -> anyhow::Result<Option<Header>> {
    let scratch = Scratch(home.run().join(format!("snapshot-{}", std::process::id())));
    let storage = RocksStorage::open_beside(home.data(), &scratch.0)?;
    let state = State::open(Arc::new(storage), genesis)?;
    if state.tip().header.height == Height::ZERO {
        bail!("the chain has no block above block 0 yet");
    }
    let Some(frozen) = state.freeze()? else { return Ok(None) };
    let fault = || format!("cannot write {}", out.display());
    let temporary = PathBuf::from(format!("{}.unfinished", out.display()));
    let mut writer = Writer::create(&temporary, &frozen.head(0)).with_context(fault)?;
    let chunks = frozen.write_chunks(&mut |chunk| writer.frame(&chunk))?;
    writer.sync(&frozen.head(chunks)).with_context(fault)?;
    let header = read(std::slice::from_ref(&temporary), genesis, |intake| Ok(intake.header().clone()))?;
    writer.publish(out).with_context(fault)?;
    Ok(Some(header))
}

/// A folder that goes with this value.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // Its few files would only lie about.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn list(common: &Common) -> anyhow::Result<Exit> {
    let home = Home::open(&common.home())?;
    let folder = Folder::new(home.snapshots());
    let kept = folder.list().with_context(|| format!("cannot read {}", folder.path().display()))?;
    let mut rows = Vec::new();
    let mut values = Vec::new();
    for kept in &kept {
        let (head, length) =
            kept.head().with_context(|| format!("{} cannot be read", kept.path.display()))?;
        let (header, path) = (&head.header, kept.path.display().to_string());
        let taken = time(header.time_ms);
        rows.push(vec![header.height.to_string(), taken, bytes(length), path.clone()]);
        values.push(json!({
            "height": header.height.get(),
            "block": header.id().to_string(),
            "time_ms": header.time_ms,
            "records": header.anchors_size,
            "chunks": head.chunks,
            "bytes": length,
            "path": path,
        }));
    }
    common.output().show(&table(&["height", "time", "size", "file"], rows), &json!({ "snapshots": values }));
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
    /// A copy and what it begins with.
    fn open(path: &Path) -> anyhow::Result<(Self, SnapshotHead)> {
        let fault = || format!("cannot read {}", path.display());
        let mut file = BufReader::new(File::open(path).with_context(fault)?);
        let head = read_head(&mut file).with_context(fault)?;
        Ok((Self { path: path.to_owned(), file }, head))
    }

    fn frame(&mut self) -> anyhow::Result<Vec<u8>> {
        read_frame(&mut self.file).with_context(|| format!("{} is cut or damaged", self.path.display()))
    }
}

/// Reads and verifies everything, and hands it to `then`. A copy that gives something wrong is used no more.
fn read<T>(
    files: &[PathBuf],
    genesis: &Genesis,
    then: impl FnOnce(Intake) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let signatures = Arc::new(Signatures(Verifier::new(genesis.chain())));
    let opened = files.iter().map(|path| Copy::open(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let (mut copies, heads): (Vec<_>, Vec<_>) = opened.into_iter().unzip();
    let head = heads.first().context("no file was given")?;
    if heads.iter().any(|other| other.header.id() != head.header.id() || other.chunks != head.chunks) {
        bail!("the files are not copies of one snapshot");
    }
    let chunks = head.chunks;
    let first = files.first().map(|path| path.display().to_string()).unwrap_or_default();
    let mut intake = Intake::new(head.clone(), genesis, signatures).context(first)?;
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
