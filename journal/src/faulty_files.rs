//! The fault-injecting twin of a directory on disk: it loses and tears whatever was not synced, and fails
//! at the operation it is told to.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::files::Files;

/// What a disk writes at once; a torn write is torn at a multiple of it.
const SECTOR_BYTES: usize = 512;

/// What becomes of writes that were not synced when the power goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CrashMode {
    /// All of them are lost.
    LoseUnsynced,
    /// They are on disk in order up to a point, where one is cut at a sector.
    Torn,
    /// Each sector of each write is on disk or not, at random.
    Subset,
    /// All of them are on disk.
    KeepAll,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate { length: usize },
}

#[derive(Clone, Debug)]
enum NameChange {
    Link { name: String, file: usize },
    Unlink { name: String },
    Rename { from: String, to: String },
}

#[derive(Clone, Default, Debug)]
struct Content {
    durable: Vec<u8>,
    pending: Vec<Change>,
    visible: Vec<u8>,
    /// A failed sync dropped changes that are still visible.
    dropped: bool,
}

#[derive(Default, Debug)]
struct Disk {
    contents: Vec<Content>,
    durable_names: BTreeMap<String, usize>,
    pending_names: Vec<NameChange>,
    names: BTreeMap<String, usize>,
    operations: u64,
    fail_at: Option<u64>,
    dead: bool,
    syncs: u64,
}

/// A disk in memory that outlives the [`FaultyFiles`] opened on it.
#[derive(Clone, Default, Debug)]
pub struct FaultyDisk(Arc<Mutex<Disk>>);

/// A directory on a [`FaultyDisk`].
#[derive(Debug)]
pub struct FaultyFiles(FaultyDisk);

impl FaultyDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Its directory.
    pub fn files(&self) -> FaultyFiles {
        FaultyFiles(self.clone())
    }

    /// Makes the `operation`th changing operation from now (from 0), and all after it, fail. A write that
    /// fails has been handed to the disk all the same, a sync that fails has lost what it should have kept.
    pub fn fail_at(&self, operation: u64) {
        let mut disk = self.lock();
        disk.fail_at = Some(disk.operations.saturating_add(operation));
    }

    /// Changing operations so far: writes, truncations, syncs, creations, renames, removals.
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// File and directory syncs so far.
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// The power goes and comes back: unsynced changes suffer `mode`, `seed` decides the details.
    pub fn crash(&self, mode: CrashMode, seed: u64) {
        let mut disk = self.lock();
        let mut dice = Dice(seed);
        for content in &mut disk.contents {
            content.crash(mode, &mut dice);
        }
        let pending = std::mem::take(&mut disk.pending_names);
        let kept = match mode {
            CrashMode::LoseUnsynced => 0,
            CrashMode::KeepAll => pending.len(),
            CrashMode::Torn | CrashMode::Subset => dice.below(pending.len().saturating_add(1)),
        };
        let mut names = std::mem::take(&mut disk.durable_names);
        for change in pending.into_iter().take(kept) {
            apply_name(&mut names, change);
        }
        disk.names = names.clone();
        disk.durable_names = names;
        disk.fail_at = None;
        disk.dead = false;
    }

    /// The process dies and starts again, the power stays: everything written is still visible, and no more
    /// durable than before.
    pub fn restart(&self) {
        let mut disk = self.lock();
        disk.fail_at = None;
        disk.dead = false;
    }

    /// What is in a file now.
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        let disk = self.lock();
        let file = disk.names.get(name)?;
        disk.contents.get(*file).map(|content| content.visible.clone())
    }

    /// Puts `bytes` into an existing or new file, durably: damage, or a restored backup.
    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        let mut disk = self.lock();
        let file = disk.contents.len();
        disk.contents.push(Content { durable: bytes.clone(), visible: bytes, ..Content::default() });
        disk.names.insert(name.to_owned(), file);
        disk.durable_names.insert(name.to_owned(), file);
    }

    /// Removes a file, durably.
    pub fn delete(&self, name: &str) {
        let mut disk = self.lock();
        disk.names.remove(name);
        disk.durable_names.remove(name);
    }

    /// A copy that shares nothing with this one.
    pub fn duplicate(&self) -> Self {
        let disk = self.lock();
        Self(Arc::new(Mutex::new(Disk {
            contents: disk.contents.clone(),
            durable_names: disk.durable_names.clone(),
            pending_names: disk.pending_names.clone(),
            names: disk.names.clone(),
            ..Disk::default()
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk {
    /// Counts one changing operation; `true` when it must fail.
    fn fails(&mut self) -> bool {
        if self.fail_at == Some(self.operations) {
            self.dead = true;
        }
        self.operations = self.operations.saturating_add(1);
        self.dead
    }

    fn content(&mut self, name: &str) -> io::Result<&mut Content> {
        let file = self.names.get(name).copied().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        self.contents.get_mut(file).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn change(&mut self, name: &str, change: Change) -> io::Result<()> {
        let fails = self.fails();
        let content = self.content(name)?;
        apply(&mut content.visible, &change);
        content.pending.push(change);
        if fails { Err(injected()) } else { Ok(()) }
    }

    fn change_name(&mut self, change: NameChange) -> io::Result<()> {
        let fails = self.fails();
        apply_name(&mut self.names, change.clone());
        self.pending_names.push(change);
        if fails { Err(injected()) } else { Ok(()) }
    }
}

impl Content {
    fn crash(&mut self, mode: CrashMode, dice: &mut Dice) {
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() && !self.dropped {
            return; // what is visible is what is durable
        }
        self.dropped = false;
        let whole = match mode {
            CrashMode::LoseUnsynced => 0,
            CrashMode::KeepAll | CrashMode::Subset => pending.len(),
            CrashMode::Torn => dice.below(pending.len().saturating_add(1)),
        };
        for (position, change) in pending.iter().enumerate() {
            match change {
                _ if position < whole && mode != CrashMode::Subset => apply(&mut self.durable, change),
                Change::Write { offset, bytes } if mode == CrashMode::Subset => {
                    for (sector, part) in bytes.chunks(SECTOR_BYTES).enumerate() {
                        if dice.below(2) == 0 {
                            let offset = offset.saturating_add(sector.saturating_mul(SECTOR_BYTES));
                            apply(&mut self.durable, &Change::Write { offset, bytes: part.to_vec() });
                        }
                    }
                }
                Change::Write { offset, bytes } if mode == CrashMode::Torn && position == whole => {
                    let sectors = dice.below(bytes.len().div_ceil(SECTOR_BYTES).saturating_add(1));
                    let kept = bytes.iter().take(sectors.saturating_mul(SECTOR_BYTES)).copied().collect();
                    apply(&mut self.durable, &Change::Write { offset: *offset, bytes: kept });
                }
                Change::Truncate { .. } if mode == CrashMode::Subset && dice.below(2) == 0 => {
                    apply(&mut self.durable, change);
                }
                _ => {}
            }
        }
        self.visible.clone_from(&self.durable);
    }
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Truncate { length } => bytes.resize(*length, 0),
        Change::Write { offset, bytes: new } => {
            let end = offset.saturating_add(new.len());
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            if let Some(range) = bytes.get_mut(*offset..end) {
                range.copy_from_slice(new);
            }
        }
    }
}

fn apply_name(names: &mut BTreeMap<String, usize>, change: NameChange) {
    match change {
        NameChange::Link { name, file } => {
            names.insert(name, file);
        }
        NameChange::Unlink { name } => {
            names.remove(&name);
        }
        NameChange::Rename { from, to } => {
            if let Some(file) = names.remove(&from) {
                names.insert(to, file);
            }
        }
    }
}

fn injected() -> io::Error {
    io::Error::other("injected fault: the disk failed")
}

fn size(value: u64) -> io::Result<usize> {
    usize::try_from(value).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

impl Files for FaultyFiles {
    fn place(&self) -> String {
        "memory".to_owned()
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.0.lock().names.keys().cloned().collect())
    }

    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.content(name))
    }

    fn create(&mut self, name: &str) -> io::Result<()> {
        let mut disk = self.0.lock();
        if disk.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = disk.contents.len();
        disk.contents.push(Content::default());
        disk.change_name(NameChange::Link { name: name.to_owned(), file })
    }

    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.lock().change(name, Change::Write { offset: size(offset)?, bytes: bytes.to_vec() })
    }

    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()> {
        self.0.lock().change(name, Change::Truncate { length: size(length)? })
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        let mut disk = self.0.lock();
        disk.syncs = disk.syncs.saturating_add(1);
        let fails = disk.fails();
        let content = disk.content(name)?;
        let pending = std::mem::take(&mut content.pending);
        if fails {
            // As Linux does: the pages are clean now, still visible, and never reach the disk.
            content.dropped = !pending.is_empty() || content.dropped;
            return Err(injected());
        }
        pending.iter().for_each(|change| apply(&mut content.durable, change));
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.0.lock().change_name(NameChange::Rename { from: from.to_owned(), to: to.to_owned() })
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.0.lock().change_name(NameChange::Unlink { name: name.to_owned() })
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        let mut disk = self.0.lock();
        disk.syncs = disk.syncs.saturating_add(1);
        if disk.fails() {
            return Err(injected());
        }
        disk.pending_names.clear();
        disk.durable_names = disk.names.clone();
        Ok(())
    }
}

/// SplitMix64: the same seed gives the same crash.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from(mixed.checked_rem(bound).unwrap_or(0)).unwrap_or(0)
    }
}
