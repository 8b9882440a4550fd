//! Whole snapshots, ready to be given away chunk by chunk.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_catchup::{Offer, SNAPSHOT_CHUNKS_MAX, chunk_hash, snapshot_id};
use cairn_p2p::RESPONSE_BYTES_MAX;
use cairn_state::SnapshotHead;
use cairn_types::{ChainId, Hash, Height, encode};
use parking_lot::RwLock;

use super::file::{read_frame, read_head};

/// What a chunk of hand-overs begins with. Those are given from the state, since their certificates differ from node
/// to node.
const HANDOVERS_TAG: u8 = 0;

/// The longest chunk that fits into an answer with what is around it.
const SENT_BYTES_MAX: usize = RESPONSE_BYTES_MAX - 64;

/// Where one chunk stands in the file.
#[derive(Clone, Copy, Debug)]
struct Place {
    at: u64,
    bytes: usize,
    hash: Hash,
}

/// A snapshot file that was read through once.
#[derive(Debug)]
pub(crate) struct Stored {
    file: File,
    path: PathBuf,
    head: SnapshotHead,
    offer: Offer,
    chunks: Vec<Place>,
}

impl Stored {
    /// Reads the file through.
    ///
    /// # Errors
    /// When it is no whole snapshot, or one that cannot be sent: more or longer chunks than an answer holds.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let mut reader = Counting { inner: BufReader::new(&file), at: 0 };
        let head = read_head(&mut reader)?;
        let mut chunks = Vec::new();
        for _ in 0..head.chunks {
            let frame = read_frame(&mut reader)?;
            if frame.first() == Some(&HANDOVERS_TAG) {
                continue;
            }
            if frame.len() > SENT_BYTES_MAX || chunks.len() >= SNAPSHOT_CHUNKS_MAX as usize {
                return Err(io::Error::other("it is too large to be sent to peers"));
            }
            let at = reader.at.saturating_sub(frame.len() as u64);
            chunks.push(Place { at, bytes: frame.len(), hash: chunk_hash(&frame) });
        }
        let hashes: Vec<Hash> = chunks.iter().map(|place| place.hash).collect();
        let height = head.header.height;
        let count = u32::try_from(hashes.len()).map_err(io::Error::other)?;
        let offer = Offer { height, id: snapshot_id(height, &hashes), chunks: count };
        Ok(Self { file, path: path.to_owned(), head, offer, chunks })
    }

    /// What peers are told of it.
    pub(crate) const fn offer(&self) -> Offer {
        self.offer
    }

    /// The chain that its block is of.
    pub(crate) const fn chain(&self) -> ChainId {
        self.head.header.chain
    }

    /// The head, and the hashes of all chunks.
    pub(crate) fn contents(&self) -> (Vec<u8>, Vec<u8>) {
        let hashes = self.chunks.iter().flat_map(|place| *place.hash.as_bytes()).collect();
        (encode(&self.head), hashes)
    }

    /// One chunk; `None` beyond the last.
    ///
    /// # Errors
    /// When the file is not what it was.
    pub(crate) fn chunk(&self, index: u32) -> io::Result<Option<Vec<u8>>> {
        let Some(place) = self.chunks.get(index as usize) else { return Ok(None) };
        let mut bytes = vec![0; place.bytes];
        self.file.read_exact_at(&mut bytes, place.at)?;
        if chunk_hash(&bytes) == place.hash {
            return Ok(Some(bytes));
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, format!("chunk {index} has changed on the disk")))
    }
}

/// Counts what was read.
struct Counting<R> {
    inner: R,
    at: u64,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.at = self.at.saturating_add(read as u64);
        Ok(read)
    }
}

/// The snapshots that peers are told of, newest first. As many as are kept on disk.
#[derive(Debug, Default)]
pub(crate) struct Shelf(RwLock<Vec<Arc<Stored>>>);

impl Shelf {
    /// Puts a snapshot on it, in the place of one of the same height, and takes away those whose file is gone.
    pub(crate) fn put(&self, stored: Stored) {
        let mut shelf = self.0.write();
        shelf.retain(|held| held.offer.height != stored.offer.height && held.path.exists());
        shelf.push(Arc::new(stored));
        shelf.sort_by_key(|held| std::cmp::Reverse(held.offer.height));
    }

    /// The height of the newest.
    pub(crate) fn newest(&self) -> Option<Height> {
        self.0.read().first().map(|held| held.offer.height)
    }

    /// What peers are told.
    pub(crate) fn offers(&self) -> Vec<Offer> {
        self.0.read().iter().map(|held| held.offer).collect()
    }

    /// The snapshot of this name.
    pub(crate) fn get(&self, id: &Hash) -> Option<Arc<Stored>> {
        self.0.read().iter().find(|held| held.offer.id == *id).cloned()
    }

    /// Takes a snapshot away: its file is damaged.
    pub(crate) fn remove(&self, id: &Hash) {
        self.0.write().retain(|held| held.offer.id != *id);
    }
}
