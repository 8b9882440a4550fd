//! Catching up: what a node that lacks blocks asks, of whom, and what it makes of the answers.
//!
//! [`CatchUp`] is a state machine without clock, network, disk or cryptography: inputs in, outputs out,
//! time as a parameter. The node drives it with real peers, the simulator with virtual ones. [`Join`] is its sister for nodes
//! without blocks that may begin with a peer's snapshot; it lets this one wait meanwhile ([`Input::Hold`]).
//!
//! # Rules
//!
//! * **S1** Only a verified commit certificate makes a block final here. A range of blocks is taken when its
//!   blocks are linked by hash, start where was asked, and end in one whose certificate verifies
//!   ([`check_range`]); what lies above the last certificate is dropped. So each range is judged on its own,
//!   and several are fetched at once, from different peers.
//! * **S2** What peers *say* about heights is a hint: a claim only lets its own peer be asked. A claim that is
//!   not kept, or that falls, is forgotten and costs the peer a pause.
//! * **S3** A provable lie (blocks that are not what was asked, broken links, a certificate that does not
//!   verify, undecodable bytes) costs the peer every further question for [`EXCLUDED`], over reconnects too,
//!   and is reported for punishment. Silence, refusals and empty answers cost pauses that double.
//! * **S4** The range that everything waits for, the one above the committed block, is never left to one slow
//!   peer: after [`HEDGE_AFTER`] it is asked of another, and again of another, best first.
//! * **S5** Progress needs one honest peer: pauses end, every peer that is not proven a liar is asked again,
//!   and a range that one peer failed goes to others.
//! * **S6** Memory is bounded: [`RANGES_MAX`] ranges asked for, held or being applied at once, each of at most
//!   [`RANGE_BLOCKS_MAX`] blocks and one answer's bytes, and one more for the range that everything waits for.
//! * **S7** A range whose epoch's validators are not known yet is nobody's fault: nothing above it is asked for
//!   until the blocks below it are applied ([`Judge::EpochUnknown`]). The block just above the committed one is asked
//!   for whatever anybody says of its epoch.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

mod fetches;
mod input;
mod join;
mod machine;
mod output;
mod peers;
mod range;
mod window;

pub use fetches::{FETCH_HEDGE, FETCH_ROUNDS, FETCHES_MAX};
pub use input::{Answer, Claim, Failure, Input, Position};
pub use join::{
    ASK_AGAIN, ATTEMPTS_MAX, CHUNKS_AHEAD, CHUNKS_PER_PEER_MAX, JOIN_HEDGE, Join, JoinAnswer, JoinInput,
    JoinOutput, JoinQuestion, LISTEN, LISTEN_ALONE, OFFERS_MAX, Offer, PACE, SNAPSHOT_CHUNKS_MAX, STALLED,
    Verdict, chunk_hash, snapshot_id,
};
pub use machine::{BEHIND_BLOCKS, BUSY_TICK, CLAIM_REST, CatchUp, POLL_EVERY, REQUEST_TIME_MAX};
pub use output::{Output, Question, RequestId};
pub use peers::{EXCLUDED, PEERS_MAX, PER_PEER_MAX};
pub use range::{Covering, Entry, Judge, Proof, Range, RangeFault, Rest, check_range};
pub use window::{HEDGE_AFTER, RANGE_BLOCKS, RANGE_BLOCKS_MAX, RANGES_MAX};
