//! Dying on purpose: the points at which a node on a rehearsing network kills itself, and a journal that loses
//! at the process's death whatever was not synced. `cairn start --rehearse` asks for it, on loopback only.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::bail;
use cairn_journal::{DiskFiles, Files, JournalFault};
use cairn_state::Unsynced;
use cairn_testnet::Rehearsal;
use cairn_testnet::rehearsal::{Loss, Point};
use rustix::process::{Signal, getpid, kill_process};

use crate::config::Config;

/// The journal's file whose sync makes a record durable; all others are its log.
const SAFETY: &str = "safety";

/// What this process is to rehearse; nothing, on every network that serves anybody.
#[derive(Debug, Default)]
pub(crate) struct Disaster {
    rehearsal: Rehearsal,
    passed: AtomicU64,
}

impl Disaster {
    /// The disaster asked for.
    ///
    /// # Errors
    /// When any address of the configuration is one that another machine can reach.
    pub(crate) fn new(rehearsal: Option<Rehearsal>, config: &Config) -> anyhow::Result<Arc<Self>> {
        let Some(rehearsal) = rehearsal else { return Ok(Arc::default()) };
        let listens = [config.rpc.listen, config.p2p.public_listen, config.p2p.mesh_listen];
        let external = !config.p2p.public_external.is_empty() || !config.p2p.mesh_external.is_empty();
        if external || listens.iter().any(|address| !address.ip().is_loopback()) {
            bail!(
                "--rehearse makes a node die on purpose, so it is refused on a network that other machines reach: \
                 every listen address must be a loopback address, and no external address may be set"
            );
        }
        tracing::warn!(%rehearsal, "rehearsing a disaster: this node will not last");
        Ok(Arc::new(Self { rehearsal, passed: AtomicU64::new(0) }))
    }

    /// Whether whatever was not synced is to be lost.
    pub(crate) fn loses_unsynced(&self) -> bool {
        self.rehearsal.loss == Loss::Unsynced
    }

    /// What becomes of what the state has not synced.
    pub(crate) fn unsynced_state(&self) -> Unsynced {
        match self.rehearsal.loss {
            Loss::Nothing => Unsynced::Stays,
            Loss::Unsynced => Unsynced::Goes,
            Loss::Bodies => Unsynced::BodiesGo,
        }
    }

    /// Dies, without any clean-up, when this is the pass to die at.
    pub(crate) fn passes(&self, point: Point) {
        let Some((_, pass)) = self.rehearsal.die_at.filter(|(at, _)| *at == point) else { return };
        if self.passed.fetch_add(1, Ordering::SeqCst).saturating_add(1) != pass {
            return;
        }
        // Nothing can be done about a kernel that refuses; the abort ends the process all the same.
        let _ = kill_process(getpid(), Signal::KILL);
        std::process::abort();
    }

    /// Whether the journal needs [`RehearsedFiles`].
    pub(crate) fn touches_the_journal(&self) -> bool {
        self.rehearsal != Rehearsal::default()
    }
}

/// A change that is not on disk yet.
enum Change {
    Write(u64, Vec<u8>),
    Truncate(u64),
}

/// A directory of files whose changes reach the disk with their sync, and not before. Creations, renames and
/// removals do at once.
pub(crate) struct RehearsedFiles {
    disk: DiskFiles,
    disaster: Arc<Disaster>,
    unsynced: HashMap<String, Vec<Change>>,
}

impl RehearsedFiles {
    /// Locks an existing directory.
    ///
    /// # Errors
    /// As [`DiskFiles::open`].
    pub(crate) fn open(directory: &Path, disaster: Arc<Disaster>) -> Result<Self, JournalFault> {
        Ok(Self { disk: DiskFiles::open(directory)?, disaster, unsynced: HashMap::new() })
    }

    fn change(&mut self, name: &str, change: Change) -> io::Result<()> {
        if self.disaster.loses_unsynced() {
            self.unsynced.entry(name.to_owned()).or_default().push(change);
            return Ok(());
        }
        self.write_through(name, change)
    }

    fn write_through(&mut self, name: &str, change: Change) -> io::Result<()> {
        match change {
            Change::Write(offset, bytes) => self.disk.write_at(name, offset, &bytes),
            Change::Truncate(length) => self.disk.truncate(name, length),
        }
    }
}

impl Files for RehearsedFiles {
    fn place(&self) -> String {
        self.disk.place()
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.disk.names()
    }

    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let Some(mut bytes) = self.disk.read(name)? else { return Ok(None) };
        for change in self.unsynced.get(name).into_iter().flatten() {
            match change {
                Change::Truncate(length) => bytes.resize(usize::try_from(*length).unwrap_or(usize::MAX), 0),
                Change::Write(offset, new) => {
                    let at = usize::try_from(*offset).unwrap_or(usize::MAX);
                    let end = at.saturating_add(new.len());
                    bytes.resize(bytes.len().max(end), 0);
                    bytes[at..end].copy_from_slice(new);
                }
            }
        }
        Ok(Some(bytes))
    }

    fn create(&mut self, name: &str) -> io::Result<()> {
        self.disk.create(name)
    }

    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.change(name, Change::Write(offset, bytes.to_vec()))
    }

    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()> {
        self.change(name, Change::Truncate(length))
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        let record = name == SAFETY;
        self.disaster.passes(if record { Point::RecordWritten } else { Point::LogWritten });
        for change in self.unsynced.remove(name).unwrap_or_default() {
            self.write_through(name, change)?;
        }
        self.disk.sync(name)?;
        self.disaster.passes(if record { Point::RecordSynced } else { Point::LogSynced });
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        if let Some(changes) = self.unsynced.remove(from) {
            self.unsynced.insert(to.to_owned(), changes);
        }
        self.disk.rename(from, to)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.unsynced.remove(name);
        self.disk.remove(name)
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        self.disk.sync_directory()
    }
}

#[cfg(test)]
#[path = "rehearsal_tests.rs"]
mod tests;
