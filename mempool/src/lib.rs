//! The pool of pending transactions: a bounded, deduplicated, expiring data structure. No clock, no I/O,
//! no randomness; the caller gives the time.
//!
//! Admission is no rule of validity. The pool only decides what this node keeps: every transaction while
//! there is room, and equal shares for senders when there is none. The newest transactions of the biggest
//! sender give way to a smaller sender, so one flood never keeps the others out.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

mod pool;
mod shares;

pub use pool::{Admitted, Limits, Pool, Refusal, Stats};

/// Validators up to which a client's transaction is sent to each of them directly: one copy each, one hop, so that it is
/// everywhere when a leader names it (docs/decisions/007). In larger sets that would cost its first node too much, a third
/// of a megabyte for 64, and gossip spreads the cost.
pub const DIRECT_VALIDATORS_MAX: usize = 64;

/// Waiting transactions that are judged again when blocks become final, at most. It ends at the first that is valid, so
/// that usually it is one; more than these are left to the next block's leader.
pub const JUDGED_MAX: usize = 256;
