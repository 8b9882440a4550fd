//! A batch of writes: all of it is applied, or none.

use std::ops::Range;

use crate::storage::Table;

/// Puts and deletes, applied together and in order.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    // One buffer for all bytes: a block of a thousand anchors makes eight thousand entries.
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    table: Table,
    key: Range<usize>,
    value: Option<Range<usize>>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty batch with room for so many bytes of keys and values.
    pub fn with_room(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), entries: Vec::new() }
    }

    /// Sets `key` to `value`.
    pub fn put(&mut self, table: Table, key: &[u8], value: &[u8]) {
        let key = self.keep(key);
        let value = Some(self.keep(value));
        self.entries.push(Entry { table, key, value });
    }

    /// Sets `key` to what `write` appends.
    pub fn put_written(&mut self, table: Table, key: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        let key = self.keep(key);
        let start = self.bytes.len();
        write(&mut self.bytes);
        let value = Some(start..self.bytes.len());
        self.entries.push(Entry { table, key, value });
    }

    /// Removes `key`.
    pub fn delete(&mut self, table: Table, key: &[u8]) {
        let key = self.keep(key);
        self.entries.push(Entry { table, key, value: None });
    }

    /// Number of puts and deletes.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it does nothing.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of all keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Each write in order: table, key, and the value or `None` for a delete.
    pub fn entries(&self) -> impl Iterator<Item = (Table, &[u8], Option<&[u8]>)> {
        self.entries.iter().map(|entry| {
            (entry.table, self.slice(&entry.key), entry.value.as_ref().map(|value| self.slice(value)))
        })
    }

    fn keep(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }

    fn slice(&self, range: &Range<usize>) -> &[u8] {
        self.bytes.get(range.clone()).unwrap_or_default()
    }
}
