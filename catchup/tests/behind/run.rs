//! A machine among peers, in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cairn_catchup::{CatchUp, Input, Output, Question, RANGE_BLOCKS_MAX, RANGES_MAX, RequestId};
use cairn_types::CertifiedBlock;

use crate::peers::{Kind, World, answer};

/// Time to make a block final: 4,000 a second.
const APPLY_TIME: Duration = Duration::from_micros(250);

/// The interval between polls and a little.
const RECENT_SECONDS: u64 = 4;

enum Event {
    News(Input<usize>),
    /// A connection comes back, with the same name.
    Return(usize),
    Leave(usize),
}

/// What was seen.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) took: Duration,
    pub(crate) punished: BTreeSet<usize>,
    /// Questions about ranges, by peer.
    pub(crate) asked: BTreeMap<usize, u64>,
    pub(crate) applied: u64,
    /// Ends of epochs among them.
    pub(crate) epochs: u64,
}

pub(crate) struct Run<'a> {
    world: &'a World,
    kinds: Vec<Kind>,
    machine: CatchUp<usize>,
    now: Duration,
    events: BTreeMap<(Duration, u64), Event>,
    number: u64,
    polled: BTreeMap<usize, u64>,
    open: BTreeMap<RequestId, (usize, Question)>,
    connected: BTreeSet<usize>,
    applying: bool,
    /// The chain's height at the start, and blocks a second made meanwhile.
    start: u64,
    pace: u64,
    seen: Seen,
}

impl<'a> Run<'a> {
    pub(crate) fn new(world: &'a World, kinds: &[Kind], start: u64, pace: u64) -> Self {
        let mut run = Self {
            world,
            kinds: kinds.to_vec(),
            machine: CatchUp::new(world.chain.position(0)),
            now: Duration::ZERO,
            events: BTreeMap::new(),
            number: 0,
            polled: BTreeMap::new(),
            open: BTreeMap::new(),
            connected: BTreeSet::new(),
            applying: false,
            start,
            pace,
            seen: Seen::default(),
        };
        for peer in 0..kinds.len() {
            run.at(Duration::ZERO, Event::Return(peer));
        }
        run
    }

    fn at(&mut self, after: Duration, event: Event) {
        self.number += 1;
        self.events.insert((self.now + after, self.number), event);
    }

    /// Peers that leave at a time, for a while.
    pub(crate) fn leaves(&mut self, peer: usize, at: Duration, away: Duration) {
        self.at(at, Event::Leave(peer));
        self.at(at + away, Event::Return(peer));
    }

    /// The height of the peers' chain now.
    fn tip(&self) -> u64 {
        let made = self.now.as_millis() as u64 * self.pace / 1_000;
        let tip = (self.start + made).min(self.world.chain.entries.len() as u64 - 1);
        // A node's newest final block has a certificate of its own.
        tip - u64::from(self.world.chain.entries[tip as usize].certificate.is_none() && tip > 0)
    }

    /// Runs until no more is missing than what was made in the last seconds (the end of the chain comes with
    /// polls and announcements); panics when that takes longer than `patience`.
    pub(crate) fn finish(mut self, patience: Duration) -> Seen {
        while self.machine.tip().height.get() + RECENT_SECONDS * self.pace < self.tip() {
            let tick = self.now + self.machine.patience(self.now);
            let next = self.events.first_key_value().map(|((at, _), _)| *at).filter(|at| *at <= tick);
            self.now = next.unwrap_or(tick);
            assert!(
                self.now <= patience,
                "after {:?} at height {} of {}; open {:?}",
                self.now,
                self.machine.tip().height,
                self.tip(),
                self.open
            );
            match next {
                None => self.step(Input::Tick),
                Some(_) => {
                    let (_, event) = self.events.pop_first().expect("it was there");
                    self.happens(event);
                }
            }
        }
        self.seen.took = self.now;
        self.seen
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Return(peer) => {
                if self.connected.insert(peer) {
                    self.step(Input::Connected { peer, polled: true });
                }
            }
            Event::Leave(peer) => {
                if self.connected.remove(&peer) {
                    self.step(Input::Gone { peer });
                }
            }
            Event::News(news) => {
                if let Input::Answer { request, .. } | Input::Failed { request, .. } = &news {
                    self.open.remove(request);
                }
                if let Input::Committed { applied: true, .. } = news {
                    self.applying = false;
                }
                self.step(news);
            }
        }
    }

    fn step(&mut self, input: Input<usize>) {
        for output in self.machine.step(self.now, input) {
            match output {
                Output::Ask { peer, request, question } => self.ask(peer, request, question),
                Output::Apply { blocks, end } => self.apply(&blocks, end.is_some()),
                Output::Punish { peer, why } => {
                    assert!(self.kinds[peer].lies_provably(), "{:?} was punished: {why}", self.kinds[peer]);
                    self.seen.punished.insert(peer);
                }
                Output::Behind(_) => {}
                Output::Fork { .. } => panic!("{output:?}"),
            }
        }
    }

    fn ask(&mut self, peer: usize, request: RequestId, question: Question) {
        assert!(self.connected.contains(&peer), "a peer that is gone was asked");
        self.open.insert(request, (peer, question));
        let times = self.polled.entry(peer).or_default();
        let asked = *times;
        if let Question::Range { count, .. } = question {
            assert!((1..=RANGE_BLOCKS_MAX).contains(&count));
            *self.seen.asked.entry(peer).or_default() += 1;
        } else {
            *times += 1;
        }
        self.check_bounds();
        let known = self.world.chain.epoch_after(self.machine.tip().height.get());
        let (after, outcome) = answer(self.world, self.kinds[peer], question, self.tip(), asked, known);
        let news = match outcome {
            Ok(answer) => Input::Answer { request, answer },
            Err(failure) => Input::Failed { request, failure },
        };
        self.at(after, Event::News(news));
    }

    /// S6: distinct ranges are bounded, and so is what one peer is asked for at a time.
    fn check_bounds(&self) {
        let connected = |peer: &usize| self.connected.contains(peer);
        let open: Vec<_> = self.open.values().filter(|(peer, _)| connected(peer)).collect();
        let ranges: BTreeSet<_> = open
            .iter()
            .filter_map(|(_, question)| match question {
                Question::Range { from, .. } => Some(*from),
                _ => None,
            })
            .collect();
        // Questions that the machine gave up (liars', departed peers') may still be on their way.
        let stale = 3 * self.seen.punished.len() + 3;
        assert!(ranges.len() <= RANGES_MAX + 1 + stale, "{} ranges", ranges.len());
    }

    fn apply(&mut self, blocks: &[CertifiedBlock], ends: bool) {
        assert!(!self.applying, "two batches at once");
        assert!(blocks.len() <= RANGE_BLOCKS_MAX as usize);
        self.applying = true;
        let mut height = self.machine.tip().height.get();
        let epoch = self.world.chain.epoch_after(height);
        for (at, certified) in blocks.iter().enumerate() {
            let header = certified.block.header();
            assert_eq!(header.epoch, epoch, "a batch goes beyond an epoch");
            let last = at + 1 == blocks.len();
            assert_eq!(header.ends_epoch(), last && ends, "an end without its proof, or the other way round");
            height += 1;
            assert_eq!(certified.block, self.world.chain.entries[height as usize].block, "not the chain's");
            assert!(certified.certificate.view >= certified.block.header().view);
        }
        self.seen.applied += blocks.len() as u64;
        self.seen.epochs += u64::from(ends);
        let tip = self.world.chain.position(height);
        let news = Input::Committed { tip, applied: true };
        self.at(APPLY_TIME * blocks.len() as u32, Event::News(news));
    }
}
