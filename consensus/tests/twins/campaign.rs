//! Many scenarios in a row, each distinct one once, and what came of them.

use std::collections::HashSet;
use std::fmt;
use std::time::{Duration, Instant};

use super::plan::Plan;
use super::play::{Outcome, play};
use crate::cluster::sabotage::Bug;
use crate::cluster::transcript::Transcript;

/// A campaign stops at this many findings: more of the same tell nothing.
pub(crate) const FINDINGS_MAX: usize = 10;
/// Plays that making a finding smaller may take: a few seconds.
const SMALLER_PLAYS_MAX: u32 = 1_000;
/// Time between two lines of progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(60);

/// A number from the environment.
pub(crate) fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}; expected a whole number")))
}

pub(crate) struct Campaign {
    seed: u64,
    /// Put into every honest node, to see whether it is found.
    bug: Option<Bug>,
    next: u64,
    played: HashSet<[u8; 16]>,
    /// A report of each.
    findings: Vec<String>,
    sum: Outcome,
    /// Scenarios in which an equivocation was seen, and in which a view was timed out.
    equivocal: u64,
    timed_out: u64,
    started: Instant,
}

impl Campaign {
    pub(crate) fn new(seed: u64, bug: Option<Bug>) -> Self {
        Self {
            seed,
            bug,
            next: 0,
            played: HashSet::new(),
            findings: Vec::new(),
            sum: Outcome::default(),
            equivocal: 0,
            timed_out: 0,
            started: Instant::now(),
        }
    }

    /// Plays until this many distinct scenarios were played, or this many broke something.
    pub(crate) fn scenarios(&mut self, count: u64, findings: usize) {
        while self.distinct() < count && self.findings.len() < findings {
            self.one();
        }
    }

    /// Plays for this long.
    pub(crate) fn minutes(&mut self, minutes: u64) {
        let mut told = Instant::now();
        while self.started.elapsed() < Duration::from_secs(60 * minutes) && self.findings.len() < FINDINGS_MAX
        {
            self.one();
            if told.elapsed() >= PROGRESS_EVERY {
                told = Instant::now();
                println!("{self}");
            }
        }
    }

    /// The next scenario, unless it was played already.
    fn one(&mut self) {
        let index = self.next;
        self.next += 1;
        let plan = Plan::generate(self.seed, index);
        let name = plan.canonical().as_bytes()[..16].try_into().expect("a hash is longer");
        if !self.played.insert(name) {
            return;
        }
        match play(&plan, self.bug, &Transcript::default()) {
            Ok(outcome) => self.add(outcome),
            Err(broken) => {
                let report = self.report(index, plan, &broken);
                println!("{report}");
                self.findings.push(report);
            }
        }
    }

    fn add(&mut self, outcome: Outcome) {
        let sum = &mut self.sum;
        sum.events += outcome.events;
        sum.height += outcome.height;
        sum.height_before += outcome.height_before;
        sum.views += outcome.views;
        sum.accusations += outcome.accusations;
        sum.timeouts += outcome.timeouts;
        sum.recovery_ms = sum.recovery_ms.max(outcome.recovery_ms);
        self.equivocal += u64::from(outcome.accusations > 0);
        self.timed_out += u64::from(outcome.timeouts > 0);
    }

    /// Everything that is needed to look into a finding, told on the smallest scenario that still has it.
    fn report(&self, index: u64, plan: Plan, broken: &str) -> String {
        let (plan, transcript) = smallest(plan, self.bug, is_stall(broken));
        let fault = self.bug.map(|bug| format!(" --fault {bug:?}")).unwrap_or_default();
        format!(
            "FINDING: scenario {index} of seed {}: {broken}\n\nmade smaller:\n{plan}\n\n{}\n\nreplay: scripts/twins.sh --seed {} --scenario {index}{fault}\n",
            self.seed,
            transcript.text(),
            self.seed
        )
    }

    /// The reports of what was found.
    pub(crate) fn findings(&self) -> &[String] {
        &self.findings
    }

    pub(crate) fn distinct(&self) -> u64 {
        self.played.len() as u64
    }

    /// Panics with every finding.
    pub(crate) fn assert_clean(&self) {
        assert!(self.findings.is_empty(), "{} findings, see the reports above", self.findings.len());
    }

    /// Panics when the scenarios were too tame to tell anything.
    pub(crate) fn assert_telling(&self) {
        let distinct = self.distinct();
        assert!(self.equivocal * 2 > distinct, "equivocation in only {} of {distinct}", self.equivocal);
        assert!(self.timed_out * 2 > distinct, "timeouts in only {} of {distinct}", self.timed_out);
        assert!(self.sum.height_before > distinct, "{} blocks before healing", self.sum.height_before);
    }
}

/// Whether nothing worse happened than that progress was missing.
fn is_stall(broken: &str) -> bool {
    broken.starts_with("(f)")
}

/// Takes away from a scenario that breaks an invariant what is not needed for that, and plays what is left.
fn smallest(mut plan: Plan, bug: Option<Bug>, stall: bool) -> (Plan, Transcript) {
    let mut plays = 0;
    while plays < SMALLER_PLAYS_MAX {
        let smaller = plan.smaller().into_iter().find(|smaller| {
            plays += 1;
            let broken = play(smaller, bug, &Transcript::default()).err();
            broken.is_some_and(|broken| is_stall(&broken) == stall)
        });
        match smaller {
            Some(smaller) => plan = smaller,
            None => break,
        }
    }
    let transcript = Transcript::kept();
    if let Err(broken) = play(&plan, bug, &transcript) {
        transcript.end(&broken);
    }
    (plan, transcript)
}

impl fmt::Display for Campaign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, sum) = (self.started.elapsed().as_secs_f64(), &self.sum);
        let distinct = self.distinct();
        writeln!(
            f,
            "twins: seed {}, scenarios 0..{}: {distinct} distinct in {seconds:.1} s ({:.0} per hour), {} findings",
            self.seed,
            self.next,
            distinct as f64 * 3_600.0 / seconds,
            self.findings.len()
        )?;
        write!(
            f,
            "  {} events, {} views and {} final blocks while partitioned, {} final blocks in all; equivocation seen in {} scenarios, views timed out in {}; slowest recovery {} ms",
            sum.events,
            sum.views,
            sum.height_before,
            sum.height,
            self.equivocal,
            self.timed_out,
            sum.recovery_ms
        )
    }
}
