//! Rows that every transaction reads, kept outside the database: values of the authenticated map, identities among them. What a
//! write touches is forgotten before that write returns, so a row here is never older than the tables.

use std::num::NonZeroUsize;

use lru::LruCache;
use parking_lot::Mutex;

use crate::storage::Table;

/// Rows kept, at most: with [`ROW_BYTES_MAX`] at most 16 MiB, usually under 4.
const ROWS_MAX: NonZeroUsize = match NonZeroUsize::new(4_096) {
    Some(rows) => rows,
    None => NonZeroUsize::MIN,
};
/// Larger rows are not kept.
const ROW_BYTES_MAX: usize = 4 << 10;

type Key = (Table, [u8; 32]);

/// The rows, absent ones included.
pub(crate) struct Warm(Mutex<Rows>);

struct Rows {
    rows: LruCache<Key, Option<Vec<u8>>>,
    /// Grows with every write: what was read before one is not kept after it.
    writes: u64,
}

/// What [`Warm::get`] knows about a row.
pub(crate) enum Found {
    /// The row, or that there is none.
    Row(Option<Vec<u8>>),
    /// Nothing: it is to be read from the table, and told to [`Warm::keep`].
    Unknown(Ticket),
}

/// Which row was asked for, and when.
pub(crate) struct Ticket {
    key: Key,
    writes: u64,
}

impl Warm {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Rows { rows: LruCache::unbounded(), writes: 0 }))
    }

    /// What is known about a row; `None` for tables that are not kept here.
    pub(crate) fn get(&self, table: Table, key: &[u8]) -> Option<Found> {
        let key = name(table, key)?;
        let mut held = self.0.lock();
        let writes = held.writes;
        let row = held.rows.get(&key).cloned();
        Some(row.map_or(Found::Unknown(Ticket { key, writes }), Found::Row))
    }

    /// Keeps what the table held, unless something was written since it was asked for.
    pub(crate) fn keep(&self, ticket: Ticket, row: Option<&[u8]>) {
        let mut held = self.0.lock();
        if held.writes != ticket.writes || row.is_some_and(|row| row.len() > ROW_BYTES_MAX) {
            return;
        }
        held.rows.put(ticket.key, row.map(<[u8]>::to_vec));
        if held.rows.len() > ROWS_MAX.get() {
            held.rows.pop_lru();
        }
    }

    /// Forgets rows that have just been written.
    pub(crate) fn forget<'a>(&self, written: impl Iterator<Item = (Table, &'a [u8])>) {
        let mut held = self.0.lock();
        held.writes = held.writes.wrapping_add(1);
        for (table, key) in written {
            if let Some(key) = name(table, key) {
                held.rows.pop(&key);
            }
        }
    }
}

fn name(table: Table, key: &[u8]) -> Option<Key> {
    match table {
        Table::TreeValues => Some((table, key.try_into().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(warm: &Warm, key: &[u8]) -> Found {
        warm.get(Table::TreeValues, key).unwrap()
    }

    #[test]
    fn a_row_read_before_a_write_is_not_kept_after_it() {
        let (warm, key) = (Warm::new(), [7; 32]);
        let Found::Unknown(early) = read(&warm, &key) else { panic!("nothing was read yet") };
        warm.forget([(Table::TreeValues, key.as_slice())].into_iter());
        warm.keep(early, Some(b"old"));
        let Found::Unknown(late) = read(&warm, &key) else { panic!("an old row was kept") };
        warm.keep(late, Some(b"new"));
        assert!(matches!(read(&warm, &key), Found::Row(Some(row)) if row == b"new"));
        warm.forget([(Table::TreeValues, key.as_slice())].into_iter());
        assert!(matches!(read(&warm, &key), Found::Unknown(_)));
    }

    #[test]
    fn absence_is_kept_and_other_tables_and_large_rows_are_not() {
        let (warm, key) = (Warm::new(), [7; 32]);
        let Found::Unknown(ticket) = read(&warm, &key) else { panic!("nothing was read yet") };
        warm.keep(ticket, None);
        assert!(matches!(read(&warm, &key), Found::Row(None)));
        assert!(warm.get(Table::Bodies, &key).is_none());
        let Found::Unknown(ticket) = read(&warm, &[8; 32]) else { panic!("nothing was read yet") };
        warm.keep(ticket, Some(&[0; ROW_BYTES_MAX + 1]));
        assert!(matches!(read(&warm, &[8; 32]), Found::Unknown(_)));
    }

    #[test]
    fn the_rows_are_bounded() {
        let warm = Warm::new();
        for index in 0..=ROWS_MAX.get() as u64 {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&index.to_le_bytes());
            let Found::Unknown(ticket) = read(&warm, &key) else { panic!("{index} was never read") };
            warm.keep(ticket, Some(b"row"));
        }
        assert_eq!(warm.0.lock().rows.len(), ROWS_MAX.get());
        assert!(matches!(read(&warm, &[0; 32]), Found::Unknown(_)), "the oldest goes first");
    }
}
