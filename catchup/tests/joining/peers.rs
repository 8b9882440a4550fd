//! A snapshot made to order, and peers of every kind, honest and not.

use std::time::Duration;

use cairn_catchup::{
    Claim, Failure, JoinAnswer, JoinQuestion, Offer, SNAPSHOT_CHUNKS_MAX, Verdict, chunk_hash, snapshot_id,
};
use cairn_types::{Epoch, Hash, Height};

/// How long the networks wait for an answer.
const NETWORK_PATIENCE: Duration = Duration::from_secs(10);
/// Ends of epochs in one answer.
const HANDOVERS_MAX: u64 = 3;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Answers in 20 ms.
    Honest,
    /// Answers in 400 ms.
    Distant,
    /// An honest node of an earlier build: it knows no snapshots.
    Earlier,
    /// Chunks that are not those asked for.
    WrongChunk,
    /// A snapshot of its own making under a name that fits it.
    FalseName,
    /// The same, as long as can be.
    Endless,
    /// A head that no quorum signed.
    ForgedHead,
    /// A head of an epoch that never began.
    FarHead,
    /// Ends of epochs that nobody signed.
    ForgedEnds,
    /// Contents that are not those of the name.
    OtherContents,
    /// Offers more than can be.
    Boaster,
    /// Says that it has one, and offers none.
    Empty,
    /// Offers one, and has nothing of it.
    Lacking,
    /// Offers one, and never answers again.
    Silent,
    /// Answers rightly, but just before the networks give up.
    Slow,
    /// Refuses everything.
    Refusing,
    /// Answers another question.
    Deaf,
    /// Bytes that decode to nothing.
    Garbled,
}

impl Kind {
    pub(crate) const LIARS: [Self; 15] = [
        Self::WrongChunk,
        Self::FalseName,
        Self::Endless,
        Self::ForgedHead,
        Self::FarHead,
        Self::ForgedEnds,
        Self::OtherContents,
        Self::Boaster,
        Self::Empty,
        Self::Lacking,
        Self::Silent,
        Self::Slow,
        Self::Refusing,
        Self::Deaf,
        Self::Garbled,
    ];

    /// Whether what it answers can be proven wrong.
    pub(crate) const fn lies_provably(self) -> bool {
        matches!(
            self,
            Self::WrongChunk
                | Self::FalseName
                | Self::Endless
                | Self::ForgedHead
                | Self::ForgedEnds
                | Self::OtherContents
                | Self::Deaf
                | Self::Garbled
        )
    }
}

/// The true snapshot of a height.
#[derive(Clone)]
pub(crate) struct Snapshot {
    pub(crate) height: u64,
    /// The epoch of its header.
    pub(crate) epoch: u64,
    pub(crate) chunks: Vec<Vec<u8>>,
}

impl Snapshot {
    pub(crate) fn new(height: u64, epoch: u64, chunks: u32) -> Self {
        let chunk = |at: u32| [height.to_le_bytes().as_slice(), &at.to_le_bytes()].concat();
        Self { height, epoch, chunks: (0..chunks).map(chunk).collect() }
    }

    fn hashes(&self) -> Vec<Hash> {
        self.chunks.iter().map(|chunk| chunk_hash(chunk)).collect()
    }

    pub(crate) fn offer(&self) -> Offer {
        let height = Height::new(self.height);
        let chunks = u32::try_from(self.chunks.len()).unwrap();
        Offer { height, id: snapshot_id(height, &self.hashes()), chunks }
    }

    /// A head: its epoch, and whether a quorum signed it.
    fn head(epoch: u64, signed: bool) -> Vec<u8> {
        [epoch.to_le_bytes().as_slice(), &[u8::from(signed)]].concat()
    }
}

/// What a driver's intake says.
pub(crate) struct Intake {
    signed: bool,
    wanted: u64,
    reached: u64,
    pub(crate) taken: Vec<Vec<u8>>,
}

impl Intake {
    pub(crate) fn begin(head: &[u8]) -> Result<Self, Verdict> {
        let wrong = |why: &str| Verdict::Wrong(why.to_owned());
        let Some((epoch, [signed])) = head.split_at_checked(8) else { return Err(wrong("no head")) };
        let wanted = u64::from_le_bytes(epoch.try_into().unwrap());
        let signed = *signed == 1;
        if wanted == 0 && !signed {
            return Err(wrong("no quorum signed it"));
        }
        Ok(Self { signed, wanted, reached: 0, taken: Vec::new() })
    }

    pub(crate) fn good(&self) -> Verdict {
        Verdict::Good { reached: Epoch::new(self.reached), wanted: Epoch::new(self.wanted) }
    }

    /// Hand-overs are one byte each: 1 where the validators signed it.
    pub(crate) fn handovers(&mut self, bytes: &[u8]) -> Verdict {
        for end in bytes {
            if *end != 1 {
                return Verdict::Wrong("nobody signed this end".to_owned());
            }
            if self.reached < self.wanted {
                self.reached += 1;
            }
        }
        if self.reached == self.wanted && !self.signed {
            return Verdict::WrongHead("no quorum signed it".to_owned());
        }
        self.good()
    }

    pub(crate) fn chunk(&mut self, bytes: Vec<u8>, truth: &[Snapshot]) -> Verdict {
        let fits = |snapshot: &Snapshot| {
            let so_far = snapshot.chunks.get(..self.taken.len()) == Some(&self.taken[..]);
            so_far && snapshot.chunks.get(self.taken.len()) == Some(&bytes)
        };
        if !truth.iter().any(fits) {
            return Verdict::Wrong("it does not lead to the certified header".to_owned());
        }
        self.taken.push(bytes);
        self.good()
    }
}

/// What a peer says of where its chain stands.
pub(crate) fn claim(kind: Kind, tip: u64, earliest: u64) -> (Claim, Option<Height>) {
    let newest = (kind != Kind::Earlier).then_some(Height::new(tip));
    let height = if kind == Kind::Boaster { u64::MAX } else { tip };
    (Claim { height: Height::new(height), earliest: Height::new(earliest) }, newest)
}

fn garbage(at: u32) -> Vec<u8> {
    vec![0xEE, u8::try_from(at % 7).unwrap()]
}

/// The false snapshot of a peer: as long as `chunks`.
fn false_hashes(peer: u32, chunks: u32) -> Vec<Hash> {
    let mut hashes: Vec<Hash> = (0..7).map(|at| chunk_hash(&garbage(at))).collect::<Vec<_>>();
    hashes = hashes.iter().copied().cycle().take(chunks as usize).collect();
    // Each liar has a name of its own.
    hashes.push(chunk_hash(&peer.to_le_bytes()));
    hashes
}

/// A peer's answer, and when it comes.
pub(crate) fn answer(
    peer: u32,
    kind: Kind,
    question: JoinQuestion,
    has: &[Snapshot],
    tip_epoch: u64,
) -> (Duration, Result<JoinAnswer, Failure>) {
    let quick = Duration::from_millis(20);
    let offering = question == JoinQuestion::Offers;
    match kind {
        Kind::Earlier => panic!("a build that knows no snapshots is asked about them"),
        Kind::Refusing => return (quick, Err(Failure::Refused)),
        Kind::Garbled => return (quick, Err(Failure::Wrong("no answer at all".to_owned()))),
        Kind::Deaf => return (quick, Ok(JoinAnswer::Chunk(vec![1])).filter_offers(offering)),
        Kind::Silent if !offering => return (NETWORK_PATIENCE, Err(Failure::Silent)),
        Kind::Lacking if !offering => return (quick, Ok(JoinAnswer::Lacks)),
        _ => {}
    }
    let took = match kind {
        Kind::Distant => Duration::from_millis(400),
        Kind::Slow if !offering => NETWORK_PATIENCE - Duration::from_millis(100),
        _ => quick,
    };
    (took, Ok(content(peer, kind, question, has, tip_epoch)))
}

trait FilterOffers {
    fn filter_offers(self, offering: bool) -> Self;
}

impl FilterOffers for Result<JoinAnswer, Failure> {
    /// An answer to another question, whichever was asked.
    fn filter_offers(self, offering: bool) -> Self {
        if offering { self } else { Ok(JoinAnswer::Offers(Vec::new())) }
    }
}

fn content(peer: u32, kind: Kind, question: JoinQuestion, has: &[Snapshot], tip_epoch: u64) -> JoinAnswer {
    let newest = has.last().expect("one at least");
    let own_length = if kind == Kind::Endless { SNAPSHOT_CHUNKS_MAX - 1 } else { 20 };
    let lies = matches!(kind, Kind::FalseName | Kind::Endless);
    match question {
        JoinQuestion::Offers => JoinAnswer::Offers(match kind {
            Kind::Empty => Vec::new(),
            Kind::Boaster => (0..100).map(|at| Offer { chunks: u32::MAX - at, ..newest.offer() }).collect(),
            _ if lies => {
                let (height, hashes) = (Height::new(newest.height + 1), false_hashes(peer, own_length));
                let chunks = u32::try_from(hashes.len()).unwrap();
                vec![Offer { height, id: snapshot_id(height, &hashes), chunks }]
            }
            _ => has.iter().rev().map(Snapshot::offer).collect(),
        }),
        JoinQuestion::Contents(id) => {
            let Some(snapshot) = has.iter().find(|it| it.offer().id == id || lies) else {
                return JoinAnswer::Lacks;
            };
            let chunks = match kind {
                _ if lies => false_hashes(peer, own_length),
                Kind::OtherContents => vec![Hash([9; 32]); snapshot.chunks.len()],
                _ => snapshot.hashes(),
            };
            let epoch = if kind == Kind::FarHead { snapshot.epoch + 1_000 } else { snapshot.epoch };
            JoinAnswer::Contents { head: Snapshot::head(epoch, kind != Kind::ForgedHead), chunks }
        }
        JoinQuestion::Handovers(from) => {
            let count = tip_epoch.saturating_sub(from.get()).min(HANDOVERS_MAX);
            let end = u8::from(kind != Kind::ForgedEnds);
            match count {
                0 => JoinAnswer::Lacks,
                _ => JoinAnswer::Handovers(vec![end; usize::try_from(count).unwrap()]),
            }
        }
        JoinQuestion::Chunk { index, .. } if lies || kind == Kind::WrongChunk => {
            JoinAnswer::Chunk(garbage(index))
        }
        JoinQuestion::Chunk { id, index } => {
            let snapshot = has.iter().find(|it| it.offer().id == id);
            let chunk = snapshot.and_then(|it| it.chunks.get(index as usize)).cloned();
            chunk.map_or(JoinAnswer::Lacks, JoinAnswer::Chunk)
        }
    }
}
