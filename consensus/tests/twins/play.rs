//! Plays a scenario in the simulated cluster, and says what came of it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use cairn_types::{Params, View};

use super::plan::Plan;
use crate::cluster::node::Node;
use crate::cluster::partitions::Partitions;
use crate::cluster::sabotage::{Bug, Sabotage};
use crate::cluster::transcript::Transcript;
use crate::cluster::world::START_MS;
use crate::cluster::{Cluster, Delays, Event, Fault};

/// A client sends a transaction this often, ms: there is nearly always something to finalise.
const SUBMIT_EVERY_MS: u64 = 200;
/// A planned view is over after two timeouts, the second heard by everybody; the network heals after this
/// many of the largest in any case.
const TIMEOUTS_PER_VIEW: u64 = 3;
/// A view in which nothing fails, ms: two messages, building and executing, each at its slowest, rounded up.
const VIEW_MS: u64 = 40;
/// The second instance's clock against the first's, ms: its blocks are others.
const SECOND_SKEW_MS: i64 = 7;

/// What came of a scenario in which nothing went wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) events: u64,
    /// Blocks final at the end.
    pub(crate) height: u64,
    /// Blocks final before the network healed.
    pub(crate) height_before: u64,
    /// The highest view that an honest node reached before.
    pub(crate) views: u64,
    /// Equivocations that honest or twinned nodes saw.
    pub(crate) accusations: u64,
    /// Timeouts sent, repetitions included.
    pub(crate) timeouts: u64,
    pub(crate) recovery_ms: u64,
}

/// Short timeouts beside delays of up to 15 ms; the protocol knows only their ratio.
fn params() -> Params {
    Params {
        timeout_base_ms: 200,
        timeout_cap_ms: 800,
        drift_ms: 150,
        interval_idle_ms: 20_000,
        ..Params::default()
    }
}

/// Plays `plan`; every honest node has the fault `bug`, if any.
///
/// # Errors
/// The invariant that was broken.
pub(crate) fn play(plan: &Plan, bug: Option<Bug>, transcript: &Transcript) -> Result<Outcome, String> {
    catch_unwind(AssertUnwindSafe(|| run(plan, bug, transcript.clone()))).map_err(|cause| sentence(&*cause))
}

fn sentence(cause: &(dyn Any + Send)) -> String {
    let text = cause.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| cause.downcast_ref::<&str>().copied()).unwrap_or("a panic without a sentence").to_owned()
}

fn build(plan: &Plan, bug: Option<Bug>, transcript: Transcript) -> Cluster {
    let delays = Delays { link: (1, 15), execute: (0, 3), build: (0, 3) };
    let name = plan.canonical();
    let seed = name.as_bytes().iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte));
    let mut cluster = Cluster::new(plan.n, params(), delays, seed);
    for validator in &plan.twinned {
        let key = cluster.nodes[*validator].me;
        cluster.nodes[*validator].honest = false;
        cluster.nodes.push(Node::new(key, false, SECOND_SKEW_MS));
    }
    cluster.partitions = Some(Partitions::new(plan.views.clone()));
    cluster.sabotage = bug.map(Sabotage::new);
    cluster.world.weak = bug == Some(Bug::WeakQuorum);
    cluster.transcript = transcript;
    for restart in &plan.restarts {
        let down = START_MS + restart.at_ms;
        cluster.at(down, Event::Fault(Fault::Crash(restart.node)));
        cluster.at(down + restart.down_ms, Event::Fault(Fault::Restart(restart.node)));
    }
    cluster
}

/// The highest view of an honest node.
fn reached(cluster: &Cluster) -> View {
    let honest = (0..cluster.nodes.len()).filter(|node| cluster.nodes[*node].honest);
    honest.filter_map(|node| cluster.view_of(node)).max().unwrap_or_default()
}

fn run(plan: &Plan, bug: Option<Bug>, transcript: Transcript) -> Outcome {
    let mut cluster = build(plan, bug, transcript);
    cluster.start_all();
    let planned = View::new(plan.views.len() as u64);
    let cap_ms = params().timeout_cap_ms;
    let deadline = START_MS + TIMEOUTS_PER_VIEW * cap_ms * (planned.get() + 1);
    let mut nonces = 0;
    while cluster.now < deadline && reached(&cluster) <= planned {
        cluster.at(cluster.now, Event::Submit(nonces));
        nonces += 1;
        cluster.run(cluster.now + SUBMIT_EVERY_MS, |_| false);
    }
    let mut outcome = Outcome {
        height_before: cluster.checks.height().get(),
        views: reached(&cluster).get(),
        ..Outcome::default()
    };
    heal(&mut cluster, plan, nonces);
    let calm = cluster.now;
    // (f): the largest timeout twice, once more for each view in a row that a twin may lead, and then one view
    // for every three transactions that may be waiting.
    let twins = plan.twinned.len() as u64;
    let bound = (2 + twins) * cap_ms + nonces.div_ceil(3) * VIEW_MS;
    let last = cluster.world.transaction(nonces).transaction.id();
    let done = cluster.run(calm + bound, |c| c.submitted.contains_key(&last) && c.all_committed());
    assert!(done, "(f) not everything was committed {bound} ms after the calm: {}", cluster.describe());
    outcome.events = cluster.events;
    outcome.height = cluster.checks.height().get();
    outcome.accusations = cluster.checks.accusations;
    outcome.timeouts = cluster.sent.get("timeout").copied().unwrap_or_default();
    outcome.recovery_ms = cluster.now - calm;
    outcome
}

/// Everybody hears everybody and is up; clients repeat what is not final, and send one thing more.
fn heal(cluster: &mut Cluster, plan: &Plan, nonces: u64) {
    cluster.transcript.line(cluster.now, || "THE NETWORK HEALS".into());
    cluster.partitions = None;
    let calm = cluster.now;
    for restart in &plan.restarts {
        if START_MS + restart.at_ms > calm {
            // It would be after the calm; crashes are a thing of the storm.
            cluster.cancel_crash(restart.node);
        }
        cluster.at(calm, Event::Fault(Fault::Restart(restart.node)));
    }
    if plan.reconnects {
        for a in 0..cluster.nodes.len() {
            for b in 0..a {
                cluster.connect(a, b);
            }
        }
    }
    for nonce in 0..=nonces {
        cluster.at(calm, Event::Submit(nonce));
    }
}
