//! The links between the nodes of a network, in this process: every connection from one node to another passes
//! through a forwarder that can delay it, narrow it, hold it still or cut it. No privileges are needed; what TCP
//! does on a lossy path (resending, shrinking windows) is not imitated.
//!
//! A network made with [`crate::create::Options::links`] announces the forwarders' addresses instead of its
//! nodes' own, so its nodes find each other only while a [`Links`] of it lives.

mod pump;
mod source;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::fault::Fault;
use crate::layout::{Layout, Manifest, NodePaths};
use crate::network::LocalNetwork;

/// What a link does with bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Flow {
    /// They pass.
    #[default]
    Open,
    /// They wait, as on a path that drops every packet; TCP keeps the connection.
    Stalled,
    /// The connection is closed, and a new one is closed at once.
    Cut,
}

/// One direction of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Link {
    /// Added to the way of every byte.
    pub delay: Duration,
    /// Up to this much more, drawn for each piece. Bytes are never reordered.
    pub jitter: Duration,
    /// What it does with them.
    pub flow: Flow,
}

/// The state of every link, shared by its forwarders.
#[derive(Debug)]
struct Weather {
    nodes: usize,
    /// Of `from * nodes + to`.
    links: Mutex<Vec<Link>>,
    /// Told whenever a link changes.
    changed: watch::Sender<()>,
    /// Bytes delivered, in the order of `links`.
    delivered: Vec<AtomicU64>,
    /// Bytes per second that each node can send, and receive; `None` is unlimited.
    bytes_per_second: Option<u64>,
    /// When each node's sending side is free again, then each node's receiving side.
    free_at: Mutex<Vec<Instant>>,
}

/// From one node to another.
#[derive(Clone, Copy, Debug)]
struct Way {
    from: usize,
    to: usize,
}

impl Weather {
    fn place(&self, way: Way) -> usize {
        way.from * self.nodes + way.to
    }

    fn link(&self, way: Way) -> Link {
        self.links.lock()[self.place(way)]
    }

    /// When `bytes` that leave now arrive. Narrow links serialise: what leaves later arrives later.
    fn arrival(&self, way: Way, bytes: usize) -> Instant {
        let link = self.link(way);
        let mut at = Instant::now();
        if let Some(rate) = self.bytes_per_second {
            let takes = Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
            let mut free_at = self.free_at.lock();
            for side in [way.from, self.nodes + way.to] {
                at = at.max(free_at[side]) + takes;
                free_at[side] = at;
            }
        }
        at + link.delay + link.jitter.mul_f64(rand::random::<f64>())
    }

    /// Waits until the link lets bytes through. `false` once it is cut.
    async fn open(&self, way: Way) -> bool {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            match self.link(way).flow {
                Flow::Open => return true,
                Flow::Cut => return false,
                Flow::Stalled => {}
            }
            if changed.changed().await.is_err() {
                return false;
            }
        }
    }

    /// Waits until the link is cut.
    async fn cut(&self, way: Way) {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            if self.link(way).flow == Flow::Cut || changed.changed().await.is_err() {
                return;
            }
        }
    }
}

/// The forwarders of a network. They end when this value is dropped.
#[derive(Debug)]
pub struct Links {
    weather: Arc<Weather>,
    _forwarders: JoinSet<()>,
}

impl Links {
    /// Starts two forwarders for each node, one to its mesh and one to its public port.
    ///
    /// # Errors
    /// When the network was not made for them, or a port is taken.
    pub async fn start(network: &LocalNetwork, bytes_per_second: Option<u64>) -> Result<Self, Fault> {
        let (layout, manifest) = (network.layout(), network.manifest());
        if !manifest.links {
            return Err(Fault::invalid("the network", "it was made without links between its nodes"));
        }
        let nodes = usize::from(manifest.nodes());
        let weather = Arc::new(Weather {
            nodes,
            links: Mutex::new(vec![Link::default(); nodes * nodes]),
            changed: watch::Sender::new(()),
            delivered: (0..nodes * nodes).map(|_| AtomicU64::new(0)).collect(),
            bytes_per_second,
            free_at: Mutex::new(vec![Instant::now(); 2 * nodes]),
        });
        let mut forwarders = JoinSet::new();
        for (to, node) in network.nodes().enumerate() {
            let ports = manifest.ports(node)?;
            for (port, target) in [(ports.mesh_link, ports.mesh), (ports.public_link, ports.public)] {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
                let listener = listener
                    .map_err(|_| Fault::PortInUse { port, use_of: format!("link to node {node}") })?;
                let forwarder = Forwarder {
                    weather: Arc::clone(&weather),
                    homes: homes(layout, manifest),
                    to,
                    port,
                    target: SocketAddr::from((Ipv4Addr::LOCALHOST, target)),
                };
                forwarders.spawn(forwarder.run(listener));
            }
        }
        Ok(Self { weather, _forwarders: forwarders })
    }

    /// Changes what is between two nodes, one way.
    pub fn change(&self, from: u16, to: u16, change: impl FnOnce(&mut Link)) {
        let place = self.weather.place(Way { from: from.into(), to: to.into() });
        if let Some(link) = self.weather.links.lock().get_mut(place) {
            change(link);
        }
        // Nobody listens while nothing is connected.
        let _ = self.weather.changed.send(());
    }

    /// Bytes that have arrived at `to` from `from`.
    pub fn delivered(&self, from: u16, to: u16) -> u64 {
        let place = self.weather.place(Way { from: from.into(), to: to.into() });
        self.weather.delivered.get(place).map_or(0, |bytes| bytes.load(Ordering::Relaxed))
    }
}

fn homes(layout: &Layout, manifest: &Manifest) -> Vec<NodePaths> {
    (0..manifest.nodes()).map(|node| layout.node(node)).collect()
}

/// Takes connections to one port of one node.
struct Forwarder {
    weather: Arc<Weather>,
    /// Of every node: who connects is told by its process.
    homes: Vec<NodePaths>,
    to: usize,
    port: u16,
    target: SocketAddr,
}

impl Forwarder {
    async fn run(self, listener: TcpListener) {
        let this = Arc::new(self);
        let mut connections = JoinSet::new();
        loop {
            let accepted = listener.accept().await;
            while connections.try_join_next().is_some() {}
            match accepted {
                Ok((near, peer)) => {
                    let this = Arc::clone(&this);
                    connections.spawn(async move { this.forward(near, peer).await });
                }
                // Out of file handles, most likely: connections that end free some.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Carries one connection until either side, or the link, ends it. What fails closes both sides, which is
    /// all their owners would see of a real path.
    async fn forward(&self, near: TcpStream, peer: SocketAddr) {
        let (homes, port) = (self.homes.clone(), self.port);
        let from = tokio::task::spawn_blocking(move || source::node_of(&homes, peer.port(), port)).await;
        let Ok(Some(from)) = from else { return };
        let (there, back) = (Way { from, to: self.to }, Way { from: self.to, to: from });
        if !self.weather.open(there).await || !self.weather.open(back).await {
            return;
        }
        let Ok(far) = TcpStream::connect(self.target).await else { return };
        // Small messages matter here as much as in the nodes; a socket that refuses is closed soon anyway.
        let _ = (near.set_nodelay(true), far.set_nodelay(true));
        let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
        tokio::select! {
            () = self.weather.cut(there) => {}
            () = self.weather.cut(back) => {}
            () = async {
                tokio::join!(
                    pump::pump(&self.weather, there, near_in, far_out),
                    pump::pump(&self.weather, back, far_in, near_out),
                );
            } => {}
        }
    }
}

#[cfg(test)]
#[path = "links_tests.rs"]
mod tests;
