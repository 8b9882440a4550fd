//! Forgetting what cannot matter any more. Two states that differ only in that have the same future, so one
//! of them is enough. Used for the protocol as it is; the twins break what the arguments rest on.
//!
//! - Timeouts of a view once nobody can enter, or vote in, the view after.
//! - Who voted in a view once everyone has left it: what remains is which blocks are certified.
//! - Commit votes for a block that is final, or that cannot become final any more.
//! - Of the record, what the rules cannot tell apart. C is tried on every certificate that raises `high_qc`, and
//!   refuses those at or below it: so `last commit-voted` may be taken to be `high_qc`'s view, and `last timed
//!   out` and `last voted` matter only above that.
//!
//! `tests/reduction.rs` shows that nothing is lost: the states reached with this are exactly those reached
//! without it, reduced.

use crate::rules::{Fault, Rules};
use crate::state::{Block, HONEST, Phase, Record, State};

impl Rules {
    /// The state without what cannot matter any more.
    pub fn reduced(&self, state: &State) -> State {
        let mut state = *state;
        for who in 0..HONEST {
            let record = essence(state.memory(who));
            state.remember(who, record, record);
        }
        let records = [0, 1, 2].map(|who| state.memory(who));
        for view in (1..=self.views).filter(|view| self.is_view(*view)) {
            let past = |record: &Record| {
                record.view > view + 1 || (record.view == view + 1 && !self.may_vote(*record))
            };
            if records.iter().all(past) {
                state.forget_timeouts(view);
            }
            let left = records.iter().all(|record| record.view > view);
            for slot in 0..self.blocks {
                let block = Block::new(view, slot);
                if state.parent(block).is_some() {
                    self.reduce_block(&mut state, &records, block, left);
                }
            }
        }
        state
    }

    fn reduce_block(&self, state: &mut State, records: &[Record; HONEST], block: Block, left: bool) {
        if state.votes(Phase::Vote, block) < self.quorum(Fault::VoteQuorum2f) {
            if left {
                state.forget_block(block);
            }
            return;
        }
        if left {
            state.set_votes(Phase::Vote, block, true);
        }
        let (cast, needed) = (state.votes(Phase::Commit, block), self.quorum(Fault::CommitQuorum2f));
        let may =
            |record: &&Record| record.high < block.view() && self.may_commit_vote(**record, block.view());
        let more = records.iter().filter(may).count() as u8;
        if cast >= needed {
            state.set_votes(Phase::Commit, block, true);
        } else if cast + more < needed {
            state.set_votes(Phase::Commit, block, false);
        }
    }
}

/// One record for all that the rules cannot tell apart.
fn essence(mut record: Record) -> Record {
    record.committed = record.high;
    record.timed_out = record.timed_out.max(record.high);
    let matters_from = if record.view > record.high + 1 { record.high + 1 } else { record.high };
    record.voted = record.voted.max(matters_from);
    record
}
