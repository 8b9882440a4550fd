//! Node configuration: raw layers (default < `config.toml` < environment < flag) made into one validated
//! [`Config`]. Network parameters are not here: they are in the genesis file.

mod keys;
mod layers;
mod suggest;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use cairn_state::{KEEP_BLOCKS_MIN, Role};
use serde::Serialize;
use thiserror::Error;

pub(crate) use keys::{KEYS, template};
pub(crate) use layers::Override;
pub(crate) use suggest::did_you_mean;

use layers::Raw;

/// Smallest block cache: with less, RocksDB reads its index blocks from files all the time.
const CACHE_MIB_MIN: u64 = 4;
/// Largest block cache: a larger number is a typing error on the machines this runs on.
const CACHE_MIB_MAX: u64 = 1 << 20;
/// Addresses in one list of the `[p2p]` section; a node record carries 8, a bootstrap list needs no more than this.
const ADDRESSES_MAX: usize = 64;
/// External addresses of one swarm: what a node record can hold.
const EXTERNAL_MAX: usize = cairn_types::node_record::NODE_ADDRESSES_MAX;

/// Fewest blocks from one snapshot to the next: below it a loaded node would do little else.
const EVERY_BLOCKS_MIN: u64 = 10;
/// Most snapshots kept; each is offered to whoever asks, and takes its room on the disk.
const KEEP_SNAPSHOTS_MAX: usize = 16;

/// Why a configuration is refused.
#[derive(Debug, Error)]
pub(crate) enum ConfigFault {
    #[error("cannot read {}: {error}; run `cairn init` first, or name another home with --home", path.display())]
    Unreadable { path: PathBuf, error: std::io::Error },
    #[error("{} is no valid TOML: {error}", path.display())]
    Syntax { path: PathBuf, error: String },
    #[error("unknown key `{key}` in {origin}{hint}")]
    UnknownKey { key: String, origin: String, hint: String },
    #[error("{0}")]
    Type(String),
    #[error("`{key}` = {got} (from {origin}): expected {expected}")]
    Value { key: &'static str, got: String, expected: String, origin: String },
    #[error("`{first}` and `{second}` are both {address}; each listener needs an address of its own")]
    SameAddress { first: &'static str, second: &'static str, address: SocketAddr },
}

/// A validated node configuration. Paths are absolute or relative to the working directory, never to the home.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Interfaces for clients.
    pub(crate) rpc: RpcConfig,
    /// The two swarms.
    pub(crate) p2p: P2pConfig,
    /// Where the keys are.
    pub(crate) keys: KeysConfig,
    /// Storage.
    pub(crate) state: StateConfig,
    /// Snapshots of the running node.
    pub(crate) snapshots: SnapshotsConfig,
    /// Logs.
    pub(crate) log: LogConfig,
}

/// `[rpc]`.
#[derive(Clone, Debug)]
pub(crate) struct RpcConfig {
    /// JSON-RPC, WebSocket, health, web page.
    pub(crate) listen: SocketAddr,
    /// gRPC; `None` = off.
    pub(crate) grpc_listen: Option<SocketAddr>,
    /// Prometheus; `None` = off.
    pub(crate) metrics_listen: Option<SocketAddr>,
}

/// `[p2p]`. Multiaddresses are kept as text: only the p2p crate knows their type.
#[derive(Clone, Debug)]
pub(crate) struct P2pConfig {
    /// TCP address of the public swarm; UDP as well when `quic`.
    pub(crate) public_listen: SocketAddr,
    /// TCP address of the validators' mesh.
    pub(crate) mesh_listen: SocketAddr,
    /// Multiaddresses to announce for the public swarm; the listen address when none is configured.
    pub(crate) public_external: Vec<String>,
    /// Multiaddresses to announce for the mesh; the listen address when none is configured.
    pub(crate) mesh_external: Vec<String>,
    /// Public multiaddresses to join by.
    pub(crate) bootstrap: Vec<String>,
    /// Static mesh multiaddresses.
    pub(crate) mesh_peers: Vec<String>,
    /// Whether the public swarm also speaks QUIC.
    pub(crate) quic: bool,
}

/// `[keys]`.
#[derive(Clone, Debug)]
pub(crate) struct KeysConfig {
    /// The validator's keystore; `None` when switched off. A file that does not exist also means follower.
    pub(crate) validator: Option<PathBuf>,
    /// The keystore of the key that is to take its place when an epoch asks for it; it need not exist.
    pub(crate) validator_next: Option<PathBuf>,
    /// The file with the keystore's passphrase.
    pub(crate) passphrase_file: Option<PathBuf>,
}

/// `[state]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StateConfig {
    /// RocksDB's block cache, MiB.
    pub(crate) cache_mib: u64,
    /// What the node keeps of the past.
    pub(crate) role: Role,
    /// Newest blocks that are kept whole whatever the role.
    pub(crate) keep_blocks: u64,
}

/// `[snapshots]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SnapshotsConfig {
    /// Blocks from one to the next; `None` = none are made.
    pub(crate) every_blocks: Option<u64>,
    /// Newest ones that are kept.
    pub(crate) keep: usize,
    /// Blocks behind beyond which a node without any begins with a peer's snapshot; `None` = never.
    pub(crate) join_blocks: Option<u64>,
}

impl SnapshotsConfig {
    /// Blocks from one to the next on a node that keeps this many: the blocks above its newest snapshot are always
    /// there, or nobody could go on from it.
    pub(crate) fn interval(&self, state: &StateConfig) -> Option<u64> {
        let every = self.every_blocks?;
        Some(if state.role == Role::Archive { every } else { every.min(state.keep_blocks / 2) })
    }
}

impl Config {
    /// Blocks behind beyond which this node begins with a peer's snapshot, if it may: an archive is to have every
    /// block.
    pub(crate) fn join_blocks(&self) -> Option<u64> {
        self.snapshots.join_blocks.filter(|_| self.state.role != Role::Archive)
    }
}

/// `[log]`.
#[derive(Clone, Debug)]
pub(crate) struct LogConfig {
    /// A level or a filter of `target=level` directives.
    pub(crate) level: String,
    /// How lines look.
    pub(crate) format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LogFormat {
    /// For people.
    Pretty,
    /// One JSON object per line.
    Json,
}

/// One key's value and the layer it came from.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Setting {
    /// Dotted key, for instance `rpc.listen`.
    pub(crate) key: &'static str,
    /// The value in force.
    pub(crate) value: serde_json::Value,
    /// `default`, the path of the file, the variable's name or the flag.
    pub(crate) origin: String,
}

/// A configuration together with where it came from and what is doubtful about it.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The validated configuration.
    pub(crate) config: Config,
    /// Every key in the order of [`KEYS`].
    pub(crate) settings: Vec<Setting>,
    /// What is allowed but probably not meant, one sentence each.
    pub(crate) warnings: Vec<String>,
}

impl Config {
    /// Reads `home/config.toml`, lays the environment and `flags` over it, and validates the result.
    ///
    /// # Errors
    /// When the file is missing or malformed, a key is unknown, or a value or a relation between values is refused.
    pub(crate) fn load(home: &Path, flags: &[Override]) -> Result<Loaded, ConfigFault> {
        Self::load_with(home, std::env::vars(), flags)
    }

    /// [`Config::load`] with the environment given.
    pub(crate) fn load_with(
        home: &Path,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: &[Override],
    ) -> Result<Loaded, ConfigFault> {
        let path = home.join("config.toml");
        let text = std::fs::read_to_string(&path)
            .map_err(|error| ConfigFault::Unreadable { path: path.clone(), error })?;
        let merged = layers::merge(&path, &text, environment, flags)?;
        let origins = merged.settings.iter().map(|setting| (setting.key, setting.origin.clone())).collect();
        let config = Validator { home, origins }.validate(&merged.raw)?;
        let warnings = config.warnings();
        Ok(Loaded { config, settings: merged.settings, warnings })
    }

    /// What is allowed but probably not meant.
    fn warnings(&self) -> Vec<String> {
        let mut found = Vec::new();
        if !self.rpc.listen.ip().is_loopback() {
            found.push(format!(
                "rpc.listen = {} can be reached from other machines; JSON-RPC has no accounts, so put a proxy or a firewall before it",
                self.rpc.listen
            ));
        }
        let swarms = [
            ("p2p.public_listen", "p2p.public_external", self.p2p.public_listen, &self.p2p.public_external),
            ("p2p.mesh_listen", "p2p.mesh_external", self.p2p.mesh_listen, &self.p2p.mesh_external),
        ];
        for (listen, external, address, announced) in swarms {
            if address.ip().is_unspecified() && announced.is_empty() {
                found.push(format!(
                    "{listen} = {address} is every interface, which cannot be announced; set {external} to the address others reach this node at"
                ));
            }
        }
        found
    }
}

/// Turns raw values into validated ones, and knows where each came from for its error messages.
struct Validator<'a> {
    home: &'a Path,
    origins: BTreeMap<&'static str, String>,
}

impl Validator<'_> {
    fn validate(&self, raw: &Raw) -> Result<Config, ConfigFault> {
        let rpc = RpcConfig {
            listen: self.address("rpc.listen", &raw.rpc.listen)?,
            grpc_listen: self.address_or_off("rpc.grpc_listen", &raw.rpc.grpc_listen)?,
            metrics_listen: self.address_or_off("rpc.metrics_listen", &raw.rpc.metrics_listen)?,
        };
        let p2p = P2pConfig {
            public_listen: self.address("p2p.public_listen", &raw.p2p.public_listen)?,
            mesh_listen: self.address("p2p.mesh_listen", &raw.p2p.mesh_listen)?,
            public_external: self.multiaddrs(
                "p2p.public_external",
                &raw.p2p.public_external,
                EXTERNAL_MAX,
            )?,
            mesh_external: self.multiaddrs("p2p.mesh_external", &raw.p2p.mesh_external, EXTERNAL_MAX)?,
            bootstrap: self.multiaddrs("p2p.bootstrap", &raw.p2p.bootstrap, ADDRESSES_MAX)?,
            mesh_peers: self.multiaddrs("p2p.mesh_peers", &raw.p2p.mesh_peers, ADDRESSES_MAX)?,
            quic: raw.p2p.quic,
        };
        check_distinct(&rpc, &p2p)?;
        self.check_transports(&p2p)?;
        let cache_mib = raw.state.cache_mib;
        if !(CACHE_MIB_MIN..=CACHE_MIB_MAX).contains(&cache_mib) {
            let expected = format!("{CACHE_MIB_MIN} to {CACHE_MIB_MAX} MiB");
            return Err(self.refuse("state.cache_mib", &cache_mib.to_string(), expected));
        }
        let role = raw.state.role.parse::<Role>();
        let role = role.map_err(|_| {
            self.refuse("state.role", &raw.state.role, "archive, prover or validator".to_owned())
        })?;
        let keep_blocks = raw.state.keep_blocks;
        if keep_blocks < KEEP_BLOCKS_MIN {
            let expected = format!("at least {KEEP_BLOCKS_MIN} blocks");
            return Err(self.refuse("state.keep_blocks", &keep_blocks.to_string(), expected));
        }
        Ok(Config {
            rpc,
            p2p,
            keys: KeysConfig {
                validator: self.path(&raw.keys.validator),
                validator_next: self.path(&raw.keys.validator_next),
                passphrase_file: self.path(&raw.keys.passphrase_file),
            },
            state: StateConfig { cache_mib, role, keep_blocks },
            snapshots: self.snapshots(raw)?,
            log: LogConfig {
                level: self.level(&raw.log.level)?,
                format: match raw.log.format.as_str() {
                    "pretty" => LogFormat::Pretty,
                    "json" => LogFormat::Json,
                    other => {
                        return Err(self.refuse("log.format", other, "\"pretty\" or \"json\"".to_owned()));
                    }
                },
            },
        })
    }

    fn snapshots(&self, raw: &Raw) -> Result<SnapshotsConfig, ConfigFault> {
        let every = raw.snapshots.every_blocks;
        if (1..EVERY_BLOCKS_MIN).contains(&every) {
            let expected = format!("at least {EVERY_BLOCKS_MIN} blocks, or 0 for no snapshots");
            return Err(self.refuse("snapshots.every_blocks", &every.to_string(), expected));
        }
        let keep = usize::try_from(raw.snapshots.keep).unwrap_or(usize::MAX);
        if !(1..=KEEP_SNAPSHOTS_MAX).contains(&keep) {
            let expected = format!(
                "1 to {KEEP_SNAPSHOTS_MAX} snapshots; to have none made, set snapshots.every_blocks = 0"
            );
            return Err(self.refuse("snapshots.keep", &keep.to_string(), expected));
        }
        let join = raw.snapshots.join_blocks;
        Ok(SnapshotsConfig {
            every_blocks: (every > 0).then_some(every),
            keep,
            join_blocks: (join > 0).then_some(join),
        })
    }

    fn refuse(&self, key: &'static str, got: &str, expected: String) -> ConfigFault {
        let origin = self.origins.get(key).cloned().unwrap_or_else(|| "default".to_owned());
        ConfigFault::Value { key, got: format!("{got:?}"), expected, origin }
    }

    fn address(&self, key: &'static str, text: &str) -> Result<SocketAddr, ConfigFault> {
        text.parse().map_err(|_| {
            self.refuse(
                key,
                text,
                "an address and port such as \"127.0.0.1:26657\" or \"[::1]:26657\"".to_owned(),
            )
        })
    }

    fn address_or_off(&self, key: &'static str, text: &str) -> Result<Option<SocketAddr>, ConfigFault> {
        if text.is_empty() {
            return Ok(None);
        }
        let parsed = text.parse().map(Some);
        parsed.map_err(|_| {
            self.refuse(
                key,
                text,
                "an address and port such as \"127.0.0.1:26658\", or \"\" for off".to_owned(),
            )
        })
    }

    fn multiaddrs(
        &self,
        key: &'static str,
        list: &[String],
        count_max: usize,
    ) -> Result<Vec<String>, ConfigFault> {
        if list.len() > count_max {
            let got = format!("{} addresses", list.len());
            return Err(self.refuse(key, &got, format!("at most {count_max}")));
        }
        for text in list {
            check_multiaddr(text).map_err(|what| {
                let expected = format!(
                    "multiaddresses such as \"/ip4/127.0.0.1/tcp/26656\" or \"/dns/node.example/tcp/26656/p2p/12D3Koo...\"; {what}"
                );
                self.refuse(key, text, expected)
            })?;
        }
        Ok(list.to_vec())
    }

    /// The mesh is TCP only, and QUIC addresses are of no use to a node that does not speak it.
    fn check_transports(&self, p2p: &P2pConfig) -> Result<(), ConfigFault> {
        let lists = [
            ("p2p.public_external", &p2p.public_external, p2p.quic),
            ("p2p.bootstrap", &p2p.bootstrap, p2p.quic),
            ("p2p.mesh_external", &p2p.mesh_external, false),
            ("p2p.mesh_peers", &p2p.mesh_peers, false),
        ];
        for (key, list, udp_allowed) in lists {
            if let Some(text) = list.iter().find(|text| !udp_allowed && text.contains("/udp/")) {
                let why = if key.contains("mesh") {
                    "TCP addresses: the mesh does not speak QUIC"
                } else {
                    "TCP addresses, or `p2p.quic = true` beside them"
                };
                return Err(self.refuse(key, text, why.to_owned()));
            }
        }
        Ok(())
    }

    fn level(&self, text: &str) -> Result<String, ConfigFault> {
        let plain = ["off", "error", "warn", "info", "debug", "trace"].contains(&text);
        if plain || (text.contains('=') && text.parse::<tracing_subscriber::filter::Targets>().is_ok()) {
            return Ok(text.to_owned());
        }
        let expected = "off, error, warn, info, debug, trace, or directives such as \"info,cairn_p2p=debug\"";
        Err(self.refuse("log.level", text, expected.to_owned()))
    }

    fn path(&self, text: &str) -> Option<PathBuf> {
        (!text.is_empty()).then(|| self.home.join(text))
    }
}

/// Port 0 (any free port, for tests) clashes with nothing.
fn check_distinct(rpc: &RpcConfig, p2p: &P2pConfig) -> Result<(), ConfigFault> {
    let listeners = [
        ("rpc.listen", Some(rpc.listen)),
        ("rpc.grpc_listen", rpc.grpc_listen),
        ("rpc.metrics_listen", rpc.metrics_listen),
        ("p2p.public_listen", Some(p2p.public_listen)),
        ("p2p.mesh_listen", Some(p2p.mesh_listen)),
    ];
    let mut seen: BTreeMap<SocketAddr, &'static str> = BTreeMap::new();
    for (key, address) in listeners {
        let Some(address) = address.filter(|address| address.port() != 0) else { continue };
        if let Some(first) = seen.insert(address, key) {
            return Err(ConfigFault::SameAddress { first, second: key, address });
        }
    }
    Ok(())
}

/// Whether `text` has the shape of a multiaddress this node can dial: host, port, and optionally
/// `/quic-v1` and `/p2p/<peer id>`. The p2p crate decodes it; this only makes the error early and plain.
fn check_multiaddr(text: &str) -> Result<(), String> {
    let mut parts = text.strip_prefix('/').ok_or("it must begin with /")?.split('/');
    let (kind, host) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let host_fits = match kind {
        "ip4" => host.parse::<std::net::Ipv4Addr>().is_ok(),
        "ip6" => host.parse::<std::net::Ipv6Addr>().is_ok(),
        "dns" | "dns4" | "dns6" => !host.is_empty() && !host.contains(char::is_whitespace),
        other => return Err(format!("`{other}` is none of ip4, ip6, dns, dns4, dns6")),
    };
    if !host_fits {
        return Err(format!("`{host}` is no {kind} host"));
    }
    let (transport, port) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if !matches!(transport, "tcp" | "udp") {
        return Err(format!("`{transport}` is none of tcp, udp"));
    }
    if port.parse::<u16>().is_err() {
        return Err(format!("`{port}` is no port"));
    }
    let mut next = parts.next();
    if transport == "udp" {
        if next != Some("quic-v1") {
            return Err("a udp address must go on with /quic-v1".to_owned());
        }
        next = parts.next();
    }
    match (next, parts.next(), parts.next()) {
        (None, None, None) => Ok(()),
        (Some("p2p"), Some(peer), None) if !peer.is_empty() && peer.chars().all(char::is_alphanumeric) => {
            Ok(())
        }
        _ => Err("after the port only /p2p/<peer id> may follow".to_owned()),
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
