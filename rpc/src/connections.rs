//! Who may connect: so many connections in all, and so many of one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::RpcConfig;
use crate::metrics::RpcMetrics;

/// The open connections of one port.
#[derive(Debug)]
pub(crate) struct Connections {
    port: &'static str,
    max: usize,
    per_ip_max: usize,
    per_loopback_ip_max: usize,
    metrics: RpcMetrics,
    /// Connections by address; an address without any has no entry, so `max` bounds the map.
    open: Mutex<HashMap<IpAddr, usize>>,
}

impl Connections {
    pub(crate) fn new(port: &'static str, config: &RpcConfig, metrics: RpcMetrics) -> Arc<Self> {
        Arc::new(Self {
            port,
            max: config.connections_max,
            per_ip_max: config.connections_per_ip_max,
            per_loopback_ip_max: config.connections_per_loopback_ip_max,
            metrics,
            open: Mutex::new(HashMap::new()),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a connection until the guard is dropped; `None` when a limit is reached.
    pub(crate) fn admit(self: &Arc<Self>, ip: IpAddr) -> Option<ConnectionGuard> {
        let per_ip = if ip.is_loopback() { self.per_loopback_ip_max } else { self.per_ip_max };
        let mut open = self.lock();
        let total: usize = open.values().sum();
        let of_ip = open.get(&ip).copied().unwrap_or(0);
        if total >= self.max || of_ip >= per_ip {
            drop(open);
            self.metrics.connection_refused(self.port);
            return None;
        }
        open.insert(ip, of_ip + 1);
        drop(open);
        self.metrics.connection_opened(self.port);
        Some(ConnectionGuard { connections: self.clone(), ip })
    }
}

/// One counted connection.
#[derive(Debug)]
pub(crate) struct ConnectionGuard {
    connections: Arc<Connections>,
    ip: IpAddr,
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let mut open = self.connections.lock();
        if let Some(count) = open.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.ip);
            }
        }
        drop(open);
        self.connections.metrics.connection_closed(self.connections.port);
    }
}

/// Who sent a request. Clones keep the connection counted, for instance while it is a WebSocket.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) ip: IpAddr,
    pub(crate) _connection: Arc<ConnectionGuard>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_in_all_and_per_address_and_places_come_back() {
        let config = RpcConfig {
            connections_max: 3,
            connections_per_ip_max: 2,
            connections_per_loopback_ip_max: 3,
            ..RpcConfig::default()
        };
        let connections = Connections::new("http", &config, RpcMetrics::default());
        let (a, b): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let first = connections.admit(a).expect("room");
        let _second = connections.admit(a).expect("room");
        assert!(connections.admit(a).is_none(), "per address");
        let _third = connections.admit(b).expect("room");
        assert!(connections.admit(b).is_none(), "in all");
        drop(first);
        assert!(connections.admit(b).is_some());
        assert_eq!(connections.lock().len(), 2);
    }
}
