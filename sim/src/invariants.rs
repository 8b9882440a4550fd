//! What must never happen, looked at after every event.
//!
//! (a) two blocks final at one height; (b) two state roots for one height; (c) two different signatures of one honest
//! key where one is allowed, or one that is not on disk; (d) a record that moves back; (e) a final anchor lost, or one
//! whose proof does not verify; (f) no progress after the network heals; (g) anything beyond its bound; (h) a
//! panic. An honest node that blames, accuses or stops without a cause is a violation as well.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use cairn_consensus::Outgoing;
use cairn_types::safety::SafetyRecord;
use cairn_types::{BlockId, CertifiedBlock, Epoch, Hash, Header, Height, ValidatorIndex, View};
use serde::Serialize;

use crate::epoch::Part;
use crate::world::World;

/// Which of the things that must never happen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[expect(missing_docs, reason = "`Invariant::letter` and `Invariant::sentence` say it")]
#[serde(rename_all = "snake_case")]
pub enum Invariant {
    OneBlock,
    OneRoot,
    OneSignature,
    NothingBack,
    NothingLost,
    Progress,
    Bounds,
    NoPanic,
    NoFalseBlame,
}

impl Invariant {
    /// The letter used in documents.
    pub const fn letter(self) -> char {
        match self {
            Self::OneBlock => 'a',
            Self::OneRoot => 'b',
            Self::OneSignature => 'c',
            Self::NothingBack => 'd',
            Self::NothingLost => 'e',
            Self::Progress => 'f',
            Self::Bounds => 'g',
            Self::NoPanic => 'h',
            Self::NoFalseBlame => 'i',
        }
    }

    /// What is broken.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::OneBlock => "two blocks are final at one height",
            Self::OneRoot => "one height has two state roots",
            Self::OneSignature => "an honest key signed what it must not",
            Self::NothingBack => "a durable record moved back",
            Self::NothingLost => "a final anchor is lost",
            Self::Progress => "no progress in time",
            Self::Bounds => "something grew beyond its bound",
            Self::NoPanic => "a panic",
            Self::NoFalseBlame => "an honest node was blamed, or stopped without a cause",
        }
    }
}

/// Something that must never happen, happened.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Violation {
    /// What.
    pub invariant: Invariant,
    /// When, virtual microseconds.
    pub at_us: u64,
    /// Where and how.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (letter, sentence) = (self.invariant.letter(), self.invariant.sentence());
        write!(f, "({letter}) {sentence}: {} (at {:.3} s)", self.what, self.at_us as f64 / 1e6)
    }
}

/// What was signed: votes name a block, timeouts a certificate's view.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Content {
    Block(BlockId),
    View(View),
}

/// By holder of the key.
type Signed = (usize, &'static str, Epoch, View);

/// A final block, as the first honest node had it.
#[derive(Clone, Copy)]
struct Committed {
    id: BlockId,
    state_root: Hash,
    epoch: Epoch,
    ends_epoch: bool,
    empty: bool,
}

/// What honest nodes have done so far.
#[derive(Default)]
pub(crate) struct Checks {
    committed: BTreeMap<Height, Committed>,
    signed: BTreeMap<Signed, Content>,
    pub(crate) accusations: u64,
}

/// A broken invariant, before time is added.
pub(crate) type Broken = (Invariant, String);

impl Checks {
    /// (a), (b): one block and one state root at each height, over all honest nodes, each of the epoch that the block
    /// below leads to, and final by a quorum of that epoch's own set.
    pub(crate) fn committed(
        &mut self,
        world: &World,
        name: &str,
        certified: &CertifiedBlock,
    ) -> Result<(), Broken> {
        let header = certified.block.header();
        let (height, id) = (header.height, header.id());
        let Some(first) = self.committed.get(&height) else {
            self.check_epoch(header)?;
            check_quorum(world, certified)?;
            let (state_root, epoch, ends_epoch) = (header.state_root, header.epoch, header.ends_epoch());
            let empty = certified.block.is_empty();
            self.committed.insert(height, Committed { id, state_root, epoch, ends_epoch, empty });
            return Ok(());
        };
        if first.id != id {
            let what = format!("{name} commits {id} at height {height}, another committed {}", first.id);
            return Err((Invariant::OneBlock, what));
        }
        if first.state_root != header.state_root {
            return Err((Invariant::OneRoot, format!("{name} has {} at height {height}", header.state_root)));
        }
        Ok(())
    }

    /// An epoch goes on until a block ends it, and the next one begins right above that.
    fn check_epoch(&self, header: &Header) -> Result<(), Broken> {
        let below = header.height.previous().and_then(|below| self.committed.get(&below));
        let expected = match below {
            Some(below) if below.ends_epoch => below.epoch.next(),
            Some(below) => below.epoch,
            None => Epoch::ZERO,
        };
        if header.epoch == expected && !header.is_carrier() {
            return Ok(());
        }
        let what = format!(
            "block {} at height {} is of epoch {}, or a carrier; expected a block of epoch {expected}",
            header.id(),
            header.height,
            header.epoch
        );
        Err((Invariant::OneBlock, what))
    }

    /// (c): an honest key signs one thing in each view, and its disk knows it already.
    /// Whoever signs is in the set of the epoch it signs for.
    pub(crate) fn signed(
        &mut self,
        world: &World,
        (signer, part): (usize, &Part),
        outgoing: &Outgoing,
        disk: &SafetyRecord,
    ) -> Result<(), Broken> {
        let Some(Ballot { kind, epoch, view, content, last }) = ballot(outgoing, disk) else { return Ok(()) };
        let set = world.regime(epoch).map(|regime| Arc::clone(&regime.set));
        let member = set.and_then(|set| set.index_of(&world.holders[signer].address));
        if member.is_none() || member != part.me || part.regime.number() != epoch {
            let what =
                format!("v{signer} sends a {kind} of epoch {epoch}, view {view}, without a place in its set");
            return Err((Invariant::OneSignature, what));
        }
        // One sync covers a whole turn, so the disk may be further than what an early step of it says.
        let on_disk = disk.epoch == epoch
            && last.is_some_and(|(last, known)| last > view || (last == view && known == content));
        if !on_disk {
            let what = format!(
                "v{signer} sends a {kind} of epoch {epoch}, view {view} that is not on its disk: {disk:?}"
            );
            return Err((Invariant::OneSignature, what));
        }
        let first = *self.signed.entry((signer, kind, epoch, view)).or_insert(content);
        if first != content {
            let what = format!(
                "v{signer} signs two {kind}s of epoch {epoch}, view {view}: {first:?} and {content:?}"
            );
            return Err((Invariant::OneSignature, what));
        }
        self.forget();
        Ok(())
    }

    /// Views far below the newest are not signed any more by anyone: keeps the map small in long runs.
    fn forget(&mut self) {
        const SIGNED_MAX: usize = 200_000;
        if self.signed.len() > SIGNED_MAX {
            let newest = self.signed.keys().map(|(_, _, epoch, view)| (*epoch, view.get())).max();
            let (epoch, view) = newest.unwrap_or_default();
            self.signed.retain(|(_, _, of, at), _| {
                of.get() + 100 > epoch.get() && (*of < epoch || at.get() + 1_000 > view)
            });
        }
    }

    /// The height up to which anybody waits for blocks to be final: above it there are empty ones only. They finished what was
    /// below them, and whoever lacks one has no work because of it and hears of it with the next heartbeat.
    pub(crate) fn height_of_work(&self) -> Height {
        let newest = self.committed.iter().rev().find(|(_, block)| !block.empty);
        newest.map_or(Height::ZERO, |(height, _)| *height)
    }

    /// The highest height that an honest node committed.
    pub(crate) fn height(&self) -> Height {
        self.committed.keys().next_back().copied().unwrap_or(Height::ZERO)
    }
}

/// What an honest validator is about to sign, and the last of its kind on its disk.
struct Ballot {
    kind: &'static str,
    epoch: Epoch,
    view: View,
    content: Content,
    last: Option<(View, Content)>,
}

fn ballot(outgoing: &Outgoing, disk: &SafetyRecord) -> Option<Ballot> {
    let block = |last: (View, BlockId)| (last.0, Content::Block(last.1));
    Some(match outgoing {
        Outgoing::Proposal { block: proposed, .. } => Ballot {
            kind: "proposal",
            epoch: proposed.header().epoch,
            view: proposed.header().view,
            content: Content::Block(proposed.id()),
            last: disk.last_proposed.map(block),
        },
        Outgoing::Vote { epoch, view, block: voted } => Ballot {
            kind: "vote",
            epoch: *epoch,
            view: *view,
            content: Content::Block(*voted),
            last: disk.last_voted.map(block),
        },
        Outgoing::CommitVote { epoch, view, block: voted } => Ballot {
            kind: "commit vote",
            epoch: *epoch,
            view: *view,
            content: Content::Block(*voted),
            last: disk.last_commit_voted.map(block),
        },
        Outgoing::Timeout { epoch, view, high_qc_view, .. } => Ballot {
            kind: "timeout",
            epoch: *epoch,
            view: *view,
            content: Content::View(*high_qc_view),
            last: disk.last_timeout.map(|(view, high)| (view, Content::View(high))),
        },
        _ => return None,
    })
}

/// The certificate that makes a block final is signed by more than two thirds of the power of the block's own epoch.
/// Counted here and not by the set, whose count may be what is wrong.
fn check_quorum(world: &World, certified: &CertifiedBlock) -> Result<(), Broken> {
    let (header, certificate) = (certified.block.header(), &certified.certificate);
    let (id, height) = (header.id(), header.height);
    let wrong = |what: String| Err((Invariant::OneBlock, what));
    let Some(regime) = world.regime(header.epoch).filter(|_| certificate.epoch == header.epoch) else {
        return wrong(format!("block {id} at height {height} is final by a certificate of another epoch"));
    };
    if header.validators != regime.set_digest {
        return wrong(format!("block {id} at height {height} names other validators than its epoch's"));
    }
    let signers: BTreeSet<ValidatorIndex> = certificate.signer_indexes().collect();
    let power: u128 = signers.iter().map(|index| u128::from(regime.set.power(*index))).sum();
    let total: u128 = regime.set.validators().iter().map(|validator| u128::from(validator.power)).sum();
    if 3 * power <= 2 * total {
        return wrong(format!(
            "block {id} at height {height} is final by {power} of {total} of the power of epoch {}",
            header.epoch
        ));
    }
    match world.verifier.commit_cert(&regime.set, Arc::clone(certificate)) {
        Ok(_) => Ok(()),
        Err(fault) => wrong(format!("block {id} at height {height} is final by no certificate: {fault}")),
    }
}
