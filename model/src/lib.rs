//! An exhaustive model of Cairn's consensus rules (`docs/PROTOCOL.md`): four validators, one of them Byzantine,
//! with crashes, lost and reordered messages and one epoch boundary. Every state within the bounds is visited,
//! and in none of them
//!
//! - two final blocks conflict,
//! - an honest validator signed two different votes, commit votes or timeouts in one view,
//! - `high_qc` is lower after a crash than before,
//! - a final block, or an ancestor of it, has no certificate.
//!
//! It is written from the rules, not from the crate `consensus`, and shares no code with it: it checks the protocol,
//! the simulator checks that `consensus` follows it. `cargo run --release -p cairn-model` prints what was explored.
//!
//! # What is modelled
//!
//! Rules V, C, H, T, A, F and E, and the durable record `D`, for three honest validators and equal power, in a number
//! of views and with a number of blocks in each. Each honest validator has a record in memory and one on disk.
//!
//! # What is abstracted, and why that loses no attack
//!
//! Everything below gives the adversary more than it has in the protocol, so what holds here holds there.
//!
//! - **Network.** A state holds the set of all messages ever signed, and it only grows. Any validator may take any
//!   certificate that can be formed from any subset of it, at any time, any number of times, or never. This
//!   contains every delay, loss, repetition, reordering and partition; and a message that was signed but
//!   never sent is one that nobody takes. A replica's own tallies are thereby no state.
//! - **The Byzantine validator** has no state: its signature on any message counts in every quorum.
//! - **Leaders.** Whoever leads, every proposal that V accepts may be made, to anyone, and several in one view: as
//!   if every leader were Byzantine. Rotation and `last proposed` therefore play no part.
//! - **Timers** fire at any time; weak power and the work predicate only say when.
//! - **Execution, time, bodies, fetching** decide whether an honest validator votes at all. It may refrain here too.
//! - **Crashes.** A step changes memory, syncs the record, then signs. A crash takes memory back to the disk. Where the
//!   record is synced first, as the protocol has it, that changes nothing, which is the point; the twins that sync
//!   late lose what they signed. A crash after the sync and before the sending leaves a state that differs from an
//!   explored one only in lacking a message that nobody has to take ([`rules::Extent::Everything`] explores it
//!   nevertheless, in smaller bounds).
//! - **Certificates and cryptography.** A certificate exists when its signatures do. The twins `view_not_signed`,
//!   `epoch_unchecked` and `parent_uncertified` show what the checks are for.
//! - **Epochs.** The mark between two epochs stands for view 0 of the second; its certificate is the commit proof of
//!   the first. The three honest validators are the same in both; records start anew, since views compare by epoch.
//!   A change of the set is not modelled. Whoever waits for the commit proof may do so for ever.
//! - **The last view.** Nobody times out in the last view of an epoch: its timeout certificate leads nowhere, so
//!   that would only take away the right to sign.
//! - **Names.** Validators are interchangeable, and so are the blocks of a view; and what cannot matter any more is
//!   forgotten (the module `reduce` says what; `tests/reduction.rs` compares the reachable states with and without).
//!
//! What it does not show: anything beyond its bounds, unequal powers, more than four validators, progress.
//!
//! # Twins
//!
//! [`twins::twins`] are protocols with one guard dropped or one duty neglected, each with the harm it does. The search
//! must find every one and print a shortest way there; a twin that is not found fails the tests, for then the
//! model is blind. [`twins::spares`] are guards that do no harm when dropped alone: others cover for them.

mod moves;
mod reduce;
pub mod rules;
pub mod search;
pub mod state;
mod trace;
pub mod twins;

pub use moves::{Action, Cert, Move, Properties, Property};
