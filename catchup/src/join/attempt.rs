//! One snapshot being fetched: contents, hand-overs, chunks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cairn_types::{Epoch, Hash};

use super::{
    CHUNKS_AHEAD, CHUNKS_PER_PEER_MAX, JOIN_HEDGE, Join, JoinOutput, JoinQuestion, Member, Offer, PACE,
    PACE_AHEAD, SILENCE, STALLED, Verdict, chunk_hash, snapshot_id,
};
use crate::output::RequestId;

/// How far questions may run ahead of their pace.
const AHEAD: Duration = PACE.saturating_mul(PACE_AHEAD);

/// A question put to one peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<P> {
    pub(super) peer: P,
    pub(super) question: JoinQuestion,
    pub(super) at: Duration,
}

/// What the driver is at work on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Busy<P> {
    Beginning,
    Handovers { by: P },
    Chunk,
    Installing,
}

/// The contents that the attempt goes by.
#[derive(Clone, Debug)]
struct Contents<P> {
    /// Who gave the head.
    by: P,
    chunks: Vec<Hash>,
    reached: Epoch,
    wanted: Option<Epoch>,
}

/// A snapshot being fetched.
#[derive(Clone, Debug)]
pub(super) struct Attempt<P> {
    offer: Offer,
    contents: Option<Contents<P>>,
    busy: Option<(RequestId, Busy<P>)>,
    /// Peers that know no end of the epoch reached.
    lacking: BTreeSet<P>,
    /// Chunks that are here and not taken in.
    held: BTreeMap<u32, Vec<u8>>,
    /// The next chunk to take in.
    next: u32,
    progress: Duration,
}

impl<P: Copy + Ord> Attempt<P> {
    pub(super) const fn new(offer: Offer, now: Duration) -> Self {
        Self {
            offer,
            contents: None,
            busy: None,
            lacking: BTreeSet::new(),
            held: BTreeMap::new(),
            next: 0,
            progress: now,
        }
    }

    pub(super) fn is_installing(&self) -> bool {
        matches!(self.busy, Some((_, Busy::Installing)))
    }

    /// Whether its header is certified, so that chunks can be judged.
    fn is_proven(&self) -> bool {
        self.contents.as_ref().is_some_and(|contents| contents.wanted == Some(contents.reached))
    }
}

impl<P: Copy + Ord> Join<P> {
    pub(super) fn on_contents(&mut self, now: Duration, peer: P, id: Hash, head: Vec<u8>, chunks: Vec<Hash>) {
        let Some(attempt) = self.attempt.as_ref().filter(|attempt| attempt.offer.id == id) else { return };
        let offer = attempt.offer;
        if attempt.contents.is_some() {
            return; // another was quicker
        }
        let counted = u32::try_from(chunks.len()).is_ok_and(|count| count == offer.chunks);
        if !counted || snapshot_id(offer.height, &chunks) != offer.id {
            return self
                .lied(peer, "the contents it gives are not those of the snapshot it offers".to_owned());
        }
        let job = self.request();
        if let Some(attempt) = &mut self.attempt {
            attempt.contents = Some(Contents { by: peer, chunks, reached: Epoch::ZERO, wanted: None });
            (attempt.busy, attempt.progress) = (Some((job, Busy::Beginning)), now);
        }
        self.out.push(JoinOutput::Begin { job, head, offer });
    }

    pub(super) fn on_handovers(&mut self, peer: P, epoch: Epoch, bytes: Vec<u8>) {
        let job = self.request();
        let Some(attempt) = &mut self.attempt else { return };
        let expected = attempt.contents.as_ref().map(|contents| contents.reached);
        if expected != Some(epoch) || attempt.busy.is_some() {
            return; // another was quicker
        }
        attempt.busy = Some((job, Busy::Handovers { by: peer }));
        self.out.push(JoinOutput::Take { job, bytes, done: None });
    }

    pub(super) fn lacks_handovers(&mut self, peer: P, epoch: Epoch) {
        if let Some(attempt) = &mut self.attempt
            && attempt.contents.as_ref().is_some_and(|contents| contents.reached == epoch)
        {
            attempt.lacking.insert(peer);
        }
    }

    pub(super) fn on_chunk(&mut self, peer: P, id: Hash, index: u32, bytes: Vec<u8>) {
        let Some(attempt) = self.attempt.as_mut().filter(|attempt| attempt.offer.id == id) else { return };
        let at = usize::try_from(index).unwrap_or(usize::MAX);
        let Some(expected) = attempt.contents.as_ref().and_then(|contents| contents.chunks.get(at)) else {
            return;
        };
        if chunk_hash(&bytes) != *expected {
            return self.lied(peer, format!("chunk {index} of a snapshot is not the one that was asked for"));
        }
        let wanted = index >= attempt.next && index < attempt.next.saturating_add(CHUNKS_AHEAD);
        if wanted {
            attempt.held.entry(index).or_insert(bytes);
        }
        if let Some(member) = self.members.get_mut(&peer) {
            member.streak = 0;
        }
        // Whoever is still asked for it need not hold a place.
        self.open.retain(|_, asked| asked.question != JoinQuestion::Chunk { id, index });
    }

    pub(super) fn on_judged(&mut self, now: Duration, job: RequestId, verdict: Verdict) {
        let Some(attempt) = &mut self.attempt else { return };
        let Some((_, busy)) = attempt.busy.filter(|(busy, _)| *busy == job) else { return };
        attempt.busy = None;
        let (id, by) = (attempt.offer.id, attempt.contents.as_ref().map(|contents| contents.by));
        match (busy, verdict) {
            (Busy::Installing, Verdict::Good { .. }) => self.end(true),
            (Busy::Chunk, Verdict::Good { .. }) => {
                attempt.next = attempt.next.saturating_add(1);
                attempt.progress = now;
            }
            (Busy::Beginning | Busy::Handovers { .. }, Verdict::Good { reached, wanted }) => {
                attempt.progress = now;
                attempt.lacking.clear();
                if let Some(contents) = &mut attempt.contents {
                    (contents.reached, contents.wanted) = (reached, Some(wanted));
                }
            }
            (Busy::Handovers { by }, Verdict::Wrong(why)) => self.lied(by, why),
            (Busy::Beginning, Verdict::Wrong(why) | Verdict::WrongHead(why))
            | (Busy::Handovers { .. }, Verdict::WrongHead(why)) => self.wrong_head(by, &why),
            // All was verified: that the state would not have it is nobody's lie.
            (Busy::Installing, Verdict::WrongHead(why)) => {
                self.abandon_attempt(&why);
                self.end(false);
            }
            (Busy::Chunk | Busy::Installing, Verdict::Wrong(why) | Verdict::WrongHead(why)) => {
                self.false_name(id, &why);
            }
        }
    }

    /// The head is its giver's lie; the snapshot itself may be as good as others say.
    fn wrong_head(&mut self, by: Option<P>, why: &str) {
        if let Some(by) = by {
            self.lied(by, format!("the head of a snapshot: {why}"));
        }
        self.abandon_attempt(why);
    }

    /// What is to be done next for the snapshot being fetched.
    pub(super) fn work(&mut self, now: Duration) {
        let Some(attempt) = &self.attempt else { return };
        let busy = attempt.busy.is_some();
        if !busy && now.saturating_sub(attempt.progress) >= STALLED {
            // Whoever gave an honest head could have brought what comes next: others are asked for theirs first.
            if let Some(by) = attempt.contents.as_ref().map(|contents| contents.by) {
                self.pause(now, by, SILENCE.0, SILENCE.1);
            }
            return self.abandon_attempt("nothing came for too long");
        }
        if attempt.is_installing() {
            return;
        }
        if attempt.is_proven() {
            self.take_or_install();
            self.ask_chunks(now);
        } else if !busy {
            let (offer, reached) = (attempt.offer, attempt.contents.as_ref().map(|it| it.reached));
            match reached {
                None => self.ask_until_answered(now, JoinQuestion::Contents(offer.id)),
                Some(epoch) => self.ask_until_answered(now, JoinQuestion::Handovers(epoch)),
            }
        }
        if self.attempt.as_ref().is_some_and(|attempt| attempt.busy.is_none()) {
            self.give_up_without_peers();
        }
    }

    fn take_or_install(&mut self) {
        let job = RequestId(self.next_request);
        let Some(attempt) = self.attempt.as_mut().filter(|attempt| attempt.busy.is_none()) else { return };
        let done = attempt.next;
        let output = if done >= attempt.offer.chunks {
            attempt.busy = Some((job, Busy::Installing));
            JoinOutput::Install { job }
        } else {
            let Some(bytes) = attempt.held.remove(&done) else { return };
            attempt.busy = Some((job, Busy::Chunk));
            JoinOutput::Take { job, bytes, done: Some(done) }
        };
        self.next_request = self.next_request.saturating_add(1);
        self.out.push(output);
    }

    /// J5.
    fn ask_chunks(&mut self, now: Duration) {
        let Some(attempt) = &self.attempt else { return };
        let (offer, next) = (attempt.offer, attempt.next);
        let end = next.saturating_add(CHUNKS_AHEAD).min(offer.chunks);
        // The one being taken in is neither held nor asked for.
        let taking = matches!(attempt.busy, Some((_, Busy::Chunk)));
        let first = if taking { next.saturating_add(1) } else { next };
        let wanted: Vec<u32> = (first..end).filter(|index| !attempt.held.contains_key(index)).collect();
        for index in wanted {
            let question = JoinQuestion::Chunk { id: offer.id, index };
            let newest = self.asked_at(question);
            let hedged = newest.is_some_and(|at| index == first && now.saturating_sub(at) >= JOIN_HEDGE);
            if newest.is_some() && !hedged {
                continue;
            }
            let most = CHUNKS_PER_PEER_MAX.saturating_add(usize::from(hedged));
            if let Some(peer) = self.free_peer(now, question, most) {
                self.ask(now, peer, question);
            }
        }
    }

    /// Asks one peer, and another after a while.
    fn ask_until_answered(&mut self, now: Duration, question: JoinQuestion) {
        let waits = self.asked_at(question).is_some_and(|at| now.saturating_sub(at) < JOIN_HEDGE);
        if !waits && let Some(peer) = self.free_peer(now, question, usize::MAX) {
            self.ask(now, peer, question);
        }
    }

    /// When this was last asked of anybody who has not answered.
    fn asked_at(&self, question: JoinQuestion) -> Option<Duration> {
        self.open.values().filter(|asked| asked.question == question).map(|asked| asked.at).max()
    }

    /// Who may be asked this now: with the fewest failures, then the fewest questions open.
    fn free_peer(&self, now: Duration, question: JoinQuestion, most: usize) -> Option<P> {
        let asked = |peer: &P| self.open.values().filter(|asked| asked.peer == *peer).count();
        let already =
            |peer: &P| self.open.values().any(|asked| asked.peer == *peer && asked.question == question);
        self.members
            .iter()
            .filter(|(_, member)| member.until <= now && member.paced <= now.saturating_add(AHEAD))
            .filter(|(peer, member)| self.may_have(peer, member, question))
            .filter(|(peer, _)| !already(peer) && asked(peer) < most)
            .min_by_key(|(peer, member)| (member.streak, asked(peer), **peer))
            .map(|(peer, _)| *peer)
    }

    fn may_have(&self, peer: &P, member: &Member, question: JoinQuestion) -> bool {
        let Some(attempt) = &self.attempt else { return false };
        match question {
            JoinQuestion::Handovers(_) => member.newest.is_some() && !attempt.lacking.contains(peer),
            _ => member.offers.iter().flat_map(|(_, offers)| offers).any(|offer| *offer == attempt.offer),
        }
    }

    /// Ends the attempt when nobody is left who could bring what it needs.
    fn give_up_without_peers(&mut self) {
        let Some(attempt) = &self.attempt else { return };
        let question = match &attempt.contents {
            None => JoinQuestion::Contents(attempt.offer.id),
            Some(contents) if !attempt.is_proven() => JoinQuestion::Handovers(contents.reached),
            Some(_) if attempt.held.contains_key(&attempt.next) || attempt.next >= attempt.offer.chunks => {
                return;
            }
            Some(_) => JoinQuestion::Chunk { id: attempt.offer.id, index: attempt.next },
        };
        let somebody = self.members.iter().any(|(peer, member)| self.may_have(peer, member, question));
        if somebody || self.asked_at(question).is_some() {
            return;
        }
        let by = attempt.contents.as_ref().map(|contents| contents.by);
        if let (JoinQuestion::Handovers(_), Some(by)) = (question, by) {
            // Nobody knows of so late an epoch: the head leads nowhere.
            self.set_aside(by);
        }
        self.abandon_attempt("nobody is left who has it");
    }
}
