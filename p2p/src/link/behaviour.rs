//! The mesh's link protocol as libp2p sees it: makes handlers, passes their reports on.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, THandlerInEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use lru::LruCache;
use tokio::time::Instant;

use super::LinkUpgrade;
use super::auth::{LinkContext, Role};
use super::handler::{Admission, Handler, Report};
use crate::metrics::Metrics;

/// How long a peer id that failed to authenticate is not listened to.
const REFUSAL_TIME: Duration = Duration::from_secs(5);
/// Refused peer ids remembered; they cost a stranger nothing, so the oldest is forgotten.
const REFUSALS_MAX: NonZeroUsize = NonZeroUsize::new(1_024).expect("not zero");

/// A report of one connection.
#[derive(Debug)]
pub(crate) struct LinkEvent {
    pub(crate) peer: PeerId,
    pub(crate) connection: ConnectionId,
    pub(crate) report: Report,
}

#[derive(Debug, thiserror::Error)]
#[error("this peer failed to authenticate a moment ago")]
struct Refused;

/// Makes a [`Handler`] per connection.
pub(crate) struct LinkBehaviour {
    context: Arc<LinkContext>,
    upgrade: LinkUpgrade,
    metrics: Metrics,
    /// Bounded by the connections: each reports at most twice and is admitted at most once.
    events: VecDeque<ToSwarm<LinkEvent, Admission>>,
    refused: LruCache<PeerId, Instant>,
}

impl LinkBehaviour {
    pub(crate) fn new(context: Arc<LinkContext>, metrics: Metrics) -> Self {
        let upgrade = LinkUpgrade::all(context.chain);
        Self { context, upgrade, metrics, events: VecDeque::new(), refused: LruCache::new(REFUSALS_MAX) }
    }

    /// Lets a proven connection carry messages.
    pub(crate) fn admit(&mut self, peer_id: PeerId, connection: ConnectionId, admission: Admission) {
        let handler = NotifyHandler::One(connection);
        self.events.push_back(ToSwarm::NotifyHandler { peer_id, handler, event: admission });
    }

    /// Does not listen to `peer` for a while.
    pub(crate) fn refuse(&mut self, peer: PeerId) {
        self.refused.put(peer, Instant::now());
    }

    /// Listens to everyone again: the validators have changed.
    pub(crate) fn forget_refusals(&mut self) {
        self.refused.clear();
    }

    fn handler(&self, peer: PeerId, role: Role) -> Handler {
        Handler::new(Arc::clone(&self.context), self.upgrade.clone(), peer, role, self.metrics.clone())
    }
}

impl NetworkBehaviour for LinkBehaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = LinkEvent;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        match self.refused.get(&peer) {
            Some(at) if at.elapsed() < REFUSAL_TIME => Err(ConnectionDenied::new(Refused)),
            _ => Ok(self.handler(peer, Role::Listener)),
        }
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.handler(peer, Role::Dialer))
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, report: Report) {
        self.events.push_back(ToSwarm::GenerateEvent(LinkEvent { peer, connection, report }));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<LinkEvent, THandlerInEvent<Self>>> {
        // No waker: events are pushed only from within the swarm's own turn, or just before it is polled.
        self.events.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}
