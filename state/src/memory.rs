//! Tables in memory: for tests and simulations, with faults to inject.

use std::collections::BTreeMap;
use std::ops::Bound;

use parking_lot::RwLock;

use crate::batch::Batch;
use crate::storage::{
    Durability, Order, ReadStorage, Scan, Storage, StorageError, Table, Visitor, prefix_end,
};

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// When an injected fault strikes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultMoment {
    /// The write is lost.
    BeforeWrite,
    /// The write is applied, though the caller is told it failed.
    AfterWrite,
}

/// The in-memory twin of [`crate::RocksStorage`].
#[derive(Default)]
pub struct MemoryStorage {
    inner: RwLock<Inner>,
}

#[derive(Default)]
struct Inner {
    tables: [Rows; Table::ALL.len()],
    /// How to take back the writes since the last synced one, oldest first.
    undo: Vec<(Table, Vec<u8>, Option<Vec<u8>>)>,
    /// Where each batch since then begins in `undo`.
    unsynced: Vec<usize>,
    writes: u64,
    fault: Option<(u64, FaultMoment)>,
    broken: bool,
}

impl MemoryStorage {
    /// Empty tables.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of writes so far, failed ones included.
    pub fn writes(&self) -> u64 {
        self.inner.read().writes
    }

    /// Makes write number `write` (the first is 0) fail, and all after it.
    pub fn fail_write(&self, write: u64, moment: FaultMoment) {
        self.inner.write().fault = Some((write, moment));
    }

    /// Repairs injected faults, as a restart does; keeps what was written.
    pub fn restart(&self) {
        let mut inner = self.inner.write();
        inner.fault = None;
        inner.broken = false;
    }

    /// A power cut: every write since the last synced one is gone. Repairs injected faults.
    pub fn lose_power(&self) {
        self.lose_power_after(0);
    }

    /// Batches written since the last synced one.
    pub fn unsynced(&self) -> usize {
        self.inner.read().unsynced.len()
    }

    /// A power cut that spares the oldest `batches` of those that were not synced, as a log written in order
    /// may. Repairs injected faults.
    pub fn lose_power_after(&self, batches: usize) {
        let mut inner = self.inner.write();
        let kept = inner.unsynced.get(batches).copied().unwrap_or(inner.undo.len());
        while inner.undo.len() > kept
            && let Some((table, key, before)) = inner.undo.pop()
        {
            inner.set(table, &key, before);
        }
        inner.undo.clear();
        inner.unsynced.clear();
        inner.fault = None;
        inner.broken = false;
    }

    /// Overwrites or removes one value behind the state's back, to show that damage is noticed.
    pub fn tamper(&self, table: Table, key: &[u8], value: Option<Vec<u8>>) {
        self.inner.write().set(table, key, value);
    }

    /// Every table's rows: to compare two stores.
    pub fn contents(&self) -> Vec<(Table, Vec<u8>, Vec<u8>)> {
        let inner = self.inner.read();
        Table::ALL
            .iter()
            .zip(&inner.tables)
            .flat_map(|(table, rows)| rows.iter().map(|(key, value)| (*table, key.clone(), value.clone())))
            .collect()
    }
}

impl Inner {
    fn set(&mut self, table: Table, key: &[u8], value: Option<Vec<u8>>) -> Option<Vec<u8>> {
        let rows = self.tables.get_mut(table.index())?;
        match value {
            Some(value) => rows.insert(key.to_vec(), value),
            None => rows.remove(key),
        }
    }
}

impl ReadStorage for MemoryStorage {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.inner.read().tables.get(table.index()).and_then(|rows| rows.get(key)).cloned())
    }

    fn scan(&self, scan: Scan<'_>, visit: &mut Visitor<'_>) -> Result<(), StorageError> {
        let inner = self.inner.read();
        let Some(rows) = inner.tables.get(scan.table.index()) else { return Ok(()) };
        let end = prefix_end(scan.prefix);
        let above = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let (low, high) = match (scan.order, scan.from) {
            (Order::Ascending, Some(from)) => (Bound::Included(from.max(scan.prefix)), above),
            (Order::Descending, Some(from)) => (Bound::Included(scan.prefix), lower(above, from)),
            (_, None) => (Bound::Included(scan.prefix), above),
        };
        if empty(low, high) {
            return Ok(());
        }
        let range = rows.range::<[u8], _>((low, high));
        let mut each = |(key, value): (&Vec<u8>, &Vec<u8>)| visit(key, value);
        let _ = match scan.order {
            Order::Ascending => range.into_iter().try_for_each(&mut each),
            Order::Descending => range.rev().try_for_each(&mut each),
        };
        Ok(())
    }
}

impl Storage for MemoryStorage {
    fn write(&self, batch: &Batch, durability: Durability) -> Result<(), StorageError> {
        let mut inner = self.inner.write();
        let number = inner.writes;
        inner.writes = number.saturating_add(1);
        let strikes = inner.fault.filter(|(write, _)| *write == number).map(|(_, moment)| moment);
        if inner.broken || strikes == Some(FaultMoment::BeforeWrite) {
            inner.broken = true;
            return Err(injected());
        }
        let begins = inner.undo.len();
        inner.unsynced.push(begins);
        for (table, key, value) in batch.entries() {
            let before = inner.set(table, key, value.map(<[u8]>::to_vec));
            inner.undo.push((table, key.to_vec(), before));
        }
        if strikes.is_some() {
            inner.broken = true;
            return Err(injected());
        }
        if durability == Durability::Synced {
            inner.undo.clear();
            inner.unsynced.clear();
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StorageError> {
        let mut inner = self.inner.write();
        if inner.broken {
            return Err(injected());
        }
        inner.undo.clear();
        inner.unsynced.clear();
        Ok(())
    }

    fn frozen(&self) -> Box<dyn ReadStorage + '_> {
        let tables = self.inner.read().tables.clone();
        Box::new(Self { inner: RwLock::new(Inner { tables, ..Inner::default() }) })
    }
}

/// The lower of an exclusive end and an inclusive `from`.
fn lower<'a>(above: Bound<&'a [u8]>, from: &'a [u8]) -> Bound<&'a [u8]> {
    match above {
        Bound::Excluded(end) if end <= from => above,
        _ => Bound::Included(from),
    }
}

/// Whether no key lies between; `BTreeMap::range` panics on a reversed range.
fn empty(low: Bound<&[u8]>, high: Bound<&[u8]>) -> bool {
    match (low, high) {
        (Bound::Included(low), Bound::Included(high)) => low > high,
        (Bound::Included(low), Bound::Excluded(high)) => low >= high,
        _ => false,
    }
}

fn injected() -> StorageError {
    StorageError::Io { doing: "write", why: "injected fault".into() }
}
