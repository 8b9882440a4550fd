//! Beginning with a peer's snapshot instead of block 1: whether to, whose, and what comes of the answers.
//!
//! # Rules
//!
//! * **J1** A node without blocks begins with a snapshot when a peer says it is further ahead than the bound it was
//!   given, or keeps the chain's first blocks no more. What peers say decides nothing else.
//! * **J2** Nothing is believed. The driver's intake judges the head by its certificate, hand-overs by the signatures
//!   of the validators before, each chunk against the certified header.
//! * **J3** Blame is exact. A snapshot's name binds each chunk's hash ([`snapshot_id`]), so a chunk that is not the one
//!   asked for is its sender's lie, whoever sent the others. A chunk under its right hash that the certified header
//!   refutes makes the *name* a lie: of all who offered it, for an honest node offers what it made or verified itself.
//! * **J4** A proven liar, and whoever gave a head that leads nowhere, is asked nothing more about snapshots. Silence
//!   and refusals cost pauses that double.
//! * **J5** Several peers with the same snapshot share the work, [`CHUNKS_PER_PEER_MAX`] chunks each; the chunk that everything
//!   waits for is asked of another after [`JOIN_HEDGE`].
//! * **J6** Progress needs one honest peer. Where nobody has a snapshot, or [`ATTEMPTS_MAX`] came to nothing, and some
//!   peer keeps the first blocks, those are fetched instead.
//! * **J7** Memory is bounded: [`CHUNKS_AHEAD`] chunks asked for or held, each of at most one answer's bytes, and the
//!   hashes of at most [`SNAPSHOT_CHUNKS_MAX`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cairn_types::{Context, Hash, Height};

use crate::input::{Claim, Failure};
use crate::machine::BUSY_TICK;
use crate::output::RequestId;
use crate::peers::PEERS_MAX;

mod attempt;
mod terms;

use attempt::{Asked, Attempt};
pub use terms::{JoinAnswer, JoinInput, JoinOutput, JoinQuestion, Offer, Verdict};

/// Chunks of one snapshot, at most: 8 GiB of half a MiB each, and hashes of 512 KiB.
pub const SNAPSHOT_CHUNKS_MAX: u32 = 16_384;
/// Snapshots listened to from one peer.
pub const OFFERS_MAX: usize = 16;
/// Chunks asked for or held above the one that is taken in: 8 MiB as a rule.
pub const CHUNKS_AHEAD: u32 = 16;
/// Chunks asked of one peer at a time: well below the 20 requests a second that peers answer.
pub const CHUNKS_PER_PEER_MAX: usize = 3;
/// Time between two chunks asked of one peer, and how many may go ahead of it: peers answer 20 questions a second, and
/// take more for a flood.
pub const PACE: Duration = Duration::from_millis(60);
const PACE_AHEAD: u32 = 16;
/// How long one peer may take for what everything waits for before another is asked too.
pub const JOIN_HEDGE: Duration = Duration::from_secs(2);
/// How long to listen to peers before deciding that none is far ahead, or that none has a snapshot.
pub const LISTEN: Duration = Duration::from_secs(2);
/// The same while there is no peer to listen to: validators may have blocks all the same.
pub const LISTEN_ALONE: Duration = Duration::from_secs(5);
/// Snapshots begun and given up before the first blocks are fetched instead, where somebody keeps them.
pub const ATTEMPTS_MAX: u32 = 16;
/// Without a chunk for so long, a snapshot is given up.
pub const STALLED: Duration = Duration::from_secs(60);
/// How often those who had no snapshot are asked again while nobody keeps the first blocks either.
pub const ASK_AGAIN: Duration = Duration::from_secs(5);
/// How often the machine wants [`JoinInput::Tick`] while nobody is far ahead.
const IDLE_TICK: Duration = Duration::from_secs(1);
/// A question without an answer after this has none.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(12);
/// How long those who are quick to offer wait for the others, so that what most have is known, and who failed before
/// is not first again.
const GATHER: Duration = Duration::from_millis(500);
/// The first and the longest pause of who lets time pass.
const SILENCE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// Liars remembered when they leave.
const LIARS_MAX: usize = 1_024;
/// False names remembered: more than attempts there are, since each costs one.
const FALSE_NAMES_MAX: usize = 1_024;
/// Failures in a row that still lengthen the pause.
const STREAK_MAX: u32 = 6;

/// The hash of one chunk's bytes.
pub fn chunk_hash(bytes: &[u8]) -> Hash {
    Context::Snapshot.hash_parts(&[&[0], bytes])
}

/// The name of the snapshot of a height: what it consists of beside head and hand-overs, whose certificates may differ
/// from node to node.
pub fn snapshot_id(height: Height, chunks: &[Hash]) -> Hash {
    let height = height.get().to_le_bytes();
    let parts = [[1u8].as_slice(), height.as_slice()];
    let hashes = chunks.iter().map(|hash| hash.as_bytes().as_slice());
    Context::Snapshot.hash_parts(&parts.into_iter().chain(hashes).collect::<Vec<_>>())
}

/// One peer.
#[derive(Clone, Debug, Default)]
struct Member {
    claim: Option<Claim>,
    newest: Option<Height>,
    /// What it offers, and when it said so.
    offers: Option<(Duration, Vec<Offer>)>,
    /// Asked nothing before this.
    until: Duration,
    streak: u32,
    /// Runs ahead of the time by what it was asked lately: see [`PACE`].
    paced: Duration,
}

/// The state of joining. `P` names a peer, whatever it is to the driver.
#[derive(Clone, Debug)]
pub struct Join<P> {
    bound: u64,
    members: BTreeMap<P, Member>,
    liars: BTreeSet<P>,
    false_names: BTreeSet<Hash>,
    open: BTreeMap<RequestId, Asked<P>>,
    attempt: Option<Attempt<P>>,
    attempts: u32,
    /// When everything began.
    began: Option<Duration>,
    /// When the first peer came.
    since: Option<Duration>,
    /// When somebody far ahead was first heard of.
    far_since: Option<Duration>,
    holding: bool,
    over: bool,
    next_request: u64,
    out: Vec<JoinOutput<P>>,
}

impl<P: Copy + Ord> Join<P> {
    /// A machine of a node without blocks, to which peers more than `bound` blocks ahead are far. It holds the
    /// fetching of blocks back from the start.
    pub const fn new(bound: u64) -> Self {
        Self {
            bound,
            members: BTreeMap::new(),
            liars: BTreeSet::new(),
            false_names: BTreeSet::new(),
            open: BTreeMap::new(),
            attempt: None,
            attempts: 0,
            began: None,
            since: None,
            far_since: None,
            holding: true,
            over: false,
            next_request: 0,
            out: Vec::new(),
        }
    }

    /// Takes one input at time `now`, counted from any origin and never falling. What makes no sense any more changes
    /// nothing.
    pub fn step(&mut self, now: Duration, input: JoinInput<P>) -> Vec<JoinOutput<P>> {
        if self.over {
            return Vec::new();
        }
        self.began.get_or_insert(now);
        match input {
            JoinInput::Connected { peer } => self.on_connected(now, peer),
            JoinInput::Gone { peer } => self.on_gone(peer),
            JoinInput::Claimed { peer, claim, newest } => self.on_claimed(peer, claim, newest),
            JoinInput::Answer { request, answer } => self.on_answer(now, request, answer),
            JoinInput::Failed { request, failure } => self.on_failed(now, request, failure),
            JoinInput::Judged { job, verdict } => self.on_judged(now, job, verdict),
            JoinInput::Moved => self.on_moved(),
            JoinInput::Tick => {}
        }
        self.expire(now);
        if !self.over && self.attempt.is_none() {
            self.decide(now);
        }
        if !self.over {
            self.work(now);
        }
        std::mem::take(&mut self.out)
    }

    /// How long the driver may wait before the next [`JoinInput::Tick`]; `None` once everything is decided.
    pub fn patience(&self) -> Option<Duration> {
        let busy = self.holding || self.attempt.is_some() || self.far_since.is_some();
        (!self.over).then_some(if busy { BUSY_TICK } else { IDLE_TICK })
    }

    /// Whether a snapshot is being fetched.
    pub fn is_fetching(&self) -> bool {
        self.attempt.is_some()
    }

    /// Questions that wait for an answer.
    pub fn open_questions(&self) -> usize {
        self.open.len()
    }

    fn on_connected(&mut self, now: Duration, peer: P) {
        self.since.get_or_insert(now);
        if self.members.len() < PEERS_MAX && !self.liars.contains(&peer) {
            self.members.entry(peer).or_default();
        }
    }

    fn on_gone(&mut self, peer: P) {
        self.members.remove(&peer);
        self.open.retain(|_, asked| asked.peer != peer);
    }

    fn on_claimed(&mut self, peer: P, claim: Claim, newest: Option<Height>) {
        if let Some(member) = self.members.get_mut(&peer) {
            (member.claim, member.newest) = (Some(claim), newest);
        }
    }

    /// Blocks came by other ways.
    fn on_moved(&mut self) {
        let installing = self.attempt.as_ref().is_some_and(Attempt::is_installing);
        if !installing {
            self.abandon_attempt("blocks came by themselves");
            self.end(false);
        }
    }

    fn on_answer(&mut self, now: Duration, request: RequestId, answer: JoinAnswer) {
        let Some(asked) = self.open.remove(&request) else { return };
        let peer = asked.peer;
        match (asked.question, answer) {
            (JoinQuestion::Offers, JoinAnswer::Offers(mut offers)) => {
                offers.truncate(OFFERS_MAX);
                self.offered(now, peer, offers);
            }
            (JoinQuestion::Offers, JoinAnswer::Lacks) => self.offered(now, peer, Vec::new()),
            (JoinQuestion::Contents(id), JoinAnswer::Contents { head, chunks }) => {
                self.on_contents(now, peer, id, head, chunks);
            }
            (JoinQuestion::Handovers(epoch), JoinAnswer::Handovers(bytes)) => {
                self.on_handovers(peer, epoch, bytes);
            }
            (JoinQuestion::Handovers(epoch), JoinAnswer::Lacks) => self.lacks_handovers(peer, epoch),
            (JoinQuestion::Chunk { id, index }, JoinAnswer::Chunk(bytes)) => {
                self.on_chunk(peer, id, index, bytes);
            }
            (JoinQuestion::Contents(id) | JoinQuestion::Chunk { id, .. }, JoinAnswer::Lacks) => {
                // It has made newer ones since.
                if let Some((_, offers)) = self.members.get_mut(&peer).and_then(|it| it.offers.as_mut()) {
                    offers.retain(|offer| offer.id != id);
                }
            }
            _ => self.lied(peer, "it answered another question about snapshots".to_owned()),
        }
    }

    fn offered(&mut self, now: Duration, peer: P, offers: Vec<Offer>) {
        if let Some(member) = self.members.get_mut(&peer) {
            // That it says something makes up for nothing.
            member.offers = Some((now, offers));
        }
    }

    fn on_failed(&mut self, now: Duration, request: RequestId, failure: Failure) {
        let Some(asked) = self.open.remove(&request) else { return };
        let (first, longest) = match failure {
            Failure::Wrong(why) => return self.lied(asked.peer, why),
            Failure::Refused => (Duration::from_millis(250), Duration::from_secs(8)),
            Failure::Silent => SILENCE,
        };
        self.pause(now, asked.peer, first, longest);
    }

    /// Lets a peer be for a while that doubles with each failure.
    fn pause(&mut self, now: Duration, peer: P, first: Duration, longest: Duration) {
        let Some(member) = self.members.get_mut(&peer) else { return };
        let pause = first.saturating_mul(1u32.checked_shl(member.streak).unwrap_or(u32::MAX)).min(longest);
        member.until = member.until.max(now.saturating_add(pause));
        member.streak = member.streak.saturating_add(1).min(STREAK_MAX);
    }

    /// J4, provably.
    fn lied(&mut self, peer: P, why: String) {
        self.set_aside(peer);
        self.out.push(JoinOutput::Punish { peer, why });
    }

    /// J4.
    fn set_aside(&mut self, peer: P) {
        self.members.remove(&peer);
        self.open.retain(|_, asked| asked.peer != peer);
        if self.liars.len() >= LIARS_MAX {
            self.liars.pop_first();
        }
        self.liars.insert(peer);
    }

    fn expire(&mut self, now: Duration) {
        let over = |asked: &Asked<P>| now.saturating_sub(asked.at) >= ANSWER_TIME_MAX;
        let late: Vec<_> = self.open.iter().filter(|(_, asked)| over(asked)).map(|(id, _)| *id).collect();
        for request in late {
            self.on_failed(now, request, Failure::Silent);
        }
    }

    /// Whether, and with which snapshot, to begin (J1, J6).
    fn decide(&mut self, now: Duration) {
        let far = self.members.values().any(|member| self.is_far(member));
        if !far {
            self.far_since = None;
            // Nobody said anything yet, or what everybody said can be fetched block by block.
            let passed = |since: Option<Duration>, long: Duration| {
                since.is_some_and(|since| now.saturating_sub(since) >= long)
            };
            let listened = passed(self.since, LISTEN) || passed(self.began, LISTEN_ALONE);
            return self.hold(!listened);
        }
        let since = *self.far_since.get_or_insert(now);
        self.ask_for_offers(now);
        let asked = |asked: &&Asked<P>| asked.question == JoinQuestion::Offers;
        let answering = self.open.values().filter(asked).any(|asked| now.saturating_sub(asked.at) < GATHER);
        if answering || now.saturating_sub(since) < GATHER {
            return self.hold(true);
        }
        if let Some(offer) = self.best_offer() {
            self.hold(true);
            self.attempt = Some(Attempt::new(offer, now));
            return;
        }
        let waiting = self.open.values().any(|asked| asked.question == JoinQuestion::Offers);
        if waiting || now.saturating_sub(since) < LISTEN {
            return self.hold(true);
        }
        if self.attempts < ATTEMPTS_MAX && self.has_paused_offer(now) {
            return self.hold(true);
        }
        self.hold(false);
        if self.can_replay() {
            self.end(false);
        }
    }

    fn is_far(&self, member: &Member) -> bool {
        member.claim.is_some_and(|claim| {
            claim.height.get() > self.bound || (claim.earliest.get() > 1 && claim.height >= claim.earliest)
        })
    }

    /// Whether somebody says it keeps the first blocks.
    fn can_replay(&self) -> bool {
        let keeps = |claim: Claim| claim.height > Height::ZERO && claim.earliest.get() <= 1;
        self.members.values().any(|member| member.claim.is_some_and(keeps))
    }

    /// Whether somebody who has a snapshot, and did not say which, is only pausing.
    fn has_paused_offer(&self, now: Duration) -> bool {
        let unheard = |member: &Member| member.newest.is_some() && member.offers.is_none();
        self.members.values().any(|member| unheard(member) && member.until > now && member.streak <= 2)
    }

    fn ask_for_offers(&mut self, now: Duration) {
        let asked: BTreeSet<P> = self
            .open
            .values()
            .filter(|asked| asked.question == JoinQuestion::Offers)
            .map(|asked| asked.peer)
            .collect();
        let stale = |at: Duration| now.saturating_sub(at) >= ASK_AGAIN;
        let due = |(peer, member): (&P, &Member)| {
            let unheard = member.offers.as_ref().is_none_or(|(at, _)| stale(*at));
            let ask = member.newest.is_some() && unheard && member.until <= now && !asked.contains(peer);
            ask.then_some(*peer)
        };
        for peer in self.members.iter().filter_map(due).collect::<Vec<_>>() {
            self.ask(now, peer, JoinQuestion::Offers);
        }
    }

    /// What most peers have, the highest of those; one that nobody lied about, above which blocks are to be had.
    fn best_offer(&self) -> Option<Offer> {
        let mut offers: BTreeMap<Offer, usize> = BTreeMap::new();
        for member in self.members.values() {
            // Once each, however often it was said.
            let said: BTreeSet<&Offer> = member.offers.iter().flat_map(|(_, offers)| offers).collect();
            for offer in said {
                let count = offers.entry(*offer).or_default();
                *count = count.saturating_add(1);
            }
        }
        let usable = |offer: &Offer| {
            (1..=SNAPSHOT_CHUNKS_MAX).contains(&offer.chunks)
                && offer.height > Height::ZERO
                && !self.false_names.contains(&offer.id)
                && self.goes_on_from(offer.height)
        };
        let ranked = offers.into_iter().filter(|(offer, _)| usable(offer));
        ranked.max_by_key(|(offer, count)| (*count, offer.height, offer.id)).map(|(offer, _)| offer)
    }

    /// Whether somebody says it has the blocks above this height.
    fn goes_on_from(&self, height: Height) -> bool {
        // Claims are seconds old: whoever made a snapshot meanwhile has passed its height.
        let has = |claim: Claim| claim.earliest <= height.next();
        self.members.values().any(|member| member.claim.is_some_and(has))
    }

    fn ask(&mut self, now: Duration, peer: P, question: JoinQuestion) {
        if let Some(member) = self.members.get_mut(&peer) {
            member.paced = member.paced.max(now).saturating_add(PACE);
        }
        let request = self.request();
        self.open.insert(request, Asked { peer, question, at: now });
        self.out.push(JoinOutput::Ask { peer, request, question });
    }

    fn request(&mut self) -> RequestId {
        let request = RequestId(self.next_request);
        self.next_request = self.next_request.saturating_add(1);
        request
    }

    fn hold(&mut self, hold: bool) {
        if self.holding != hold {
            self.holding = hold;
            self.out.push(JoinOutput::Hold(hold));
        }
    }

    fn end(&mut self, joined: bool) {
        if self.over {
            return;
        }
        self.over = true;
        self.open.clear();
        self.hold(false);
        self.out.push(JoinOutput::Over { joined });
    }

    /// Gives a snapshot up: it is looked for another, or the first blocks are fetched.
    fn abandon_attempt(&mut self, why: &str) {
        if self.attempt.take().is_none() {
            return;
        }
        self.attempts = self.attempts.saturating_add(1);
        self.open.clear();
        self.far_since = None;
        // Everybody is asked again: what they have may have changed.
        self.members.values_mut().for_each(|member| member.offers = None);
        self.out.push(JoinOutput::Abandon { why: why.to_owned() });
        if self.attempts >= ATTEMPTS_MAX && self.can_replay() {
            self.end(false);
        }
    }

    /// J3: everybody who offers it lies.
    fn false_name(&mut self, id: Hash, why: &str) {
        let offers =
            |member: &Member| member.offers.iter().flat_map(|(_, offers)| offers).any(|offer| offer.id == id);
        let liars: Vec<P> =
            self.members.iter().filter(|(_, member)| offers(member)).map(|(peer, _)| *peer).collect();
        for peer in liars {
            self.lied(peer, format!("it offers a snapshot that is none: {why}"));
        }
        if self.false_names.len() >= FALSE_NAMES_MAX {
            self.false_names.pop_first();
        }
        self.false_names.insert(id);
        self.abandon_attempt(why);
    }
}
