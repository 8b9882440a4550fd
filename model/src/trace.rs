//! Counterexamples as people read them. Validators are counted from 1; a block is named by its view and a letter;
//! views and blocks of the second epoch bear a prime.

use std::fmt;

use crate::moves::{Action, Cert, Move, Property};
use crate::rules::{Fault, Rules};
use crate::search::Counterexample;
use crate::state::{Block, Phase, Record, State};

impl Counterexample {
    /// One line per move.
    pub fn lines(&self, rules: &Rules) -> Vec<String> {
        let mut before = State::initial();
        let mut lines = Vec::new();
        for (number, (step, after)) in self.moves.iter().enumerate() {
            let told = Scene { rules, step, before: &before, after }.describe();
            let lost = if step.lost { " (and crashes before anything is sent)" } else { "" };
            lines.push(format!("{:>2}. validator {} {told}{lost}", number + 1, step.who + 1));
            before = *after;
        }
        lines
    }
}

/// One move between two states.
struct Scene<'a> {
    rules: &'a Rules,
    step: &'a Move,
    before: &'a State,
    after: &'a State,
}

impl Scene<'_> {
    fn describe(&self) -> String {
        let record = self.after.memory(self.step.who);
        match self.step.action {
            Action::Learn(cert) => self.learn(cert),
            Action::LearnTimeouts { view, high } => format!(
                "enters view {} by TC({}), whose highest certificate is of {}{}",
                self.view(view + 1),
                self.view(view),
                self.block(high.block),
                self.commit_vote(high.block)
            ),
            Action::Vote { block, justify } => self.vote(block, justify),
            Action::TimeOut => format!(
                "times out in view {}, naming a certificate of view {}",
                self.view(record.timed_out),
                self.view(self.rules.timeout_names(record))
            ),
            Action::Wander => format!("goes to view {} because its timer fired", self.view(record.view)),
            Action::EnterEpoch(root) => {
                format!("enters the second epoch, which follows {}", self.block(root))
            }
            Action::Crash => self.crash(record),
        }
    }

    fn learn(&self, cert: Cert) -> String {
        let voters: Vec<String> =
            self.before.voters(Phase::Vote, cert.block).map(|who| (who + 1).to_string()).collect();
        let claimed = if cert.view == cert.block.view() {
            String::new()
        } else {
            format!(" as one of view {}", self.view(cert.view))
        };
        format!(
            "learns the certificate of {} (votes of {} and the Byzantine one){claimed}{}",
            self.block(cert.block),
            voters.join(", "),
            self.commit_vote(cert.block)
        )
    }

    fn commit_vote(&self, block: Block) -> String {
        if block == Block::ROOT {
            return String::new();
        }
        let votes = |state: &State| state.voted_slots(self.step.who, Phase::Commit, block.view());
        if votes(self.before) == votes(self.after) {
            return String::new();
        }
        let needed = self.rules.quorum(Fault::CommitQuorum2f);
        let count = self.after.votes(Phase::Commit, block);
        let last = if count >= needed { ": it is final" } else { "" };
        format!(" and commit-votes for it{last}")
    }

    fn vote(&self, block: Block, justify: Cert) -> String {
        let ends = if self.after.ends_epoch(block) { ", which ends the epoch" } else { "" };
        format!(
            "votes for {} on {}, by a certificate of view {}{ends}",
            self.block(block),
            self.block(justify.block),
            self.view(justify.view)
        )
    }

    fn crash(&self, now: Record) -> String {
        let was = self.before.memory(self.step.who);
        let field = |name: &str, was: u8, now: u8| {
            (was != now).then(|| format!("{name} {} -> {}", self.view(was), self.view(now)))
        };
        let fields = [
            field("view", was.view, now.view),
            field("high_qc", was.high, now.high),
            field("last voted", was.voted, now.voted),
            field("last timed out", was.timed_out, now.timed_out),
            field("last commit-voted", was.committed, now.committed),
        ];
        let changes: Vec<String> = fields.into_iter().flatten().collect();
        format!("crashes and starts from its disk: {}", changes.join(", "))
    }

    fn view(&self, view: u8) -> String {
        match self.rules.mark {
            Some(mark) if view >= mark => format!("{}'", view - mark),
            _ => view.to_string(),
        }
    }

    /// The root of the second epoch is the block that ended the first.
    fn block(&self, block: Block) -> String {
        if block == Block::ROOT {
            return "the root".to_owned();
        }
        if Some(block.view()) == self.rules.mark {
            return self.after.parent(block).map_or_else(String::new, |end| self.block(end));
        }
        format!("{}{}", self.view(block.view()), char::from(b'a' + block.slot()))
    }
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fork => "two conflicting final blocks",
            Self::DoubleSign => "two different signatures in one view",
            Self::LockBack => "high_qc moved back",
            Self::Uncertified => "a final block without a certificate",
        })
    }
}
