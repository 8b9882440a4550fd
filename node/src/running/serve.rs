//! Answers to what other nodes ask: blocks by id and ranges of final blocks.

use std::sync::Arc;

use bytes::Bytes;
use cairn_catchup::{Covering, Entry, RANGE_BLOCKS_MAX};
use cairn_p2p::{
    RESPONSE_BYTES_MAX, SNAPSHOT_OFFERS_MAX, SnapshotContents, SnapshotOffer, SyncRequest, SyncResponse, Tip,
};
use cairn_state::{SnapshotChunk, StateError};
use cairn_types::{BlockId, Epoch, Hash, Header, Height, decode, encode};

use super::context::Context;
use super::wire::{Entries, FORWARD_TRANSACTIONS_MAX, Forwarded, Found, MeshRequest, RANGE_BYTES_MAX};

/// The answer to a validator's request; `None` for one that is malformed or cannot be answered.
pub(crate) fn mesh_request(context: &Context, body: &[u8]) -> Option<Bytes> {
    match decode::<MeshRequest>(body).ok()? {
        MeshRequest::Block(id) => Some(encode(&find(context, &id)?).into()),
        MeshRequest::Range { from, count } => {
            let entries = read(range(context, from, count.min(RANGE_BLOCKS_MAX)))?;
            Some(encode(&Entries(entries)).into())
        }
        MeshRequest::Transactions { block, positions } => {
            let found = find(context, &block)?;
            let held = found.block().transactions();
            let asked: Option<Vec<_>> =
                positions.iter().map(|at| held.get(usize::try_from(*at).ok()?).cloned()).collect();
            let asked = asked.filter(|asked| asked.len() <= FORWARD_TRANSACTIONS_MAX)?;
            Some(Forwarded::encode(&asked).into())
        }
    }
}

/// The answer to a public peer's request.
pub(crate) fn sync_request(context: &Context, request: SyncRequest) -> Option<SyncResponse> {
    match request {
        SyncRequest::Status => {
            let tip = context.state.tip();
            let (height, block, epoch) = (tip.header.height, tip.id, tip.header.epoch);
            let earliest = context.state.kept().blocks_from;
            let snapshot = context.snapshots.shelf.newest();
            Some(SyncResponse::Status(Tip { height, block, epoch, earliest, snapshot }))
        }
        SyncRequest::Blocks { from, count } => {
            let entries = read(range(context, from, count.min(RANGE_BLOCKS_MAX)))?;
            Some(SyncResponse::Blocks(entries.into_iter().map(Bytes::from).collect()))
        }
        SyncRequest::Block { id } => {
            Some(SyncResponse::Block(find(context, &id).map(|found| encode(&found).into())))
        }
        SyncRequest::Snapshots => Some(SyncResponse::Snapshots(snapshots(context))),
        SyncRequest::SnapshotContents { id } => {
            Some(SyncResponse::SnapshotContents(snapshot_contents(context, &id)))
        }
        SyncRequest::SnapshotChunk { id, index } => {
            Some(SyncResponse::SnapshotChunk(snapshot_chunk(context, &id, index)))
        }
        SyncRequest::Handovers { from } => Some(SyncResponse::Handovers(handovers(context, from)?)),
    }
}

fn snapshots(context: &Context) -> Vec<SnapshotOffer> {
    let offers = context.snapshots.shelf.offers().into_iter().take(SNAPSHOT_OFFERS_MAX);
    offers.map(|it| SnapshotOffer { height: it.height, id: it.id, chunks: it.chunks }).collect()
}

fn snapshot_contents(context: &Context, id: &Hash) -> Option<SnapshotContents> {
    let (head, chunks) = context.snapshots.shelf.get(id)?.contents();
    let fits = head.len().saturating_add(chunks.len()) <= RESPONSE_BYTES_MAX;
    fits.then(|| SnapshotContents { head: head.into(), chunks: chunks.into() })
}

fn snapshot_chunk(context: &Context, id: &Hash, index: u32) -> Option<Bytes> {
    let chunk = context.snapshots.shelf.get(id)?.chunk(index);
    let chunk = chunk.inspect_err(|error| {
        tracing::warn!(%error, "a snapshot is damaged, and offered no more");
        context.snapshots.shelf.remove(id);
    });
    chunk.ok().flatten().map(Bytes::from)
}

/// Ends of epochs from this one on; none of an epoch that has not ended.
fn handovers(context: &Context, from: Epoch) -> Option<Option<Bytes>> {
    let handovers = read(context.state.snapshot_handovers(from))?;
    let given = !handovers.is_empty();
    Some(given.then(|| encode(&SnapshotChunk::Handovers(handovers)).into()))
}

fn find(context: &Context, id: &BlockId) -> Option<Found> {
    if let Some(found) = context.recent.lock().get(id) {
        return Some(found.clone());
    }
    if let Some(block) = context.state.uncommitted(id) {
        return Some(Found::Block(block));
    }
    let block = unless_pruned(context.state.block_by_id(id))?;
    // Carriers are no part of the chain, yet whoever knows only their certificate asks for them.
    let block = if block.is_some() { block } else { read(context.state.carrier(id))? };
    block.map(|block| Found::Block(Arc::new(block)))
}

/// Final blocks from `from` on, as the bytes of an [`Entry`] each.
fn range(context: &Context, from: Height, count: u32) -> Result<Vec<Vec<u8>>, StateError> {
    let (mut entries, mut last) = (Vec::new(), None::<Entry>);
    let mut bytes = 0;
    let mut height = from;
    for _ in 0..count {
        if height < context.state.kept().blocks_from {
            break;
        }
        let Some(block) = context.state.block(height)? else { break };
        let Covering { certificate, end, .. } = covering(context, block.header().clone())?;
        let next = Entry { block: Arc::new(block), certificate, end, above: Vec::new() };
        let encoded = encode(&next);
        bytes += encoded.len();
        if bytes > RANGE_BYTES_MAX && last.is_some() {
            break;
        }
        entries.push(encoded);
        last = Some(next);
        height = height.next();
    }
    if let (Some(mut last), Some(encoded)) = (last, entries.last_mut()) {
        last.cover(|height| {
            let header = context.state.header(height)?;
            header.map(|header| covering(context, header)).transpose()
        })?;
        if !last.above.is_empty() {
            *encoded = encode(&last);
        }
    }
    Ok(entries)
}

/// What shows that a final block is final.
fn covering(context: &Context, header: Header) -> Result<Covering, StateError> {
    let certificate = context.state.certificate(header.height)?.map(Arc::new);
    let end = match header.ends_epoch() {
        true => context.state.epoch_proof(header.epoch)?.map(Arc::new),
        false => None,
    };
    Ok(Covering { header, certificate, end })
}

/// That a block is no longer kept is no fault of anybody.
fn unless_pruned<T>(outcome: Result<Option<T>, StateError>) -> Option<Option<T>> {
    match outcome {
        Err(StateError::Pruned { .. }) => Some(None),
        outcome => read(outcome),
    }
}

fn read<T>(outcome: Result<T, StateError>) -> Option<T> {
    outcome.inspect_err(|error| tracing::warn!(%error, "a peer's request cannot be answered")).ok()
}
