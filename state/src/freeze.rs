//! Making a snapshot: the tables as they are at one block, read chunk by chunk while blocks go on being committed.

use std::ops::ControlFlow;
use std::sync::Arc;

use cairn_types::{
    Address, CommitCert, Epoch, Hash, Header, PublicKey, SignedTransaction, TxId, decode, encode,
};

use crate::authenticated;
use crate::error::StateError;
use crate::layout::number;
use crate::overlay::{Head, View};
use crate::query::Reader;
use crate::snapshot::{
    CHUNK_BYTES, MapRun, SNAPSHOT_VERSION, SnapshotChunk, SnapshotHandover, SnapshotHead, WindowBlock,
    identity_of,
};
use crate::sparse::bit;
use crate::state::State;
use crate::storage::{Order, ReadStorage, Scan, StorageError, Table};

/// Window blocks gathered into one chunk, unless their lists fill it sooner.
const CHUNK_BLOCKS: usize = 512;
/// Bytes of one entry of a window block's list.
const LISTED_BYTES: usize = 64;

/// Where a chunk's bytes go.
type Write<'w> = dyn FnMut(Vec<u8>) -> std::io::Result<()> + 'w;

/// The state at one block, whatever is committed meanwhile.
pub struct Frozen<'a> {
    state: &'a State,
    tables: Box<dyn ReadStorage + 'a>,
    head: Arc<Head>,
    certificate: CommitCert,
}

impl State {
    /// Holds on to the state at the tip, to make a snapshot of it. Takes a moment; blocks are committed as ever
    /// afterwards. `None` when the tip has no certificate of its own or ends its epoch: try again a block later.
    ///
    /// # Errors
    /// When storage fails.
    pub fn freeze(&self) -> Result<Option<Frozen<'_>>, StateError> {
        let _writer = self.writer.lock();
        self.check_running()?;
        let head = self.live.read().head.clone();
        let tables = self.store.frozen();
        let certificate = Reader { store: tables.as_ref() }.certificate(head.header.height)?;
        let certificate = certificate.filter(|_| !head.header.ends_epoch());
        Ok(certificate.map(|certificate| Frozen { state: self, tables, head, certificate }))
    }

    /// The ends of epochs from `from` on, as many as make up one chunk, and one at least where there is any.
    ///
    /// # Errors
    /// When storage fails, or something that must be there is missing.
    pub fn snapshot_handovers(&self, from: Epoch) -> Result<Vec<SnapshotHandover>, StateError> {
        self.handovers_between(from, self.epoch())
    }

    fn handovers_between(&self, from: Epoch, until: Epoch) -> Result<Vec<SnapshotHandover>, StateError> {
        let (mut handovers, mut bytes, mut epoch) = (Vec::new(), 0usize, from);
        while epoch < until && bytes < CHUNK_BYTES {
            let missing = || StateError::damaged("epoch", format!("the end of epoch {epoch} is missing"));
            let proof = self.epoch_proof(epoch)?.ok_or_else(missing)?;
            let next = self.validators_of(epoch.next())?.ok_or_else(missing)?;
            let handover = SnapshotHandover { proof, next: (*next).clone() };
            bytes = bytes.saturating_add(encode(&handover).len());
            handovers.push(handover);
            epoch = epoch.next();
        }
        Ok(handovers)
    }
}

impl Frozen<'_> {
    /// The block it is the state of.
    pub fn header(&self) -> &Header {
        &self.head.header
    }

    /// What comes before `chunks` chunks. Its length does not depend on their number.
    pub fn head(&self, chunks: u32) -> SnapshotHead {
        let logs = &self.head.logs;
        SnapshotHead {
            version: SNAPSHOT_VERSION,
            header: self.header().clone(),
            certificate: self.certificate.clone(),
            anchors: logs.anchors.clone(),
            anchors_sha256: logs.anchors_sha256.clone(),
            history: logs.history.clone(),
            chunks,
        }
    }

    /// Hands out each chunk's bytes, in order, and gives their number. Two nodes give the same chunks for one block, but
    /// for the hand-overs, whose certificates may hold other signatures.
    ///
    /// # Errors
    /// When storage fails, [`StateError::Pruned`] when this node began with a snapshot and lacks transactions of the
    /// replay window; whatever `write` gives ends it.
    pub fn write_chunks(&self, write: &mut Write<'_>) -> Result<u32, StateError> {
        let mut count = 0u32;
        let mut put = |chunk: &SnapshotChunk| {
            count = count.saturating_add(1);
            write(encode(chunk)).map_err(|error| {
                StateError::Storage(StorageError::Io { doing: "write a snapshot", why: error.to_string() })
            })
        };
        self.check_window()?;
        let mut epoch = Epoch::ZERO;
        while epoch < self.header().epoch {
            let handovers = self.state.handovers_between(epoch, self.header().epoch)?;
            epoch = handovers.last().map_or(epoch.next(), |last| last.next.epoch());
            put(&SnapshotChunk::Handovers(handovers))?;
        }
        let mut from = None;
        while let Some(run) = self.map_run(from)? {
            let next = run.leaves.last().map(|(key, _)| *key);
            let ends = next.is_none_or(|last| self.is_last(last));
            put(&SnapshotChunk::Map(run))?;
            if ends {
                break;
            }
            from = next;
        }
        self.window(&mut |blocks| put(&SnapshotChunk::Window(blocks)))?;
        Ok(count)
    }

    /// The leaves from `from` on that make up one chunk; none in an empty map.
    fn map_run(&self, from: Option<Hash>) -> Result<Option<MapRun>, StateError> {
        let store = self.tables.as_ref();
        let (mut leaves, mut keys, mut bytes) = (Vec::new(), Vec::new(), 0usize);
        let mut failure = Ok(());
        let start = from.as_ref().map(|key| key.as_bytes().as_slice());
        let scan = Scan { table: Table::TreeValues, prefix: &[], from: start, order: Order::Ascending };
        store.scan(scan, &mut |key, value| {
            // The leaf that a run begins with, and one more, whatever they weigh: so each goes further than the last.
            if leaves.len() > 1 && bytes >= CHUNK_BYTES {
                return ControlFlow::Break(());
            }
            let Ok(key) = <[u8; 32]>::try_from(key).map(Hash) else { return ControlFlow::Continue(()) };
            bytes = bytes.saturating_add(value.len());
            // Its first leaf is the last one of the run before, and brought its keys there.
            if Some(key) != from {
                for held in identity_of(&key, value).map(|(_, entry)| entry.keys).unwrap_or_default() {
                    match public_key(store, &held.address) {
                        Ok(public) => {
                            bytes = bytes.saturating_add(public.as_bytes().len());
                            keys.push(public);
                        }
                        Err(error) => {
                            failure = Err(error);
                            return ControlFlow::Break(());
                        }
                    }
                }
            }
            leaves.push((key, value.to_vec()));
            ControlFlow::Continue(())
        })?;
        failure?;
        let (Some((first, _)), Some((last, _))) = (leaves.first(), leaves.last()) else { return Ok(None) };
        let left = self.beside(first, true)?;
        let right = self.beside(last, false)?;
        Ok(Some(MapRun { leaves, left, right, keys }))
    }

    /// What lies on one side of a leaf's path, from the root down.
    fn beside(&self, key: &Hash, left: bool) -> Result<Vec<Hash>, StateError> {
        let view = View::of(self.tables.as_ref());
        let proof = authenticated::prove(&view, self.head.tree_version, *key, None)?;
        let from_the_root = proof.siblings.into_iter().rev().enumerate();
        let on_that_side = from_the_root.filter(|(depth, _)| bit(&key.0, *depth) == left);
        Ok(on_that_side.map(|(_, hash)| hash).collect())
    }

    /// Whether no leaf comes after this one.
    fn is_last(&self, key: Hash) -> bool {
        let scan = Scan {
            table: Table::TreeValues,
            prefix: &[],
            from: Some(key.as_bytes().as_slice()),
            order: Order::Ascending,
        };
        let mut seen = 0usize;
        // A failure shows when the next run is read.
        let scanned = self.tables.scan(scan, &mut |_, _| {
            seen = seen.saturating_add(1);
            if seen > 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        scanned.is_ok() && seen <= 1
    }

    /// Whether the transactions of the whole replay window are here, before anything is written.
    fn check_window(&self) -> Result<(), StateError> {
        let kept = self.state.kept().blocks_from;
        let mut at = self.header().clone();
        loop {
            if at.tx_count > 0 && at.height < kept {
                let what = format!("block {}, whose transactions the replay window needs,", at.height);
                return Err(StateError::Pruned { what, earliest: kept });
            }
            match self.below(&at)? {
                Some(below) => at = below,
                None => return Ok(()),
            }
        }
    }

    /// The header below one of the window; none below its last.
    fn below(&self, header: &Header) -> Result<Option<Header>, StateError> {
        let window_ms = self.head.rules.params.replay_window_ms;
        let over = header.time_ms.saturating_add(window_ms) <= self.header().time_ms;
        let Some(height) = header.height.previous().filter(|_| !over) else { return Ok(None) };
        let missing = || StateError::damaged("header", format!("none at height {height}"));
        Reader { store: self.tables.as_ref() }.header(height)?.ok_or_else(missing).map(Some)
    }

    /// The blocks of the replay window, newest first, gathered into chunks.
    fn window(
        &self,
        put: &mut dyn FnMut(Vec<WindowBlock>) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        let (mut blocks, mut listed) = (Vec::new(), 0usize);
        let mut next = Some(self.header().clone());
        while let Some(header) = next {
            let transactions = window_list(self.tables.as_ref(), &header)?;
            next = self.below(&header)?;
            listed = listed.saturating_add(transactions.len());
            blocks.push(WindowBlock { header, transactions });
            let full = blocks.len() >= CHUNK_BLOCKS || listed.saturating_mul(LISTED_BYTES) >= CHUNK_BYTES;
            if full || next.is_none() {
                put(std::mem::take(&mut blocks))?;
                listed = 0;
            }
        }
        Ok(())
    }
}

/// Ids and witnesses of a block's transactions, from its body.
fn window_list(store: &dyn ReadStorage, header: &Header) -> Result<Vec<(TxId, Hash)>, StateError> {
    if header.tx_count == 0 {
        return Ok(Vec::new());
    }
    let height = header.height;
    let missing = || StateError::damaged("block body", format!("none at height {height}"));
    let bytes = store.get(Table::Bodies, &number(height.get()))?.ok_or_else(missing)?;
    let body: Vec<SignedTransaction> =
        decode(&bytes).map_err(|error| StateError::damaged("block body", error))?;
    Ok(body.iter().map(|signed| (signed.transaction.id(), signed.witness())).collect())
}

fn public_key(store: &dyn ReadStorage, address: &Address) -> Result<PublicKey, StateError> {
    let bytes = store
        .get(Table::PublicKeys, address.as_bytes())?
        .ok_or_else(|| StateError::damaged("public key", format!("the key of {address} is missing")))?;
    decode(&bytes).map_err(|error| StateError::damaged("public key", error))
}
