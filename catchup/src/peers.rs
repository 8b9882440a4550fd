//! Who may be asked, and how well each has answered so far (rules S2, S3 and S5).

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use cairn_types::Height;

use crate::input::Claim;

/// Peers that may be asked; more than the networks keep connections. Beyond it a newcomer takes the place of
/// the one that has failed most, so that liars cannot keep honest peers out.
pub const PEERS_MAX: usize = 128;
/// Ranges asked of one peer at a time: one on its way while another is worked on. The one that everything
/// waits for comes on top.
pub const PER_PEER_MAX: usize = 3;
/// How long a proven liar is asked nothing.
pub const EXCLUDED: Duration = Duration::from_secs(600);
/// Departed peers whose failures are remembered, so that reconnecting forgives nothing.
const REMEMBERED_MAX: usize = 256;
/// Failures in a row that still lengthen the pause.
const STREAK_MAX: u32 = 6;

/// How a peer failed, mildest first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lapse {
    /// It has not what it never said it had.
    Lacks,
    /// It would not answer, or a limit of its was met.
    Refused,
    /// It has not what it said it had, or its height fell.
    BrokenClaim,
    /// It let the time pass.
    Silent,
}

impl Lapse {
    /// The first pause and the longest.
    const fn pauses(self) -> (Duration, Duration) {
        match self {
            Self::Lacks => (Duration::from_millis(100), Duration::from_secs(2)),
            Self::Refused => (Duration::from_millis(250), Duration::from_secs(8)),
            Self::BrokenClaim => (Duration::from_secs(1), Duration::from_secs(60)),
            Self::Silent => (Duration::from_secs(2), Duration::from_secs(60)),
        }
    }
}

/// What is remembered of a peer that left.
#[derive(Clone, Copy, Debug)]
struct Remembered {
    streak: u32,
    until: Duration,
}

/// One peer's record.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) polled: bool,
    pub(crate) claim: Option<Claim>,
    /// When the claim was last raised.
    pub(crate) claimed_at: Duration,
    /// A height it passed on proof of: it should have the block soon. Not its word.
    pub(crate) hint: Height,
    /// Ranges it is asked for now.
    pub(crate) ranges: usize,
    /// It is being asked for its tip.
    pub(crate) asked_tip: bool,
    /// Failures in a row; a success halves it.
    streak: u32,
    /// Asked nothing before this.
    until: Duration,
    /// Bytes a second over its last ranges; 0 before the first.
    speed: u64,
    /// How long its last ranges took; zero before the first.
    usual: Duration,
}

impl Peer {
    fn new(polled: bool, remembered: Option<Remembered>) -> Self {
        let Remembered { streak, until } =
            remembered.unwrap_or(Remembered { streak: 0, until: Duration::ZERO });
        Self {
            polled,
            claim: None,
            claimed_at: Duration::ZERO,
            hint: Height::ZERO,
            ranges: 0,
            asked_tip: false,
            streak,
            until,
            speed: 0,
            usual: Duration::ZERO,
        }
    }

    /// Whether it may be asked anything now.
    pub(crate) fn is_usable(&self, now: Duration) -> bool {
        self.until <= now
    }

    /// How likely it has the block of this height: 0 it says so, 1 it should, 2 nobody knows, 3 it says no.
    fn coverage(&self, height: Height) -> u8 {
        match self.claim {
            Some(claim) if claim.earliest <= height && height <= claim.height => 0,
            _ if height <= self.hint => 1,
            None => 2,
            Some(_) => 3,
        }
    }

    fn claims(&self, height: Height) -> bool {
        self.coverage(height) == 0
    }
}

/// All peers, in the order of their names, so that every choice is the same in every run.
#[derive(Clone, Debug)]
pub(crate) struct Peers<P> {
    all: BTreeMap<P, Peer>,
    departed: BTreeMap<P, Remembered>,
}

impl<P: Copy + Ord> Peers<P> {
    pub(crate) const fn new() -> Self {
        Self { all: BTreeMap::new(), departed: BTreeMap::new() }
    }

    /// Whether the peer was taken in.
    pub(crate) fn connect(&mut self, peer: P, polled: bool) -> bool {
        if self.all.contains_key(&peer) {
            return false;
        }
        if self.all.len() >= PEERS_MAX {
            let worst = self.all.iter().max_by_key(|(_, held)| (held.streak, held.until));
            let Some(worst) = worst.filter(|(_, held)| held.streak > 0).map(|(name, _)| *name) else {
                return false;
            };
            self.gone(worst);
        }
        let remembered = self.departed.remove(&peer);
        self.all.insert(peer, Peer::new(polled, remembered));
        true
    }

    pub(crate) fn gone(&mut self, peer: P) {
        let Some(left) = self.all.remove(&peer).filter(|left| left.streak > 0) else { return };
        if self.departed.len() >= REMEMBERED_MAX {
            let first = self.departed.iter().min_by_key(|(_, held)| held.until).map(|(name, _)| *name);
            first.map(|first| self.departed.remove(&first));
        }
        self.departed.insert(peer, Remembered { streak: left.streak, until: left.until });
    }

    pub(crate) fn get_mut(&mut self, peer: &P) -> Option<&mut Peer> {
        self.all.get_mut(peer)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (P, &Peer)> {
        self.all.iter().map(|(name, peer)| (*name, peer))
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Takes a claim. One that falls within a connection is no honest node's: final heights only rise.
    pub(crate) fn claimed(&mut self, now: Duration, peer: P, claim: Claim) {
        let Some(held) = self.all.get_mut(&peer) else { return };
        let before = held.claim.map_or(Height::ZERO, |before| before.height);
        if claim.height > before {
            held.claimed_at = now;
        }
        held.claim = Some(claim);
        if claim.height < before {
            self.lapse(now, peer, Lapse::BrokenClaim);
        }
    }

    /// A range came, whole.
    pub(crate) fn served(&mut self, peer: P, bytes: usize, took: Duration) {
        let Some(held) = self.all.get_mut(&peer) else { return };
        held.streak = held.streak.checked_div(2).unwrap_or(0);
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let speed = bytes.saturating_mul(1_000).checked_div(millis).unwrap_or(0).max(1);
        // The newest answer counts a quarter.
        let older = held.speed.saturating_mul(3).saturating_add(speed).checked_div(4).unwrap_or(speed);
        held.usual = if held.speed == 0 {
            took
        } else {
            held.usual.saturating_mul(3).saturating_add(took).checked_div(4).unwrap_or(took)
        };
        held.speed = if held.speed == 0 { speed } else { older.max(1) };
    }

    /// How long the quickest of those who may be asked usually takes for a range.
    pub(crate) fn usual(&self, now: Duration) -> Duration {
        let known = self.all.values().filter(|held| held.is_usable(now) && held.speed > 0);
        known.map(|held| held.usual).min().unwrap_or(Duration::ZERO)
    }

    /// It failed, and pauses.
    pub(crate) fn lapse(&mut self, now: Duration, peer: P, lapse: Lapse) {
        let Some(held) = self.all.get_mut(&peer) else { return };
        let (first, longest) = lapse.pauses();
        let doubled = first.saturating_mul(1u32.checked_shl(held.streak).unwrap_or(u32::MAX));
        held.until = held.until.max(now.saturating_add(doubled.min(longest)));
        held.streak = held.streak.saturating_add(1).min(STREAK_MAX);
        if matches!(lapse, Lapse::BrokenClaim) {
            held.claim = None;
        }
    }

    /// It lied, provably.
    pub(crate) fn exclude(&mut self, now: Duration, peer: P) {
        let Some(held) = self.all.get_mut(&peer) else { return };
        (held.streak, held.until) = (STREAK_MAX, now.saturating_add(EXCLUDED));
        (held.claim, held.hint, held.speed) = (None, Height::ZERO, 0);
    }

    /// Whether an empty answer to "from this height" breaks the peer's word.
    pub(crate) fn promised(&self, peer: &P, height: Height) -> bool {
        self.all.get(peer).is_some_and(|held| held.claims(height))
    }

    /// Whom to ask for the range from `height` on: the likeliest to have it and to answer. Heights above
    /// `proven` only of those who claim them. `urgent`: everything waits for it, so speed goes before an even
    /// spread.
    pub(crate) fn choose(
        &self,
        now: Duration,
        height: Height,
        proven: Height,
        urgent: bool,
        busy: impl Fn(&P) -> bool,
    ) -> Option<P> {
        let ranges_max = PER_PEER_MAX.saturating_add(usize::from(urgent));
        let rank = |name: &P, held: &Peer| {
            // Whoever never served a range is tried once: those known may all be slow on purpose.
            let speed = if held.speed == 0 { u64::MAX } else { held.speed };
            let first = if urgent { speed } else { 0 };
            (held.coverage(height), held.streak, Reverse(first), held.ranges, Reverse(held.speed), *name)
        };
        self.all
            .iter()
            .filter(|(name, held)| held.is_usable(now) && held.ranges < ranges_max && !busy(name))
            .filter(|(_, held)| height <= proven || held.claims(height))
            .min_by_key(|(name, held)| rank(name, held))
            .map(|(name, _)| *name)
    }

    /// Everyone who may be asked for a single block, best first.
    pub(crate) fn for_blocks(&self, now: Duration) -> Vec<P> {
        let mut usable: Vec<_> = self.all.iter().filter(|(_, held)| held.is_usable(now)).collect();
        usable.sort_by_key(|(name, held)| (held.streak, Reverse(held.speed), **name));
        usable.into_iter().map(|(name, _)| *name).collect()
    }

    /// Whether this peer may be asked now.
    pub(crate) fn is_usable(&self, now: Duration, peer: &P) -> bool {
        self.all.get(peer).is_some_and(|held| held.is_usable(now))
    }

    /// The highest height that somebody who may be asked claims, as far as claims count yet: one close above
    /// `tip` usually comes by consensus by itself, and has to be `rest` old.
    pub(crate) fn claimed_height(&self, now: Duration, tip: Height, near: u64, rest: Duration) -> Height {
        let counts = |held: &&Peer| held.is_usable(now);
        let settled = |held: &Peer, claim: Claim| {
            claim.height.get() > tip.get().saturating_add(near) || now.saturating_sub(held.claimed_at) >= rest
        };
        self.all
            .values()
            .filter(counts)
            .filter_map(|held| held.claim.filter(|claim| settled(held, *claim)))
            .map(|claim| claim.height)
            .max()
            .unwrap_or(Height::ZERO)
    }

    /// The peer to ask for its tip after `last`, in turn.
    pub(crate) fn next_polled(&self, now: Duration, last: Option<P>) -> Option<P> {
        let may = |(_, held): &(&P, &Peer)| held.polled && !held.asked_tip && held.is_usable(now);
        let after = self.all.iter().filter(may).find(|(name, _)| last.is_none_or(|last| **name > last));
        after.or_else(|| self.all.iter().find(may)).map(|(name, _)| *name)
    }
}
