//! The public network's task.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_types::{Address, ChainId};
use futures::StreamExt as _;
use futures::future::poll_fn;
use libp2p::gossipsub::{self, MessageAcceptance, PublishError};
use libp2p::identity::Keypair;
use libp2p::kad::QueryId;
use libp2p::request_response::{self, Message};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, Swarm, identify};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::PollSender;

use super::batch::{self, Batcher};
use super::book::Book;
use super::gossip::Topics;
use super::records::Records;
use super::swarm::{PublicBehaviour, PublicBehaviourEvent, SwarmParts, build, identity_version};
use super::sync;
use crate::address;
use crate::command::{MeshCommand, NetInfo, PublicCommand, PublicPeerInfo};
use crate::dialer::Dialer;
use crate::event::{Event, GossipTicket, HotEvent, SwarmName, Verdict};
use crate::exchange::{self, Exchange};
use crate::fault::{P2pFault, RequestFault};
use crate::identity::{Clock, LinkIdentity};
use crate::link::allowance::TokenBucket;
use crate::links::Links;
use crate::message::{ANNOUNCEMENT_BYTES_MAX, Peer, SyncRequest, SyncResponse};
use crate::metrics::Metrics;

/// How often due dials are looked for.
const DIAL_TICK: Duration = Duration::from_millis(100);
/// After a peer is found, others are often found too: what follows from them waits this long.
const SETTLE_TIME: Duration = Duration::from_millis(200);
/// Events the node has not taken yet; beyond them the swarm waits.
const PENDING_EVENTS_MAX: usize = 256;
/// Longest agent text kept of a peer, characters.
const AGENT_CHARS_MAX: usize = 64;
/// Sync requests of one peer per second, and at once.
const SYNC_PER_S: f64 = 20.0;
const SYNC_BURST: f64 = 40.0;
/// Gossiped messages of one peer per second, and at once.
const GOSSIP_PER_S: f64 = 200.0;
const GOSSIP_BURST: f64 = 400.0;

/// What the public network is made of.
pub(crate) struct PublicParts {
    pub(crate) key: Keypair,
    pub(crate) chain: ChainId,
    pub(crate) listen: Vec<Multiaddr>,
    pub(crate) peers: Vec<Multiaddr>,
    pub(crate) external: Vec<Multiaddr>,
    pub(crate) mesh_external: Vec<Multiaddr>,
    pub(crate) mesh_peer: Option<PeerId>,
    pub(crate) validators: Vec<Address>,
    pub(crate) quic: bool,
    pub(crate) peers_max: u32,
    pub(crate) record_interval: Duration,
    pub(crate) lookup_interval: Duration,
    pub(crate) gossip_interval: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) book_path: Option<PathBuf>,
    pub(crate) book: Book,
    pub(crate) identity: Arc<dyn LinkIdentity>,
    pub(crate) clock: Clock,
    pub(crate) links: Links,
    pub(crate) metrics: Metrics,
    pub(crate) commands: mpsc::Receiver<PublicCommand>,
    pub(crate) mesh: Option<mpsc::Sender<MeshCommand>>,
    pub(crate) mesh_listening: watch::Receiver<Vec<Multiaddr>>,
    pub(crate) events: mpsc::Sender<Event>,
    /// Never used: it keeps the hot channel open on a node without a mesh.
    #[expect(dead_code, reason = "held for what its drop would close")]
    pub(crate) hot: mpsc::Sender<HotEvent>,
}

/// A connected peer.
pub(super) struct PeerState {
    pub(super) endpoint: Multiaddr,
    inbound: bool,
    agent: String,
    /// It has told that it follows our chain.
    pub(super) ready: bool,
    /// Where it says it can be dialled.
    pub(super) dial: Option<Multiaddr>,
    sync: TokenBucket,
    gossip: TokenBucket,
}

impl PeerState {
    fn new(endpoint: Multiaddr, inbound: bool, now: Instant) -> Self {
        Self {
            endpoint,
            inbound,
            agent: String::new(),
            ready: false,
            dial: None,
            sync: TokenBucket::new(SYNC_PER_S, SYNC_BURST, now),
            gossip: TokenBucket::new(GOSSIP_PER_S, GOSSIP_BURST, now),
        }
    }
}

type SyncReply = (SyncRequest, oneshot::Sender<Result<SyncResponse, RequestFault>>);

/// The public network's task. Kademlia and node records are in `discovery`.
pub(crate) struct Public {
    pub(super) swarm: Swarm<PublicBehaviour>,
    pub(super) parts: PublicParts,
    topics: Topics,
    pending: VecDeque<Event>,
    pub(super) records: Records,
    /// Lookups under way; bounded where they are begun.
    pub(super) lookups: HashMap<QueryId, Address>,
    batcher: Batcher,
    exchange: Exchange<SyncReply>,
    /// Bounded by the connection limits.
    pub(super) peers: HashMap<PeerId, PeerState>,
    dialer: Dialer,
    /// When to act on what has changed among peers and addresses.
    pub(super) settle: Option<Instant>,
    pub(super) record_seq: u64,
    pub(super) published_at: Option<Instant>,
    /// Peers have come that may lack our record, or it says something else now.
    pub(super) record_due: bool,
    pub(super) book_dirty: bool,
    pub(super) book_saved: Instant,
}

impl Public {
    /// Binds the listen addresses.
    pub(crate) fn new(parts: PublicParts) -> Result<Self, P2pFault> {
        let topics = Topics::new(parts.chain);
        let mut swarm = build(&SwarmParts {
            key: &parts.key,
            chain: parts.chain,
            topics: &topics,
            peers_max: parts.peers_max,
            request_timeout: parts.request_timeout,
        })?;
        for listen in &parts.listen {
            swarm.listen_on(listen.clone()).map_err(|why| P2pFault::Listen {
                swarm: "public",
                address: listen.to_string(),
                why: why.to_string(),
            })?;
        }
        for external in &parts.external {
            swarm.add_external_address(external.clone());
        }
        let own = parts.identity.address();
        let now = Instant::now();
        let mut public = Self {
            swarm,
            topics,
            pending: VecDeque::new(),
            records: Records::new(parts.chain, own, parts.validators.clone()),
            lookups: HashMap::new(),
            batcher: Batcher::new(parts.gossip_interval),
            exchange: Exchange::new(),
            peers: HashMap::new(),
            dialer: Dialer::new(None, parts.peers.clone(), now),
            settle: Some(now + SETTLE_TIME),
            record_seq: 0,
            published_at: None,
            record_due: true,
            book_dirty: false,
            book_saved: now,
            parts,
        };
        public.open_book();
        Ok(public)
    }

    /// Runs until [`PublicCommand::Shutdown`] or until every handle is gone.
    pub(crate) async fn run(mut self) {
        let mut dial = interval(DIAL_TICK);
        dial.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look = interval(self.parts.lookup_interval);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut events = PollSender::new(self.parts.events.clone());
        let mut mesh_listening = self.parts.mesh_listening.clone();
        let mut mesh_listens = true;
        loop {
            let now = Instant::now();
            let batch = self.batcher.due(now);
            tokio::select! {
                command = self.parts.commands.recv() => match command {
                    None | Some(PublicCommand::Shutdown) => break,
                    Some(command) => self.on_command(command),
                },
                room = poll_fn(|cx| events.poll_reserve(cx)), if !self.pending.is_empty() => {
                    let Some(event) = self.pending.pop_front().filter(|_| room.is_ok()) else { break };
                    if events.send_item(event).is_err() {
                        break;
                    }
                }
                (channel, answer) = self.exchange.next_answer() => {
                    if let Some(answer) = answer {
                        // The asker may have left; then nobody misses the answer.
                        let _ = self.swarm.behaviour_mut().sync.send_response(channel, answer);
                    }
                }
                () = sleep_until(batch.unwrap_or(now)), if batch.is_some() => self.gossip_batches(),
                () = sleep_until(self.settle.unwrap_or(now)), if self.settle.is_some() => self.on_settled(),
                changed = mesh_listening.changed(), if mesh_listens => {
                    mesh_listens = changed.is_ok();
                    self.published_at = None;
                    self.changed();
                }
                _ = dial.tick() => self.dial(),
                _ = look.tick() => self.on_look_tick(),
                event = self.swarm.select_next_some(), if self.pending.len() < PENDING_EVENTS_MAX => {
                    self.on_swarm_event(event);
                }
            }
        }
        self.save_book();
    }

    /// Something changed among peers or addresses: act on it soon, once.
    pub(super) fn changed(&mut self) {
        self.settle.get_or_insert(Instant::now() + SETTLE_TIME);
    }

    fn dial(&mut self) {
        let now = Instant::now();
        for opts in self.dialer.due(now, |_| false) {
            let connection = opts.connection_id();
            if let Err(fault) = self.swarm.dial(opts) {
                self.dialer.failed(connection, &fault, now);
            }
        }
    }

    fn on_command(&mut self, command: PublicCommand) {
        match command {
            PublicCommand::Request { peer, request, reply } => self.request(peer, request, reply),
            PublicCommand::Gossip(transactions) => {
                for _ in 0..self.batcher.push(transactions) {
                    self.parts.metrics.gossip("overflow");
                }
            }
            PublicCommand::Announce(bytes) => self.announce(&bytes),
            PublicCommand::Report { ticket, verdict } => self.report(&ticket, verdict),
            PublicCommand::SetValidators { addresses } => {
                self.records.set_members(addresses);
                self.changed();
            }
            PublicCommand::PublishNodeRecord => {
                self.record_due = true;
                self.publish_due_record();
            }
            PublicCommand::Penalise { peer, why } => self.charge(peer.0, &why),
            PublicCommand::NetInfo { mesh, reply } => {
                // The asker may have left.
                let _ = reply.send(self.describe(mesh.unwrap_or_default()));
            }
            PublicCommand::Shutdown => {}
        }
    }

    fn request(
        &mut self,
        peer: Peer,
        request: SyncRequest,
        reply: oneshot::Sender<Result<SyncResponse, RequestFault>>,
    ) {
        let bytes = sync::encode_request(request);
        let checked = match self.swarm.is_connected(&peer.0) {
            true => self.exchange.check(bytes.len()),
            false => Err(RequestFault::NotConnected),
        };
        match checked {
            Ok(()) => {
                let id = self.swarm.behaviour_mut().sync.send_request(&peer.0, bytes);
                self.exchange.asked(id, (request, reply));
            }
            Err(fault) => {
                // The asker may have left.
                let _ = reply.send(Err(fault));
            }
        }
    }

    fn gossip_batches(&mut self) {
        let now = Instant::now();
        while let Some(batch) = self.batcher.next(now) {
            let topic = self.topics.transactions.hash();
            match self.swarm.behaviour_mut().gossip.publish(topic, batch.clone()) {
                Ok(_) => self.parts.metrics.gossip("batch_sent"),
                Err(PublishError::Duplicate) => self.parts.metrics.gossip("duplicate"),
                Err(PublishError::NoPeersSubscribedToTopic | PublishError::AllQueuesFull(_)) => {
                    self.batcher.put_back(&batch, now);
                    break;
                }
                Err(fault) => {
                    self.parts.metrics.gossip("refused");
                    tracing::warn!(%fault, "a batch of transactions could not be gossiped");
                }
            }
        }
    }

    fn announce(&mut self, bytes: &Bytes) {
        if bytes.len() > ANNOUNCEMENT_BYTES_MAX {
            tracing::error!(bytes = bytes.len(), "an announcement is too long to be gossiped");
            return;
        }
        let topic = self.topics.announcements.hash();
        match self.swarm.behaviour_mut().gossip.publish(topic, bytes.to_vec()) {
            Ok(_) => self.parts.metrics.gossip("announcement_sent"),
            // Another node announced the block first, or nobody listens yet.
            Err(fault) => tracing::debug!(%fault, "announcement not sent"),
        }
    }

    fn report(&mut self, ticket: &GossipTicket, verdict: Verdict) {
        let (acceptance, outcome) = match verdict {
            Verdict::Accept => (MessageAcceptance::Accept, "accepted"),
            Verdict::Ignore => (MessageAcceptance::Ignore, "ignored"),
            Verdict::Reject => (MessageAcceptance::Reject, "rejected"),
        };
        self.parts.metrics.gossip(outcome);
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        gossip.report_message_validation_result(&ticket.message, &ticket.source, acceptance);
    }

    /// Counts a fault of a peer; the last of a few bans it.
    pub(super) fn charge(&mut self, peer: PeerId, why: &str) {
        tracing::debug!(%peer, why, "a peer's fault");
        if self.swarm.behaviour_mut().gate.charge(peer, Instant::now()) {
            tracing::info!(%peer, why, "a peer is banned for a while");
            self.book_dirty = true;
            // It may have left already.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
    }

    fn describe(&self, mesh: NetInfo) -> NetInfo {
        let ready = self.peers.iter().filter(|(_, state)| state.ready);
        let peers = ready.map(|(peer, state)| PublicPeerInfo {
            peer: Peer(*peer),
            endpoint: state.endpoint.to_string(),
            inbound: state.inbound,
            agent: state.agent.clone(),
        });
        NetInfo {
            public_peer: self.swarm.local_peer_id().to_string(),
            public_listen: self.swarm.listeners().map(ToString::to_string).collect(),
            peers: peers.collect(),
            banned: self.swarm.behaviour().gate.bans(Instant::now()).len(),
            records: self.records.len(),
            ..mesh
        }
    }

    fn on_swarm_event(&mut self, event: SwarmEvent<PublicBehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(PublicBehaviourEvent::Gossip(event)) => self.on_gossip_event(event),
            SwarmEvent::Behaviour(PublicBehaviourEvent::Kad(event)) => self.on_kad_event(event),
            SwarmEvent::Behaviour(PublicBehaviourEvent::Sync(event)) => self.on_sync_event(event),
            SwarmEvent::Behaviour(PublicBehaviourEvent::Identify(
                identify::Event::Received { peer_id, info, .. }
                | identify::Event::Pushed { peer_id, info, .. },
            )) => self.on_identified(peer_id, info),
            SwarmEvent::Behaviour(PublicBehaviourEvent::Ping(event)) if event.result.is_err() => {
                self.swarm.close_connection(event.connection);
            }
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.dialer.connected(connection_id, peer_id);
                let inbound = endpoint.is_listener();
                let remote = endpoint.get_remote_address().clone();
                self.peers.entry(peer_id).or_insert_with(|| PeerState::new(remote, inbound, Instant::now()));
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, .. } => {
                self.dialer.closed(connection_id, None, Instant::now());
                if num_established == 0 {
                    self.on_gone(peer_id);
                }
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                tracing::trace!(%error, "public dial failed");
                self.dialer.failed(connection_id, &error, Instant::now());
            }
            SwarmEvent::NewListenAddr { address, .. } => self.on_listening(address),
            SwarmEvent::ListenerClosed { reason, .. } => {
                tracing::error!(?reason, "the public network listens no more on an address");
            }
            _ => {}
        }
    }

    fn on_listening(&mut self, address: Multiaddr) {
        if self.parts.external.is_empty() {
            self.swarm.add_external_address(address.clone());
        }
        self.published_at = None;
        self.changed();
        let address = format!("{address}/p2p/{}", self.swarm.local_peer_id());
        self.pending.push_back(Event::Listening { swarm: SwarmName::Public, address });
    }

    fn on_gone(&mut self, peer: PeerId) {
        if self.peers.remove(&peer).is_some_and(|state| state.ready) {
            self.pending.push_back(Event::PublicDisconnected { peer: Peer(peer) });
            self.parts.metrics.public_peers(self.ready_peers());
        }
    }

    pub(super) fn ready_peers(&self) -> usize {
        self.peers.values().filter(|state| state.ready).count()
    }

    fn on_identified(&mut self, peer: PeerId, info: identify::Info) {
        if info.protocol_version != identity_version(self.parts.chain) {
            tracing::debug!(%peer, version = %info.protocol_version, "a peer of another chain");
            self.charge(peer, "it follows another chain");
            // It may have left already.
            let _ = self.swarm.disconnect_peer_id(peer);
            return;
        }
        let Some(state) = self.peers.get_mut(&peer) else { return };
        state.agent = info.agent_version.chars().filter(|c| !c.is_control()).take(AGENT_CHARS_MAX).collect();
        if !state.ready {
            state.ready = true;
            self.pending.push_back(Event::PublicConnected { peer: Peer(peer) });
            self.parts.metrics.public_peers(self.ready_peers());
            self.changed();
        }
        self.route(peer, info.listen_addrs);
    }

    fn on_gossip_event(&mut self, event: gossipsub::Event) {
        let gossipsub::Event::Message { propagation_source, message_id, message } = event else { return };
        let ticket = GossipTicket { message: message_id, source: propagation_source };
        let now = Instant::now();
        let in_rate = self.peers.get_mut(&propagation_source).is_some_and(|peer| peer.gossip.try_take(now));
        if !in_rate {
            return self.report(&ticket, Verdict::Ignore);
        }
        let from = Peer(propagation_source);
        let data = Bytes::from(message.data);
        let event = if message.topic == self.topics.transactions.hash() {
            batch::decode(data).map(|batch| Event::Transactions { from, batch, ticket: ticket.clone() })
        } else {
            (data.len() <= ANNOUNCEMENT_BYTES_MAX).then(|| Event::Announcement {
                from,
                bytes: data,
                ticket: ticket.clone(),
            })
        };
        match event {
            None => self.report(&ticket, Verdict::Reject),
            Some(event) => {
                if self.parts.events.try_send(event).is_err() {
                    self.parts.metrics.event_dropped();
                    self.report(&ticket, Verdict::Ignore);
                }
            }
        }
    }

    fn on_sync_event(&mut self, event: request_response::Event<Bytes, Bytes>) {
        match event {
            request_response::Event::Message { peer, message, .. } => match message {
                Message::Request { request, channel, .. } => {
                    let Some(request) = sync::decode_request(request) else {
                        return self.charge(peer, "a sync request that cannot be decoded");
                    };
                    let now = Instant::now();
                    let in_rate = self.peers.get_mut(&peer).is_some_and(|peer| peer.sync.try_take(now));
                    if !in_rate || !self.exchange.has_room() {
                        return;
                    }
                    let (reply, answer) = oneshot::channel();
                    let event = Event::SyncRequest { from: Peer(peer), request, reply };
                    match self.parts.events.try_send(event) {
                        Ok(()) => self
                            .exchange
                            .answer(channel, async move { answer.await.ok().map(sync::encode_response) }),
                        Err(_) => self.parts.metrics.event_dropped(),
                    }
                }
                Message::Response { request_id, response } => {
                    let Some((request, reply)) = self.exchange.take(request_id) else { return };
                    let decoded = sync::decode_response(request, response);
                    if decoded.is_none() {
                        self.charge(peer, "a sync response that cannot be decoded");
                    }
                    // The asker may have left.
                    let _ = reply.send(decoded.ok_or(RequestFault::Malformed));
                }
            },
            request_response::Event::OutboundFailure { request_id, error, .. } => {
                if let Some((_, reply)) = self.exchange.take(request_id) {
                    // The asker may have left.
                    let _ = reply.send(Err(exchange::fault(&error)));
                }
            }
            request_response::Event::InboundFailure { .. } | request_response::Event::ResponseSent { .. } => {
            }
        }
    }

    /// Whether an address a peer names may be dialled: of a transport in use, and global unless the peer
    /// itself is reached over a private network.
    pub(super) fn may_dial(&self, address: &Multiaddr, reached_over: &Multiaddr) -> bool {
        let quic = address.iter().any(|part| matches!(part, libp2p::multiaddr::Protocol::QuicV1));
        let private_peer = address::ip(reached_over).is_some_and(|ip: IpAddr| !address::is_global(ip));
        address::is_dialable(address)
            && (self.parts.quic || !quic)
            && (private_peer || address::is_global_address(address))
    }
}
