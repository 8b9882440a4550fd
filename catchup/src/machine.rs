//! The machine: one function from what happened to what to do.

use std::collections::BTreeMap;
use std::time::Duration;

use cairn_types::Height;

use crate::fetches::Fetches;
use crate::input::{Answer, Claim, Failure, Input, Position};
use crate::output::{Output, Question, RequestId};
use crate::peers::{Lapse, Peers};
use crate::range::{Range, Rest};
use crate::window::{Asked, Gap, HEDGE_AFTER, Held, RANGE_BLOCKS_MAX, Window};

/// How often a peer is asked where the chain stands, beside announcements and statuses.
pub const POLL_EVERY: Duration = Duration::from_secs(2);
/// A question without an answer after this has none; the networks give up sooner.
pub const REQUEST_TIME_MAX: Duration = Duration::from_secs(12);
/// A claim of a few blocks above ours has to stand this long before it is followed: consensus usually brings
/// them by itself.
pub const CLAIM_REST: Duration = Duration::from_secs(1);
/// How many are a few.
const CLAIM_NEAR: u64 = 8;
/// More blocks than this behind a proven height is far behind.
pub const BEHIND_BLOCKS: u64 = 8;
/// How often the machine wants [`Input::Tick`] while anything is under way.
pub const BUSY_TICK: Duration = Duration::from_millis(50);

/// The state of catching up. `P` names a peer, whatever it is to the driver.
#[derive(Clone, Debug)]
pub struct CatchUp<P> {
    tip: Position,
    proven: Height,
    peers: Peers<P>,
    window: Window<P>,
    fetches: Fetches<P>,
    /// Peers being asked for their tip, and since when.
    polls: BTreeMap<RequestId, (P, Duration)>,
    last_polled: Option<P>,
    next_poll: Duration,
    next_request: u64,
    behind: bool,
    /// Ranges wait.
    held: bool,
    out: Vec<Output<P>>,
}

impl<P: Copy + Ord> CatchUp<P> {
    /// A machine of a node whose newest committed block is `tip`, without peers.
    pub const fn new(tip: Position) -> Self {
        Self {
            tip,
            proven: tip.height,
            peers: Peers::new(),
            window: Window::new(),
            fetches: Fetches::new(),
            polls: BTreeMap::new(),
            last_polled: None,
            next_poll: Duration::ZERO,
            next_request: 0,
            behind: false,
            held: false,
            out: Vec::new(),
        }
    }

    /// Takes one input at time `now`, counted from any origin and never falling. An input that makes no
    /// sense any more (an answer that came too late, a peer that is gone) changes nothing.
    pub fn step(&mut self, now: Duration, input: Input<P>) -> Vec<Output<P>> {
        match input {
            Input::Connected { peer, polled } => self.on_connected(now, peer, polled),
            Input::Gone { peer } => self.on_gone(now, peer),
            Input::Proven { height, by } => self.on_proven(height, by),
            Input::Want { block, from } => self.fetches.want(now, block, from),
            Input::Answer { request, answer } => self.on_answer(now, request, answer),
            Input::Failed { request, failure } => self.on_failed(now, request, &failure),
            Input::Committed { tip, applied } => self.on_committed(tip, applied),
            Input::Hold(held) => self.held = held,
            Input::Tick => {}
        }
        self.expire(now);
        self.apply();
        if !self.held {
            self.fill(now);
            self.hedge(now);
        }
        self.fetch(now);
        self.poll(now);
        self.report();
        std::mem::take(&mut self.out)
    }

    /// How long the driver may wait before the next [`Input::Tick`].
    pub fn patience(&self, now: Duration) -> Duration {
        let claimed =
            self.peers.iter().any(|(_, peer)| peer.claim.is_some_and(|claim| claim.height > self.tip.height));
        let busy = !self.window.is_idle() || !self.fetches.is_idle() || self.wanted() || claimed;
        if busy { BUSY_TICK } else { self.next_poll.saturating_sub(now).max(BUSY_TICK) }
    }

    /// The newest committed block.
    pub const fn tip(&self) -> Position {
        self.tip
    }

    /// The highest height proven to be final.
    pub const fn proven(&self) -> Height {
        self.proven
    }

    /// Number of peers that are connected.
    pub fn peers(&self) -> usize {
        self.peers.len()
    }

    /// Questions that wait for an answer.
    pub fn open_questions(&self) -> usize {
        self.window.asked.len().saturating_add(self.polls.len())
    }

    fn wanted(&self) -> bool {
        self.proven > self.tip.height
    }

    fn on_connected(&mut self, now: Duration, peer: P, polled: bool) {
        let taken = self.peers.connect(peer, polled);
        if taken && polled && self.peers.is_usable(now, &peer) {
            self.ask_tip(now, peer);
        }
    }

    fn on_gone(&mut self, now: Duration, peer: P) {
        self.peers.gone(peer);
        self.forget_questions(now, peer);
    }

    fn forget_questions(&mut self, now: Duration, peer: P) {
        self.window.asked.retain(|_, asked| asked.peer != peer);
        self.polls.retain(|_, (asked, _)| *asked != peer);
        self.fetches.gone(now, peer);
        if let Some(held) = self.peers.get_mut(&peer) {
            (held.ranges, held.asked_tip) = (0, false);
        }
    }

    fn on_proven(&mut self, height: Height, by: Option<P>) {
        self.proven = self.proven.max(height);
        if let Some(peer) = by.and_then(|peer| self.peers.get_mut(&peer)) {
            peer.hint = peer.hint.max(height);
        }
    }

    fn on_committed(&mut self, tip: Position, applied: bool) {
        if tip.height > self.tip.height {
            self.tip = tip;
        }
        self.proven = self.proven.max(tip.height);
        self.window.committed(self.tip.height, applied);
    }

    fn on_answer(&mut self, now: Duration, request: RequestId, answer: Answer) {
        if let Some((peer, _)) = self.polls.remove(&request) {
            self.peers.get_mut(&peer).into_iter().for_each(|peer| peer.asked_tip = false);
            match answer {
                Answer::Tip(claim) => self.on_claim(now, peer, claim),
                _ => self.on_lie(now, peer, "it answered another question".to_owned()),
            }
        } else if let Some(asked) = self.take_asked(request) {
            match answer {
                Answer::Range(range) => self.on_range(now, &asked, range),
                _ => self.on_lie(now, asked.peer, "it answered another question".to_owned()),
            }
        } else if let Some((block, peer)) = self.fetches.asked(request) {
            match answer {
                Answer::Block(true) => self.fetches.done(&block),
                Answer::Block(false) => self.fetches.missed(now, request),
                _ => self.on_lie(now, peer, "it answered another question".to_owned()),
            }
        }
    }

    fn take_asked(&mut self, request: RequestId) -> Option<Asked<P>> {
        let asked = self.window.asked.remove(&request)?;
        if let Some(peer) = self.peers.get_mut(&asked.peer) {
            peer.ranges = peer.ranges.saturating_sub(1);
        }
        Some(asked)
    }

    fn on_claim(&mut self, now: Duration, peer: P, claim: Claim) {
        self.peers.claimed(now, peer, claim);
    }

    fn on_range(&mut self, now: Duration, asked: &Asked<P>, range: Range) {
        match range.rest {
            // The block above the committed one is of the epoch in force: who says otherwise is late, or lies.
            Rest::EpochUnknown(from) if from > self.tip.height.next() => self.window.set_ceiling(from),
            Rest::EpochUnknown(_) => {}
            Rest::Uncertified(from) if asked.count < RANGE_BLOCKS_MAX => self.window.widen(from),
            Rest::Uncertified(_) | Rest::Nothing => {}
        }
        let Some(last) = range.blocks.last().map(|last| last.block.header().height) else {
            let lapse = match range.rest {
                // Nothing was wrong, and nothing is gained by asking again at once.
                Rest::EpochUnknown(_) => Lapse::Lacks,
                Rest::Uncertified(_) if asked.count < RANGE_BLOCKS_MAX => return,
                _ if self.peers.promised(&asked.peer, asked.from) => Lapse::BrokenClaim,
                _ => Lapse::Lacks,
            };
            return self.peers.lapse(now, asked.peer, lapse);
        };
        self.peers.served(asked.peer, range.bytes, now.saturating_sub(asked.at));
        self.proven = self.proven.max(last);
        if last > self.tip.height {
            self.window.hold(Held { blocks: range.blocks, end: range.end });
        }
    }

    fn on_failed(&mut self, now: Duration, request: RequestId, failure: &Failure) {
        let polled = self.polls.remove(&request).map(|(peer, _)| peer);
        if let Some(peer) = polled.and_then(|peer| self.peers.get_mut(&peer)) {
            peer.asked_tip = false;
        }
        let fetched = self.fetches.asked(request).map(|(_, peer)| peer);
        self.fetches.missed(now, request);
        let ranged = self.take_asked(request).map(|asked| asked.peer);
        let Some(peer) = polled.or(fetched).or(ranged) else { return };
        match failure {
            Failure::Silent => self.peers.lapse(now, peer, Lapse::Silent),
            Failure::Refused => self.peers.lapse(now, peer, Lapse::Refused),
            Failure::Wrong(why) => self.on_lie(now, peer, why.clone()),
        }
    }

    /// S3. What it has still been asked is asked of others.
    fn on_lie(&mut self, now: Duration, peer: P, why: String) {
        self.peers.exclude(now, peer);
        self.forget_questions(now, peer);
        self.out.push(Output::Punish { peer, why });
    }

    /// Questions that have waited too long are over.
    fn expire(&mut self, now: Duration) {
        let over = |since: Duration| now.saturating_sub(since) >= REQUEST_TIME_MAX;
        let ranges = self.window.asked.iter().filter(|(_, asked)| over(asked.at)).map(|(id, _)| *id);
        let polls = self.polls.iter().filter(|(_, (_, since))| over(*since)).map(|(id, _)| *id);
        for request in ranges.chain(polls).collect::<Vec<_>>() {
            self.on_failed(now, request, &Failure::Silent);
        }
    }

    fn apply(&mut self) {
        let Some(Held { blocks, end }) = self.window.take_next(self.tip.height) else { return };
        let Some(first) = blocks.first().map(|first| first.block.header()) else { return };
        let output = if first.parent == self.tip.id {
            Output::Apply { blocks, end }
        } else {
            Output::Fork { height: first.height, committed: self.tip.id, parent: first.parent }
        };
        self.out.push(output);
    }

    /// Asks for what is missing, lowest first.
    fn fill(&mut self, now: Duration) {
        let tip = self.tip.height;
        let claimed = self.peers.claimed_height(now, tip, CLAIM_NEAR, CLAIM_REST);
        let top = self.proven.max(claimed);
        if top <= tip {
            return;
        }
        let first = self.window.first_missing(tip);
        for gap in self.window.gaps(tip, top) {
            self.ask_range(now, gap, gap.from == first);
        }
    }

    /// S4.
    fn hedge(&mut self, now: Duration) {
        let Some((gap, newest)) = self.window.waited_for(self.tip.height) else { return };
        let patience = HEDGE_AFTER.max(self.peers.usual(now).saturating_mul(2));
        if now.saturating_sub(newest) >= patience {
            self.ask_range(now, gap, true);
        }
    }

    fn ask_range(&mut self, now: Duration, gap: Gap, urgent: bool) {
        let busy = |peer: &P| self.window.is_asked(peer, gap.from);
        let Some(peer) = self.peers.choose(now, gap.from, self.proven, urgent, busy) else { return };
        let request = self.request();
        let Gap { from, count } = gap;
        self.window.asked.insert(request, Asked { peer, from, count, at: now });
        if let Some(held) = self.peers.get_mut(&peer) {
            held.ranges = held.ranges.saturating_add(1);
        }
        self.out.push(Output::Ask { peer, request, question: Question::Range { from, count } });
    }

    fn fetch(&mut self, now: Duration) {
        let (out, next) = (&mut self.out, &mut self.next_request);
        self.fetches.due(now, &self.peers, |peer, block| {
            let request = RequestId(*next);
            *next = next.saturating_add(1);
            out.push(Output::Ask { peer, request, question: Question::Block(block) });
            request
        });
    }

    fn poll(&mut self, now: Duration) {
        if now < self.next_poll {
            return;
        }
        self.next_poll = now.saturating_add(POLL_EVERY);
        if let Some(peer) = self.peers.next_polled(now, self.last_polled) {
            self.last_polled = Some(peer);
            self.ask_tip(now, peer);
        }
    }

    fn ask_tip(&mut self, now: Duration, peer: P) {
        let request = self.request();
        if let Some(held) = self.peers.get_mut(&peer) {
            held.asked_tip = true;
        }
        self.polls.insert(request, (peer, now));
        self.out.push(Output::Ask { peer, request, question: Question::Tip });
    }

    fn request(&mut self) -> RequestId {
        let request = RequestId(self.next_request);
        self.next_request = self.next_request.saturating_add(1);
        request
    }

    fn report(&mut self) {
        let highest = self.proven.max(self.window.highest());
        let behind = highest.get().saturating_sub(self.tip.height.get()) > BEHIND_BLOCKS;
        if behind != self.behind {
            self.behind = behind;
            self.out.push(Output::Behind(behind));
        }
    }
}
