//! Which web pages may talk to the node. A page in a browser on the operator's machine could otherwise
//! reach a node on loopback: through its own scripts (checked by `Origin`), or by making its own name
//! point at 127.0.0.1 (checked by `Host`).

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderValue, Method, header, request};

use crate::config::RpcConfig;

/// The policy for browsers.
#[derive(Clone, Debug)]
pub(crate) struct BrowserPolicy {
    listen: SocketAddr,
    hosts: Vec<String>,
    origins: Vec<String>,
}

impl BrowserPolicy {
    pub(crate) fn new(config: &RpcConfig, listen: SocketAddr) -> Self {
        Self { listen, hosts: config.allowed_hosts.clone(), origins: config.allowed_origins.clone() }
    }

    /// Checks `Host` while the node listens on loopback.
    ///
    /// # Errors
    /// The sentence to answer with.
    pub(crate) fn check_host(&self, headers: &HeaderMap) -> Result<(), String> {
        let Some(host) = headers.get(header::HOST) else { return Ok(()) };
        let name = host.to_str().map(host_name).unwrap_or_default();
        if !self.listen.ip().is_loopback() || self.serves(name) {
            return Ok(());
        }
        let shown: String = name.chars().take(100).collect();
        Err(format!(
            "this node listens on loopback and does not serve the host name `{shown}`; \
             call it as 127.0.0.1 or localhost, or add the name to rpc.allowed_hosts\n"
        ))
    }

    fn serves(&self, name: &str) -> bool {
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        name.eq_ignore_ascii_case("localhost")
            || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback() || ip == self.listen.ip())
            || self.hosts.iter().any(|host| host.eq_ignore_ascii_case(name))
    }

    /// Checks `Origin` of a request that may change something or open a WebSocket: absent, the node's own
    /// page, or listed.
    ///
    /// # Errors
    /// The sentence to answer with.
    pub(crate) fn check_origin(&self, headers: &HeaderMap) -> Result<(), String> {
        let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
        let origin = origin.to_str().unwrap_or_default();
        let own = headers.get(header::HOST).and_then(|host| host.to_str().ok()).is_some_and(|host| {
            origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host))
        });
        if own || self.lists(origin) {
            return Ok(());
        }
        let shown: String = origin.chars().take(100).collect();
        Err(format!("pages of `{shown}` may not call this node; add the origin to rpc.allowed_origins\n"))
    }

    fn lists(&self, origin: &str) -> bool {
        self.origins.iter().any(|known| known.trim_end_matches('/').eq_ignore_ascii_case(origin))
    }

    /// Whether the CORS headers allow a page: any page may GET, listed ones may POST.
    pub(crate) fn allows_cors(&self, origin: &HeaderValue, parts: &request::Parts) -> bool {
        let asked = parts.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD);
        let method = asked.and_then(|method| method.to_str().ok()).unwrap_or(parts.method.as_str());
        let reads = method == Method::GET.as_str() || method == Method::HEAD.as_str();
        reads || origin.to_str().is_ok_and(|origin| self.lists(origin))
    }
}

/// The name in a `Host` header, without the port.
fn host_name(host: &str) -> &str {
    match host.rfind(':') {
        Some(colon) if !host.ends_with(']') => host.get(..colon).unwrap_or(host),
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(listen: &str) -> BrowserPolicy {
        let config = RpcConfig {
            allowed_hosts: vec!["node.example".into()],
            allowed_origins: vec!["https://app.example".into()],
            ..RpcConfig::default()
        };
        BrowserPolicy::new(&config, listen.parse().expect("an address"))
    }

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().expect("a value"))).collect()
    }

    #[test]
    fn on_loopback_only_loopback_names_and_listed_ones_are_served() {
        let policy = policy("127.0.0.1:26657");
        for good in ["127.0.0.1:26657", "localhost", "LOCALHOST:1", "[::1]:26657", "node.example:26657"] {
            assert!(policy.check_host(&headers(&[(header::HOST, good)])).is_ok(), "{good}");
        }
        for bad in ["evil.example", "evil.example:26657", "127.0.0.1.evil.example", "10.0.0.1"] {
            assert!(policy.check_host(&headers(&[(header::HOST, bad)])).is_err(), "{bad}");
        }
    }

    #[test]
    fn on_other_addresses_every_host_name_is_served() {
        assert!(policy("10.0.0.1:26657").check_host(&headers(&[(header::HOST, "x.example")])).is_ok());
    }

    #[test]
    fn origins_are_own_listed_or_refused() {
        let policy = policy("127.0.0.1:26657");
        let with = |origin| headers(&[(header::HOST, "127.0.0.1:26657"), (header::ORIGIN, origin)]);
        assert!(policy.check_origin(&with("http://127.0.0.1:26657")).is_ok());
        assert!(policy.check_origin(&with("https://app.example")).is_ok());
        assert!(policy.check_origin(&with("https://evil.example")).is_err());
        assert!(policy.check_origin(&with("null")).is_err());
        assert!(policy.check_origin(&headers(&[])).is_ok());
    }
}
