//! The mesh: validators only, one authenticated link each.
//!
//! Its task is control alone (who is linked, whom to dial). Messages go from a [`crate::Handle`] through
//! a link's queues to its connection's own task, and from there to the node's channels.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_types::{Address, Epoch};
use futures::StreamExt as _;
use futures::future::poll_fn;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::request_response::{self, Message};
use libp2p::swarm::{ConnectionId, NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, SwarmBuilder, connection_limits, ping, tcp, tls, yamux};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::PollSender;

use crate::command::{MeshCommand, MeshPeerInfo, NetInfo};
use crate::dialer::Dialer;
use crate::event::{Event, HotEvent, SwarmName};
use crate::exchange::{self, BytesCodec, Exchange};
use crate::fault::{P2pFault, RequestFault};
use crate::gate::Gate;
use crate::link;
use crate::link::allowance::Allowance;
use crate::link::auth::{LinkContext, LinkFault};
use crate::link::behaviour::{LinkBehaviour, LinkEvent};
use crate::link::handler::{Admission, Lane, Report};
use crate::link::intake::Inbox;
use crate::links::Links;
use crate::message::Plane;
use crate::metrics::Metrics;
use crate::queue::Queues;

/// Links kept to one validator: the newest, which is used for sending, and the one it replaced, which may
/// still deliver what is under way. A peer that restarts leaves a dead one behind.
const LINKS_PER_VALIDATOR_MAX: usize = 2;
/// Inbound connections: two per validator of the largest sets (3 epochs of 100), and as many strangers.
const INBOUND_MAX: u32 = 1_024;
/// Handshakes under way in each direction.
const PENDING_MAX: u32 = 256;
/// How often due dials are looked for.
const DIAL_TICK: Duration = Duration::from_millis(50);
/// A dead peer is noticed within the sum of both.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// Events the node has not taken yet; beyond them the swarm waits, while links go on.
const PENDING_EVENTS_MAX: usize = 256;
/// A link has 5 long-lived streams; the rest are repair requests and pings.
const YAMUX_STREAMS_MAX: usize = 64;
/// No link is ever idle for good: handlers keep theirs alive, this bounds the others.
const IDLE_MAX: Duration = Duration::from_secs(120);

/// The mesh swarm's protocols; limits first, so that nothing is made for a connection they refuse.
#[derive(NetworkBehaviour)]
struct MeshBehaviour {
    limits: connection_limits::Behaviour,
    gate: Gate,
    link: LinkBehaviour,
    repair: request_response::Behaviour<BytesCodec>,
    ping: ping::Behaviour,
}

/// What the mesh is made of.
pub(crate) struct MeshParts {
    pub(crate) key: Keypair,
    pub(crate) context: Arc<LinkContext>,
    pub(crate) listen: Multiaddr,
    pub(crate) peers: Vec<Multiaddr>,
    pub(crate) validators: Vec<Address>,
    pub(crate) request_timeout: Duration,
    pub(crate) links: Links,
    pub(crate) metrics: Metrics,
    pub(crate) commands: mpsc::Receiver<MeshCommand>,
    pub(crate) hot: mpsc::Sender<HotEvent>,
    pub(crate) events: mpsc::Sender<Event>,
    /// Tells the public network where we listen, for our node record.
    pub(crate) listening: tokio::sync::watch::Sender<Vec<Multiaddr>>,
}

struct Link {
    connection: ConnectionId,
    peer: PeerId,
    endpoint: Multiaddr,
    queues: Arc<Queues>,
}

/// The mesh's control task.
pub(crate) struct Mesh {
    swarm: Swarm<MeshBehaviour>,
    context: Arc<LinkContext>,
    commands: mpsc::Receiver<MeshCommand>,
    hot: mpsc::Sender<HotEvent>,
    events: mpsc::Sender<Event>,
    listening: tokio::sync::watch::Sender<Vec<Multiaddr>>,
    pending: VecDeque<HotEvent>,
    links: Links,
    metrics: Metrics,
    members: BTreeSet<Address>,
    /// The links of each validator, the one used for sending last.
    linked: HashMap<Address, Vec<Link>>,
    endpoints: HashMap<ConnectionId, Multiaddr>,
    /// Bounded by the members.
    allowances: HashMap<Address, [Arc<Allowance>; 2]>,
    dialer: Dialer,
    exchange: Exchange<oneshot::Sender<Result<Bytes, RequestFault>>>,
}

fn build(parts: &MeshParts) -> Result<Swarm<MeshBehaviour>, P2pFault> {
    let setup = |why: String| P2pFault::Setup { swarm: "mesh", why };
    let limits = connection_limits::ConnectionLimits::default()
        .with_max_pending_incoming(Some(PENDING_MAX))
        .with_max_pending_outgoing(Some(PENDING_MAX))
        .with_max_established_incoming(Some(INBOUND_MAX))
        .with_max_established_outgoing(Some(INBOUND_MAX));
    let behaviour = MeshBehaviour {
        limits: connection_limits::Behaviour::new(limits),
        gate: Gate::new(),
        link: LinkBehaviour::new(Arc::clone(&parts.context), parts.metrics.clone()),
        repair: exchange::behaviour(link::protocol(parts.context.chain, "repair"), parts.request_timeout),
        ping: ping::Behaviour::new(
            ping::Config::new().with_interval(PING_INTERVAL).with_timeout(PING_TIMEOUT),
        ),
    };
    let muxer = || {
        let mut config = yamux::Config::default();
        config.set_max_num_streams(YAMUX_STREAMS_MAX);
        config
    };
    let swarm = SwarmBuilder::with_existing_identity(parts.key.clone())
        .with_tokio()
        .with_tcp(tcp::Config::new().nodelay(true), tls::Config::new, muxer)
        .map_err(|why| setup(why.to_string()))?
        .with_dns()
        .map_err(|why| setup(format!("name resolution: {why}")))?
        .with_behaviour(|_| behaviour)
        .map_err(|why| setup(why.to_string()))?
        .with_swarm_config(|config| {
            config
                .with_idle_connection_timeout(IDLE_MAX)
                .with_substream_upgrade_protocol_override(Version::V1Lazy)
        })
        .build();
    Ok(swarm)
}

impl Mesh {
    /// Binds the listen address.
    pub(crate) fn new(parts: MeshParts) -> Result<Self, P2pFault> {
        let mut swarm = build(&parts)?;
        swarm.listen_on(parts.listen.clone()).map_err(|why| P2pFault::Listen {
            swarm: "mesh",
            address: parts.listen.to_string(),
            why: why.to_string(),
        })?;
        let own = parts.context.identity.address();
        let mut mesh = Self {
            swarm,
            dialer: Dialer::new(own, parts.peers, Instant::now()),
            context: parts.context,
            commands: parts.commands,
            hot: parts.hot,
            events: parts.events,
            listening: parts.listening,
            pending: VecDeque::new(),
            links: parts.links,
            metrics: parts.metrics,
            members: BTreeSet::new(),
            linked: HashMap::new(),
            endpoints: HashMap::new(),
            allowances: HashMap::new(),
            exchange: Exchange::new(),
        };
        mesh.set_members(parts.validators);
        Ok(mesh)
    }

    /// Runs until [`MeshCommand::Shutdown`] or until every handle is gone.
    pub(crate) async fn run(mut self) {
        let mut dial = interval(DIAL_TICK);
        // Keeps its place among those that wait for room, unlike a reservation begun anew in every turn.
        let mut hot = PollSender::new(self.hot.clone());
        dial.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                command = self.commands.recv() => match command {
                    None | Some(MeshCommand::Shutdown) => break,
                    Some(command) => self.on_command(command),
                },
                room = poll_fn(|cx| hot.poll_reserve(cx)), if !self.pending.is_empty() => {
                    let Some(event) = self.pending.pop_front().filter(|_| room.is_ok()) else { break };
                    if hot.send_item(event).is_err() {
                        break;
                    }
                }
                (channel, answer) = self.exchange.next_answer() => {
                    if let Some(answer) = answer {
                        // The asker may have left; then nobody misses the answer.
                        let _ = self.swarm.behaviour_mut().repair.send_response(channel, answer);
                    }
                }
                _ = dial.tick() => self.dial(),
                event = self.swarm.select_next_some(), if self.pending.len() < PENDING_EVENTS_MAX => {
                    self.on_swarm_event(event);
                }
            }
        }
        for address in self.links.addresses() {
            self.links.remove(&address);
        }
    }

    fn dial(&mut self) {
        let now = Instant::now();
        let linked = &self.linked;
        for opts in self.dialer.due(now, |address| linked.contains_key(address)) {
            let connection = opts.connection_id();
            if let Err(fault) = self.swarm.dial(opts) {
                self.dialer.failed(connection, &fault, now);
            }
        }
    }

    fn on_command(&mut self, command: MeshCommand) {
        match command {
            MeshCommand::Request { to, body, reply } => self.request(&to, body, reply),
            MeshCommand::SetValidators { epoch, addresses } => self.set_validators(epoch, addresses),
            MeshCommand::Known { address, peer, addresses } => {
                if self.members.contains(&address) {
                    self.dialer.know(address, peer, addresses, Instant::now());
                }
            }
            MeshCommand::NetInfo { reply } => {
                // The asker may have left.
                let _ = reply.send(self.describe());
            }
            MeshCommand::Shutdown => {}
        }
    }

    fn request(&mut self, to: &Address, body: Bytes, reply: oneshot::Sender<Result<Bytes, RequestFault>>) {
        let peer = self.linked.get(to).and_then(|links| links.last()).map(|link| link.peer);
        let asked = peer.ok_or(RequestFault::NotConnected).and_then(|peer| {
            self.exchange.check(body.len())?;
            Ok(self.swarm.behaviour_mut().repair.send_request(&peer, body))
        });
        match asked {
            Ok(id) => self.exchange.asked(id, reply),
            Err(fault) => {
                // The asker may have left.
                let _ = reply.send(Err(fault));
            }
        }
    }

    fn set_members(&mut self, addresses: Vec<Address>) {
        let own = self.context.identity.address();
        self.members = addresses.into_iter().filter(|address| Some(*address) != own).collect();
        let members = &self.members;
        self.dialer.retain(|address| members.contains(address));
        self.allowances.retain(|address, _| members.contains(address));
    }

    fn set_validators(&mut self, epoch: Epoch, addresses: Vec<Address>) {
        self.context.set_epoch(epoch);
        self.set_members(addresses);
        self.swarm.behaviour_mut().link.forget_refusals();
        let leaving = self.linked.iter().filter(|(address, _)| !self.members.contains(address));
        let connections: Vec<ConnectionId> =
            leaving.flat_map(|(_, links)| links.iter().map(|link| link.connection)).collect();
        for connection in connections {
            self.swarm.close_connection(connection);
        }
    }

    fn describe(&self) -> NetInfo {
        let links = self.linked.iter().filter_map(|(address, links)| Some((address, links.last()?)));
        let validators = links.map(|(address, link)| MeshPeerInfo {
            address: *address,
            peer: link.peer.to_string(),
            endpoint: link.endpoint.to_string(),
            queued_bytes: self.links.queued_bytes(address),
        });
        NetInfo {
            mesh_peer: Some(self.swarm.local_peer_id().to_string()),
            mesh_listen: self.swarm.listeners().map(ToString::to_string).collect(),
            validators: validators.collect(),
            ..NetInfo::default()
        }
    }

    fn on_swarm_event(&mut self, event: SwarmEvent<MeshBehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(MeshBehaviourEvent::Link(event)) => self.on_link_event(event),
            SwarmEvent::Behaviour(MeshBehaviourEvent::Repair(event)) => self.on_repair_event(event),
            SwarmEvent::Behaviour(MeshBehaviourEvent::Ping(event)) => {
                if let Err(fault) = event.result {
                    tracing::debug!(peer = %event.peer, %fault, "no answer to a ping; the connection is closed");
                    self.swarm.close_connection(event.connection);
                }
            }
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.endpoints.insert(connection_id, endpoint.get_remote_address().clone());
                self.dialer.connected(connection_id, peer_id);
            }
            SwarmEvent::ConnectionClosed { connection_id, .. } => self.on_closed(connection_id),
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                tracing::trace!(%error, "mesh dial failed");
                self.dialer.failed(connection_id, &error, Instant::now());
            }
            SwarmEvent::NewListenAddr { address, .. } => self.on_listening(address),
            SwarmEvent::ListenerClosed { reason, .. } => {
                tracing::error!(?reason, "the mesh listens no more on an address");
            }
            _ => {}
        }
    }

    fn on_listening(&mut self, address: Multiaddr) {
        self.listening.send_modify(|addresses| addresses.push(address.clone()));
        let address = format!("{address}/p2p/{}", self.swarm.local_peer_id());
        if self.events.try_send(Event::Listening { swarm: SwarmName::Mesh, address }).is_err() {
            self.metrics.event_dropped();
        }
    }

    fn on_link_event(&mut self, LinkEvent { peer, connection, report }: LinkEvent) {
        match report {
            Report::Proven(address) if self.members.contains(&address) => {
                self.link(peer, connection, address)
            }
            Report::Proven(address) => {
                self.refuse(peer, connection, &LinkFault::NotAdmitted(address), "not_admitted");
            }
            Report::Ended(fault) => {
                let was_linked = self.linked.values().flatten().any(|link| link.connection == connection);
                match was_linked {
                    true => {
                        tracing::debug!(%peer, %fault, "a link ended");
                        self.swarm.close_connection(connection);
                    }
                    false => self.refuse(peer, connection, &fault, "refused"),
                }
            }
        }
    }

    fn refuse(&mut self, peer: PeerId, connection: ConnectionId, fault: &LinkFault, outcome: &'static str) {
        tracing::debug!(%peer, %fault, "link refused");
        self.metrics.link_attempt(outcome);
        self.swarm.behaviour_mut().link.refuse(peer);
        self.swarm.close_connection(connection);
    }

    fn link(&mut self, peer: PeerId, connection: ConnectionId, address: Address) {
        let Some(endpoint) = self.endpoints.get(&connection).cloned() else { return };
        self.metrics.link_attempt("linked");
        self.dialer.proved(connection, address);
        let queues = Arc::new(Queues::new(self.metrics.clone()));
        let allowances = self
            .allowances
            .entry(address)
            .or_insert_with(|| Plane::ALL.map(|plane| Arc::new(Allowance::new(plane))));
        let [hot, bulk] = allowances.clone();
        let lanes = [
            Lane { plane: Plane::Hot, allowance: hot, inbox: Inbox::Hot(self.hot.clone()) },
            Lane { plane: Plane::Bulk, allowance: bulk, inbox: Inbox::Bulk(self.events.clone()) },
        ];
        let behaviour = self.swarm.behaviour_mut();
        behaviour.gate.exempt(connection);
        behaviour.link.admit(peer, connection, Admission { address, queues: Arc::clone(&queues), lanes });
        let links = self.linked.entry(address).or_default();
        if links.is_empty() {
            self.pending.push_back(HotEvent::Connected { address });
        }
        links.push(Link { connection, peer, endpoint, queues });
        self.links.set(address, links.iter().map(|link| Arc::clone(&link.queues)).collect());
        if links.len() > LINKS_PER_VALIDATOR_MAX
            && let Some(oldest) = links.first()
        {
            self.swarm.close_connection(oldest.connection);
        }
    }

    fn on_closed(&mut self, connection: ConnectionId) {
        self.endpoints.remove(&connection);
        let found = self.linked.iter_mut().find_map(|(address, links)| {
            let place = links.iter().position(|link| link.connection == connection)?;
            links.remove(place);
            self.links.set(*address, links.iter().map(|link| Arc::clone(&link.queues)).collect());
            Some((*address, links.is_empty()))
        });
        let lost = match found {
            Some((_, false)) => None,
            Some((address, true)) => {
                self.linked.remove(&address);
                self.pending.push_back(HotEvent::Disconnected { address });
                Some(address)
            }
            None => None,
        };
        self.dialer.closed(connection, lost, Instant::now());
    }

    fn on_repair_event(&mut self, event: request_response::Event<Bytes, Bytes>) {
        match event {
            request_response::Event::Message { peer, connection_id, message, .. } => match message {
                Message::Request { request, channel, .. } => {
                    let from = self.linked.iter().find_map(|(address, links)| {
                        let linked = |link: &Link| link.connection == connection_id && link.peer == peer;
                        links.iter().any(linked).then_some(*address)
                    });
                    // Strangers, and requests beyond what the node can take, get no answer.
                    if let Some(from) = from.filter(|_| self.exchange.has_room()) {
                        let (reply, answer) = oneshot::channel();
                        self.pending.push_back(HotEvent::Request { from, body: request, reply });
                        self.exchange.answer(channel, async move { answer.await.ok() });
                    }
                }
                Message::Response { request_id, response } => {
                    if let Some(reply) = self.exchange.take(request_id) {
                        // The asker may have left.
                        let _ = reply.send(Ok(response));
                    }
                }
            },
            request_response::Event::OutboundFailure { request_id, error, .. } => {
                if let Some(reply) = self.exchange.take(request_id) {
                    // The asker may have left.
                    let _ = reply.send(Err(exchange::fault(&error)));
                }
            }
            request_response::Event::InboundFailure { .. } | request_response::Event::ResponseSent { .. } => {
            }
        }
    }
}
