//! Evidence that a validator signed two different things where one is allowed (FORMATS, "Evidence").

use borsh::{BorshDeserialize, BorshSerialize};

use crate::id::{BlockId, ChainId, Epoch, ValidatorIndex, View};
use crate::key::Signature;
use crate::signing::{Tag, block_preimage, timeout_preimage};

/// Two contradicting signatures of one validator for one epoch and view. What counts is what was signed, never
/// the signatures' bytes: signing the same twice is allowed.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Evidence {
    /// The epoch of both.
    pub epoch: Epoch,
    /// The view of both.
    pub view: View,
    /// The accused, by its position in that epoch's set.
    pub validator: ValidatorIndex,
    /// What it signed.
    pub conflict: Conflict,
}

/// The kind of message, and the two that contradict.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Conflict {
    /// Two blocks proposed.
    Proposals(Pair<BlockId>) = 0,
    /// Votes for two blocks.
    Votes(Pair<BlockId>) = 1,
    /// Commit votes for two blocks.
    CommitVotes(Pair<BlockId>) = 2,
    /// Timeouts that sign two different views of the highest certificate.
    Timeouts(Pair<View>) = 3,
}

/// Two signed contents, the lower first, so that the same accusation has one form.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Pair<T> {
    /// The lower.
    pub first: Said<T>,
    /// The higher.
    pub second: Said<T>,
}

/// What was signed, with the signature.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Said<T> {
    /// The content: a block id, or the view of a certificate.
    pub content: T,
    /// The accused's signature.
    pub signature: Signature,
}

impl<T: Ord> Pair<T> {
    /// The pair in its one order; `None` when both say the same.
    pub fn new(one: (T, Signature), other: (T, Signature)) -> Option<Self> {
        let (first, second) = match one.0.cmp(&other.0) {
            std::cmp::Ordering::Less => (one, other),
            std::cmp::Ordering::Equal => return None,
            std::cmp::Ordering::Greater => (other, one),
        };
        let said = |(content, signature)| Said { content, signature };
        Some(Self { first: said(first), second: said(second) })
    }

    fn is_ordered(&self) -> bool {
        self.first.content < self.second.content
    }
}

impl Evidence {
    /// Whether the two differ and stand in their one order. Views start at 1.
    pub fn is_well_formed(&self) -> bool {
        self.view != View::ZERO
            && match &self.conflict {
                Conflict::Proposals(pair) | Conflict::Votes(pair) | Conflict::CommitVotes(pair) => {
                    pair.is_ordered()
                }
                Conflict::Timeouts(pair) => pair.is_ordered(),
            }
    }

    /// What each of the two signatures must be over.
    pub fn signed(&self, chain: ChainId) -> [(Vec<u8>, &Signature); 2] {
        match &self.conflict {
            Conflict::Proposals(pair) => self.signed_blocks(Tag::Proposal, chain, pair),
            Conflict::Votes(pair) => self.signed_blocks(Tag::Vote, chain, pair),
            Conflict::CommitVotes(pair) => self.signed_blocks(Tag::Commit, chain, pair),
            Conflict::Timeouts(pair) => [&pair.first, &pair.second]
                .map(|said| (timeout_preimage(chain, self.epoch, self.view, said.content), &said.signature)),
        }
    }

    fn signed_blocks<'a>(
        &self,
        tag: Tag,
        chain: ChainId,
        pair: &'a Pair<BlockId>,
    ) -> [(Vec<u8>, &'a Signature); 2] {
        [&pair.first, &pair.second]
            .map(|said| (block_preimage(tag, chain, self.epoch, self.view, said.content), &said.signature))
    }
}

impl Conflict {
    /// The name used in JSON.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Proposals(_) => "proposals",
            Self::Votes(_) => "votes",
            Self::CommitVotes(_) => "commit_votes",
            Self::Timeouts(_) => "timeouts",
        }
    }
}
