//! Who may connect: limits per IP address and network, and bans.
//!
//! The limits hold for global addresses only: a local testnet has all its nodes on one address. Placed
//! first in the derive order, so that nothing is made for a connection that is refused here.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionClosed, ConnectionDenied, ConnectionId, FromSwarm, ListenFailure, NetworkBehaviour,
    THandlerInEvent, THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};
use lru::LruCache;
use tokio::time::Instant;

use crate::address;

/// Inbound connections of one global IP address.
const PER_IP_MAX: u32 = 4;
/// Inbound connections of one global /24 (v4) or /48 (v6).
const PER_NETWORK_MAX: u32 = 16;
/// Peers with faults that are remembered; the longest untouched is forgotten.
const OFFENDERS_MAX: NonZeroUsize = NonZeroUsize::new(4_096).expect("not zero");
/// Faults that lead to a ban.
const FAULTS_MAX: u32 = 5;
/// A peer loses one fault per this time.
const FAULT_LIFE: Duration = Duration::from_secs(60);
/// How long a ban lasts.
pub(crate) const BAN_TIME: Duration = Duration::from_secs(600);

#[derive(Debug, thiserror::Error)]
enum Denied {
    #[error("{PER_IP_MAX} connections of {0} are open")]
    Ip(IpAddr),
    #[error("{PER_NETWORK_MAX} connections of the network {0} are open")]
    Network(IpAddr),
    #[error("the peer is banned")]
    Banned,
}

#[derive(Debug)]
struct Offender {
    faults: u32,
    last: Instant,
    banned_until: Option<Instant>,
}

/// Counts inbound connections and remembers bans.
pub(crate) struct Gate {
    /// Inbound connections of global addresses; bounded by the connection limits.
    inbound: HashMap<ConnectionId, IpAddr>,
    offenders: LruCache<PeerId, Offender>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self { inbound: HashMap::new(), offenders: LruCache::new(OFFENDERS_MAX) }
    }

    /// Charges a fault; true when the peer is banned by it.
    pub(crate) fn charge(&mut self, peer: PeerId, now: Instant) -> bool {
        let fresh = || Offender { faults: 0, last: now, banned_until: None };
        let offender = self.offenders.get_or_insert_mut(peer, fresh);
        let forgiven = now.saturating_duration_since(offender.last).as_secs() / FAULT_LIFE.as_secs();
        offender.faults = offender.faults.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX));
        offender.faults = offender.faults.saturating_add(1);
        offender.last = now;
        let banned = offender.faults >= FAULTS_MAX;
        if banned {
            offender.faults = 0;
            offender.banned_until = Some(now + BAN_TIME);
        }
        banned
    }

    /// Bans a peer until `until`.
    pub(crate) fn ban(&mut self, peer: PeerId, until: Instant) {
        let banned = Offender { faults: 0, last: Instant::now(), banned_until: Some(until) };
        self.offenders.put(peer, banned);
    }

    /// The bans in force, with their ends.
    pub(crate) fn bans(&self, now: Instant) -> Vec<(PeerId, Instant)> {
        let ends = self.offenders.iter().map(|(peer, offender)| (*peer, offender.banned_until));
        ends.filter_map(|(peer, until)| until.filter(|until| *until > now).map(|until| (peer, until)))
            .collect()
    }

    /// The connection is known to be a good one's and counts no more.
    pub(crate) fn exempt(&mut self, connection: ConnectionId) {
        self.inbound.remove(&connection);
    }

    fn check_banned(&self, peer: PeerId) -> Result<(), ConnectionDenied> {
        let until = self.offenders.peek(&peer).and_then(|offender| offender.banned_until);
        match until {
            Some(until) if until > Instant::now() => Err(ConnectionDenied::new(Denied::Banned)),
            _ => Ok(()),
        }
    }

    fn admit(&mut self, connection: ConnectionId, remote: &Multiaddr) -> Result<(), Denied> {
        let Some(ip) = address::ip(remote).filter(|ip| address::is_global(*ip)) else { return Ok(()) };
        let network = address::network(ip);
        let mut of_ip = 0;
        let mut of_network = 0;
        for other in self.inbound.values() {
            of_ip += u32::from(*other == ip);
            of_network += u32::from(address::network(*other) == network);
        }
        if of_ip >= PER_IP_MAX {
            return Err(Denied::Ip(ip));
        }
        if of_network >= PER_NETWORK_MAX {
            return Err(Denied::Network(network));
        }
        self.inbound.insert(connection, ip);
        Ok(())
    }
}

impl NetworkBehaviour for Gate {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.admit(connection, remote).map_err(ConnectionDenied::new)
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        self.check_banned(peer).map(|()| dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        self.check_banned(peer).map(|()| dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. })
            | FromSwarm::ListenFailure(ListenFailure { connection_id, .. }) => {
                self.inbound.remove(&connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn global_addresses_are_limited_and_released() {
        let mut gate = Gate::new();
        let remote: Multiaddr = "/ip4/8.8.8.8/tcp/1".parse().unwrap();
        let connections: Vec<_> = (0..5).map(ConnectionId::new_unchecked).collect();
        for connection in connections.iter().take(4) {
            gate.admit(*connection, &remote).unwrap();
        }
        assert!(matches!(gate.admit(connections[4], &remote), Err(Denied::Ip(_))));
        gate.exempt(connections[0]);
        gate.admit(connections[4], &remote).unwrap();
        for (place, host) in (0..12).enumerate() {
            let neighbour: Multiaddr = format!("/ip4/8.8.8.{host}/tcp/1").parse().unwrap();
            if host != 8 {
                gate.admit(ConnectionId::new_unchecked(100 + place), &neighbour).unwrap();
            }
        }
        let neighbour: Multiaddr = "/ip4/8.8.8.77/tcp/1".parse().unwrap();
        gate.admit(ConnectionId::new_unchecked(200), &neighbour).unwrap();
        assert!(matches!(gate.admit(ConnectionId::new_unchecked(201), &neighbour), Err(Denied::Network(_))));
    }

    #[test]
    fn loopback_is_not_limited() {
        let mut gate = Gate::new();
        let remote: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
        for connection in 0..100 {
            gate.admit(ConnectionId::new_unchecked(connection), &remote).unwrap();
        }
        assert!(gate.inbound.is_empty());
    }

    #[test]
    fn faults_add_up_to_a_ban_unless_time_passes() {
        let mut gate = Gate::new();
        let (bad, slow) = (PeerId::random(), PeerId::random());
        let now = Instant::now();
        let charges: Vec<bool> = (0..5).map(|_| gate.charge(bad, now)).collect();
        assert_eq!(charges, [false, false, false, false, true]);
        assert!(gate.check_banned(bad).is_err());
        assert_eq!(gate.bans(now).len(), 1);
        assert!(gate.bans(now + BAN_TIME + Duration::from_secs(1)).is_empty());
        for fault in 0..20 {
            assert!(!gate.charge(slow, now + FAULT_LIFE * fault));
        }
    }
}
