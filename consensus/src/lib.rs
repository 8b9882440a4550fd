//! Cairn's consensus core.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

mod action;
mod catchup;
mod certify;
mod config;
mod input;
mod judge;
mod pacemaker;
mod propose;
mod recover;
mod reject;
mod replica;
mod resend;
mod safety;
mod sign;
mod step;
mod tally;
mod tree;

pub use action::{Action, CatchUp, Equivocation, Fatal, Formed, Outgoing, SignedHeader, Timer, TimerKind};
pub use config::{CommittedTip, Config, RecoverFault, Recovered, named_certificates};
pub use input::{BlockVerdict, Input};
pub use reject::{Blame, Reject};
pub use replica::Replica;
pub use step::{Durable, SafetyStore, Step};
