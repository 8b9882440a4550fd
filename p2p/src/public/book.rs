//! The address book: what is remembered over a restart. A cache: records are verified again when read,
//! and a damaged book is begun anew.

use std::io;
use std::path::Path;

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_types::{decode, encode};

use crate::node_key::write_private;

/// Public peers remembered.
pub(crate) const BOOK_PEERS_MAX: usize = 64;
/// A book of 300 node records, 64 peers and as many bans as the gate remembers stays below this.
const BOOK_BYTES_MAX: u64 = 8 * 1_024 * 1_024;

/// Everything remembered.
#[derive(Clone, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize)]
pub(crate) struct Book {
    /// Signed node records.
    pub(crate) records: Vec<Vec<u8>>,
    /// Public multiaddresses with peer ids.
    pub(crate) peers: Vec<String>,
    /// Banned peer ids, with the Unix milliseconds of the ban's end.
    pub(crate) bans: Vec<(Vec<u8>, u64)>,
}

impl Book {
    /// Reads the book; an empty one when there is none, or when it is damaged.
    pub(crate) fn load(path: &Path) -> io::Result<Self> {
        let bytes = match std::fs::metadata(path) {
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(fault) => return Err(fault),
            Ok(metadata) if metadata.len() > BOOK_BYTES_MAX => Vec::new(),
            Ok(_) => std::fs::read(path)?,
        };
        Ok(decode(&bytes).unwrap_or_else(|why| {
            tracing::warn!(path = %path.display(), %why, "the address book is damaged and is begun anew");
            Self::default()
        }))
    }

    /// Replaces the file.
    pub(crate) fn save(&self, path: &Path) -> io::Result<()> {
        write_private(path, &encode(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_book_comes_back_and_a_damaged_one_is_empty() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("address_book");
        assert_eq!(Book::load(&path).unwrap(), Book::default());
        let book = Book {
            records: vec![vec![1, 2]],
            peers: vec!["/ip4/127.0.0.1/tcp/1".to_owned()],
            bans: vec![(vec![9], 7)],
        };
        book.save(&path).unwrap();
        assert_eq!(Book::load(&path).unwrap(), book);
        std::fs::write(&path, b"\xff\xff\xff\xff\xff").unwrap();
        assert_eq!(Book::load(&path).unwrap(), Book::default());
    }
}
