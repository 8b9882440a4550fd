//! Peers of every kind, honest and not.

use std::sync::Arc;
use std::time::Duration;

use cairn_catchup::{Answer, Claim, Entry, Failure, Question, check_range};
use cairn_types::{Epoch, Height, Signature};

use crate::chain::{Chain, verify};

/// Bytes of an entry on the wire, for the peer's speed.
const ENTRY_BYTES: usize = 11_000;
/// Blocks that fit an answer.
const ANSWER_BLOCKS: u64 = 280;
/// How long the networks wait for an answer.
const NETWORK_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Answers in 20 ms and more.
    Honest,
    /// As honest, at 1 MB a second.
    Distant,
    /// Its blocks were never certified; its certificates are forged.
    Fork,
    /// The chain's blocks, under forged certificates.
    Forger,
    /// The chain's blocks, shifted by one.
    Shifted,
    /// Leaves out a block in the middle.
    Gapped,
    /// More blocks than were asked for.
    Flooder,
    /// The chain's blocks without any certificate.
    Bare,
    /// Claims much and has nothing.
    Empty,
    /// Each claim is lower than the one before, and it has nothing.
    Falling,
    /// Claims the highest height there is.
    Boaster,
    /// Never answers a range.
    Silent,
    /// Answers rightly, but just before the networks give up.
    Slow,
    /// Answers with a single block.
    Dripping,
    /// Refuses everything.
    Refusing,
    /// Answers another question.
    Deaf,
    /// Bytes that decode to nothing.
    Garbled,
    /// Leaves out that an epoch has ended.
    Unending,
    /// Gives forged proofs that epochs have ended.
    FalseEnd,
}

impl Kind {
    pub(crate) const LIARS: [Self; 15] = [
        Self::Fork,
        Self::Forger,
        Self::Shifted,
        Self::Gapped,
        Self::Flooder,
        Self::Bare,
        Self::Empty,
        Self::Falling,
        Self::Boaster,
        Self::Silent,
        Self::Slow,
        Self::Dripping,
        Self::Refusing,
        Self::Deaf,
        Self::Garbled,
    ];

    /// Liars about the ends of epochs.
    pub(crate) const ABOUT_EPOCHS: [Self; 2] = [Self::Unending, Self::FalseEnd];

    /// Whether what it answers can be proven wrong.
    pub(crate) const fn lies_provably(self) -> bool {
        matches!(
            self,
            Self::Fork
                | Self::Forger
                | Self::Shifted
                | Self::Gapped
                | Self::Flooder
                | Self::Deaf
                | Self::Garbled
                | Self::Unending
                | Self::FalseEnd
        )
    }
}

/// What a peer has: the chain, a fork of it, and how far it is.
pub(crate) struct World {
    pub(crate) chain: Chain,
    pub(crate) fork: Chain,
}

/// A peer's answer to `question`, and when it comes. `asked`: how often it was asked before; `known`: the epoch that the
/// asking state is in.
pub(crate) fn answer(
    world: &World,
    kind: Kind,
    question: Question,
    tip: u64,
    asked: u64,
    known: Epoch,
) -> (Duration, Result<Answer, Failure>) {
    let quick = Duration::from_millis(20);
    match (question, kind) {
        (_, Kind::Refusing) => (quick, Err(Failure::Refused)),
        (_, Kind::Garbled) => (quick, Err(Failure::Wrong("no answer at all".to_owned()))),
        (_, Kind::Deaf) => (quick, Ok(Answer::Block(true))),
        (Question::Tip, _) => (quick, Ok(Answer::Tip(claim(kind, tip, asked)))),
        (Question::Block(_), _) => (quick, Ok(Answer::Block(matches!(kind, Kind::Honest)))),
        (Question::Range { .. }, Kind::Silent) => (NETWORK_PATIENCE, Err(Failure::Silent)),
        (Question::Range { from, count }, _) => {
            let entries = entries(world, kind, from.get(), u64::from(count), tip);
            let bytes = entries.len() * ENTRY_BYTES;
            let per_second = if kind == Kind::Distant { 1_000_000 } else { 100_000_000 };
            let travel = quick + Duration::from_secs_f64(bytes as f64 / f64::from(per_second));
            let slow = Duration::from_millis(9_500);
            let after = if kind == Kind::Slow { slow } else { travel };
            let range =
                check_range(from, count, entries, bytes, &mut |header, proof| verify(known, header, proof));
            (after, range.map(Answer::Range).map_err(|fault| Failure::Wrong(fault.to_string())))
        }
    }
}

fn claim(kind: Kind, tip: u64, asked: u64) -> Claim {
    let height = match kind {
        Kind::Falling => tip.saturating_add(1_000_000).saturating_sub(asked * 10_000),
        Kind::Boaster => u64::MAX,
        _ => tip,
    };
    Claim { height: Height::new(height), earliest: Height::ZERO }
}

fn entries(world: &World, kind: Kind, from: u64, count: u64, tip: u64) -> Vec<Entry> {
    let fits = count.min(ANSWER_BLOCKS);
    let honest = |from, count| world.chain.range(from, count, tip);
    match kind {
        Kind::Fork => world.fork.range(from, fits, tip),
        Kind::Forger => {
            let mut entries = honest(from, fits);
            for entry in &mut entries {
                let height = entry.block.header().height.get() as usize;
                let forged = world.fork.entries[height].certificate.clone();
                entry.certificate = forged.map(|forged| {
                    let mut forged = (*forged).clone();
                    forged.block = entry.block.id();
                    forged.into()
                });
            }
            entries
        }
        Kind::Shifted => honest(from + 1, fits),
        Kind::Gapped => {
            let mut entries = honest(from, fits);
            if entries.len() > 2 {
                entries.remove(1);
            }
            entries.into_iter().skip(usize::from(count < 3)).collect()
        }
        Kind::Flooder => honest(from, count + 5),
        Kind::Bare => {
            honest(from, fits).into_iter().map(|entry| Entry { certificate: None, ..entry }).collect()
        }
        Kind::Unending => honest(from, fits).into_iter().map(|entry| Entry { end: None, ..entry }).collect(),
        Kind::FalseEnd => {
            let mut entries = honest(from, fits);
            for end in entries.iter_mut().filter_map(|entry| entry.end.as_mut()) {
                let end = Arc::make_mut(end);
                let mut forged = (*end.certificate).clone();
                forged.signatures = vec![Signature::new(&[1; 32]).expect("short enough")];
                end.certificate = Arc::new(forged);
            }
            entries
        }
        Kind::Empty | Kind::Falling | Kind::Boaster => Vec::new(),
        Kind::Dripping => honest(from, 1),
        _ => honest(from, fits),
    }
}
