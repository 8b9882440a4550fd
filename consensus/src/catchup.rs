//! Missing blocks and rule F: fetching by hash, committing in order, and handing long gaps to range sync.

use std::sync::Arc;

use cairn_types::{
    Block, BlockCert, BlockId, CertifiedBlock, CommitCert, EpochProof, Header, ValidatorIndex, View,
};

use crate::action::{Action, CatchUp, EpochEnd, Fatal, TimerKind};
use crate::reject::Reject;
use crate::replica::Replica;
use crate::tree::{Path, Tip};

/// Missing heights that are fetched one by one along parent hashes. Above it a round trip per block takes
/// longer than range sync, and the fetched blocks would crowd the tree.
pub(crate) const CATCH_UP_DEPTH: u64 = 32;
/// Blocks wanted at once. Certificates want at most four; the rest are named by votes alone, of which each
/// validator may name two in each view looked at.
const WANTED_MAX: usize = 256;

/// A block that is asked for.
#[derive(Debug)]
pub(crate) struct Wanted {
    view: View,
    from: Vec<ValidatorIndex>,
    proof: Proof,
}

/// Why a block is believed to exist. Only a certified one is accepted without its leader's signature.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Proof {
    /// A vote names it.
    Vote,
    /// Votes of weak power name it: an honest replica holds it.
    Weak,
    /// A certificate of it or of a descendant.
    Certified,
}

impl Replica {
    /// Asks for a block unless it is here, and again when there is better proof that it exists.
    pub(crate) fn want(&mut self, id: BlockId, view: View, from: Vec<ValidatorIndex>, proof: Proof) {
        if self.tree.holds(&id) {
            return;
        }
        let from = self.in_our_order(from);
        if let Some(known) = self.wanted.get_mut(&id) {
            if proof <= known.proof {
                return;
            }
            *known = Wanted { view, from: from.clone(), proof };
        } else if self.wanted.len() < WANTED_MAX || proof == Proof::Certified {
            self.wanted.insert(id, Wanted { view, from: from.clone(), proof });
        } else {
            return;
        }
        self.out.actions.push(Action::FetchBlock { id, from });
    }

    /// Those who hold a block, beginning with whoever comes after us in the set: if everybody began with the first, that one
    /// would have to serve all.
    fn in_our_order(&self, mut from: Vec<ValidatorIndex>) -> Vec<ValidatorIndex> {
        let first = self.config.me.map_or(0, |me| from.partition_point(|index| *index <= me));
        from.rotate_left(first);
        from
    }

    /// On leaving a view: what only votes of earlier views named is not needed any more.
    pub(crate) fn forget_unproven_wants(&mut self) {
        let view = self.view;
        self.wanted.retain(|_, wanted| wanted.proof == Proof::Certified || wanted.view >= view);
    }

    pub(crate) fn wants_certified(&self, id: &BlockId) -> bool {
        self.wanted.get(id).is_some_and(|wanted| wanted.proof == Proof::Certified)
    }

    pub(crate) fn on_fetched(&mut self, block: &Arc<Block>) -> Result<(), Reject> {
        let id = block.id();
        if self.tree.holds(&id) {
            return Err(Reject::Known);
        }
        match self.wanted.get(&id).map(|wanted| wanted.proof) {
            None => return Err(Reject::Unasked { id }),
            Some(Proof::Certified) => {}
            Some(_) => return Err(Reject::Uncertified { id }),
        }
        self.check_epoch(block.header().epoch)?;
        self.check_header(block.header())?;
        self.check_body(block)?;
        self.tree.check_room(&self.kept())?;
        self.hold(block);
        Ok(())
    }

    /// Asks for whatever is missing below the certified blocks that matter, and for range sync when that is much.
    pub(crate) fn pursue(&mut self) {
        let mut needs = Vec::new();
        if let Some((goal, certificate)) = self.goal() {
            self.pursue_commit(goal, &certificate, &mut needs);
        }
        let justify = self.proposals.iter().filter_map(|proposal| proposal.justify.inline());
        let mut targets: Vec<BlockCert> = justify.cloned().collect();
        targets.push(self.high_qc.clone());
        if self.epoch_proof.is_some() {
            targets.clear(); // nothing above the epoch's last block is needed
        }
        for target in targets {
            if let Path::Missing(id, height) = self.tree.path(target.block())
                && !self.is_deep(height)
            {
                needs.push((id, target.view(), signers(&target)));
            }
        }
        self.wanted.retain(|id, wanted| {
            wanted.proof != Proof::Certified || needs.iter().any(|(needed, _, _)| needed == id)
        });
        for (id, view, from) in needs {
            self.want(id, view, from, Proof::Certified);
        }
    }

    fn is_deep(&self, missing: Option<cairn_types::Height>) -> bool {
        let tip = self.tree.tip().height.get();
        missing.is_some_and(|height| height.get().saturating_sub(tip) > CATCH_UP_DEPTH)
    }

    fn pursue_commit(
        &mut self,
        goal: BlockId,
        certificate: &Arc<CommitCert>,
        needs: &mut Vec<(BlockId, View, Vec<ValidatorIndex>)>,
    ) {
        let Path::Missing(id, height) = self.tree.path(goal) else {
            self.catching_up = false;
            return;
        };
        let proven = self.epoch_proof.as_ref().and_then(|proof| proof.last_block().ok());
        let target = proven.or_else(|| self.tree.get(&goal).map(|block| block.header()));
        let target = target.map(|header| header.height);
        let Some(to) = target.filter(|to| self.is_deep(height.or(Some(*to)))) else {
            needs.push((id, certificate.view, certificate.signer_indexes().collect()));
            return;
        };
        if !self.catching_up {
            self.catching_up = true;
            self.out.actions.push(Action::CatchUp(CatchUp {
                from: self.tree.tip().height.next(),
                to,
                block: goal,
                certificate: Arc::clone(certificate),
            }));
        }
    }

    pub(crate) fn needs_repair(&self) -> bool {
        self.catching_up || !self.wanted.is_empty() || self.tree.has_deferred() || self.answers_are_spent()
    }

    pub(crate) fn on_repair_timer(&mut self) {
        self.catching_up = false; // asked for again by `pursue`
        self.answers.clear();
        self.tree.retry_deferred();
        for (id, wanted) in &self.wanted {
            self.out.actions.push(Action::FetchBlock { id: *id, from: wanted.from.clone() });
        }
    }

    /// The final block to commit up to, with what makes it final.
    pub(crate) fn goal(&self) -> Option<(BlockId, Arc<CommitCert>)> {
        if let Some(proof) = &self.epoch_proof
            && let Ok(last) = proof.last_block()
        {
            return Some((last.id(), Arc::clone(&proof.certificate)));
        }
        self.pending_commit().map(|certificate| (certificate.block, Arc::clone(certificate)))
    }

    /// The highest commit certificate, while its block is not committed here.
    pub(crate) fn pending_commit(&self) -> Option<&Arc<CommitCert>> {
        self.commit_cert.as_ref().filter(|certificate| certificate.view > self.tree.tip().view)
    }

    /// F: commits the certified block and its uncommitted ancestors once all of them are executed; where the
    /// epoch ends among them, up to its end (E).
    pub(crate) fn try_commit(&mut self) {
        let Some((goal, certificate)) = self.goal() else { return };
        let mut blocks = match self.tree.path(goal) {
            Path::Missing(..) => return,
            Path::Linked(blocks) => blocks,
            Path::Fork => {
                let tip = self.tree.tip();
                let (tip, height) = (tip.id, tip.height);
                self.halt(Fatal::Fork { id: goal, view: certificate.view, tip, height });
                return;
            }
        };
        if let Some(block) = blocks.iter().find(|block| self.is_invalid(&block.id())) {
            let (id, height) = (block.id(), block.header().height);
            self.halt(Fatal::FinalBlockInvalid { id, height, view: certificate.view });
            return;
        }
        let end = blocks.iter().position(|block| block.header().ends_epoch());
        let carriers = end.map(|at| blocks.split_off(at.saturating_add(1)));
        if !blocks.iter().all(|block| self.tree.is_executed(&block.id())) {
            return;
        }
        let Some(last) = blocks.last() else { return };
        let header = last.header().clone();
        let certified =
            blocks.into_iter().map(|block| CertifiedBlock { block, certificate: Arc::clone(&certificate) });
        let certified: Vec<CertifiedBlock> = certified.collect();
        match carriers {
            None => self.out.actions.push(Action::Commit(certified)),
            Some(carriers) => self.end_epoch(certified, &header, &carriers, certificate),
        }
        self.set_tip(&header);
    }

    /// E: the epoch's last block is final, by its own certificate or a carrier's.
    fn end_epoch(
        &mut self,
        blocks: Vec<CertifiedBlock>,
        last: &Header,
        carriers: &[Arc<Block>],
        certificate: Arc<CommitCert>,
    ) {
        let known = self.epoch_proof.clone();
        let proof = known.unwrap_or_else(|| {
            let headers = std::iter::once(last).chain(carriers.iter().map(|block| block.header()));
            Arc::new(EpochProof { headers: headers.cloned().collect(), certificate })
        });
        self.out.actions.push(Action::EndEpoch(EpochEnd { blocks, proof }));
        self.over = true;
    }

    /// E: the proof of this epoch's end, from someone who is past it. Its blocks may still be missing here.
    pub(crate) fn on_epoch_proof(&mut self, proof: &Arc<EpochProof>) -> Result<(), Reject> {
        self.check_epoch(proof.epoch())?;
        if self.epoch_proof.is_some() || proof.last_block().is_err() {
            return Err(Reject::Known);
        }
        self.epoch_proof = Some(Arc::clone(proof));
        Ok(())
    }

    fn set_tip(&mut self, header: &Header) {
        self.tree.commit(Tip {
            id: header.id(),
            height: header.height,
            view: header.view,
            time_ms: header.time_ms,
        });
        self.timeouts_since = 0; // k counts from the last commit
        self.catching_up = false;
        self.set_idle_timer();
    }

    /// Range sync has committed up to here.
    pub(crate) fn on_committed(
        &mut self,
        header: &Header,
        certificate: &Arc<CommitCert>,
    ) -> Result<(), Reject> {
        self.check_epoch(header.epoch)?;
        self.check_epoch(certificate.epoch)?;
        self.check_header(header)?;
        if header.height <= self.tree.tip().height {
            return Err(Reject::Known);
        }
        self.learn_commit_cert(certificate);
        self.set_tip(header);
        self.timers.disarm(TimerKind::Repair);
        self.over = header.ends_epoch();
        Ok(())
    }

    /// The blocks that must not be let go of, when the tree is full: the ends of the chains that lead up from the
    /// committed block. While a gap separates them from it, range sync brings their lower part again.
    pub(crate) fn kept(&self) -> Vec<BlockId> {
        let ends = self.proposals.iter().map(|proposal| proposal.block.id());
        let ends = ends.chain([self.high_qc.block()]);
        let ends = ends.chain(self.goal().map(|(goal, _)| goal));
        ends.filter(|end| matches!(self.tree.path(*end), Path::Linked(_))).collect()
    }
}

fn signers(certificate: &BlockCert) -> Vec<ValidatorIndex> {
    match certificate {
        BlockCert::Root { .. } => Vec::new(),
        BlockCert::Quorum(certificate) => certificate.signer_indexes().collect(),
        BlockCert::Commit(certificate) => certificate.signer_indexes().collect(),
    }
}
