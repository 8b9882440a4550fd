//! Networks of real `cairn` processes on one machine: made, started, killed, restarted and watched; the
//! demonstration of one batch from submission to offline proof; and the load generator.

pub mod anchoring;
pub mod api;
pub mod cli;
mod clock;
pub mod create;
pub mod demo;
pub mod experiment;
pub mod fault;
pub mod invariants;
pub mod layout;
pub mod links;
pub mod load;
pub mod network;
pub mod ports;
pub mod process;
pub mod rehearsal;

pub use api::{CallFault, NodeApi};
pub use cli::TestnetArgs;
pub use create::Options;
pub use fault::Fault;
pub use load::LoadArgs;
pub use network::{LocalNetwork, NodeState};
pub use rehearsal::Rehearsal;
