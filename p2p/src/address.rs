//! Multiaddresses: which ones we dial, and which networks they belong to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use crate::fault::P2pFault;

/// Longest address text taken from a peer, bytes: a DNS name of 253 with its protocols.
pub(crate) const ADDRESS_BYTES_MAX: usize = 320;

/// Splits a trailing `/p2p/<peer id>` off.
pub(crate) fn split_peer(mut address: Multiaddr) -> (Multiaddr, Option<PeerId>) {
    match address.pop() {
        Some(Protocol::P2p(peer)) => (address, Some(peer)),
        Some(other) => {
            address.push(other);
            (address, None)
        }
        None => (address, None),
    }
}

/// Reads a configured address.
pub(crate) fn parse(field: &'static str, text: &str) -> Result<Multiaddr, P2pFault> {
    let fault = |why: String| P2pFault::Address { field, address: text.to_owned(), why };
    let address: Multiaddr = text.parse().map_err(|why: libp2p::multiaddr::Error| fault(why.to_string()))?;
    match is_dialable(&address) {
        true => Ok(address),
        false => Err(fault("it names no host with a TCP or QUIC port".to_owned())),
    }
}

/// Whether this is `/<ip or dns>/.../tcp/<port>` or `/<ip or dns>/.../udp/<port>/quic-v1`, with or without
/// a peer id: the only kinds our transports dial.
pub(crate) fn is_dialable(address: &Multiaddr) -> bool {
    let mut parts = address.iter();
    let host = matches!(
        parts.next(),
        Some(Protocol::Ip4(_) | Protocol::Ip6(_) | Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_))
    );
    let port = match parts.next() {
        Some(Protocol::Tcp(_)) => true,
        Some(Protocol::Udp(_)) => matches!(parts.next(), Some(Protocol::QuicV1)),
        _ => false,
    };
    host && port && matches!((parts.next(), parts.next()), (None | Some(Protocol::P2p(_)), None))
}

/// The IP address an address names, if it names one.
pub(crate) fn ip(address: &Multiaddr) -> Option<IpAddr> {
    address.iter().find_map(|part| match part {
        Protocol::Ip4(ip) => Some(IpAddr::V4(ip)),
        Protocol::Ip6(ip) => Some(ip.to_canonical()),
        _ => None,
    })
}

/// Whether limits per IP address apply: not on loopback, private, link-local or shared address space.
pub(crate) fn is_global(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [first, second, ..] = ip.octets();
            let shared = first == 100 && (64..128).contains(&second);
            !(ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified() || shared)
        }
        IpAddr::V6(ip) => {
            !(ip.is_loopback() || ip.is_unspecified() || ip.is_unique_local() || ip.is_unicast_link_local())
        }
    }
}

/// Whether a dialled name lies in the public internet; a DNS name counts as such.
pub(crate) fn is_global_address(address: &Multiaddr) -> bool {
    ip(address).is_none_or(is_global)
}

/// The network an IP address belongs to: its /24, or its /48.
pub(crate) fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            IpAddr::V4(Ipv4Addr::new(a, b, c, 0))
        }
        IpAddr::V6(ip) => {
            let [a, b, c, ..] = ip.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tcp_and_quic_addresses_are_dialable() {
        for good in
            ["/ip4/1.2.3.4/tcp/1", "/dns4/a.example/tcp/7000", "/ip6/::1/udp/9/quic-v1", "/dns/x/tcp/1"]
        {
            assert!(is_dialable(&good.parse().unwrap()), "{good}");
        }
        for bad in ["/ip4/1.2.3.4", "/memory/1", "/ip4/1.2.3.4/udp/1", "/ip4/1.2.3.4/tcp/1/ws", "/unix/a"] {
            assert!(!is_dialable(&bad.parse().unwrap()), "{bad}");
        }
    }

    #[test]
    fn private_space_is_not_global() {
        for private in
            ["127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.1.1", "100.64.0.1", "::1", "fd00::1", "fe80::1"]
        {
            assert!(!is_global(private.parse().unwrap()), "{private}");
        }
        for public in ["8.8.8.8", "100.128.0.1", "2001:4860::1"] {
            assert!(is_global(public.parse().unwrap()), "{public}");
        }
        assert!(!is_global("::ffff:10.0.0.1".parse().unwrap()));
    }
}
