//! Networks of real processes: real binaries, RocksDB, sockets and post-quantum signatures. Each test has a
//! directory and ports of its own, and ends by checking what must never happen (`cairn_testnet::invariants`).

mod agents;
mod audits;
mod bad_inputs;
mod cluster;
mod crashes;
mod damage;
mod epochs;
mod evidence;
mod experiments;
mod followers;
mod homes;
mod identities;
mod joining;
mod power;
mod receipts;
mod refusals;
mod rejoining;
mod snapshots;
mod twice;
mod typed_methods;
