//! Writing a verified snapshot into a data folder that has nothing but block 0.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use cairn_types::tree::Peaks;
use cairn_types::{Genesis, Hash, Header, Height, encode};

use crate::authenticated;
use crate::batch::Batch;
use crate::epochs::put_handovers;
use crate::error::StateError;
use crate::layout::{LogTable, META_TIP, StoredTip, TxLocation, indexed, log_node, number};
use crate::logs::Logs;
use crate::prune::Kept;
use crate::snapshot::{Intake, WindowBlock, identity_of};
use crate::startup::{self, Nothing};
use crate::state::{Live, State};
use crate::storage::{Durability, Order, Scan, Storage, Table};

impl State {
    /// Writes a complete snapshot into an empty store, at once and durably. Open the state afterwards: it is at
    /// the snapshot's block, and goes on with the next one.
    ///
    /// # Errors
    /// When the snapshot is not complete, the store holds blocks already, or it cannot be written.
    pub fn install(store: &dyn Storage, genesis: &Genesis, intake: Intake) -> Result<Header, StateError> {
        let (_, head) = startup::open(store, genesis)?;
        write(store, head.header.height, intake)
    }

    /// [`State::install`] into a state that is open and has no block yet: from now on it is at the snapshot's block.
    ///
    /// # Errors
    /// As [`State::install`]; after a failed write nothing more is written.
    pub fn adopt(&self, genesis: &Genesis, intake: Intake) -> Result<Header, StateError> {
        let _writer = self.writer.lock();
        self.check_running()?;
        let store = self.store.as_ref();
        // Before the tables have them: the filters know none of the snapshot's transactions.
        self.landed.begin_after(intake.head.header.time_ms);
        let header = write(store, self.tip().header.height, intake).map_err(|error| match error {
            StateError::Storage(error) => self.halt(error),
            other => other,
        })?;
        let (_, head) = startup::open(store, genesis)?;
        let kept = Kept::load(store)?;
        *self.live.write() = Live { head: Arc::new(head), overlays: HashMap::new(), halted: None, kept };
        Ok(header)
    }
}

/// Everything in one batch, synced, where the newest block is block 0.
fn write(store: &dyn Storage, height: Height, intake: Intake) -> Result<Header, StateError> {
    intake.check_complete().map_err(|fault| StateError::BadSnapshot { why: fault.to_string() })?;
    if height > Height::ZERO {
        let why = format!("the data folder is at height {height}; a snapshot goes into an empty one");
        return Err(StateError::BadSnapshot { why });
    }
    let mut batch = Batch::new();
    clear(store, &mut batch)?;
    let header = intake.head.header.clone();
    if let Some(rules) = intake.rules {
        put_handovers(&mut batch, &intake.handovers, rules);
    }
    put_window(&mut batch, &intake.window);
    batch.put(Table::Certificates, &number(header.height.get()), &encode(&intake.head.certificate));
    let logs = Logs {
        anchors: intake.head.anchors.clone(),
        anchors_sha256: intake.head.anchors_sha256.clone(),
        history: intake.head.history.clone(),
    };
    put_peaks(&mut batch, &logs, &header);
    put_map(&mut batch, &intake, &header)?;
    let kept = Kept {
        blocks_from: header.height.next(),
        records_from: header.anchors_size,
        records_height: header.height.next(),
    };
    kept.put(&mut batch);
    let tip = StoredTip {
        height: header.height,
        id: header.id(),
        anchors: logs.anchors,
        anchors_sha256: logs.anchors_sha256,
        history: logs.history,
        tree_version: header.height.get(),
    };
    batch.put(Table::Meta, META_TIP, &encode(&tip));
    store.write(&batch, Durability::Synced)?;
    Ok(header)
}

/// Takes block 0's map away: the snapshot brings all of it.
fn clear(store: &dyn Storage, batch: &mut Batch) -> Result<(), StateError> {
    for table in [Table::TreeNodes, Table::TreeValues, Table::TreeStale] {
        let scan = Scan { table, prefix: &[], from: None, order: Order::Ascending };
        store.scan(scan, &mut |key, _| {
            batch.delete(table, key);
            ControlFlow::Continue(())
        })?;
    }
    Ok(())
}

/// The replay window. How many records each transaction made is not in it: that comes with their blocks.
fn put_window(batch: &mut Batch, window: &[WindowBlock]) {
    for block in window {
        let (header, height) = (&block.header, number(block.header.height.get()));
        batch.put(Table::Headers, &height, &encode(header));
        batch.put(Table::Blocks, header.id().as_bytes(), &height);
        for (index, (id, _)) in (0u32..).zip(&block.transactions) {
            let place = TxLocation {
                height: header.height,
                index,
                time_ms: header.time_ms,
                first_seq: 0,
                records: 0,
            };
            batch.put(Table::Transactions, id.as_bytes(), &encode(&place));
        }
    }
}

/// The logs' peaks as nodes, those of single leaves too: their records and headers are not here.
fn put_peaks(batch: &mut Batch, logs: &Logs, header: &Header) {
    let sha256 = logs.anchors_sha256.peaks();
    for ((level, index, blake), sha) in places(&logs.anchors, header.anchors_size).zip(sha256) {
        let hashes = [blake.as_bytes().as_slice(), sha.as_bytes()].concat();
        batch.put(Table::LogNodes, &log_node(LogTable::Anchors, level, index), &hashes);
    }
    for (level, index, hash) in places(&logs.history, header.height.get()) {
        batch.put(Table::HistoryNodes, &log_node(LogTable::History, level, index), hash.as_bytes());
    }
}

/// Level, index and hash of each peak of a log of `size` leaves, highest level first.
fn places(peaks: &Peaks, size: u64) -> impl Iterator<Item = (u8, u64, &Hash)> {
    let levels = (0u8..64).rev().filter(move |level| size.wrapping_shr(u32::from(*level)) & 1 == 1);
    let mut start = 0u64;
    levels.zip(peaks.peaks()).map(move |(level, hash)| {
        let index = start.wrapping_shr(u32::from(level));
        start = start.saturating_add(1u64.wrapping_shl(u32::from(level)));
        (level, index, hash)
    })
}

fn put_map(batch: &mut Batch, intake: &Intake, header: &Header) -> Result<(), StateError> {
    let version = header.height.get();
    let (found, writes) = authenticated::update(&Nothing, None, version, intake.leaves.clone())?;
    if found != header.state_root {
        let (height, what, expected) = (header.height, "state root", header.state_root);
        return Err(StateError::RootMismatch { height, what, found, expected });
    }
    for (key, node) in &writes.nodes {
        batch.put(Table::TreeNodes, &authenticated::node_key(key), &encode(node));
    }
    for (key, value) in &writes.values {
        batch.put(Table::TreeValues, &key.0, value);
    }
    // From here on the node answers as of any height; what lies before, it says it does not keep.
    for (address, entry) in intake.leaves.iter().filter_map(|(key, value)| identity_of(key, value)) {
        batch.put(Table::IdentityVersions, &indexed(address.as_bytes(), version), &encode(&entry));
    }
    for key in &intake.keys {
        batch.put(Table::PublicKeys, key.address().as_bytes(), &encode(key));
    }
    Ok(())
}
