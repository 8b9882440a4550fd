//! Folders of the layout before this one, brought to it at their first start.

use std::ops::ControlFlow;

use crate::batch::Batch;
use crate::error::StateError;
use crate::layout::{LogTable, META_SCHEMA, SCHEMA_VERSION, log_node, read_number};
use crate::storage::{Durability, Order, Scan, Storage, Table};

/// The layout that is converted: its log nodes were in the order of their levels.
pub(crate) const SCHEMA_BEFORE: u32 = 2;
/// Nodes that change places in one write.
const ROWS: usize = 4_096;
/// First bytes of the keys of then: the log, followed by the node's level and index.
const LOGS_BEFORE: [(u8, LogTable); 2] = [(0, LogTable::Anchors), (1, LogTable::History)];

/// Gives every log node its key of today. What an interrupted run left is done by the next: each write moves whole rows.
///
/// # Errors
/// When storage fails, or a key is none.
pub(crate) fn convert(store: &dyn Storage) -> Result<(), StateError> {
    tracing::info!(from = SCHEMA_BEFORE, to = SCHEMA_VERSION, "converting the data folder, once");
    let mut moved = 0usize;
    for (before, log) in LOGS_BEFORE {
        let mut last = None;
        loop {
            let (batch, reached) = next_rows(store, before, log, last.as_deref())?;
            if batch.is_empty() {
                break;
            }
            store.write(&batch, Durability::Buffered)?;
            moved = moved.saturating_add(batch.len() / 2);
            last = reached;
        }
    }
    let mut batch = Batch::new();
    batch.put(Table::Meta, META_SCHEMA, &SCHEMA_VERSION.to_le_bytes());
    store.write(&batch, Durability::Synced)?;
    tracing::info!(moved, "the data folder is converted");
    Ok(())
}

/// The write that moves the next rows from `from` on, and the last of them.
fn next_rows(
    store: &dyn Storage,
    before: u8,
    log: LogTable,
    from: Option<&[u8]>,
) -> Result<(Batch, Option<Vec<u8>>), StateError> {
    let (mut batch, mut last, mut damage) = (Batch::new(), None, None);
    let scan = Scan { table: Table::LogNodes, prefix: &[before], from, order: Order::Ascending };
    store.scan(scan, &mut |key, hashes| {
        match key {
            [_, level, index @ ..] => match read_number(index, "log node key") {
                Ok(index) => batch.put(log.table(), &log_node(log, *level, index), hashes),
                Err(error) => damage = Some(error),
            },
            _ => damage = Some(StateError::damaged("log node key", "it is too short")),
        }
        batch.delete(Table::LogNodes, key);
        last = Some(key.to_vec());
        if batch.len() >= 2 * ROWS || damage.is_some() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    damage.map_or(Ok((batch, last)), Err)
}
