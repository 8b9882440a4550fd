//! What can happen next: every move of every honest validator, whatever the network and the Byzantine
//! validator do to bring it about.

use crate::rules::{Extent, Fault, Rules};
use crate::state::{Block, HONEST, Phase, Record, State};

/// What must never happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Property {
    /// Two final blocks, neither an ancestor of the other.
    Fork,
    /// An honest validator signed two different votes, commit votes or timeouts in one view.
    DoubleSign,
    /// `high_qc` is lower after a crash than before.
    LockBack,
    /// A final block, or an ancestor of it, has no certificate.
    Uncertified,
}

impl Property {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Fork, Self::DoubleSign, Self::LockBack, Self::Uncertified];

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of properties.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Properties(u8);

impl Properties {
    /// These.
    pub fn of(properties: &[Property]) -> Self {
        Self(properties.iter().fold(0, |bits, property| bits | property.bit()))
    }

    /// The first of these that is also in `watched`.
    pub fn first_in(self, watched: Self) -> Option<Property> {
        Property::ALL.into_iter().find(|property| self.0 & watched.0 & property.bit() != 0)
    }

    const fn add(&mut self, property: Property) {
        self.0 |= property.bit();
    }
}

/// A certificate that can be formed: a quorum of votes for `block`, taken to be of `view`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cert {
    /// The view it is taken to be of: the block's own, unless a twin does not look.
    pub view: u8,
    /// What it certifies.
    pub block: Block,
}

/// One validator's step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Learns a certificate: H, C, A.
    Learn(Cert),
    /// Learns a timeout certificate of `view` and the block certificate in it: H, C, A.
    LearnTimeouts {
        /// The view given up.
        view: u8,
        /// The highest certificate in it.
        high: Cert,
    },
    /// Votes for a block whose proposal brings this certificate: V.
    Vote {
        /// The block.
        block: Block,
        /// Its parent's certificate.
        justify: Cert,
    },
    /// Gives its view up: T.
    TimeOut,
    /// Goes to the next view without a certificate. Only a twin does.
    Wander,
    /// Enters the next epoch by the commit proof of this block, which ended the first: E.
    EnterEpoch(Block),
    /// Loses its memory and starts again from its disk.
    Crash,
}

/// A step, who takes it, and whether what it signed was lost with a crash before it left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Move {
    /// The validator.
    pub who: usize,
    /// Its step.
    pub action: Action,
    /// Whether it crashed after the record was synced and before anything was sent.
    pub lost: bool,
}

/// What a move leads to.
#[derive(Clone, Copy, Debug)]
pub struct Next {
    /// The move.
    pub step: Move,
    /// The state after it.
    pub state: State,
    /// What it broke.
    pub broken: Properties,
}

/// A move on its way.
struct Turn<'a> {
    rules: &'a Rules,
    who: usize,
    lost: bool,
    state: State,
    memory: Record,
    disk: Record,
    broken: Properties,
}

impl Turn<'_> {
    /// H, C, A, in this order, under one synced record.
    fn learn(&mut self, cert: Cert) {
        if cert.block == Block::ROOT || Some(cert.view) == self.rules.mark {
            return;
        }
        let own_view = cert.view == cert.block.view();
        let commits = own_view && self.rules.may_commit_vote(self.memory, cert.view);
        let raises = commits || !self.rules.has(Fault::HighOnlyWhereCommitting);
        if raises && !self.rules.has(Fault::HighOnlyByVote) {
            self.memory.high = self.memory.high.max(cert.view); // H
        }
        self.memory.view = self.memory.view.max(cert.view + 1); // A
        if commits {
            self.memory.committed = cert.view; // C
        }
        if !(commits && self.rules.has(Fault::CommitVoteBeforeSync)) {
            self.sync();
        }
        if commits {
            self.sign_vote(Phase::Commit, cert.block);
        }
    }

    /// The record is on disk before anything signed leaves.
    fn sync(&mut self) {
        let high = self.disk.high;
        self.disk = self.memory;
        if self.rules.has(Fault::HighNotOnDisk) {
            self.disk.high = high;
        }
    }

    fn sign_vote(&mut self, phase: Phase, block: Block) {
        if self.lost {
            return;
        }
        if self.state.sign_vote(self.who, phase, block) {
            self.broken.add(Property::DoubleSign);
        }
        if phase == Phase::Commit {
            self.rules.check_final(&self.state, block, &mut self.broken);
        }
    }

    fn vote(&mut self, block: Block, justify: Cert) {
        self.memory.voted = block.view();
        self.memory.high = self.memory.high.max(justify.view);
        if !self.rules.has(Fault::VoteBeforeSync) {
            self.sync();
        }
        self.sign_vote(Phase::Vote, block);
    }

    fn time_out(&mut self) {
        let (view, names) = (self.memory.view, self.rules.timeout_names(self.memory));
        self.memory.timed_out = view;
        if !self.rules.has(Fault::TimeoutBeforeSync) {
            self.sync();
        }
        if !self.lost && self.state.sign_timeout(self.who, view, names) {
            self.broken.add(Property::DoubleSign);
        }
    }

    fn crash(&mut self) {
        if self.disk.high < self.memory.high {
            self.broken.add(Property::LockBack);
        }
        self.memory = self.disk;
    }

    fn enter_epoch(&mut self, root: Block) {
        self.memory.view = root.view() + 1;
        self.memory.high = root.view();
        self.disk = self.memory; // the commit proof is synced before the record names the epoch
    }
}

impl Rules {
    /// Every move from `state` that changes something.
    pub fn moves(&self, state: &State, found: &mut Vec<Next>) {
        let certs = self.certs(state);
        for who in 0..HONEST {
            let record = state.memory(who);
            let epoch = self.epoch_of(record);
            let ours = || certs.iter().copied().filter(|cert| self.epoch(cert.view) == epoch);
            for cert in ours() {
                self.take(state, who, Action::Learn(cert), found);
                self.votes(state, who, cert, &certs, found);
            }
            for view in record.view..=self.views {
                if self.leads_on(view) && self.epoch(view) == epoch {
                    let allowed = self.timeout_certs(state, &certs, view);
                    for high in ours().filter(|cert| allowed >> cert.view & 1 == 1) {
                        self.take(state, who, Action::LearnTimeouts { view, high }, found);
                    }
                }
            }
            if self.leads_on(record.view) && self.may_time_out(record) {
                self.take(state, who, Action::TimeOut, found);
            }
            if self.has(Fault::ViewByTimerAlone) && record.view < self.views {
                self.take(state, who, Action::Wander, found);
            }
            self.entries(state, who, found);
            self.take(state, who, Action::Crash, found);
        }
    }

    /// Whether giving up this view leads into another one. Otherwise its timeouts only take rights away.
    fn leads_on(&self, view: u8) -> bool {
        self.is_view(view) && (self.is_view(view + 1) || self.extent == Extent::Everything)
    }

    /// The state after one move, if it changes anything.
    fn take(&self, state: &State, who: usize, action: Action, found: &mut Vec<Next>) {
        for lost in [false, true] {
            if lost && self.extent != Extent::Everything {
                continue;
            }
            let step = Move { who, action, lost };
            let next = self.follow(state, step);
            if next.state != *state {
                found.push(next);
            }
        }
    }

    fn follow(&self, state: &State, step: Move) -> Next {
        let Move { who, action, lost } = step;
        let mut turn = Turn {
            rules: self,
            who,
            lost,
            state: *state,
            memory: state.memory(who),
            disk: state.disk(who),
            broken: Properties::default(),
        };
        match action {
            Action::Learn(cert) => turn.learn(cert),
            Action::LearnTimeouts { view, high } => {
                turn.learn(high);
                turn.memory.view = turn.memory.view.max(view + 1); // A
                turn.sync();
            }
            Action::Vote { block, justify } => turn.vote(block, justify),
            Action::TimeOut => turn.time_out(),
            Action::Wander => {
                turn.memory.view += 1;
                turn.sync();
            }
            Action::EnterEpoch(root) => turn.enter_epoch(root),
            Action::Crash => turn.crash(),
        }
        let Turn { mut state, memory, disk, broken, .. } = turn;
        state.remember(who, memory, disk);
        Next { step, state, broken }
    }

    /// V with this certificate as `justify`: for each block on it, and for one not proposed before. The leader,
    /// whoever it is, proposes whatever helps. A certificate not learnt yet is learnt by a move of its own first.
    fn votes(&self, state: &State, who: usize, justify: Cert, certs: &[Cert], found: &mut Vec<Next>) {
        let record = state.memory(who);
        let view = record.view;
        let learnt = self.follow(state, Move { who, action: Action::Learn(justify), lost: false });
        if learnt.state != *state || !self.is_view(view) || !self.may_vote(record) || justify.view >= view {
            return;
        }
        let allowed = || self.lowest_allowed(state, certs, view - 1);
        if !self.is_justified(record, justify.view, allowed) {
            return;
        }
        for slot in 0..self.blocks {
            let block = Block::new(view, slot);
            match state.parent(block) {
                Some(parent) if parent == justify.block => {
                    self.take(state, who, Action::Vote { block, justify }, found);
                }
                Some(_) => {}
                None => {
                    for ends in [false, true] {
                        if ends && !self.may_end_epoch(state, view, justify.block) {
                            continue;
                        }
                        let mut proposed = *state;
                        proposed.propose(block, justify.block, ends);
                        self.take(&proposed, who, Action::Vote { block, justify }, found);
                    }
                    return; // free blocks are interchangeable
                }
            }
        }
    }

    fn may_end_epoch(&self, state: &State, view: u8, parent: Block) -> bool {
        self.mark.is_some_and(|mark| view < mark) && self.end_of_epoch(state, parent).is_none()
    }

    /// E: enters the second epoch by any commit proof.
    fn entries(&self, state: &State, who: usize, found: &mut Vec<Next>) {
        let Some(mark) = self.mark else { return };
        if self.epoch_of(state.memory(who)) > 0 {
            return;
        }
        let final_enough = if self.has(Fault::EpochOnCertificate) { Phase::Vote } else { Phase::Commit };
        let needed = self.quorum(match final_enough {
            Phase::Vote => Fault::VoteQuorum2f,
            Phase::Commit => Fault::CommitQuorum2f,
        });
        for block in self.proposed(state).filter(|block| block.view() < mark) {
            let Some(end) = self.end_of_epoch(state, block) else { continue };
            if state.votes(final_enough, block) < needed {
                continue;
            }
            let roots = (0..self.blocks).map(|slot| Block::new(mark, slot));
            let known = roots.clone().find(|root| state.parent(*root) == Some(end));
            let free = || roots.clone().find(|root| state.parent(*root).is_none());
            if let Some(root) = known.or_else(free) {
                let mut begun = *state;
                if known.is_none() {
                    begun.propose(root, end, false);
                }
                self.take(&begun, who, Action::EnterEpoch(root), found);
            }
        }
    }

    fn proposed(&self, state: &State) -> impl Iterator<Item = Block> {
        let blocks = self.blocks;
        let all = (1..=self.views).flat_map(move |view| (0..blocks).map(move |slot| Block::new(view, slot)));
        let state = *state;
        all.filter(move |block| state.parent(*block).is_some())
    }

    /// Every certificate that exists: the Byzantine validator signs everything, and any message ever signed can
    /// reach anyone.
    fn certs(&self, state: &State) -> Vec<Cert> {
        let needed = self.quorum(Fault::VoteQuorum2f);
        let mut certs = vec![Cert { view: 0, block: Block::ROOT }];
        for block in self.proposed(state) {
            let view = block.view();
            if Some(view) == self.mark {
                certs.push(Cert { view, block }); // the commit proof of the epoch before
                continue;
            }
            if state.votes(Phase::Vote, block) < needed && !self.has(Fault::ParentUncertified) {
                continue;
            }
            certs.push(Cert { view, block });
            if self.has(Fault::ViewNotSigned) {
                let others = (1..=self.views).filter(|other| *other != view && self.is_view(*other));
                certs.extend(others.map(|view| Cert { view, block }));
            }
            if let Some(mark) = self.mark.filter(|mark| self.has(Fault::EpochUnchecked) && view < *mark)
                && mark + view <= self.views
            {
                certs.push(Cert { view: mark + view, block });
            }
        }
        certs
    }

    /// The views that timeout certificates of `view` can name as their highest, as bits: at least as high as
    /// any that a quorum's timeouts name, and of a certificate that exists.
    fn timeout_certs(&self, state: &State, certs: &[Cert], view: u8) -> u16 {
        let needed = self.quorum(Fault::TimeoutQuorum2f);
        let named = [0, 1, 2].map(|who| state.timeouts(who, view));
        let below = |high: u8| if self.has(Fault::TcBelowItsEntries) { u64::MAX } else { (2 << high) - 1 };
        let epoch = self.epoch(view);
        let highs = certs.iter().map(|cert| cert.view);
        highs
            .filter(|high| *high < view && self.epoch(*high) == epoch)
            .filter(|high| named.iter().filter(|names| **names & below(*high) != 0).count() >= needed.into())
            .fold(0, |bits, high| bits | 1 << high)
    }

    fn lowest_allowed(&self, state: &State, certs: &[Cert], view: u8) -> Option<u8> {
        if !self.is_view(view) {
            return None;
        }
        let allowed = self.timeout_certs(state, certs, view);
        (allowed != 0).then(|| allowed.trailing_zeros() as u8)
    }

    /// The block that ends the epoch, when it is this one or an ancestor in its epoch.
    fn end_of_epoch(&self, state: &State, block: Block) -> Option<Block> {
        let mark = self.mark.filter(|mark| block.view() < *mark)?;
        debug_assert!(block.view() < mark, "only the first epoch ends here");
        std::iter::successors(Some(block), |block| state.parent(*block)).find(|b| state.ends_epoch(*b))
    }

    /// F and E: what a commit certificate of `block` makes final, its ancestors apart.
    fn finalised(&self, state: &State, block: Block) -> Block {
        if self.has(Fault::CarriersInChain) {
            return block;
        }
        self.end_of_epoch(state, block).unwrap_or(block)
    }

    fn check_final(&self, state: &State, block: Block, broken: &mut Properties) {
        let needed = self.quorum(Fault::CommitQuorum2f);
        if state.votes(Phase::Commit, block) < needed {
            return;
        }
        let ancestors = |block| std::iter::successors(Some(block), |block| state.parent(*block));
        let certified = |block: Block| {
            block == Block::ROOT
                || Some(block.view()) == self.mark
                || state.votes(Phase::Vote, block) >= self.quorum(Fault::VoteQuorum2f)
        };
        if !ancestors(block).all(certified) {
            broken.add(Property::Uncertified);
        }
        let ours = self.finalised(state, block);
        for other in self.proposed(state).filter(|other| Some(other.view()) != self.mark) {
            if state.votes(Phase::Commit, other) < needed {
                continue;
            }
            let other = self.finalised(state, other);
            if !ancestors(ours).any(|b| b == other) && !ancestors(other).any(|b| b == ours) {
                broken.add(Property::Fork);
            }
        }
    }
}
