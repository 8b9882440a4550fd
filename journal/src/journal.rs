//! The journal itself: create, open, write, prune, export, import.

use std::io;
use std::path::Path;
use std::sync::Arc;

use cairn_types::certificate::digest_of_bytes;
use cairn_types::safety::SafetyRecord;
use cairn_types::{Address, Block, BlockId, ChainId, Hash, Height};

use crate::fault::JournalFault;
use crate::files::{DiskFiles, Files};
use crate::log::{BlockLog, Frames, LogContents, segment_name, segment_number, segment_start};
use crate::owner::Owner;
use crate::slots::{Choice, SAFETY, Slot, choose};
use crate::watermark::Watermark;

/// Where a new `safety` file is made before it gets its name.
const SAFETY_NEW: &str = "safety.new";

/// The open journal of one validator. Holds the directory's lock until dropped.
pub struct Journal {
    files: Box<dyn Files>,
    owner: Owner,
    generation: u64,
    record: SafetyRecord,
    /// Bytes of the certificates that `record` names.
    named: Vec<(Hash, Arc<[u8]>)>,
    pub(crate) log: BlockLog,
    poisoned: bool,
}

/// What a validator goes on from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JournalContents {
    /// The newest durable record.
    pub record: SafetyRecord,
    /// The bytes of the certificate `record.high_qc` names.
    pub high_qc: Option<Vec<u8>>,
    /// The bytes of the certificate `record.high_tc` names.
    pub high_tc: Option<Vec<u8>>,
    /// Bodies of the blocks voted for, in the order they were written. Contains every one that is not
    /// committed, and some that are: leave out those the state already holds.
    pub bodies: Vec<Arc<Block>>,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal")
            .field("place", &self.files.place())
            .field("generation", &self.generation)
            .field("record", &self.record)
            .field("poisoned", &self.poisoned)
            .finish_non_exhaustive()
    }
}

impl Journal {
    /// Starts the journal of a key that has never signed.
    ///
    /// # Errors
    /// [`JournalFault::Exists`] when the directory holds a journal or parts of one, [`JournalFault::Locked`],
    /// or an I/O error.
    pub fn create(directory: &Path, validator: Address, chain: ChainId) -> Result<Self, JournalFault> {
        Self::create_in(Box::new(DiskFiles::open_or_make(directory)?), Owner { validator, chain })
    }

    /// Opens the journal of this key and chain.
    ///
    /// # Errors
    /// Whatever stops it from being certain what the key has signed: see [`JournalFault`].
    pub fn open(
        directory: &Path,
        validator: Address,
        chain: ChainId,
    ) -> Result<(Self, JournalContents), JournalFault> {
        Self::open_in(Box::new(DiskFiles::open(directory)?), Owner { validator, chain })
    }

    /// As [`Journal::create`], in any kind of directory.
    ///
    /// # Errors
    /// As [`Journal::create`].
    pub fn create_in(mut files: Box<dyn Files>, owner: Owner) -> Result<Self, JournalFault> {
        let place = files.place();
        let fault = |source| JournalFault::Io { place: place.clone(), doing: "creating the journal", source };
        let first = segment_start(owner, 1, 0).map_err(fault)?;
        if holds_journal(files.as_mut(), &first).map_err(fault)? {
            return Err(JournalFault::Exists { place: place.clone() });
        }
        let log = BlockLog::fresh(owner, first.len() as u64);
        let slot = |generation| Slot::new(owner, generation, SafetyRecord::default(), log.span());
        let mut safety = Vec::new();
        for generation in [0, 1, 0, 1] {
            safety.extend_from_slice(&slot(generation).to_bytes());
        }
        write_new(files.as_mut(), &segment_name(1), &first).map_err(fault)?;
        write_new(files.as_mut(), SAFETY_NEW, &safety).map_err(fault)?;
        // The journal exists from this rename on, whole.
        files.sync_directory().map_err(fault)?;
        files.rename(SAFETY_NEW, SAFETY).map_err(fault)?;
        files.sync_directory().map_err(fault)?;
        let record = SafetyRecord::default();
        Ok(Self { files, owner, generation: 1, record, named: Vec::new(), log, poisoned: false })
    }

    /// As [`Journal::open`], in any kind of directory.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn open_in(mut files: Box<dyn Files>, owner: Owner) -> Result<(Self, JournalContents), JournalFault> {
        let place = files.place();
        let fault = |doing| {
            let place = place.clone();
            move |source| JournalFault::Io { place, doing, source }
        };
        let safety = files.read(SAFETY).map_err(fault("reading the safety record"))?;
        let safety = safety.ok_or_else(|| JournalFault::Missing { place: place.clone() })?;
        let choice = choose(&place, &safety, owner)?;
        let Slot { generation, record, log: span, .. } = choice.newest.clone();
        let (log, mut found) = BlockLog::open(files.as_mut(), owner, span)?;
        let mut named = Vec::new();
        for (what, certificate) in [("high_qc", record.high_qc), ("high_tc", record.high_tc)] {
            let Some((view, digest)) = certificate else { continue };
            let bytes = found.certificates.get(&digest).ok_or_else(|| JournalFault::Damaged {
                place: place.clone(),
                what: format!("the certificate {what} of view {view} is not in the log"),
            })?;
            named.push((digest, Arc::from(bytes.as_slice())));
        }
        let contents = contents_of(&record, &mut found);
        let mut journal = Self { files, owner, generation, record, named, log, poisoned: false };
        journal.settle(&choice).map_err(fault("writing the safety record anew"))?;
        Ok((journal, contents))
    }

    /// The newest durable record.
    pub const fn record(&self) -> &SafetyRecord {
        &self.record
    }

    /// Bytes of the block log, for metrics.
    pub fn log_bytes(&self) -> u64 {
        self.log.bytes()
    }

    /// Whether the log holds the block's body, on disk.
    pub fn holds(&self, block: BlockId) -> bool {
        self.log.contains(block)
    }

    /// Makes `record` durable, and before it the new certificates and bodies. Nothing may be signed by it
    /// until this returns `Ok`. Certificates that the record does not name are left out, bodies that the
    /// log holds are not written again, and an unchanged record writes nothing.
    ///
    /// # Errors
    /// `InvalidInput` when the record takes something back, or names a certificate or votes for a block
    /// whose bytes neither this call nor an earlier one brought; `StorageFull` when the log is at its bound.
    /// These leave the journal as it was. Any error of the disk closes it for good: every later write fails.
    pub fn write(
        &mut self,
        record: &SafetyRecord,
        certificates: &[Vec<u8>],
        bodies: &[Arc<Block>],
    ) -> io::Result<()> {
        if self.poisoned {
            let why =
                "an earlier write to the safety journal failed; nothing is signed until it is opened anew";
            return Err(io::Error::other(why));
        }
        self.record.check_next(record).map_err(|regression| invalid(regression.to_string()))?;
        let (named, fresh) = self.certificates_of(record, certificates)?;
        let mut new_bodies: Vec<Arc<Block>> = Vec::new();
        for body in bodies {
            if !self.log.contains(body.id()) && !new_bodies.iter().any(|new| new.id() == body.id()) {
                new_bodies.push(Arc::clone(body));
            }
        }
        self.check_vote_has_body(record, &new_bodies)?;
        if *record == self.record && new_bodies.is_empty() {
            return Ok(());
        }
        if !new_bodies.is_empty() && self.log.bytes() >= self.log.log_bytes_max {
            let why = "the block log is full of blocks that were voted for and never committed";
            return Err(io::Error::new(io::ErrorKind::StorageFull, why));
        }
        let frames = (!fresh.is_empty() || !new_bodies.is_empty())
            .then(|| self.log.lay_out(&named, &fresh, &new_bodies))
            .transpose()?;
        let result = self.write_through(record, named, frames.as_ref(), &new_bodies);
        self.poisoned = result.is_err();
        result
    }

    /// By how much the log grows at once, from now on, in place of [`crate::EXTENT_BYTES`]: for disks on which zeros cost
    /// more than a sync, as in memory. No format depends on it.
    pub fn set_extent_bytes(&mut self, bytes: u64) {
        self.log.extent_bytes = bytes.max(1);
    }

    /// How long a segment gets before the next one is opened, from now on, in place of [`crate::SEGMENT_BYTES`]: for
    /// simulations, in which blocks are small and segments should come and go all the same. No format depends on it.
    pub fn set_segment_bytes(&mut self, bytes: u64) {
        self.log.segment_bytes = bytes.max(1);
    }

    /// Lets the bodies of blocks at or below `committed` go, once the state that contains them is synced.
    /// Files are removed after a later write.
    pub fn prune(&mut self, committed: Height) {
        self.log.prune(committed);
    }

    /// What another machine needs to go on signing with this key. Stop signing here for good first.
    ///
    /// # Errors
    /// When the log cannot be read back whole.
    pub fn export(&mut self) -> Result<Watermark, JournalFault> {
        let (_, found) = BlockLog::read(self.files.as_mut(), self.owner, self.log.span())?;
        Ok(Watermark {
            owner: self.owner,
            record: self.record.clone(),
            certificates: self.named.iter().map(|(_, bytes)| bytes.to_vec()).collect(),
            bodies: found.bodies.concat(),
        })
    }

    /// For the operator: raises the journal in `directory`, created when there is none, to `watermark`.
    ///
    /// # Errors
    /// [`JournalFault::Lower`] unless every field is at or above the journal's own; the faults of
    /// [`Journal::open`] when the journal that is there does not open.
    pub fn import_higher(
        directory: &Path,
        validator: Address,
        chain: ChainId,
        watermark: &Watermark,
    ) -> Result<Self, JournalFault> {
        let files = Box::new(DiskFiles::open_or_make(directory)?);
        Self::import_higher_in(files, Owner { validator, chain }, watermark)
    }

    /// As [`Journal::import_higher`], in any kind of directory.
    ///
    /// # Errors
    /// As [`Journal::import_higher`].
    pub fn import_higher_in(
        mut files: Box<dyn Files>,
        owner: Owner,
        watermark: &Watermark,
    ) -> Result<Self, JournalFault> {
        let place = files.place();
        let fault =
            |source| JournalFault::Io { place: place.clone(), doing: "importing a watermark", source };
        watermark.owner.check(&place, owner)?;
        let exists = files.read(SAFETY).map_err(fault)?.is_some();
        let mut journal =
            if exists { Self::open_in(files, owner)?.0 } else { Self::create_in(files, owner)? };
        journal.record.check_next(&watermark.record)?;
        journal.write(&watermark.record, &watermark.certificates, &watermark.bodies).map_err(fault)?;
        Ok(journal)
    }

    /// The bytes of every certificate `record` names, and those of them that are not in the log yet.
    #[expect(clippy::type_complexity, reason = "two lists, used once")]
    fn certificates_of(
        &self,
        record: &SafetyRecord,
        offered: &[Vec<u8>],
    ) -> io::Result<(Vec<(Hash, Arc<[u8]>)>, Vec<Arc<[u8]>>)> {
        let (mut named, mut fresh) = (Vec::new(), Vec::new());
        for (what, (view, digest)) in [("high_qc", record.high_qc), ("high_tc", record.high_tc)]
            .into_iter()
            .filter_map(|(what, c)| Some((what, c?)))
        {
            let held =
                self.named.iter().find(|(held, _)| *held == digest).map(|(_, bytes)| Arc::clone(bytes));
            let bytes = match held {
                Some(bytes) => bytes,
                None => {
                    let new = offered.iter().find(|bytes| digest_of_bytes(bytes) == digest).ok_or_else(|| {
                        invalid(format!("the record names a certificate {what} of view {view} whose bytes were not given"))
                    })?;
                    let new: Arc<[u8]> = Arc::from(new.as_slice());
                    fresh.push(Arc::clone(&new));
                    new
                }
            };
            named.push((digest, bytes));
        }
        Ok((named, fresh))
    }

    /// A new vote needs its block's body in the log. A watermark made by hand may raise the vote's view with
    /// the zero id, which names no block.
    fn check_vote_has_body(&self, record: &SafetyRecord, new: &[Arc<Block>]) -> io::Result<()> {
        let Some((view, block)) = record.last_voted else { return Ok(()) };
        let known = record.last_voted == self.record.last_voted
            || block == BlockId::ZERO
            || self.log.contains(block)
            || new.iter().any(|body| body.id() == block);
        if known {
            Ok(())
        } else {
            Err(invalid(format!("the vote of view {view} is for block {block}, whose body was not given")))
        }
    }

    fn write_through(
        &mut self,
        record: &SafetyRecord,
        named: Vec<(Hash, Arc<[u8]>)>,
        frames: Option<&Frames>,
        bodies: &[Arc<Block>],
    ) -> io::Result<()> {
        if let Some(frames) = frames {
            self.log.append(self.files.as_mut(), frames, bodies)?;
        }
        self.write_record(record.clone())?;
        self.named = named;
        self.log.free_retired(self.files.as_mut());
        Ok(())
    }

    /// Writes the next generation.
    fn write_record(&mut self, record: SafetyRecord) -> io::Result<()> {
        let generation =
            self.generation.checked_add(1).ok_or_else(|| io::Error::other("generations are used up"))?;
        let slot = Slot::new(self.owner, generation, record, self.log.span());
        let bytes = slot.to_bytes();
        for offset in slot.offsets() {
            self.files.write_at(SAFETY, offset, &bytes)?;
        }
        self.files.sync(SAFETY)?;
        self.generation = generation;
        self.record = slot.record;
        Ok(())
    }

    /// Makes what was just read durable. It may come from a cache whose sync failed or was never called
    /// before an earlier process died, and signing by it writes nothing when the record does not change.
    fn settle(&mut self, choice: &Choice) -> io::Result<()> {
        let bytes = choice.newest.to_bytes();
        for offset in choice.rewrite {
            self.files.write_at(SAFETY, offset, &bytes)?;
            self.files.sync(SAFETY)?;
        }
        self.files.sync_directory()?;
        if choice.previous_torn { self.write_record(self.record.clone()) } else { Ok(()) }
    }
}

fn contents_of(record: &SafetyRecord, found: &mut LogContents) -> JournalContents {
    let bytes =
        |named: Option<(_, Hash)>| named.and_then(|(_, digest)| found.certificates.get(&digest).cloned());
    let (high_qc, high_tc) = (bytes(record.high_qc), bytes(record.high_tc));
    let bodies = std::mem::take(&mut found.bodies).concat();
    JournalContents { record: record.clone(), high_qc, high_tc, bodies }
}

/// Whether the directory holds a journal or what is left of one. What an interrupted creation leaves, a
/// `safety.new` and a first segment with nothing but its header, is no journal.
fn holds_journal(files: &mut dyn Files, first_segment: &[u8]) -> io::Result<bool> {
    for name in files.names()? {
        if name == SAFETY {
            return Ok(true);
        }
        let Some(number) = segment_number(&name) else { continue };
        let content = files.read(&name)?.unwrap_or_default();
        // An interrupted creation wrote at most the header; its bytes may be torn, its length is not above.
        if number != 1 || content.len() > first_segment.len() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Writes and syncs a file anew.
fn write_new(files: &mut dyn Files, name: &str, bytes: &[u8]) -> io::Result<()> {
    if files.read(name)?.is_some() {
        files.remove(name)?;
    }
    files.create(name)?;
    files.write_at(name, 0, bytes)?;
    files.sync(name)
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "crash_tests.rs"]
mod crash_tests;

#[cfg(test)]
#[path = "damage_tests.rs"]
mod damage_tests;
