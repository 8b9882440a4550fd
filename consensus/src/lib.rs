//! Cairn's consensus core: HotStuff-2 with votes to everyone, explicit commit votes, and timeout certificates
//! that carry the highest certificate. A pure state machine: [`Input`] in, [`Step`] out. No clock, no
//! randomness, no I/O, no signature is made or checked here.
//!
//! This text is the specification; the code cites its letters. `docs/PROTOCOL.md` tells the same to a newcomer.
//!
//! # Words
//!
//! *Quorum*: `3 * power > 2 * total`. *Weak*: `3 * power >= total`, so at least one honest. `leader(view)` is
//! the validator at position `(view - 1) mod n` in address order. View 0 has an implicit certificate, of the
//! epoch's root block. A *QC* is a quorum of votes for one block, a *commit certificate* one of commit votes,
//! a *TC* one of timeouts of one view, with a certificate at least as high as any that they signed.
//!
//! # The record `D`
//!
//! Synced before any signature leaves ([`Step::commit_to`]): the last vote, timeout, commit vote and proposal, each
//! with its view and content, and the views and digests of the highest QC and TC. Their bytes, and the body of
//! every block voted for, are synced no later ([`Durable`]). Nothing in `D` is ever lowered, and no signed view changes
//! its content; the same preimage may be signed again.
//!
//! # Rules
//!
//! - **V** (vote) for a proposal of the current view: proposer = leader(view); parent = justify.block,
//!   parent_view = justify.view < view, height = parent's + 1, same epoch; executed to its roots; its time after
//!   the parent's and, by the driver's clock, neither too early nor too old; `view > last voted`,
//!   `view > last timed out`; and `justify.view == view - 1`, or `tc.view == view - 1` and
//!   `justify.view >= tc.high_qc.view`.
//! - **C** (commit vote) on any verified QC of view `v`, before V in the same turn, body or not:
//!   `v > last commit-voted`, `last timed out < v`, `last voted <= v`.
//! - **H** every verified QC raises `high_qc`, also where C refuses. A commit certificate serves as a QC.
//! - **T** (timeout) for the current view `v > last timed out`; signs `high_qc.view`, carries `high_qc`, and TC(v-1)
//!   when `high_qc.view < v - 1`: proof that its sender entered `v`. Timeouts of weak power: time out too. A
//!   quorum: TC.
//! - **A** (advance) only a verified QC, commit certificate or TC of view `v` moves a replica, to `v + 1`.
//! - **F** (final) a commit certificate commits its block and the uncommitted ancestors, oldest first, walked by
//!   hash, heights contiguous, each exactly once.
//! - **R** (resend) when the view timer fires, every idle interval and on every connect: the stored proposal, vote,
//!   commit vote and timeout (with the `high_qc` of now), and a status; whoever is ahead answers a lower peer,
//!   so many times per period, with its QC, TC and commit certificate.
//!
//! - **E** (epoch) a block `e` with `next_validators != validators` ends its epoch; it holds the transaction that
//!   changed validators, parameters or protocol. Its same-epoch descendants are its *carriers*: no transactions, everything else
//!   of `e` repeated, never part of the chain; they are proposed, voted and commit-voted for like any block. A commit
//!   certificate of `e` or of a carrier commits up to `e` and no further ([`Action::EndEpoch`]); with the headers from `e` to its
//!   block it is the epoch's *commit proof*, and the next epoch's certificate of view 0. The replica is over then, and
//!   the driver makes the next epoch's, with root `e`, once the proof and the blocks up to `e` are synced: so `D` never
//!   names an epoch that a power cut could take back. When `e` was committed through a carrier, the next epoch begins
//!   with a block at once, for no receipt may use a carrier's header.
//!
//! Every message names its epoch; one of another epoch is refused without blame, and nothing of it is counted. What it calls for
//! is [`across`]: the commit proof is asked for, or answered with.
//!
//! # Pressing on
//!
//! *Work* is: a pooled transaction that executes on `high_qc`'s block ([`Input::Work`]); an uncommitted block
//! up to `high_qc`'s that is not empty or not held; in this view a proposal, votes or timeouts of weak power,
//! or a signature of our own. The view timer is armed only while there is work, for
//! `base * 1.5^k`, capped, `k` being the TCs since the last commit or since work became true.
//!
//! The leader builds on `high_qc`, with TC(v-1) when that is not of the view before. It proposes as soon as there is
//! a transaction (but `interval_min` after learning the parent's certificate), an empty block only to finish
//! uncommitted work after `base / 4`, or as a heartbeat after `interval_idle` without a commit.
//!
//! A proposal proves that its view was entered, and so does a timeout: both bring their receiver there, and none
//! has to wait for its view to come. What still names a certificate by reference is for the driver to resolve first.
//!
//! # Missing blocks
//!
//! Certificates move the view without blocks. A body is asked for as soon as a vote of another than the leader, or
//! a certificate, names it. Below a certified block bodies are fetched along parent hashes, at most
//! 32 of them; a longer gap is the driver's range sync ([`Action::CatchUp`], [`Input::Committed`]). Before its
//! certificate a block is taken only with its leader's signature.
//!
//! # Bounds
//!
//! Votes: two blocks per validator, view and phase; votes from the view before to eight ahead, commit votes from
//! eight behind and those of `high_qc`. Timeouts: one per validator, of the current view. Proposals: two, of the current
//! view. Blocks: 128. Blocks asked for: 256. Answers: four per peer and period.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

mod action;
mod catchup;
mod certify;
mod config;
mod epochs;
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

pub use action::{
    Action, CatchUp, EpochEnd, Equivocation, Fatal, Formed, Outgoing, SignedHeader, Timer, TimerKind,
};
pub use config::{CommittedTip, Config, RecoverFault, Recovered, named_certificates};
pub use epochs::{Across, across};
pub use input::{BlockVerdict, Input};
pub use reject::{Blame, Reject};
pub use replica::Replica;
pub use step::{Durable, SafetyStore, Step};
