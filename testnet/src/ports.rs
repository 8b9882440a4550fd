//! Which ports a node of a local network uses, and whether they are free.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use crate::fault::Fault;

/// Base port of a network unless told otherwise.
pub const BASE_PORT: u16 = 27_000;
/// Ports from one node to the next.
const STRIDE: u16 = 10;
/// Where the search for free ports starts and ends: below the range Linux gives out by itself, so that
/// no outgoing connection takes a port between the check and its use.
const SEARCH: std::ops::Range<u16> = 20_000..32_000;

/// The ports of one node, all on 127.0.0.1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ports {
    /// The validators' mesh.
    pub mesh: u16,
    /// The public swarm.
    pub public: u16,
    /// JSON-RPC, WebSocket, health and the web page.
    pub rpc: u16,
    /// gRPC.
    pub grpc: u16,
    /// Prometheus metrics.
    pub metrics: u16,
    /// Where [`crate::links`] forwards to `mesh`, in networks that have them.
    pub mesh_link: u16,
    /// Where they forward to `public`.
    pub public_link: u16,
}

impl Ports {
    /// The ports of node `node`.
    ///
    /// # Errors
    /// When they would pass 65535.
    pub fn of(base_port: u16, node: u16) -> Result<Self, Fault> {
        let first = u32::from(base_port) + u32::from(STRIDE) * u32::from(node);
        let at = |offset: u32| {
            u16::try_from(first + offset).map_err(|_| Fault::PortTooHigh {
                base_port,
                node,
                port: first + offset,
            })
        };
        Ok(Self {
            mesh: at(0)?,
            public: at(1)?,
            rpc: at(2)?,
            grpc: at(3)?,
            metrics: at(4)?,
            mesh_link: at(5)?,
            public_link: at(6)?,
        })
    }

    /// Each port a node listens on, with what it is for.
    pub const fn named(&self) -> [(u16, &'static str); 5] {
        [
            (self.mesh, "mesh"),
            (self.public, "peers"),
            (self.rpc, "JSON-RPC"),
            (self.grpc, "gRPC"),
            (self.metrics, "metrics"),
        ]
    }

    /// Checks that nothing listens on any of them.
    ///
    /// # Errors
    /// Names the first port that is taken.
    pub fn check_free(&self, node: u16) -> Result<(), Fault> {
        match self.named().into_iter().find(|(port, _)| !is_free(*port)) {
            Some((port, name)) => Err(Fault::PortInUse { port, use_of: format!("{name} of node {node}") }),
            None => Ok(()),
        }
    }

    /// As [`Ports::check_free`], but waits a moment first: the kernel closes the sockets of a killed process
    /// with many threads a little after the process is gone.
    ///
    /// # Errors
    /// Names the first port that stays taken.
    pub fn wait_free(&self, node: u16) -> Result<(), Fault> {
        let until = Instant::now() + CLOSING_PATIENCE;
        loop {
            match self.check_free(node) {
                Err(_) if Instant::now() < until => std::thread::sleep(CLOSING_POLL),
                outcome => return outcome,
            }
        }
    }
}

/// How long the sockets of a killed process may take to close.
const CLOSING_PATIENCE: Duration = Duration::from_secs(2);
/// Pause between two looks.
const CLOSING_POLL: Duration = Duration::from_millis(10);

fn is_free(port: u16) -> bool {
    TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).is_ok()
}

/// A base port from which `nodes` nodes find all their ports free. `seed` spreads networks that start
/// at the same time.
///
/// # Errors
/// When there is none.
pub fn find_base(nodes: u16, seed: u64) -> Result<u16, Fault> {
    let span = u64::from(nodes.max(1)) * u64::from(STRIDE);
    let width = u64::from(SEARCH.end - SEARCH.start);
    let places = (width / span).max(1);
    let free = (0..places).map(|step| (seed.wrapping_add(step)) % places * span).find_map(|offset| {
        let base = u16::try_from(u64::from(SEARCH.start) + offset).ok()?;
        let all = (0..nodes).all(|node| Ports::of(base, node).is_ok_and(|p| p.check_free(node).is_ok()));
        all.then_some(base)
    });
    free.ok_or(Fault::NoFreePorts { nodes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_do_not_share_ports() {
        let (a, b) = (Ports::of(27_000, 0).unwrap(), Ports::of(27_000, 1).unwrap());
        assert_eq!(a.named().map(|(port, _)| port), [27_000, 27_001, 27_002, 27_003, 27_004]);
        assert_eq!(b.mesh, 27_010);
    }

    #[test]
    fn a_port_beyond_the_highest_is_named() {
        let fault = Ports::of(65_500, 4).unwrap_err();
        assert!(fault.to_string().contains("65540"), "{fault}");
    }

    #[test]
    fn a_taken_port_is_named_with_its_use() {
        let base = find_base(1, std::process::id().into()).unwrap();
        let ports = Ports::of(base, 0).unwrap();
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, ports.rpc)).unwrap();
        let fault = ports.check_free(0).unwrap_err().to_string();
        assert!(fault.contains(&ports.rpc.to_string()) && fault.contains("JSON-RPC of node 0"), "{fault}");
    }
}
