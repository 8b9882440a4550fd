//! The one table of configuration keys. `config.toml`'s template, `cairn config show`, the check for
//! unknown keys and the table in `docs/OPERATIONS.md` all follow it.

use std::fmt::Write as _;

use super::layers::default_toml;

/// One configuration key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    /// Dotted name: `section.key`.
    pub(crate) name: &'static str,
    /// What it means, for people.
    pub(crate) doc: &'static str,
}

/// Every key, by section.
pub(crate) const KEYS: [Key; 21] = [
    Key { name: "rpc.listen", doc: "JSON-RPC, WebSocket, health and web page" },
    Key { name: "rpc.grpc_listen", doc: "gRPC; \"\" = off" },
    Key { name: "rpc.metrics_listen", doc: "Prometheus metrics; \"\" = off" },
    Key { name: "p2p.public_listen", doc: "public swarm, TCP; UDP as well when quic = true" },
    Key { name: "p2p.mesh_listen", doc: "validators' mesh, TCP" },
    Key {
        name: "p2p.public_external",
        doc: "multiaddresses to announce for the public swarm; default: the listen address",
    },
    Key {
        name: "p2p.mesh_external",
        doc: "multiaddresses to announce for the mesh; default: the listen address",
    },
    Key { name: "p2p.bootstrap", doc: "public multiaddresses to join by, with or without /p2p/<peer id>" },
    Key { name: "p2p.mesh_peers", doc: "static mesh multiaddresses; not needed when the DHT works" },
    Key { name: "p2p.quic", doc: "whether the public swarm also speaks QUIC" },
    Key { name: "keys.validator", doc: "keystore of the validator key; \"\" or a missing file = follower" },
    Key {
        name: "keys.validator_next",
        doc: "keystore of the key to go on with once an epoch names it (key rotation); it need not exist",
    },
    Key {
        name: "keys.passphrase_file",
        doc: "file with the keystores' passphrase; \"\" = ask on the terminal",
    },
    Key { name: "state.cache_mib", doc: "RocksDB block cache, MiB" },
    Key {
        name: "state.role",
        doc: "what is kept: archive = everything, prover = no old transactions, validator = no old records either",
    },
    Key {
        name: "state.keep_blocks",
        doc: "newest blocks kept whole by a prover or validator, at least 1024",
    },
    Key {
        name: "snapshots.every_blocks",
        doc: "blocks from one snapshot of the running node to the next, at least 10; 0 = none",
    },
    Key { name: "snapshots.keep", doc: "newest snapshots kept, 1 to 16" },
    Key {
        name: "snapshots.join_blocks",
        doc: "a new prover or validator so far behind begins with a peer's snapshot; 0 = never",
    },
    Key { name: "log.level", doc: "off, error, warn, info, debug, trace, or \"info,cairn_p2p=debug\"" },
    Key { name: "log.format", doc: "\"pretty\" or \"json\"" },
];

/// A complete `config.toml`: every key at its default, with a comment for each.
pub(crate) fn template() -> String {
    let mut text = String::from(
        "# Cairn node configuration. Relative paths are relative to this directory.\n\
         # Every key can be overridden: CAIRN_RPC__LISTEN=... beats this file, a flag beats both.\n",
    );
    let mut section = "";
    for key in KEYS {
        let (group, name) = key.name.split_once('.').unwrap_or(("", key.name));
        if group != section {
            let _ = write!(text, "\n[{group}]\n");
            section = group;
        }
        let _ = writeln!(text, "# {}\n{name} = {}", key.doc, default_toml(key.name));
    }
    text
}
