//! Proposals and verdicts: rule V up to the signature.

use std::sync::Arc;

use cairn_types::block::HEADER_VERSION;
use cairn_types::{Block, BlockCert, BlockId, Header, Proposal, TimeoutCert, View};

use crate::action::{Action, Equivocation, SignedHeader};
use crate::input::BlockVerdict;
use crate::reject::Reject;
use crate::replica::Replica;
use crate::safety::check_justified;
use crate::tree::Standing;

/// Proposals held of one view: the second is evidence, and may be the valid one.
const PROPOSALS_MAX: usize = 2;

impl Replica {
    /// A leader's block. Origin and content are checked before anything changes; then its certificates are
    /// learnt, which brings this replica to the proposal's view; then the block waits to be executed.
    pub(crate) fn on_proposal(&mut self, mut proposal: Proposal) -> Result<(), Reject> {
        let header = proposal.block.header();
        self.check_epoch(header.epoch)?;
        self.check_header(header)?;
        let (justify, tc) = self.check_origin(&proposal)?;
        let (view, id) = (header.view, proposal.block.id());
        if view < self.view {
            return self.on_late_proposal(proposal);
        }
        if view == self.view {
            self.check_new_proposal(view, id)?;
        }
        match self.tree.get(&id) {
            // The leader's signature covers the header alone: the body voted for, logged and passed on is the one that was
            // checked against it.
            Some(held) => proposal.block = Arc::clone(held),
            None => {
                self.check_body(&proposal.block)?;
                if !self.tree.holds(&id) {
                    self.tree.check_link(header)?;
                    self.tree.check_room(&self.kept())?;
                }
            }
        }
        self.learn_block_cert(&justify);
        if let Some(tc) = &tc {
            self.learn_timeout_cert(tc);
        }
        if let Some(earlier) = self.proposals.first() {
            let evidence = Equivocation::Proposals(signed_header(earlier), signed_header(&proposal));
            self.out.actions.push(Action::Accuse(evidence));
        }
        self.hold(&proposal.block);
        self.proposals.push(proposal);
        Ok(())
    }

    /// Everything about a proposal that its own bytes and the validator set decide.
    fn check_origin(&self, proposal: &Proposal) -> Result<(BlockCert, Option<Arc<TimeoutCert>>), Reject> {
        let header = proposal.block.header();
        let (view, got) = (header.view, header.proposer);
        let expected = self.config.set.leader(view);
        if got != expected {
            return Err(Reject::WrongLeader { view, got, expected }); // V: proposer = leader(view)
        }
        let justify = proposal.justify.inline().ok_or(Reject::Unresolved)?;
        let tc = match &proposal.tc {
            None => None,
            Some(tc) => Some(tc.inline().ok_or(Reject::Unresolved)?),
        };
        for got in [Some(justify.epoch()), tc.map(|tc| tc.epoch)].into_iter().flatten() {
            self.check_epoch(got)?; // V: same epoch
        }
        if header.parent != justify.block() || header.parent_view != justify.view() {
            // V: parent = justify.block, parent_view = justify.view
            return Err(Reject::WrongParent {
                parent: header.parent,
                parent_view: header.parent_view,
                block: justify.block(),
                view: justify.view(),
            });
        }
        check_justified(view, justify.view(), tc.map(AsRef::as_ref))?; // V
        Ok((justify.clone(), tc.cloned()))
    }

    fn check_new_proposal(&self, view: View, id: BlockId) -> Result<(), Reject> {
        if self.proposals.iter().any(|known| known.block.id() == id) {
            return Err(Reject::Known);
        }
        if self.proposals.len() >= PROPOSALS_MAX {
            return Err(Reject::TooManyBlocks { validator: self.config.set.leader(view), view });
        }
        Ok(())
    }

    /// A proposal of a view that is over serves only as a body somebody asked for.
    fn on_late_proposal(&mut self, proposal: Proposal) -> Result<(), Reject> {
        let (id, got) = (proposal.block.id(), proposal.block.header().view);
        if !self.wants_certified(&id) {
            return Err(Reject::Stale { got, oldest: self.view });
        }
        self.on_fetched(&proposal.block)
    }

    /// The header's fields that must be the same for every block of the epoch.
    pub(crate) fn check_header(&self, header: &Header) -> Result<(), Reject> {
        if header.view == View::ZERO {
            return Err(Reject::ViewZero);
        }
        let ours = header.version == HEADER_VERSION
            && header.chain == self.config.chain
            && header.validators == self.set_digest;
        if ours { Ok(()) } else { Err(Reject::ForeignHeader) }
    }

    pub(crate) fn check_body(&self, block: &Block) -> Result<(), Reject> {
        if block.matches_tx_root() { Ok(()) } else { Err(Reject::BodyMismatch { id: block.id() }) }
    }

    /// Keeps a block whose link, body and room were checked.
    pub(crate) fn hold(&mut self, block: &Arc<Block>) {
        self.wanted.remove(&block.id());
        self.tree.insert(Arc::clone(block), false, &self.kept());
    }

    pub(crate) fn is_invalid(&self, id: &BlockId) -> bool {
        self.tree.standing(id) == Some(Standing::Invalid)
    }

    pub(crate) fn on_checked(&mut self, id: BlockId, verdict: BlockVerdict) -> Result<(), Reject> {
        self.tree.checked(id, verdict)?;
        let repeated = self.record.last_voted == Some((self.view, id));
        if repeated && let Some(vote) = self.stored_vote() {
            // After a restart: the vote is in the record, and its block has just been accepted again.
            self.broadcast(vote);
        }
        Ok(())
    }

    /// Asks for the execution of every block whose parent is executed.
    pub(crate) fn start_checks(&mut self) {
        let lag_exponent = self.timeouts_since;
        for block in self.tree.start_checks() {
            self.out.actions.push(Action::CheckBlock { block, lag_exponent });
        }
    }

    /// V: votes for the first proposal of the current view that executed here.
    pub(crate) fn try_vote(&mut self) {
        let valid = |id: &BlockId| self.tree.standing(id) == Some(Standing::Valid);
        let found = self.proposals.iter().find(|proposal| valid(&proposal.block.id()));
        if let Some(block) = found.map(|proposal| Arc::clone(&proposal.block)) {
            self.vote(&block);
        }
    }
}

fn signed_header(proposal: &Proposal) -> SignedHeader {
    SignedHeader { header: proposal.block.header().clone(), signature: proposal.signature.clone() }
}
