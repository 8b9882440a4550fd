//! From overlays to the disk: one atomic batch per block, oldest first, one sync per call.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use cairn_types::{Block, BlockId, CertifiedBlock, CommitCert, EpochProof, Height, StateKey, TxId, encode};

use crate::authenticated::node_key;
use crate::batch::Batch;
use crate::epochs::put_epoch;
use crate::error::StateError;
use crate::layout::{
    Link, META_CERTIFICATE, META_TIP, StoredTip, indexed, link_prefix, number, received_key,
};
use crate::overlay::{Head, Overlay};
use crate::state::{State, Tip};
use crate::storage::{Durability, Order, Scan, StorageError, Table};

/// How many heights a replaced node of the authenticated map stays readable, for proofs against headers
/// that a client fetched a while ago.
const TREE_VERSIONS_KEPT: u64 = 1_024;
/// Replaced nodes are removed every so many heights, so that a scan rarely meets fresh tombstones.
const PRUNE_EVERY: u64 = 64;
/// Replaced nodes removed at once, at most: keeps a block's batch small.
const PRUNED_MAX: usize = 8_192;

/// Bytes that the rows of one record take in a block's batch, and those of everything that a block has once, about: a batch
/// with room for them from the start does not move the block's body about.
const RECORD_ROWS_BYTES: usize = 768;
const BLOCK_ROWS_BYTES: usize = 32 << 10;

/// What [`State::commit`] did.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The newest committed block now.
    pub tip: Tip,
    /// The blocks this call committed, oldest first. Blocks that were committed before are not repeated.
    pub blocks: Vec<CommittedBlock>,
}

/// One block that has just become final.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommittedBlock {
    /// Its height.
    pub height: Height,
    /// Its id.
    pub id: BlockId,
    /// Its time, Unix milliseconds.
    pub time_ms: u64,
    /// Its transactions, in order: no longer pending.
    pub transactions: Vec<TxId>,
    /// The seq of its first record.
    pub first_seq: u64,
    /// Number of its records.
    pub records: u64,
}

impl State {
    /// Commits blocks, oldest first: one atomic batch per block and one sync for all of them. A block whose
    /// overlay is gone is executed again and every root compared; its transactions need no verification,
    /// since a commit certificate attests them. Blocks that are committed already are passed over.
    ///
    /// The caller has verified each certificate, and that it names the block or a descendant of it.
    ///
    /// # Errors
    /// When the blocks do not follow the tip, when execution disagrees with the certificate, or when a
    /// write fails; after that every call that writes is refused until the state is opened again.
    pub fn commit(&self, blocks: &[CertifiedBlock]) -> Result<Committed, StateError> {
        self.commit_with(blocks, Durability::Synced, None)
    }

    /// [`State::commit`] of blocks whose last one ends its epoch, together with the epoch's commit proof; all of
    /// it is synced when the call returns. The next block is of the next epoch (consensus rule E).
    ///
    /// # Errors
    /// As [`State::commit`], and when the proof is not of the last block.
    pub fn end_epoch(&self, blocks: &[CertifiedBlock], proof: &EpochProof) -> Result<Committed, StateError> {
        self.commit_with(blocks, Durability::Synced, Some(proof))
    }

    /// [`State::commit`] without the sync: a power cut may take the blocks away again, a crash of the process
    /// cannot. For callers that keep the blocks elsewhere until [`State::sync`] covers them.
    ///
    /// # Errors
    /// As [`State::commit`].
    pub fn commit_buffered(&self, blocks: &[CertifiedBlock]) -> Result<Committed, StateError> {
        self.commit_with(blocks, Durability::Buffered, None)
    }

    /// [`State::commit_buffered`] of blocks that the caller has in a log of its own until [`State::sync`] covers them: a power cut may
    /// take their bodies away alone, and [`State::mend_bodies`] brings them back.
    ///
    /// # Errors
    /// As [`State::commit`].
    pub fn commit_backed(&self, blocks: &[CertifiedBlock]) -> Result<Committed, StateError> {
        self.commit_with(blocks, Durability::Backed, None)
    }

    /// Puts every committed block on disk and gives the height up to which that now holds. Waits for no
    /// other call, and holds none up.
    ///
    /// # Errors
    /// When the sync fails; nothing is written any more after that.
    pub fn sync(&self) -> Result<Height, StateError> {
        self.check_running()?;
        let height = self.tip().header.height;
        self.store.sync().map_err(|error| self.halt(error))?;
        Ok(height)
    }

    fn commit_with(
        &self,
        blocks: &[CertifiedBlock],
        last: Durability,
        proof: Option<&EpochProof>,
    ) -> Result<Committed, StateError> {
        let _writer = self.writer.lock();
        self.check_running()?;
        let fresh = self.after_tip(blocks)?;
        check_end(fresh, proof)?;
        let mut done = Vec::with_capacity(fresh.len());
        let mut left = fresh.len();
        for certified in fresh {
            left = left.saturating_sub(1);
            let overlay = self.overlay_of(certified)?;
            let batch = self.batch_of(&overlay, &certified.certificate, proof)?;
            let durability = match last {
                Durability::Synced if left > 0 => Durability::Buffered,
                last => last,
            };
            self.landed.add(&overlay.transactions, overlay.head.header.time_ms);
            self.store.write(&batch, durability).map_err(|error| self.halt(error))?;
            done.push(self.advance(&overlay));
        }
        Ok(Committed { tip: self.tip(), blocks: done })
    }

    /// The blocks that are not committed yet, after checking that all follow one another and the tip.
    fn after_tip<'a>(&self, blocks: &'a [CertifiedBlock]) -> Result<&'a [CertifiedBlock], StateError> {
        let tip = self.tip();
        let mut rest = blocks;
        while let Some((first, others)) = rest.split_first()
            && first.block.header().height <= tip.header.height
        {
            let (height, got) = (first.block.header().height, first.block.id());
            let committed = self.header(height)?.map_or(BlockId::ZERO, |header| header.id());
            if committed != got {
                return Err(StateError::ForkedCommit { height, got, committed });
            }
            rest = others;
        }
        let (mut height, mut parent) = (tip.header.height, tip.id);
        for certified in rest {
            let header = certified.block.header();
            if !header.height.follows(height) {
                return Err(StateError::NotNext { got: header.height, expected: height.next() });
            }
            let id = certified.block.id();
            if header.parent != parent {
                return Err(StateError::WrongParent { block: id, got: header.parent, expected: parent });
            }
            check_covers(certified)?;
            (height, parent) = (header.height, id);
        }
        Ok(rest)
    }

    fn overlay_of(&self, certified: &CertifiedBlock) -> Result<Arc<Overlay>, StateError> {
        let id = certified.block.id();
        if let Some(overlay) = self.live.read().overlays.get(&id) {
            return Ok(overlay.clone());
        }
        self.execute_certified(&certified.block)
    }

    /// Everything the block writes.
    fn batch_of(
        &self,
        overlay: &Overlay,
        certificate: &CommitCert,
        proof: Option<&EpochProof>,
    ) -> Result<Batch, StateError> {
        let mut batch = Batch::with_room(room_of(overlay));
        if let (Some(next), Some(proof)) = (&overlay.head.next, proof) {
            put_epoch(&mut batch, &overlay.head, next, proof);
        }
        put_block(&mut batch, overlay);
        put_records(&mut batch, overlay);
        put_tree(&mut batch, overlay);
        let height = number(overlay.head.header.height.get());
        if certificate.block == overlay.head.id {
            batch.put(Table::Certificates, &height, &encode(certificate));
        } else {
            // The certificate's own block follows in a later batch. Kept here so that a crash in between
            // does not leave a final block without the proof of it.
            batch.put(Table::Meta, META_CERTIFICATE, &encode(certificate));
        }
        self.prune_tree(&mut batch, overlay.head.header.height)?;
        batch.put(Table::Meta, META_TIP, &encode(&stored_tip(&overlay.head)));
        Ok(batch)
    }

    fn prune_tree(&self, batch: &mut Batch, height: Height) -> Result<(), StateError> {
        let Some(last) = height.get().checked_sub(TREE_VERSIONS_KEPT) else { return Ok(()) };
        if !height.get().is_multiple_of(PRUNE_EVERY) {
            return Ok(());
        }
        let end = number(last.saturating_add(1));
        let mut removed = 0usize;
        let scan = Scan { table: Table::TreeStale, prefix: &[], from: None, order: Order::Ascending };
        self.store.scan(scan, &mut |key, _| {
            if key >= end.as_slice() || removed >= PRUNED_MAX {
                return ControlFlow::Break(());
            }
            batch.delete(Table::TreeNodes, key.get(8..).unwrap_or_default());
            batch.delete(Table::TreeStale, key);
            removed = removed.saturating_add(1);
            ControlFlow::Continue(())
        })?;
        Ok(())
    }

    /// Makes the written block the tip and drops every overlay that does not descend from it.
    fn advance(&self, overlay: &Arc<Overlay>) -> CommittedBlock {
        let mut live = self.live.write();
        let first_seq = live.head.header.anchors_size;
        live.head = Arc::new(overlay.head.clone());
        live.overlays.remove(&overlay.head.id);
        // Above an epoch's end stand only its carriers, which are no part of the chain.
        live.overlays = match overlay.head.next {
            Some(_) => HashMap::new(),
            None => descendants(&live.overlays, overlay.head.id),
        };
        let header = &overlay.head.header;
        CommittedBlock {
            height: header.height,
            id: overlay.head.id,
            time_ms: header.time_ms,
            transactions: overlay.transactions.clone(),
            first_seq,
            records: header.anchors_size.saturating_sub(first_seq),
        }
    }

    /// Remembers that a write failed: what is on disk is unknown until it is opened again.
    pub(crate) fn halt(&self, error: StorageError) -> StateError {
        tracing::error!(%error, "a commit failed; the state accepts no more blocks");
        self.live.write().halted = Some(error.to_string());
        error.into()
    }
}

/// A certificate covers a block of its own epoch at or below its view, and is of the block's very view
/// exactly when it names the block.
fn check_covers(certified: &CertifiedBlock) -> Result<(), StateError> {
    let (header, certificate) = (certified.block.header(), &certified.certificate);
    let names_it = certificate.block == certified.block.id();
    let view_fits = if names_it { certificate.view == header.view } else { certificate.view > header.view };
    if certificate.epoch == header.epoch && view_fits {
        return Ok(());
    }
    let (epoch, view) = (certificate.epoch, certificate.view);
    Err(StateError::CertificateMismatch { block: certified.block.id(), epoch, view })
}

/// An epoch's last block comes last, with its commit proof; a carrier never comes.
fn check_end(blocks: &[CertifiedBlock], proof: Option<&EpochProof>) -> Result<(), StateError> {
    let end = blocks.iter().position(|it| it.block.header().ends_epoch());
    let Some((end, at)) = end.and_then(|at| blocks.get(at).map(|end| (end, at))) else { return Ok(()) };
    let (block, epoch) = (end.block.id(), end.block.header().epoch);
    if end.block.header().is_carrier() {
        return Err(StateError::CarrierCommitted { block, epoch });
    }
    let Some(proof) = proof.filter(|_| at.saturating_add(1) == blocks.len()) else {
        return Err(StateError::EpochProofMissing { block, epoch });
    };
    let names_it = proof.last_block().is_ok_and(|last| last.id() == block);
    if names_it && proof.certificate == end.certificate {
        return Ok(());
    }
    Err(StateError::EpochProofMismatch { block, epoch })
}

/// The overlays whose chain of parents leads to `root`.
fn descendants(overlays: &HashMap<BlockId, Arc<Overlay>>, root: BlockId) -> HashMap<BlockId, Arc<Overlay>> {
    let mut oldest_first: Vec<_> = overlays.iter().collect();
    oldest_first.sort_by_key(|(_, overlay)| overlay.head.header.height);
    let mut kept: HashMap<BlockId, Arc<Overlay>> = HashMap::new();
    for (id, overlay) in oldest_first {
        let parent = overlay.head.header.parent;
        if parent == root || kept.contains_key(&parent) {
            kept.insert(*id, overlay.clone());
        }
    }
    kept
}

pub(crate) fn stored_tip(head: &Head) -> StoredTip {
    StoredTip {
        height: head.header.height,
        id: head.id,
        anchors: head.logs.anchors.clone(),
        anchors_sha256: head.logs.anchors_sha256.clone(),
        history: head.logs.history.clone(),
        tree_version: head.tree_version,
    }
}

/// Bytes of everything that a block writes, about.
fn room_of(overlay: &Overlay) -> usize {
    let records = overlay.effects.records.len().saturating_mul(RECORD_ROWS_BYTES);
    overlay.block.transactions_bytes().saturating_add(records).saturating_add(BLOCK_ROWS_BYTES)
}

pub(crate) fn put_block(batch: &mut Batch, overlay: &Overlay) {
    let head = &overlay.head;
    let height = number(head.header.height.get());
    batch.put(Table::Headers, &height, &encode(head.header.as_ref()));
    batch.put(Table::Blocks, head.id.as_bytes(), &height);
    put_body(batch, &overlay.block);
    for id in &overlay.transactions {
        if let Some(location) = overlay.effects.locations.get(id) {
            batch.put(Table::Transactions, id.as_bytes(), &encode(location));
        }
    }
}

pub(crate) fn put_body(batch: &mut Batch, block: &Block) {
    let height = number(block.header().height.get());
    batch.put_written(Table::Bodies, &height, |bytes| block.append_transactions(bytes));
}

fn put_records(batch: &mut Batch, overlay: &Overlay) {
    for record in &overlay.effects.records {
        let seq = number(record.seq);
        batch.put(Table::Records, &seq, &record.bytes);
        batch.put(Table::Proofs, &indexed(&record.proof, record.seq), &[]);
        batch.put(Table::Roots, &indexed(&record.root, record.seq), &[]);
        if let Some(reference) = &record.reference {
            batch.put(Table::References, &indexed(reference, record.seq), &[]);
        }
        batch.put(Table::Senders, &indexed(record.sender.as_bytes(), record.seq), &[]);
        batch.put(Table::Kinds, &indexed(&[record.kind as u8], record.seq), &[]);
        let links = [(Link::Previous, record.previous), (Link::Subject, record.subject)];
        for (link, other) in links {
            if let Some(other) = other {
                batch.put(Table::Links, &indexed(&link_prefix(link, &other), record.seq), &[]);
            }
        }
    }
    for node in &overlay.effects.log_nodes {
        batch.put(node.log.table(), &node.key, &node.hashes);
    }
}

pub(crate) fn put_tree(batch: &mut Batch, overlay: &Overlay) {
    let tree = &overlay.effects.tree;
    for (key, node) in &tree.nodes {
        batch.put(Table::TreeNodes, &node_key(key), &encode(node));
    }
    for (key, value) in &tree.values {
        batch.put(Table::TreeValues, &key.0, value);
    }
    for key in &tree.stale {
        let mut stale = number(overlay.head.header.height.get()).to_vec();
        stale.extend_from_slice(&node_key(key));
        batch.put(Table::TreeStale, &stale, &[]);
    }
    put_registry(batch, overlay);
}

fn put_registry(batch: &mut Batch, overlay: &Overlay) {
    let registry = &overlay.effects.registry;
    let height = overlay.head.header.height.get();
    for (address, key) in &registry.public_keys {
        batch.put(Table::PublicKeys, address.as_bytes(), &encode(key));
    }
    for (address, entry) in &registry.identities {
        batch.put(Table::IdentityVersions, &indexed(address.as_bytes(), height), &encode(entry));
    }
    for key in &registry.listed {
        batch.put(Table::StateKeys, &key.preimage(), &[]);
        if let StateKey::Delegation { principal, delegate } = key {
            batch.put(Table::StateKeys, &received_key(delegate, principal), &[]);
        }
    }
    for (position, event) in (0u64..).zip(&registry.events) {
        batch.put(Table::IdentityEvents, &indexed(&number(height), position), &encode(event));
        for address in [Some(event.identity), event.what.other()].into_iter().flatten() {
            let at = indexed(&indexed(address.as_bytes(), height), position);
            batch.put(Table::IdentityHistory, &at, &[]);
        }
    }
}
