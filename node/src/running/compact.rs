//! Compact proposals: sent to everyone in place of whole ones, and made whole again from the pool. What the
//! pool lacks is waited for, because it is usually on its way, then asked of the proposer, and in the end the
//! whole block of whoever has it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_consensus::Input;
use cairn_crypto::MessageFault;
use cairn_p2p::{Command, MessageKind, Outbound, Plane};
use cairn_types::{
    Address, Assembly, BlockId, CompactProposal, Message, Proposal, SignedTransaction, decode, encode,
};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::context::Context;
use super::task::Job;
use super::wire::{FORWARD_TRANSACTIONS_MAX, Forwarded, Found, MeshRequest};

/// Proposals of one validator being made whole at one moment: its present one, one given up, and room for two more. A
/// leader that signs many blocks takes nobody else's room; of any more, votes make the replica fetch the whole block.
const ASSEMBLING_PER_PEER_MAX: usize = 4;
/// The same of all validators: those of the eight views that a replica looks ahead, and as many liars.
const ASSEMBLING_MAX: usize = 64;
/// How often the pool is looked at for transactions that are on their way, and the pause before each look. Whoever passes them on
/// sends them to everyone at once, so that what the proposer has is not far.
const LOOKS: u32 = 5;
const LOOK_PAUSE: Duration = Duration::from_millis(3);
/// How long the proposer may take to give what is missing: a round trip between any two places, and the work at both
/// ends. While it lasts the block is not fetched whole, so a silent proposer must not hold it longer.
const PULL_MAX: Duration = Duration::from_millis(500);

/// The blocks whose proposals are being made whole.
#[derive(Debug, Default)]
pub(crate) struct Assembling {
    /// With the validator that sent each.
    blocks: Mutex<HashMap<BlockId, Address>>,
}

impl Assembling {
    /// Whether the transactions of a block are being collected.
    pub(crate) fn contains(&self, id: &BlockId) -> bool {
        self.blocks.lock().contains_key(id)
    }

    /// Begins to collect what `from` sent; false when that is under way or too many are.
    fn begin(&self, id: BlockId, from: Address) -> bool {
        let mut blocks = self.blocks.lock();
        let of_peer = blocks.values().filter(|sender| **sender == from).count();
        if blocks.len() >= ASSEMBLING_MAX || of_peer >= ASSEMBLING_PER_PEER_MAX || blocks.contains_key(&id) {
            return false;
        }
        blocks.insert(id, from);
        true
    }

    fn end(&self, id: &BlockId) {
        self.blocks.lock().remove(id);
    }
}

/// A proposal as it goes to everyone: with the bodies of those transactions only that were not passed on yet.
pub(crate) fn outbound(context: &Context, proposal: &Proposal) -> Outbound {
    let header = proposal.block.header();
    let (epoch, view) = (header.epoch, header.view);
    let pool = context.pool.lock();
    let compact = CompactProposal::of(proposal, |tx| pool.is_unsent(&tx.id()));
    drop(pool);
    let body = encode(&compact).into();
    Outbound { plane: Plane::Hot, kind: MessageKind::CompactProposal, epoch, view, body }
}

/// The proposal without its transactions, for checking what it is signed for.
pub(crate) fn shell(body: &[u8]) -> Result<(CompactProposal, Message), cairn_types::DecodeError> {
    let compact: CompactProposal = decode(body)?;
    let shell = Message::Proposal(compact.with(Vec::new()));
    Ok((compact, shell))
}

/// Goes on with a compact proposal of `from` whose signature and certificates are good. Gives what is wrong
/// with its list of transactions, if anything is.
pub(crate) fn take(
    context: &Arc<Context>,
    from: Address,
    compact: CompactProposal,
) -> Result<(), cairn_types::CompactFault> {
    let mut assembly = Assembly::begin(compact)?;
    let id = assembly.header().id();
    if context.recent.lock().contains(&id) {
        return Ok(());
    }
    look(context, &mut assembly);
    match assembly.whole() {
        Some(proposal) => feed(context, proposal),
        None if context.assembling.begin(id, from) => {
            let context = Arc::clone(context);
            context.runtime.clone().spawn(async move { collect(&context, from, id, assembly).await });
        }
        None => {}
    }
    Ok(())
}

fn look(context: &Context, assembly: &mut Assembly) {
    let pool = context.pool.lock();
    assembly.fill(|leaf| pool.of_leaf(leaf));
}

/// Waits for what is missing, then asks for it.
async fn collect(context: &Arc<Context>, from: Address, id: BlockId, mut assembly: Assembly) {
    let mut whole = None;
    for _ in 0..LOOKS {
        tokio::time::sleep(LOOK_PAUSE).await;
        look(context, &mut assembly);
        whole = assembly.whole();
        if whole.is_some() {
            break;
        }
    }
    if whole.is_none() {
        let missing = assembly.missing();
        context.metrics.transactions_pulled.inc_by(missing.len() as u64);
        let pulled = tokio::time::timeout(PULL_MAX, pull(context, from, id, missing)).await;
        if let Ok(Some(transactions)) = pulled
            && assembly.place(transactions).is_some()
        {
            tracing::warn!(%from, block = %id, "a wrong answer: transactions that are not the block's");
            context.metrics.rejected.inc();
        }
        whole = assembly.whole();
    }
    context.assembling.end(&id);
    match whole {
        Some(proposal) => {
            let context = Arc::clone(context);
            // Checked once more off the network's threads: the signature from memory, the rest is hashing.
            let _ = tokio::task::spawn_blocking(move || feed(&context, proposal)).await;
        }
        None => {
            // The queue being full means that the replica asks again.
            let _ = context.jobs.try_send(Job::Fetch { id, from: Vec::new() });
        }
    }
}

/// Asks the proposer for the transactions at these positions.
async fn pull(
    context: &Context,
    from: Address,
    block: BlockId,
    missing: Vec<u32>,
) -> Option<Vec<Arc<SignedTransaction>>> {
    if missing.len() > FORWARD_TRANSACTIONS_MAX {
        return None;
    }
    let (reply, answer) = oneshot::channel();
    let body = encode(&MeshRequest::Transactions { block, positions: missing }).into();
    context.net.send(Command::MeshRequest { to: from, body, reply }).await.ok()?;
    let bytes: Bytes = answer.await.ok()?.ok()?;
    let list = Forwarded::decode(&bytes).ok()?.0;
    list.into_iter().map(|bytes| SignedTransaction::from_canonical(bytes).map(Arc::new).ok()).collect()
}

/// Gives the replica the whole proposal.
fn feed(context: &Context, proposal: Proposal) {
    let epoch = context.epoch();
    let verified = context.verifier.proposal(&epoch.set, epoch.root_id, proposal);
    match verified {
        Ok(proposal) => {
            context.recent.lock().keep(Found::Proposal(Arc::new((*proposal).clone())));
            // The loop is gone only when the node stops.
            let _ = context.inputs.blocking_send(Input::Proposal(proposal));
        }
        Err(fault) => {
            let fault: MessageFault = fault;
            tracing::warn!(%fault, "a proposal that was good without its transactions is not with them");
        }
    }
}

#[cfg(test)]
mod tests {
    use cairn_types::Hash;

    use super::*;

    #[test]
    fn a_leader_that_signs_many_blocks_takes_nobody_elses_room() {
        let assembling = Assembling::default();
        let (liar, honest) = (Address::new(Hash([1; 32])), Address::new(Hash([2; 32])));
        let block = |n: u8| BlockId::new(Hash([n; 32]));
        let taken = (0..100).filter(|n| assembling.begin(block(*n), liar)).count();
        assert_eq!(taken, ASSEMBLING_PER_PEER_MAX);
        assert!(!assembling.begin(block(0), honest), "begun already");
        assert!(assembling.begin(block(200), honest) && assembling.contains(&block(200)));
        assembling.end(&block(0));
        assert!(assembling.begin(block(50), liar), "room again");
    }

    #[test]
    fn what_is_collected_at_one_moment_is_bounded() {
        let assembling = Assembling::default();
        let begun = (0..=255).filter(|n| {
            let id = Hash([*n; 32]);
            assembling.begin(BlockId::new(id), Address::new(id))
        });
        assert_eq!(begun.count(), ASSEMBLING_MAX);
    }
}
