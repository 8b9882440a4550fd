//! One replica on a bench: inputs go in by hand, and what comes out is written down in words.

use std::convert::Infallible;

use cairn_consensus::{
    Action, BlockVerdict, Config, Durable, Equivocation, Formed, Input, Outgoing, Reject, Replica,
    SafetyStore, Timer, TimerKind,
};
use cairn_types::certificate::{First, Second};
use cairn_types::{
    Block, BlockCert, BlockId, CommitCert, Params, Proposal, Timeout, TimeoutCert, ValidatorIndex, Verified,
    View,
};
use std::sync::Arc;

use crate::cluster::node::Disk;
use crate::cluster::world::World;

pub(crate) struct Bench {
    pub(crate) world: World,
    pub(crate) replica: Replica,
    pub(crate) disk: Disk,
    /// Letters for the blocks, in the order they were named.
    pub(crate) names: Vec<BlockId>,
    /// The latest setting of each kind.
    timers: Vec<Timer>,
    me: Option<ValidatorIndex>,
}

/// One row of a table.
pub(crate) struct Row {
    pub(crate) desc: &'static str,
    pub(crate) input: Input,
    /// The actions in words; `sync` first when something must be written before them.
    pub(crate) expect: &'static [&'static str],
    /// Where the replica stands afterwards.
    pub(crate) state: &'static str,
}

/// A [`Row`] on one line.
pub(crate) fn row(
    desc: &'static str,
    input: Input,
    expect: &'static [&'static str],
    state: &'static str,
) -> Row {
    Row { desc, input, expect, state }
}

impl Bench {
    /// Validator `me` of four, started.
    pub(crate) fn new(me: u16) -> Self {
        let world = World::new(4, Params { interval_idle_ms: 60_000, ..Params::default() });
        let mut bench = Self::recovered(world, Some(ValidatorIndex(me)), Disk::default());
        bench.give(Input::Start).expect("starts");
        bench
    }

    /// Not started yet.
    pub(crate) fn recovered(world: World, me: Option<ValidatorIndex>, disk: Disk) -> Self {
        let config: Config = world.config(me);
        let replica = Replica::new(config, disk.recovered()).expect("a whole record");
        Self { world, replica, disk, names: Vec::new(), timers: Vec::new(), me }
    }

    /// The same validator after a crash.
    pub(crate) fn restart(self) -> Self {
        let mut bench = Self::recovered(self.world, self.me, self.disk);
        bench.names = self.names;
        bench
    }

    pub(crate) fn name(&mut self, block: &Block) {
        self.names.push(block.id());
    }

    fn letter(&self, id: BlockId) -> String {
        let at = self.names.iter().position(|known| *known == id);
        at.map_or_else(|| "?".into(), |at| char::from(b'a' + at as u8).to_string())
    }

    /// Gives one input and says what came out.
    pub(crate) fn give(&mut self, input: Input) -> Result<Vec<String>, Reject> {
        let step = self.replica.step(input)?;
        let mut words: Vec<String> = step.needs_sync().then(|| "sync".to_owned()).into_iter().collect();
        let Ok(actions) = step.commit_to(&mut self.disk);
        for action in actions {
            if let Action::SetTimer { timer, .. } = &action {
                self.timers.retain(|known| known.kind != timer.kind);
                self.timers.push(*timer);
            }
            words.push(self.words(&action));
        }
        Ok(words)
    }

    pub(crate) fn play(&mut self, rows: Vec<Row>) {
        for Row { desc, input, expect, state } in rows {
            let got = self.give(input).unwrap_or_else(|reject| vec![format!("refused: {reject}")]);
            assert_eq!(got, expect, "{desc}");
            assert_eq!(self.state(), state, "{desc}: state");
        }
    }

    /// Asserts that the input is refused, and that this changed nothing.
    pub(crate) fn refuses(&mut self, desc: &str, input: Input) -> Reject {
        let before = format!("{:?}", self.replica);
        let reject = self.replica.step(input).expect_err(desc);
        assert_eq!(before, format!("{:?}", self.replica), "{desc}: a refused input changes nothing");
        reject
    }

    pub(crate) fn state(&self) -> String {
        let status = self.replica.status();
        format!(
            "view {} qc {} tc {} committed {}",
            status.view, status.high_qc, status.high_tc, status.committed
        )
    }

    pub(crate) fn fire(&self, kind: TimerKind) -> Input {
        let timer = self.timers.iter().find(|timer| timer.kind == kind);
        Input::TimerFired(*timer.expect("the timer was set"))
    }

    fn words(&self, action: &Action) -> String {
        match action {
            Action::Broadcast(outgoing) => self.said(outgoing),
            Action::Send(to, outgoing) => format!("to {to}: {}", self.said(outgoing)),
            Action::RequestPayload(slot) => format!("build {} on {}", slot.view, self.letter(slot.parent)),
            Action::CheckBlock { block, lag_exponent } => {
                format!("check {} k{lag_exponent}", self.letter(block.id()))
            }
            Action::FetchBlock { id, from } => {
                let from: Vec<String> = from.iter().map(ToString::to_string).collect();
                format!("fetch {} from {}", self.letter(*id), from.join(","))
            }
            Action::CatchUp(gap) => format!("catch up {}..{}", gap.from, gap.to),
            Action::SetTimer { timer, after } => format!("timer {:?} {}", timer.kind, after.as_millis()),
            Action::Commit(blocks) => {
                let letters: Vec<String> = blocks.iter().map(|b| self.letter(b.block.id())).collect();
                format!("commit {}", letters.join(","))
            }
            Action::Formed(Formed::Quorum(cert)) => format!("formed qc {}", cert.view),
            Action::EndEpoch(end) => {
                let ids = end.blocks.iter().map(|it| self.letter(it.block.id()));
                let carriers = end.proof.headers.len() - 1;
                format!("end epoch {} carriers {carriers}", ids.collect::<String>())
            }
            Action::Formed(Formed::Commit(cert)) => format!("formed cc {}", cert.view),
            Action::Formed(Formed::Timeout(cert)) => {
                format!("formed tc {} qc {}", cert.view, cert.high_qc.view())
            }
            Action::Accuse(equivocation) => {
                let what = match equivocation {
                    Equivocation::Proposals(..) => "proposals",
                    Equivocation::Votes(..) => "votes",
                    Equivocation::CommitVotes(..) => "commit votes",
                    Equivocation::Timeouts { .. } => "timeouts",
                };
                format!("accuse {} of two {what}", equivocation.validator())
            }
            Action::Halt(fatal) => format!("halt: {fatal}").chars().take(40).collect(),
        }
    }

    fn said(&self, outgoing: &Outgoing) -> String {
        match outgoing {
            Outgoing::Proposal { block, justify, tc } => {
                let tc = tc.as_ref().map(|tc| format!(" tc {}", tc.view)).unwrap_or_default();
                format!(
                    "propose {} {} qc {}{tc}",
                    block.header().view,
                    self.letter(block.id()),
                    justify.view()
                )
            }
            Outgoing::Vote { view, block, .. } => format!("vote {view} {}", self.letter(*block)),
            Outgoing::CommitVote { view, block, .. } => format!("commit vote {view} {}", self.letter(*block)),
            Outgoing::Timeout { view, high_qc_view, high_qc, tc, .. } => {
                let tc = tc.as_ref().map(|tc| format!(" tc {}", tc.view)).unwrap_or_default();
                format!("timeout {view} signs {high_qc_view} carries {}{tc}", high_qc.view())
            }
            Outgoing::Certificate(cert) => format!("qc {}", cert.view()),
            Outgoing::TimeoutCert(tc) => format!("tc {}", tc.view),
            Outgoing::CommitCert(cert) => format!("cc {}", cert.view),
            Outgoing::Status(_) => "status".into(),
            Outgoing::EpochProof(proof) => format!("proof of epoch {}", proof.epoch()),
        }
    }

    pub(crate) fn vote(&self, by: u16, block: &Block) -> Input {
        vote(self.world.ballot::<First>(ValidatorIndex(by), block.header().view, block.id()))
    }

    pub(crate) fn commit_vote(&self, by: u16, block: &Block) -> Input {
        commit_vote(self.world.ballot::<Second>(ValidatorIndex(by), block.header().view, block.id()))
    }

    pub(crate) fn timeout(&self, by: u16, view: u64, qc: &BlockCert, tc: Option<Arc<TimeoutCert>>) -> Input {
        timeout(self.world.timeout(ValidatorIndex(by), View::new(view), qc.view(), qc.clone(), tc))
    }

    /// Block `view` on `parent` is proposed, executed, and voted for if the rules allow.
    pub(crate) fn accept(
        &mut self,
        block: &Arc<Block>,
        justify: BlockCert,
        tc: Option<Arc<TimeoutCert>>,
    ) -> Vec<String> {
        self.give(proposal(self.world.proposal(block, justify, tc))).expect("a good proposal");
        self.give(valid(block)).expect("was being checked")
    }
}

pub(crate) fn valid(block: &Block) -> Input {
    Input::BlockChecked { id: block.id(), verdict: BlockVerdict::Valid }
}

#[expect(clippy::disallowed_methods, reason = "made by the test itself")]
fn trusted<T>(message: T) -> Verified<T> {
    Verified::assume(message)
}

pub(crate) fn proposal(message: Proposal) -> Input {
    Input::Proposal(trusted(message))
}

pub(crate) fn vote(message: cairn_types::Vote) -> Input {
    Input::Vote(trusted(message))
}

pub(crate) fn commit_vote(message: cairn_types::CommitVote) -> Input {
    Input::CommitVote(trusted(message))
}

pub(crate) fn timeout(message: Timeout) -> Input {
    Input::Timeout(trusted(message))
}

pub(crate) fn certificate(message: BlockCert) -> Input {
    Input::Certificate(trusted(message))
}

pub(crate) fn timeout_cert(message: Arc<TimeoutCert>) -> Input {
    Input::TimeoutCert(trusted(message))
}

pub(crate) fn commit_cert(message: Arc<CommitCert>) -> Input {
    Input::CommitCert(trusted(message))
}

/// A disk that is full.
pub(crate) struct FullDisk;

impl SafetyStore for FullDisk {
    type Error = &'static str;

    fn persist(&mut self, _: &Durable) -> Result<(), Self::Error> {
        Err("no space left")
    }
}

/// Counts writes.
#[derive(Default)]
pub(crate) struct Writes(pub(crate) Vec<Durable>);

impl SafetyStore for Writes {
    type Error = Infallible;

    fn persist(&mut self, write: &Durable) -> Result<(), Infallible> {
        self.0.push(write.clone());
        Ok(())
    }
}
