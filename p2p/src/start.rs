//! From the configuration to two running tasks.

use std::sync::Arc;
use std::time::Duration;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, watch};

use crate::address;
use crate::command::{COMMANDS_MAX, Handle};
use crate::config::P2pConfig;
use crate::event::{Event, HotEvent};
use crate::fault::P2pFault;
use crate::identity::{Clock, LinkIdentity};
use crate::link::auth::LinkContext;
use crate::links::Links;
use crate::mesh::{Mesh, MeshParts};
use crate::metrics::Metrics;
use crate::node_key;
use crate::public::book::Book;
use crate::public::task::{Public, PublicParts};

/// Hot events the node has not taken. Their bytes are bounded per validator as well.
const HOT_EVENTS_MAX: usize = 1_024;
/// Other events the node has not taken: 16 MiB of full transaction batches.
const EVENTS_MAX: usize = 256;
/// A record lives 12 h; it has to be published anew before.
const RECORD_INTERVAL_MAX: Duration = Duration::from_secs(6 * 3_600);

/// The running networks.
#[derive(Debug)]
pub struct P2p {
    /// Gives commands.
    pub handle: Handle,
    /// What consensus waits for. To be drained without delay.
    pub hot: mpsc::Receiver<HotEvent>,
    /// Everything else.
    pub events: mpsc::Receiver<Event>,
}

fn parse_all(field: &'static str, texts: &[String], quic: bool) -> Result<Vec<Multiaddr>, P2pFault> {
    texts.iter().map(|text| parse(field, text, quic)).collect()
}

fn parse(field: &'static str, text: &str, quic: bool) -> Result<Multiaddr, P2pFault> {
    let address = address::parse(field, text)?;
    let is_quic = address.iter().any(|part| matches!(part, Protocol::QuicV1));
    match is_quic && !quic {
        true => Err(P2pFault::Address {
            field,
            address: text.to_owned(),
            why: "QUIC is not enabled for this network".to_owned(),
        }),
        false => Ok(address),
    }
}

fn check(config: &P2pConfig) -> Result<(), P2pFault> {
    let fault = |field, why: &str| Err(P2pFault::Config { field, why: why.to_owned() });
    if !(4..=1_000).contains(&config.public_peers_max) {
        return fault("public_peers_max", "expected 4 to 1,000");
    }
    let intervals = [
        ("record_interval", config.record_interval, RECORD_INTERVAL_MAX),
        ("lookup_interval", config.lookup_interval, Duration::from_secs(600)),
        ("gossip_interval", config.gossip_interval, Duration::from_secs(1)),
        ("request_timeout", config.request_timeout, Duration::from_secs(60)),
    ];
    for (field, value, longest) in intervals {
        if value.is_zero() || value > longest {
            return Err(P2pFault::Config {
                field,
                why: format!("{value:?}; expected more than 0 and at most {longest:?}"),
            });
        }
    }
    Ok(())
}

/// The listen address, and with QUIC the UDP port of the same number.
fn listen_addresses(config: &P2pConfig) -> Result<Vec<Multiaddr>, P2pFault> {
    let tcp = parse("public_listen", &config.public_listen, false)?;
    let mut addresses = vec![tcp.clone()];
    if config.quic {
        let parts = tcp.iter().flat_map(|part| match part {
            Protocol::Tcp(port) => vec![Protocol::Udp(port), Protocol::QuicV1],
            other => vec![other],
        });
        addresses.push(parts.collect());
    }
    Ok(addresses)
}

struct Channels {
    hot: mpsc::Sender<HotEvent>,
    events: mpsc::Sender<Event>,
    mesh_listening: watch::Sender<Vec<Multiaddr>>,
}

fn make_mesh(
    config: &P2pConfig,
    identity: &Arc<dyn LinkIdentity>,
    links: &Links,
    metrics: &Metrics,
    channels: Channels,
) -> Result<Option<(Mesh, mpsc::Sender<crate::command::MeshCommand>, libp2p::PeerId)>, P2pFault> {
    let Some(listen) = &config.mesh_listen else { return Ok(None) };
    if identity.address().is_none() {
        let why = "a node without a validator key takes no part in the mesh; leave it out".to_owned();
        return Err(P2pFault::Config { field: "mesh_listen", why });
    }
    let key = node_key::load_or_make(&config.mesh_key)?;
    let local = key.public().to_peer_id();
    let (sender, commands) = mpsc::channel(COMMANDS_MAX);
    let mesh = Mesh::new(MeshParts {
        key,
        context: Arc::new(LinkContext::new(config.chain, local, Arc::clone(identity), config.epoch)),
        listen: parse("mesh_listen", listen, false)?,
        peers: parse_all("mesh_peers", &config.mesh_peers, false)?,
        validators: config.validators.clone(),
        request_timeout: config.request_timeout,
        links: links.clone(),
        metrics: metrics.clone(),
        commands,
        hot: channels.hot,
        events: channels.events,
        listening: channels.mesh_listening,
    })?;
    Ok(Some((mesh, sender, local)))
}

impl P2p {
    /// Starts both networks on the current tokio runtime, one task each.
    ///
    /// # Errors
    /// When the configuration, a key file or the address book is unusable, or an address cannot be bound.
    pub fn start(
        config: P2pConfig,
        identity: Arc<dyn LinkIdentity>,
        clock: Clock,
        registry: &mut Registry,
    ) -> Result<Self, P2pFault> {
        check(&config)?;
        let metrics = Metrics::registered(registry);
        let links = Links::new(metrics.clone());
        let (hot_sender, hot) = mpsc::channel(HOT_EVENTS_MAX);
        let (events_sender, events) = mpsc::channel(EVENTS_MAX);
        let (listening_sender, mesh_listening) = watch::channel(Vec::new());
        let channels = Channels {
            hot: hot_sender.clone(),
            events: events_sender.clone(),
            mesh_listening: listening_sender,
        };
        let mesh = make_mesh(&config, &identity, &links, &metrics, channels)?;
        let (mesh_sender, mesh_peer) = match &mesh {
            Some((_, sender, peer)) => (Some(sender.clone()), Some(*peer)),
            None => (None, None),
        };
        let book = match &config.address_book {
            None => Book::default(),
            Some(path) => {
                Book::load(path).map_err(|source| P2pFault::AddressBook { path: path.clone(), source })?
            }
        };
        let (public_sender, commands) = mpsc::channel(COMMANDS_MAX);
        let public = Public::new(PublicParts {
            key: node_key::load_or_make(&config.public_key)?,
            chain: config.chain,
            listen: listen_addresses(&config)?,
            peers: parse_all("public_peers", &config.public_peers, config.quic)?,
            external: parse_all("public_external", &config.public_external, config.quic)?,
            mesh_external: parse_all("mesh_external", &config.mesh_external, false)?,
            mesh_peer,
            validators: config.validators,
            quic: config.quic,
            peers_max: config.public_peers_max,
            record_interval: config.record_interval,
            lookup_interval: config.lookup_interval,
            gossip_interval: config.gossip_interval,
            request_timeout: config.request_timeout,
            book_path: config.address_book,
            book,
            identity,
            clock,
            links: links.clone(),
            metrics,
            commands,
            mesh: mesh_sender.clone(),
            mesh_listening,
            events: events_sender,
            hot: hot_sender,
        })?;
        if let Some((mesh, ..)) = mesh {
            tokio::spawn(mesh.run());
        }
        tokio::spawn(public.run());
        Ok(Self { handle: Handle { links, mesh: mesh_sender, public: public_sender }, hot, events })
    }
}
