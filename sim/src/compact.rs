//! Proposals that name their transactions: what a leader sends, and how a receiver comes by what its pool lacks, with
//! the node's rules. What the network then loses is fetched by the replica, as any block that votes name.

use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;

use cairn_types::{Block, BlockId, Message, TxId};

use crate::cluster::Cluster;
use crate::events::Event;
use crate::manifest::Proposals;
use crate::node::Node;
use crate::packet::{Packet, Sealed};

/// Looks into the pool after the first, as in a node.
const LOOKS: u32 = 5;
/// Pause between two of them, microseconds, as in a node.
const LOOK_EVERY_US: u64 = 3_000;
/// How long a leader may take to give what is missing, microseconds, as in a node: until then nobody else is asked for the
/// block, which would bring its transactions a second time.
const PULL_MAX_US: u64 = 500_000;
/// A block leaf.
const LEAF_BYTES: u64 = 32;

/// A proposal as its leader broadcasts it.
#[derive(Debug)]
pub(crate) struct Compact {
    /// The whole of it, which a receiver comes to know piece by piece.
    pub(crate) sealed: Rc<Sealed>,
    block: BlockId,
    /// Its transactions, in order, and the bytes of each.
    transactions: Vec<(TxId, u64)>,
    /// Those that ride along: the leader has not passed them on yet.
    carried: HashSet<TxId>,
    /// On the wire.
    pub(crate) bytes: u64,
}

impl Compact {
    /// Bytes with certificates named instead of carried.
    pub(crate) fn bytes_by_reference(&self) -> u64 {
        self.bytes - (self.sealed.bytes - self.sealed.bytes_by_reference())
    }
}

/// A question for transactions that a proposal names, and its answer.
#[derive(Debug)]
pub(crate) struct Lacking {
    /// The proposal.
    pub(crate) sealed: Rc<Sealed>,
    block: BlockId,
    /// How many are asked for.
    pub(crate) count: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
}

impl Cluster {
    /// What an honest node sends to everyone: a proposal names its transactions, anything else is whole.
    pub(crate) fn broadcasting(&self, node: usize, sealed: &Rc<Sealed>) -> Packet {
        let whole = Packet::Message(Rc::clone(sealed));
        let Message::Proposal(proposal) = &sealed.message else { return whole };
        let block: &Arc<Block> = &proposal.block;
        let Some(live) = self.nodes[node].live.as_ref() else { return whole };
        if self.manifest.net.proposals == Proposals::Whole || block.transactions().is_empty() {
            return whole;
        }
        let sized = |tx| self.world.transaction_bytes(tx) as u64;
        let transactions: Vec<(TxId, u64)> =
            block.transactions().iter().map(|tx| (tx.transaction.id(), sized(tx))).collect();
        let waiting: HashSet<TxId> = live.forward.iter().map(|tx| tx.transaction.id()).collect();
        let (mut carried, mut bytes) = (HashSet::new(), sealed.bytes + 4);
        for (id, size) in &transactions {
            if waiting.contains(id) {
                carried.insert(*id);
                bytes += LEAF_BYTES;
            } else {
                bytes = bytes + LEAF_BYTES - size;
            }
        }
        let (sealed, block) = (Rc::clone(sealed), block.id());
        Packet::Compact(Rc::new(Compact { sealed, block, transactions, carried, bytes }))
    }

    /// Takes a proposal whose transactions are all here. What is not is usually on its way, so the pool is looked
    /// into again; then the leader is asked.
    pub(crate) fn rebuild(&mut self, node: usize, from: usize, compact: &Rc<Compact>, tries: u32) {
        let (now, incarnation) = (self.now, self.nodes[node].incarnation);
        let id = compact.block;
        let Some(live) = self.nodes[node].live.as_mut() else { return };
        if tries > LOOKS {
            if live.assembling.remove(&id) {
                self.told(node, cairn_catchup::Input::Want { block: id, from: Vec::new() });
            }
            return;
        }
        if tries == 0 && live.assembling.contains(&id) {
            return; // a second copy
        }
        let lacks = |id: &TxId| !compact.carried.contains(id) && !live.pool.contains(id);
        let missing = compact.transactions.iter().filter(|(id, _)| lacks(id));
        let (count, bytes) = missing.fold((0, 0), |(count, bytes), (_, size)| (count + 1, bytes + size));
        if count == 0 {
            live.assembling.remove(&id);
            return self.hear(node, from, &compact.sealed);
        }
        live.assembling.insert(id);
        if tries == LOOKS {
            let lacking = Lacking { sealed: Rc::clone(&compact.sealed), block: id, count, bytes };
            self.send(node, from, Packet::Lacking(Rc::new(lacking)));
        }
        let after = if tries == LOOKS { PULL_MAX_US } else { LOOK_EVERY_US };
        let (compact, tries) = (Rc::clone(compact), tries + 1);
        self.plan(now + after, Event::Rebuild { node, incarnation, from, compact, tries });
    }

    /// What was missing has come.
    pub(crate) fn completed(&mut self, node: usize, from: usize, lacking: &Lacking) {
        let Some(live) = self.nodes[node].live.as_mut() else { return };
        live.assembling.remove(&lacking.block);
        self.hear(node, from, &lacking.sealed);
    }

    /// Gives what a receiver of a proposal lacks, if the block is here, final or not.
    pub(crate) fn complete(&mut self, node: usize, to: usize, lacking: Rc<Lacking>) {
        let Node { live: Some(live), disk, .. } = &self.nodes[node] else { return };
        if live.replica.block(&lacking.block).is_some() || live.ledger.block(disk, &lacking.block).is_some() {
            self.send(node, to, Packet::Bodies(lacking));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::cluster::Cluster;
    use crate::manifest::Manifest;
    use crate::transcript::Transcript;

    /// Runs a network; gives its committed height, and bytes and number of the messages of some kinds.
    fn sent(text: &str, kinds: &[&str]) -> (u64, Vec<(u64, u64)>) {
        let manifest = Manifest::parse(text, "test").unwrap();
        let mut cluster = Cluster::new(&manifest, true, Transcript::default()).unwrap();
        cluster.start_all();
        cluster.run(manifest.duration.0, |_| false);
        assert!(cluster.violation.is_none(), "{:?}", cluster.violation);
        let sum = |kind: &&str| {
            let of_kind = cluster.record.traffic.iter().filter(|((_, named), _)| named == kind);
            of_kind.fold((0, 0), |(bytes, count), (_, it)| (bytes + it.bytes, count + it.count))
        };
        (cluster.height_of(0).get(), kinds.iter().map(sum).collect())
    }

    #[test]
    fn named_transactions_leave_a_fraction_of_the_bytes_and_the_same_progress() {
        let plan = |proposals: &str| {
            format!("duration = \"5s\"\n[load]\nrate = 400\nclients = 16\n[net]\nproposals = \"{proposals}\"")
        };
        let kinds = ["proposal", "question for transactions"];
        let (whole_height, whole) = sent(&plan("whole"), &kinds);
        let (compact_height, compact) = sent(&plan("compact"), &kinds);
        assert!(whole[0].0 > 4 * compact[0].0, "{whole:?} {compact:?}");
        assert!(compact_height * 10 >= whole_height * 9, "{whole_height} {compact_height}");
        assert_eq!(whole[1], (0, 0), "a whole proposal lacks nothing");
    }

    #[test]
    fn what_the_pool_lacks_comes_from_the_leader() {
        // Links that lose much: some transactions never reach everyone.
        let plan = "duration = \"10s\"\n[load]\nrate = 50\n[net]\nloss = 0.1";
        let (height, kinds) = sent(plan, &["question for transactions", "missing transactions"]);
        assert!(height > 20, "{height}");
        assert!(kinds[0].1 > 0 && kinds[1].1 > 0, "nobody lacked anything: {kinds:?}");
        assert!(kinds[1].1 <= kinds[0].1, "an answer without a question: {kinds:?}");
    }
}
