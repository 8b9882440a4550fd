//! Whole clusters of real Cairn software in virtual time: one thread, one seed.
//!
//! Each node is the real replica, journal, pool and state, driven as `cairn-node` drives them; what is simulated is
//! the network, the clock, the disk and, unless asked otherwise, the signatures. Everything follows from a
//! [`Manifest`] and its seed: the same seed gives the same events, and [`Outcome::hash`] names them.
//!
//! `docs/SIMULATOR.md` tells how to use it.

mod byzantine;
pub mod campaign;
pub mod cli;
mod cluster;
mod compact;
mod disk;
mod driver;
mod epoch;
mod events;
mod executor;
mod faults;
mod fetch;
mod governance;
mod invariants;
mod keys;
mod ledger;
mod load;
mod manifest;
mod matrix;
mod network;
mod node;
mod packet;
mod plan;
mod record;
mod report;
mod run;
mod trace;
mod transcript;
mod units;
mod world;

pub use byzantine::RoleKind;
pub use cli::SimArgs;
pub use faults::describe;
pub use invariants::{Invariant, Violation};
pub use manifest::{
    Assertions, Byzantine, Certificates, Cpu, Epochs, Execution, Load, Manifest, ManifestFault, NODES_MAX,
    Net, PERTURBATIONS_MAX, ParamsPlan, Perturb, PerturbKind, PlannedChange, Proposals, Signatures, Unsynced,
    Which,
};
pub use report::finality_plot;
pub use run::{Outcome, run};
pub use transcript::Transcript;
pub use units::{Bandwidth, Between, Micros};
