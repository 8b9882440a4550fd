//! Whom to dial, and when to try again.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use cairn_types::Address;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError};
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use crate::address::split_peer;

/// The first wait after a failed dial.
const BACKOFF_MIN: Duration = Duration::from_millis(250);
/// The longest wait. Short: a refused dial costs next to nothing, a validator missed costs a view.
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// How long the validator with the higher address leaves the dial to the other, so that two who find one
/// another at the same time make one link.
const YIELD: Duration = Duration::from_millis(400);
/// A link that breaks sooner than this was no success: the wait goes on growing.
const LINK_LIFE_MIN: Duration = Duration::from_secs(5);

/// Names a target.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Key {
    /// An address of the configuration.
    Fixed(usize),
    /// A validator whose node record is known.
    Validator(Address),
}

#[derive(Debug)]
struct Target {
    addresses: Vec<Multiaddr>,
    peer: Option<PeerId>,
    /// Who was found there.
    validator: Option<Address>,
    next: Instant,
    backoff: Duration,
    /// The dial under way, or the connection it became, with its start.
    connection: Option<(ConnectionId, Instant)>,
    /// It is ourselves.
    own: bool,
}

impl Target {
    fn new(addresses: Vec<Multiaddr>, peer: Option<PeerId>, next: Instant) -> Self {
        Self { addresses, peer, validator: None, next, backoff: BACKOFF_MIN, connection: None, own: false }
    }

    fn retry(&mut self, now: Instant) {
        self.connection = None;
        self.next = now + jittered(self.backoff);
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
    }

    fn opts(&self) -> Option<DialOpts> {
        // A new port: two nodes that dial one another from their listen ports at once would collide.
        match self.peer {
            Some(peer) => Some(
                DialOpts::peer_id(peer)
                    .condition(PeerCondition::DisconnectedAndNotDialing)
                    .addresses(self.addresses.clone())
                    .allocate_new_port()
                    .build(),
            ),
            None => {
                let address = self.addresses.first()?.clone();
                Some(DialOpts::unknown_peer_id().address(address).allocate_new_port().build())
            }
        }
    }
}

/// Spreads a wait over 75 % to 125 %.
fn jittered(wait: Duration) -> Duration {
    let mut byte = [128];
    // Without randomness there is no spread, which is no fault.
    let _ = getrandom::fill(&mut byte);
    wait * (192 + u32::from(byte[0]) / 2) / 256
}

/// The targets of one network: those of the configuration, and the validators.
#[derive(Debug)]
pub(crate) struct Dialer {
    own: Option<Address>,
    targets: BTreeMap<Key, Target>,
    dials: HashMap<ConnectionId, Key>,
}

impl Dialer {
    /// A dialer of fixed addresses, with or without peer ids. `own`: our validator address.
    pub(crate) fn new(own: Option<Address>, fixed: Vec<Multiaddr>, now: Instant) -> Self {
        let targets = fixed.into_iter().enumerate().map(|(place, address)| {
            let (address, peer) = split_peer(address);
            (Key::Fixed(place), Target::new(vec![address], peer, now))
        });
        Self { own, targets: targets.collect(), dials: HashMap::new() }
    }

    /// Learns where a validator can be reached.
    pub(crate) fn know(&mut self, validator: Address, peer: PeerId, addresses: Vec<Multiaddr>, now: Instant) {
        let key = Key::Validator(validator);
        let wait = self.wait(validator);
        match self.targets.get_mut(&key) {
            Some(target) if target.peer == Some(peer) && target.addresses == addresses => {}
            Some(target) => {
                target.peer = Some(peer);
                target.addresses = addresses;
                target.backoff = BACKOFF_MIN;
                target.next = now + wait;
            }
            None => {
                self.targets.insert(key, Target::new(addresses, Some(peer), now + wait));
            }
        }
    }

    /// Forgets the validators that `keep` refuses.
    pub(crate) fn retain(&mut self, keep: impl Fn(&Address) -> bool) {
        self.targets.retain(|key, _| match key {
            Key::Fixed(_) => true,
            Key::Validator(address) => keep(address),
        });
    }

    fn wait(&self, validator: Address) -> Duration {
        match self.own {
            Some(own) if own > validator => YIELD,
            _ => Duration::ZERO,
        }
    }

    /// What to dial now. Each dial has to be reported back by [`Self::failed`] or its connection's end.
    pub(crate) fn due(&mut self, now: Instant, linked: impl Fn(&Address) -> bool) -> Vec<DialOpts> {
        let mut dials = Vec::new();
        for (key, target) in &mut self.targets {
            let satisfied = match key {
                Key::Validator(address) => linked(address),
                Key::Fixed(_) => target.validator.is_some_and(|found| linked(&found)),
            };
            if satisfied || target.own || target.connection.is_some() || target.next > now {
                continue;
            }
            if let Some(opts) = target.opts() {
                target.connection = Some((opts.connection_id(), now));
                self.dials.insert(opts.connection_id(), *key);
                dials.push(opts);
            }
        }
        dials
    }

    /// A dial came to nothing.
    pub(crate) fn failed(&mut self, connection: ConnectionId, fault: &DialError, now: Instant) {
        let Some(key) = self.dials.remove(&connection) else { return };
        let Some(target) = self.targets.get_mut(&key) else { return };
        target.retry(now);
        match fault {
            DialError::LocalPeerId { .. } => target.own = true,
            // Another key lives at a configured address now: ask again who is there.
            DialError::WrongPeerId { obtained, .. } => {
                if matches!(key, Key::Fixed(_)) {
                    target.peer = Some(*obtained);
                }
            }
            // The peer is connected already, having dialled us.
            DialError::DialPeerConditionFalse(_) => target.next = now + BACKOFF_MAX,
            _ => {}
        }
    }

    /// A dialled connection is up.
    pub(crate) fn connected(&mut self, connection: ConnectionId, peer: PeerId) {
        let key = self.dials.get(&connection).copied();
        if let Some(target) = key.and_then(|key| self.targets.get_mut(&key)) {
            target.peer = Some(peer);
        }
    }

    /// The validator at the other end of a connection is known.
    pub(crate) fn proved(&mut self, connection: ConnectionId, validator: Address) {
        let key = self.dials.get(&connection).copied();
        if let Some(target) = key.and_then(|key| self.targets.get_mut(&key)) {
            target.validator = Some(validator);
        }
    }

    /// A connection ended, dialled by us or not.
    pub(crate) fn closed(&mut self, connection: ConnectionId, validator: Option<Address>, now: Instant) {
        let key = self.dials.remove(&connection);
        if let Some(target) = key.and_then(|key| self.targets.get_mut(&key)) {
            let lived = target.connection.map_or(Duration::ZERO, |(_, since)| now - since);
            if lived > LINK_LIFE_MIN {
                target.backoff = BACKOFF_MIN;
            }
            target.retry(now);
        }
        if let Some(validator) = validator {
            let wait = self.wait(validator);
            if let Some(target) = self.targets.get_mut(&Key::Validator(validator)) {
                target.next = target.next.max(now + wait + jittered(BACKOFF_MIN));
            }
        }
    }
}

#[cfg(test)]
#[path = "dialer_tests.rs"]
mod tests;
