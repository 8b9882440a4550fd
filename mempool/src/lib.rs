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
