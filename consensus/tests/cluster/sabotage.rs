//! Faults put into the drivers of honest nodes on purpose, to see whether a campaign finds them. The replicas
//! themselves stay as they are: each fault breaks what the protocol owes its safety to, from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cairn_consensus::Input;
use cairn_types::certificate::{BallotCert, First, Phase, Second};
use cairn_types::message::Ballot;
use cairn_types::{BlockCert, BlockId, Message, Signature, ValidatorIndex, Verified, View};

use super::node::Disk;
use super::{Cluster, Wire};

/// What is wrong with every honest node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bug {
    /// The record, the certificates and the bodies are never synced: a crash loses them.
    NothingPersisted,
    /// A third of the power makes a certificate, and such certificates are taken from others.
    WeakQuorum,
    /// C without its guards: whatever is certified gets a commit vote, also after a timeout or a later vote.
    CommitVoteUnguarded,
    /// V without its guard: every valid block of the current view gets a vote, also a second one.
    VoteUnguarded,
    /// No rule R: what was said once is never said again.
    NeverRepeats,
}

impl Bug {
    pub(crate) const ALL: [Self; 5] = [
        Self::NothingPersisted,
        Self::WeakQuorum,
        Self::CommitVoteUnguarded,
        Self::VoteUnguarded,
        Self::NeverRepeats,
    ];

    /// The fault of this name, as `Debug` prints it.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bug| format!("{bug:?}") == name)
    }
}

type Votes = BTreeMap<ValidatorIndex, Signature>;

/// The fault of a run and what its drivers remember for it.
pub(crate) struct Sabotage {
    pub(crate) bug: Bug,
    /// By node, whether commit votes, view and block.
    votes: BTreeMap<(usize, bool, View, BlockId), Votes>,
    commit_voted: BTreeSet<(usize, View)>,
    /// Valid blocks that a node has not signed for behind its replica's back.
    unsigned: BTreeSet<(usize, BlockId)>,
    /// By sender and receiver, the kind and view of what was said.
    said: BTreeSet<(usize, usize, &'static str, View)>,
}

impl Sabotage {
    pub(crate) const fn new(bug: Bug) -> Self {
        Self {
            bug,
            votes: BTreeMap::new(),
            commit_voted: BTreeSet::new(),
            unsigned: BTreeSet::new(),
            said: BTreeSet::new(),
        }
    }
}

impl Cluster {
    fn bug_of(&self, node: usize) -> Option<Bug> {
        self.sabotage.as_ref().map(|sabotage| sabotage.bug).filter(|_| self.nodes[node].honest)
    }

    /// What the disk of a node that starts again turns out to hold.
    pub(crate) fn lose_unsynced(&mut self, node: usize) {
        if self.bug_of(node) == Some(Bug::NothingPersisted) {
            let disk = &mut self.nodes[node].disk;
            *disk = Disk { chain: disk.chain.clone(), writes: disk.writes, ..Disk::default() };
        }
    }

    /// Whether a node holds back a message because it was said before, if that is the fault.
    pub(crate) fn holds_back(&mut self, from: usize, to: usize, wire: &Wire) -> bool {
        if self.bug_of(from) != Some(Bug::NeverRepeats) {
            return false;
        }
        let Wire::Message(message) = wire else { return false };
        let kind = match message {
            Message::Proposal(_) => "proposal",
            Message::Vote(_) => "vote",
            Message::CommitVote(_) => "commit vote",
            Message::Timeout(_) => "timeout",
            _ => return true, // answers to those who are behind belong to R
        };
        self.sabotage.as_mut().is_some_and(|it| !it.said.insert((from, to, kind, message.view())))
    }

    /// What a node does about a message besides giving it to its replica.
    pub(crate) fn miscount(&mut self, node: usize, message: &Message) -> Option<Input> {
        if self.bug_of(node) != Some(Bug::WeakQuorum) {
            return None;
        }
        match message {
            Message::Vote(vote) => self.weak(node, vote).map(|cert| {
                let cert = BlockCert::Quorum(Arc::new(cert));
                #[expect(clippy::disallowed_methods, reason = "the fault that is put in")]
                Input::Certificate(Verified::assume(cert))
            }),
            Message::CommitVote(vote) => self.weak(node, vote).map(|cert| {
                #[expect(clippy::disallowed_methods, reason = "the fault that is put in")]
                Input::CommitCert(Verified::assume(Arc::new(cert)))
            }),
            _ => None,
        }
    }

    fn weak<P: Phase>(&mut self, node: usize, vote: &Ballot<P>) -> Option<BallotCert<P>> {
        let set = self.world.set.clone();
        let commit = P::TAG == Second::TAG;
        let votes = &mut self.sabotage.as_mut()?.votes;
        let votes = votes.entry((node, commit, vote.view, vote.block)).or_default();
        let is_weak = |votes: &Votes| set.is_weak(votes.keys().map(|index| set.power(*index)).sum());
        let before = is_weak(votes);
        votes.insert(vote.validator, vote.signature.clone());
        let votes = (!before && is_weak(votes)).then(|| votes.clone())?;
        let votes = votes.into_iter().collect();
        Some(BallotCert::new(set.epoch(), vote.view, vote.block, set.count(), votes))
    }

    /// The votes that the replica refused, if that is the fault. Gives them back as the node's own messages.
    pub(crate) fn vote_unguarded(&mut self, node: usize) -> Option<Message> {
        match self.bug_of(node)? {
            Bug::CommitVoteUnguarded => self.refused_commit_vote(node),
            Bug::VoteUnguarded => self.refused_vote(node),
            _ => None,
        }
    }

    /// The driver tells by the executor's verdict which blocks are valid; it signs for all of them.
    pub(crate) fn found_valid(&mut self, node: usize, block: BlockId) {
        if self.bug_of(node) == Some(Bug::VoteUnguarded)
            && let Some(sabotage) = self.sabotage.as_mut()
        {
            sabotage.unsigned.insert((node, block));
        }
    }

    fn refused_vote(&mut self, node: usize) -> Option<Message> {
        let live = self.nodes[node].live.as_ref()?;
        let voted = live.replica.record().last_voted;
        let sabotage = self.sabotage.as_mut()?;
        let valid: Vec<BlockId> =
            sabotage.unsigned.iter().filter(|(of, _)| *of == node).map(|(_, block)| *block).collect();
        let found = valid.into_iter().find_map(|id| {
            let block = live.replica.block(&id)?;
            let view = block.header().view;
            (view == live.replica.view() && voted != Some((view, id))).then_some((view, id))
        });
        let (view, block) = found?;
        sabotage.unsigned.remove(&(node, block));
        let vote = self.world.ballot::<First>(self.nodes[node].me?, view, block);
        Some(self.say(node, view, block, "votes", Message::Vote(vote)))
    }

    fn refused_commit_vote(&mut self, node: usize) -> Option<Message> {
        let live = self.nodes[node].live.as_ref()?;
        let BlockCert::Quorum(cert) = live.replica.high_qc().clone() else { return None };
        let refused = live.replica.record().last_commit_voted.is_none_or(|(last, _)| last < cert.view);
        if !refused || !self.sabotage.as_mut()?.commit_voted.insert((node, cert.view)) {
            return None;
        }
        let vote = self.world.ballot::<Second>(self.nodes[node].me?, cert.view, cert.block);
        Some(self.say(node, cert.view, cert.block, "commit-votes", Message::CommitVote(vote)))
    }

    /// Broadcasts what the replica did not ask for.
    fn say(&mut self, node: usize, view: View, block: BlockId, what: &str, message: Message) -> Message {
        for to in (0..self.nodes.len()).filter(|to| *to != node) {
            self.send(node, to, Wire::Message(message.clone()));
        }
        self.transcript.line(self.now, || {
            let block = super::transcript::short(block);
            format!("{}: view {view}: {what} {block}, which its replica refused", self.name(node))
        });
        message
    }
}
