//! One node without blocks among peers, in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cairn_catchup::{
    CHUNKS_AHEAD, CHUNKS_PER_PEER_MAX, Join, JoinInput, JoinOutput, JoinQuestion, RequestId, Verdict,
};

use crate::peers::{Intake, Kind, Snapshot, answer, claim};

/// How long the driver takes to judge anything.
const JUDGING: Duration = Duration::from_millis(4);
/// Beyond it peers are "far".
pub(crate) const BOUND: u64 = 1_000;

#[derive(Clone)]
enum Event {
    Heard(JoinInput<u32>),
    /// A peer connects and, a moment later, says where it stands.
    Comes(u32),
    Leaves(u32),
    /// From now on everybody has this snapshot beside the one before, and none older.
    Made(Snapshot),
    Tick,
}

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// How it ended: with a snapshot or not; `None` when it did not.
    pub(crate) joined: Option<bool>,
    pub(crate) took: Duration,
    pub(crate) punished: BTreeSet<u32>,
    /// Chunks asked of each peer.
    pub(crate) chunks: BTreeMap<u32, u64>,
    pub(crate) questions: u64,
    pub(crate) begun: u64,
    /// When fetching blocks was first let go.
    pub(crate) released: Option<Duration>,
    pub(crate) installed: Option<u64>,
}

pub(crate) struct Run {
    kinds: Vec<Kind>,
    has: Vec<Snapshot>,
    /// Every true snapshot there ever was.
    truth: Vec<Snapshot>,
    /// The lowest block everybody keeps.
    earliest: u64,
    tip: u64,
    tip_epoch: u64,
    machine: Join<u32>,
    connected: BTreeSet<u32>,
    events: BTreeMap<(Duration, u64), Event>,
    sequence: u64,
    intake: Option<Intake>,
    seen: Seen,
}

impl Run {
    /// Everybody connects at once and has this snapshot, honest or as its kind lies about it.
    pub(crate) fn new(kinds: &[Kind], snapshot: Snapshot) -> Self {
        let (tip, tip_epoch) = (snapshot.height + 50, snapshot.epoch + 2);
        let mut run = Self {
            kinds: kinds.to_vec(),
            truth: vec![snapshot.clone()],
            has: vec![snapshot],
            earliest: 0,
            tip,
            tip_epoch,
            machine: Join::new(BOUND),
            connected: BTreeSet::new(),
            events: BTreeMap::new(),
            sequence: 0,
            intake: None,
            seen: Seen::default(),
        };
        for peer in 0..u32::try_from(kinds.len()).unwrap() {
            run.at(Duration::from_millis(u64::from(peer)), Event::Comes(peer));
        }
        run.at(Duration::ZERO, Event::Tick);
        run
    }

    pub(crate) fn pruned(mut self) -> Self {
        self.earliest = self.has[0].height.saturating_sub(10);
        self
    }

    /// All peers are at this height.
    pub(crate) fn tip(mut self, tip: u64) -> Self {
        self.tip = tip;
        self
    }

    fn at(&mut self, when: Duration, event: Event) {
        self.sequence += 1;
        self.events.insert((when, self.sequence), event);
    }

    pub(crate) fn leaves(&mut self, peer: u32, at: Duration, away: Duration) {
        self.at(at, Event::Leaves(peer));
        self.at(at + away, Event::Comes(peer));
    }

    /// A peer that is not there from the beginning.
    pub(crate) fn late(&mut self, peer: u32, at: Duration) {
        self.events.retain(|_, event| !matches!(event, Event::Comes(it) if *it == peer));
        self.at(at, Event::Comes(peer));
    }

    pub(crate) fn makes(&mut self, snapshot: Snapshot, at: Duration) {
        self.at(at, Event::Made(snapshot));
    }

    pub(crate) fn moves(&mut self, at: Duration) {
        self.at(at, Event::Heard(JoinInput::Moved));
    }

    /// Plays until it is over or `limit` has passed.
    pub(crate) fn play(mut self, limit: Duration) -> Seen {
        while let Some(((now, _), event)) = self.events.pop_first() {
            if now > limit || self.seen.joined.is_some() {
                break;
            }
            match event {
                Event::Heard(input) => self.step(now, input),
                Event::Comes(peer) => {
                    self.connected.insert(peer);
                    self.step(now, JoinInput::Connected { peer });
                    let (claim, newest) = claim(self.kinds[peer as usize], self.tip, self.earliest);
                    let said = JoinInput::Claimed { peer, claim, newest };
                    self.at(now + Duration::from_millis(30), Event::Heard(said));
                }
                Event::Leaves(peer) => {
                    self.connected.remove(&peer);
                    self.step(now, JoinInput::Gone { peer });
                }
                Event::Made(snapshot) => {
                    self.truth.push(snapshot.clone());
                    self.tip = snapshot.height + 50;
                    for peer in self.connected.clone() {
                        let (claim, newest) = claim(self.kinds[peer as usize], self.tip, self.earliest);
                        self.step(now, JoinInput::Claimed { peer, claim, newest });
                    }
                    self.has.push(snapshot);
                    let drop = self.has.len().saturating_sub(2);
                    self.has.drain(..drop);
                }
                Event::Tick => {
                    self.step(now, JoinInput::Tick);
                    let patience = self.machine.patience().unwrap_or(Duration::from_secs(1));
                    self.at(now + patience, Event::Tick);
                }
            }
            self.seen.took = now;
        }
        self.seen
    }

    fn step(&mut self, now: Duration, input: JoinInput<u32>) {
        for output in self.machine.step(now, input) {
            match output {
                JoinOutput::Ask { peer, request, question } => self.ask(now, peer, request, question),
                JoinOutput::Begin { job, head, offer } => {
                    self.seen.begun += 1;
                    assert!(offer.height.get() > 0);
                    let verdict = match Intake::begin(&head) {
                        Ok(intake) => self.intake.insert(intake).good(),
                        Err(verdict) => verdict,
                    };
                    self.judged(now, job, verdict);
                }
                JoinOutput::Take { job, bytes, done } => {
                    let intake = self.intake.as_mut().expect("begun");
                    let verdict = match done {
                        None => intake.handovers(&bytes),
                        Some(done) => {
                            assert_eq!(done as usize, intake.taken.len(), "in order");
                            intake.chunk(bytes, &self.truth)
                        }
                    };
                    self.judged(now, job, verdict);
                }
                JoinOutput::Install { job } => {
                    let intake = self.intake.take().expect("begun");
                    let whole = self.truth.iter().find(|it| it.chunks == intake.taken);
                    self.seen.installed = Some(whole.expect("all of a true snapshot").height);
                    self.judged(now, job, intake.good());
                }
                JoinOutput::Abandon { .. } => self.intake = None,
                JoinOutput::Punish { peer, .. } => {
                    assert!(self.seen.punished.insert(peer), "peer {peer} is punished twice");
                }
                JoinOutput::Hold(hold) => {
                    if !hold {
                        self.seen.released.get_or_insert(now);
                    }
                }
                JoinOutput::Over { joined } => self.seen.joined = Some(joined),
            }
        }
        let most = self.kinds.len() * (CHUNKS_PER_PEER_MAX + 3);
        assert!(self.machine.open_questions() <= most, "{} questions open", self.machine.open_questions());
    }

    fn judged(&mut self, now: Duration, job: RequestId, verdict: Verdict) {
        self.at(now + JUDGING, Event::Heard(JoinInput::Judged { job, verdict }));
    }

    fn ask(&mut self, now: Duration, peer: u32, request: RequestId, question: JoinQuestion) {
        assert!(self.connected.contains(&peer), "peer {peer} is asked and not connected");
        assert!(!self.seen.punished.contains(&peer), "peer {peer} is asked though it lied");
        self.seen.questions += 1;
        if let JoinQuestion::Chunk { index, .. } = question {
            *self.seen.chunks.entry(peer).or_default() += 1;
            let taken = self.intake.as_ref().map_or(0, |intake| intake.taken.len());
            assert!(index as usize <= taken + CHUNKS_AHEAD as usize, "chunk {index} far above {taken}");
        }
        let kind = self.kinds[peer as usize];
        let (took, answer) = answer(peer, kind, question, &self.has, self.tip_epoch);
        let input = match answer {
            Ok(answer) => JoinInput::Answer { request, answer },
            Err(failure) => JoinInput::Failed { request, failure },
        };
        self.at(now + took, Event::Heard(input));
    }
}
