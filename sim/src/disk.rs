//! A node's disk: the safety journal's files and the state's tables. What is not synced can be lost, torn or
//! kept in parts, and the disk can fill up.

use std::io;
use std::sync::Arc;

use cairn_consensus::{Durable, Recovered, SafetyStore};
use cairn_journal::{CrashMode, FaultyDisk, Journal, JournalContents, JournalFault, Owner};
use cairn_state::MemoryStorage;
use cairn_types::safety::SafetyRecord;
use cairn_types::{BlockCert, TimeoutCert, decode};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::ledger::Chain;
use crate::manifest::Unsynced;
use crate::world::World;

/// By how much a journal's log grows at once: zeros cost more than syncs here.
const EXTENT_BYTES: u64 = 4 << 10;

/// What survives a process.
pub(crate) struct Disk {
    pub(crate) journal: FaultyDisk,
    pub(crate) tables: Arc<MemoryStorage>,
    /// The final blocks, where execution is shared.
    pub(crate) chain: Chain,
    /// The last record whose write returned: what must still be there after any crash.
    pub(crate) acknowledged: SafetyRecord,
    /// Bytes after which the journal opens the next segment of its log, if not a node's.
    pub(crate) segment_bytes: Option<u64>,
    /// Whether the journal was ever made.
    made: bool,
    /// The journal as it once was.
    backup: Option<FaultyDisk>,
}

impl Disk {
    pub(crate) fn new() -> Self {
        Self {
            journal: FaultyDisk::new(),
            tables: Arc::new(MemoryStorage::new()),
            chain: Chain::default(),
            acknowledged: SafetyRecord::default(),
            segment_bytes: None,
            made: false,
            backup: None,
        }
    }

    /// Opens the journal, or makes it on a validator's very first start.
    fn open_journal(&mut self, owner: Owner) -> Result<(Journal, JournalContents), JournalFault> {
        if !self.made {
            Journal::create_in(Box::new(self.journal.files()), owner)?;
            self.made = true;
        }
        let (mut journal, contents) = Journal::open_in(Box::new(self.journal.files()), owner)?;
        journal.set_extent_bytes(EXTENT_BYTES);
        if let Some(bytes) = self.segment_bytes {
            journal.set_segment_bytes(bytes);
        }
        Ok((journal, contents))
    }

    /// The journal of a validator, and what it remembers.
    ///
    /// # Errors
    /// Whatever a real node would refuse to sign with.
    pub(crate) fn recover_journal(
        &mut self,
        world: &World,
        holder: usize,
    ) -> Result<(Journal, Recovered), String> {
        let owner = Owner { validator: world.holders[holder].address, chain: world.chain };
        let (journal, contents) = self.open_journal(owner).map_err(|fault| fault.to_string())?;
        let high_qc = contents.high_qc.map(|bytes| decode::<BlockCert>(&bytes)).transpose();
        let high_tc = contents.high_tc.map(|bytes| decode::<TimeoutCert>(&bytes)).transpose();
        let recovered = Recovered {
            record: contents.record,
            high_qc: high_qc.map_err(|fault| fault.to_string())?,
            high_tc: high_tc.map_err(|fault| fault.to_string())?.map(Arc::new),
            commit: None,
            blocks: contents.bodies,
        };
        Ok((journal, recovered))
    }

    /// The process is gone, and perhaps the power. What becomes of unsynced writes is drawn from `rng` where
    /// `unsynced` leaves it open.
    pub(crate) fn crash(&mut self, unsynced: Unsynced, rng: &mut ChaCha8Rng) {
        let mode = match unsynced {
            Unsynced::Lost => CrashMode::LoseUnsynced,
            Unsynced::Torn => CrashMode::Torn,
            Unsynced::Partial => CrashMode::Subset,
            Unsynced::Kept => CrashMode::KeepAll,
            Unsynced::Any => match rng.random_range(0..5) {
                0 | 1 => CrashMode::LoseUnsynced,
                2 => CrashMode::Torn,
                3 => CrashMode::Subset,
                _ => CrashMode::KeepAll,
            },
        };
        if unsynced == Unsynced::Kept {
            // The process died; what it wrote is still in the kernel's cache.
            self.journal.restart();
            self.tables.restart();
            return;
        }
        self.journal.crash(mode, rng.random());
        let written = self.tables.unsynced().max(self.chain.unsynced());
        let kept = match mode {
            CrashMode::LoseUnsynced => 0,
            CrashMode::KeepAll => written,
            CrashMode::Torn | CrashMode::Subset => rng.random_range(0..=written),
        };
        self.tables.lose_power_after(kept);
        self.chain.lose_power_after(kept);
    }

    /// Copies the journal, as a backup would.
    pub(crate) fn keep_backup(&mut self) {
        self.backup = Some(self.journal.duplicate());
    }

    /// Puts the copy in the journal's place; false when there is none.
    pub(crate) fn restore_backup(&mut self) -> bool {
        let Some(backup) = &self.backup else { return false };
        self.journal = backup.duplicate();
        true
    }
}

/// Where a replica's record goes: the journal of a validator; nowhere for a follower.
pub(crate) struct Store<'a> {
    pub(crate) journal: Option<&'a mut Journal>,
    pub(crate) acknowledged: &'a mut SafetyRecord,
    /// What would be taken back, if anything.
    pub(crate) regression: Option<String>,
}

impl SafetyStore for Store<'_> {
    type Error = io::Error;

    fn persist(&mut self, write: &Durable) -> io::Result<()> {
        let Some(journal) = self.journal.as_mut() else { return Ok(()) };
        if let Err(regression) = self.acknowledged.check_next(&write.record) {
            self.regression = Some(regression.to_string());
        }
        journal.write(&write.record, &write.certificates, &write.bodies)?;
        *self.acknowledged = write.record.clone();
        Ok(())
    }
}

impl Disk {
    /// From now on every write fails.
    pub(crate) fn fill_up(&mut self) {
        self.journal.fail_at(0);
        self.tables.fail_write(self.tables.writes(), cairn_state::FaultMoment::BeforeWrite);
    }

    /// There is room again.
    pub(crate) fn make_room(&mut self) {
        self.journal.restart();
        self.tables.restart();
    }
}
