//! What a node keeps of the past, by its role. Headers, logs, identities and the replay window are kept by all.

use std::fmt;
use std::str::FromStr;

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_types::{Header, Height, Record, TxId, encode};

use crate::batch::Batch;
use crate::error::StateError;
use crate::layout::{Link, META_KEPT, indexed, link_prefix, number, reference_prefix};
use crate::query::Reader;
use crate::state::State;
use crate::storage::{Durability, ReadStorage, Table};

/// Fewest newest blocks that any role keeps whole, so that peers a little behind find them.
pub const KEEP_BLOCKS_MIN: u64 = 1_024;
/// Blocks looked at in one step: bounds the batch, and how long a commit waits for it.
pub const PRUNE_STEP_BLOCKS: u64 = 64;

/// What a node is for, and so what it keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Role {
    /// Everything since block 0: others catch up from it.
    #[default]
    Archive,
    /// Every record, header and certificate, so that it gives receipts of all times; old transactions and their
    /// signatures go.
    Prover,
    /// What signing the next block takes; old transactions, records and certificates go.
    Validator,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Archive, Self::Prover, Self::Validator];

    /// Its name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Archive => "archive",
            Self::Prover => "prover",
            Self::Validator => "validator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|role| role.name() == text);
        known.ok_or_else(|| format!("`{text}` is no role; expected archive, prover or validator"))
    }
}

/// From where on the past is here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize)]
pub struct Kept {
    /// The lowest height whose transactions are here.
    pub blocks_from: Height,
    /// The lowest seq whose record is here.
    pub records_from: u64,
    /// Records of blocks below this height have been looked at.
    pub(crate) records_height: Height,
}

impl Kept {
    pub(crate) fn load(store: &dyn ReadStorage) -> Result<Self, StateError> {
        let Some(bytes) = store.get(Table::Meta, META_KEPT)? else { return Ok(Self::default()) };
        cairn_types::decode(&bytes).map_err(|error| StateError::damaged("what is kept", error))
    }

    pub(crate) fn put(self, batch: &mut Batch) {
        batch.put(Table::Meta, META_KEPT, &encode(&self));
    }

    pub(crate) fn check_block(&self, height: Height) -> Result<(), StateError> {
        if height >= self.blocks_from {
            return Ok(());
        }
        Err(StateError::Pruned { what: format!("block {height}"), earliest: self.blocks_from })
    }

    pub(crate) fn check_record(&self, seq: u64) -> Result<(), StateError> {
        if seq >= self.records_from {
            return Ok(());
        }
        Err(StateError::Pruned { what: format!("record {seq}"), earliest: self.records_height })
    }
}

impl State {
    /// From where on the past is here.
    pub fn kept(&self) -> Kept {
        self.live.read().kept
    }

    /// Lets go of what `role` does not keep, in a step of bounded size, leaving the newest `keep_blocks` blocks
    /// (never fewer than [`KEEP_BLOCKS_MIN`]) and the replay window whole. Gives what is kept now; call it
    /// again until that changes no more.
    ///
    /// # Errors
    /// When storage fails; nothing is written any more after that.
    pub fn prune(&self, role: Role, keep_blocks: u64) -> Result<Kept, StateError> {
        let _writer = self.writer.lock();
        self.check_running()?;
        let before = self.kept();
        if role == Role::Archive {
            return Ok(before);
        }
        let mut batch = Batch::new();
        let mut kept = before;
        let tip = self.tip().header;
        let end = tip.height.get().saturating_sub(keep_blocks.max(KEEP_BLOCKS_MIN));
        if role == Role::Validator {
            // First, since it reads the transactions that go afterwards.
            self.prune_records(&mut batch, &mut kept, &tip, end)?;
        }
        let stop = end.min(kept.blocks_from.get().saturating_add(PRUNE_STEP_BLOCKS));
        let stop = match role {
            Role::Validator => stop.min(kept.records_height.get()),
            Role::Prover | Role::Archive => self.below_window(kept.blocks_from.get(), stop, &tip)?,
        };
        for height in kept.blocks_from.get()..stop {
            batch.delete(Table::Bodies, &number(height));
        }
        kept.blocks_from = kept.blocks_from.max(Height::new(stop));
        if kept != before {
            kept.put(&mut batch);
            self.store.write(&batch, Durability::Buffered).map_err(|error| self.halt(error))?;
            self.live.write().kept = kept;
        }
        Ok(kept)
    }

    /// Whether `height` and the block above it lie below the replay window of `tip`: a snapshot lists the window's
    /// transactions, and those of the block that it ends with, from their bodies.
    fn is_below_window(&self, height: Height, tip: &Header) -> Result<bool, StateError> {
        let above = Reader { store: self.store.as_ref() }.header(height.next())?;
        let window_ms = self.params().replay_window_ms;
        Ok(above.is_some_and(|above| above.time_ms.saturating_add(window_ms) < tip.time_ms))
    }

    /// The end of those blocks in `from..stop` that lie below the replay window.
    fn below_window(&self, from: u64, stop: u64, tip: &Header) -> Result<u64, StateError> {
        for height in from..stop {
            if !self.is_below_window(Height::new(height), tip)? {
                return Ok(height);
            }
        }
        Ok(stop)
    }

    /// Records, their index entries, certificates and the places of transactions, up to `end`.
    fn prune_records(
        &self,
        batch: &mut Batch,
        kept: &mut Kept,
        tip: &Header,
        end: u64,
    ) -> Result<(), StateError> {
        let reader = Reader { store: self.store.as_ref() };
        let stop = end.min(kept.records_height.get().saturating_add(PRUNE_STEP_BLOCKS));
        for height in kept.records_height.get()..stop {
            let height = Height::new(height);
            let Some(header) = reader.header(height)? else { break };
            // A transaction in the replay window must be found when it comes again.
            if !self.is_below_window(height, tip)? {
                break;
            }
            // The log's last leaf may be a peak that opening recomputes.
            let records_end = header.anchors_size.min(tip.anchors_size.saturating_sub(1));
            for seq in kept.records_from..records_end {
                if let Some(record) = reader.record(seq)? {
                    delete_record(batch, &record);
                }
            }
            if height >= kept.blocks_from {
                for id in reader.transaction_ids(height)? {
                    batch.delete(Table::Transactions, TxId::as_bytes(&id));
                }
            }
            batch.delete(Table::Certificates, &number(height.get()));
            kept.records_from = kept.records_from.max(records_end);
            kept.records_height = height.next();
        }
        Ok(())
    }
}

fn delete_record(batch: &mut Batch, record: &Record) {
    let seq = record.seq;
    batch.delete(Table::Records, &number(seq));
    batch.delete(Table::Proofs, &indexed(record.proof_id.as_bytes(), seq));
    batch.delete(Table::Roots, &indexed(record.root.as_bytes(), seq));
    if !record.reference.is_empty() {
        let prefix = reference_prefix(&record.sender, &record.reference);
        batch.delete(Table::References, &indexed(prefix.as_bytes(), seq));
    }
    for (link, other) in [(Link::Previous, record.previous), (Link::Subject, record.subject)] {
        if let Some(other) = other {
            batch.delete(Table::Links, &indexed(&link_prefix(link, &other), seq));
        }
    }
    batch.delete(Table::Senders, &indexed(record.sender.as_bytes(), seq));
    batch.delete(Table::Kinds, &indexed(&[record.kind as u8], seq));
}
