//! The running node: opens what is on disk, starts the loops, and ends them in order.

mod activity;
mod admission;
mod backend;
pub(crate) mod clock;
mod compact;
mod consensus_loop;
mod context;
mod epoch;
mod evidence;
mod executor;
mod faults;
mod identities;
mod inbound;
mod joining;
mod keys;
mod metrics;
mod network;
mod notary;
mod opening;
mod pending;
mod presence;
mod reads;
mod recent;
mod rehearsal;
mod serve;
mod snapshots;
mod stages;
mod sync;
mod task;
mod timers;
mod transactions;
mod uncommitted;
mod waiters;
mod wire;
mod workers;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use cairn_p2p::{Command, P2p};
use cairn_rpc::RpcMetrics;
use cairn_state::Role;
use cairn_testnet::Rehearsal;
use cairn_testnet::rehearsal::Point;
use cairn_types::Evidence;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::exit::{Exit, WithExit};
use crate::home::Home;
use consensus_loop::{ConsensusLoop, Store};
use context::{Context, Position};
use epoch::InForce;
use executor::Executor;
use opening::Opened;
use rehearsal::Disaster;
use task::Task;
use transactions::Transactions;
use workers::Workers;

/// Verified inputs waiting for the consensus loop: several views' worth of messages of 1,024 validators.
const INPUTS_MAX: usize = 8_192;
/// How often expired transactions are looked for.
const EXPIRE_EVERY: Duration = Duration::from_secs(1);
/// Pause between two syncs of the state: bounds the block log and the disk's work alike.
const SYNC_EVERY: Duration = Duration::from_millis(250);
/// Threads of the two networks: each has one task that decides, and its connections.
const NETWORK_THREADS: usize = 2;
/// Threads of the interfaces: two, so that one long answer holds nobody up; more than sixteen would outrun consensus.
const INTERFACE_THREADS_MIN: usize = 2;
const INTERFACE_THREADS_MAX: usize = 16;
/// How far the interfaces' threads stand back behind those of consensus, as `nice` counts it: a flood of submissions
/// takes the processor only from itself.
const INTERFACES_NICENESS: i32 = 10;
/// How often a node that has pruned everything it may looks again.
const PRUNE_EVERY: Duration = Duration::from_secs(1);
/// Pause between two steps of pruning: leaves the executor and the disk to consensus.
const PRUNE_PAUSE: Duration = Duration::from_millis(20);
/// How long the interfaces may take to close their connections.
const CLOSING_MAX: Duration = Duration::from_secs(3);

/// Runs a node until it is told to stop (SIGTERM, SIGINT) or may not go on.
///
/// # Errors
/// When something on disk is missing, damaged or contradictory, a port is taken, or the node had to stop.
pub(crate) fn run(home: Home, config: Config, rehearsal: Option<Rehearsal>) -> anyhow::Result<()> {
    let disaster = Disaster::new(rehearsal, &config).exit_with(Exit::Config)?;
    let opened = opening::open(&home, &config, &disaster)?;
    let networks = runtime("net", NETWORK_THREADS, 0)?;
    let interfaces = runtime("rpc", interface_threads(), INTERFACES_NICENESS)?;
    let mut registry = Registry::default();
    let running = start(&home, &config, opened, disaster, &networks, &mut registry)?;
    let notary = notary::Notary::open(&home, &running.context);
    let served = notary.and_then(|notary| serve(&config, &running, notary, registry, &interfaces));
    let outcome =
        served.and_then(|bound| networks.block_on(until_stopped(&running.context, &bound)).map(|()| bound));
    running.context.shutdown.cancel();
    let outcome = outcome.map(|bound| {
        // Callers get the answers that they wait for; those of a transaction that caused the stop, too.
        let _ = interfaces.block_on(async { tokio::time::timeout(CLOSING_MAX, bound.finished()).await });
    });
    // Networking may have ended by itself.
    let _ = networks.block_on(running.context.net.send(Command::Shutdown));
    interfaces.shutdown_timeout(CLOSING_MAX);
    running.workers.iter().for_each(Workers::close);
    for thread in running.threads {
        if thread.join().is_err() {
            tracing::error!("a loop ended with a panic");
        }
    }
    networks.shutdown_timeout(CLOSING_MAX);
    if let Err(error) = running.context.state.sync() {
        tracing::warn!(%error, "the last blocks may be fetched again after a power cut");
    }
    outcome?;
    match running.context.failure.lock().take() {
        // Where starting again would not help, the code tells the supervisor so.
        Some((exit, why)) => Err(anyhow!(why)).exit_with(exit),
        None => Ok(()),
    }
}

/// A node whose loops run.
struct Running {
    context: Arc<Context>,
    transactions: Arc<Transactions>,
    threads: Vec<JoinHandle<()>>,
    /// For consensus messages and for transactions: consensus never waits behind transactions.
    workers: [Workers; 2],
}

/// Interfaces check clients' signatures on their own threads, so they get one for each core.
fn interface_threads() -> usize {
    std::thread::available_parallelism()
        .map_or(1, usize::from)
        .clamp(INTERFACE_THREADS_MIN, INTERFACE_THREADS_MAX)
}

fn runtime(name: &'static str, threads: usize, niceness: i32) -> anyhow::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(threads).thread_name(name).enable_all();
    builder.on_thread_start(move || {
        // Without it the threads only compete as equals.
        let _ = rustix::process::setpriority_process(None, niceness);
    });
    builder.build().with_context(|| format!("cannot start the {name} runtime"))
}

fn verifiers(name: &'static str) -> anyhow::Result<rayon::ThreadPool> {
    let pool = rayon::ThreadPoolBuilder::new().thread_name(move |at| format!("{name}-{at}")).build();
    pool.with_context(|| format!("cannot start the {name} threads"))
}

/// Starts the networks and every loop.
fn start(
    home: &Home,
    config: &Config,
    opened: Opened,
    disaster: Arc<Disaster>,
    networks: &Runtime,
    registry: &mut Registry,
) -> anyhow::Result<Running> {
    let Opened { genesis, genesis_text, chain, epoch, keys, state, replica, journal, silence } = opened;
    let p2p_config = opening::p2p_config(home, config, chain, &epoch, !keys.is_empty());
    let (turns, keys) = (activity::Turns::new(&epoch.set), Arc::new(keys));
    let pool = Mutex::new(pending::Pending::new(chain, &epoch.params));
    let signed = journal.as_ref().map(|it| it.record()).filter(|it| it.epoch == epoch.number()).cloned();
    let in_force = Arc::new(InForce::new(epoch));
    let identity = Arc::new(network::Identity { keys: Arc::clone(&keys), in_force: Arc::clone(&in_force) });
    let _entered = networks.enter();
    let P2p { handle, hot, events } = P2p::start(p2p_config, identity, Arc::new(clock::now_ms), registry)?;
    let (inputs, inputs_queue) = mpsc::channel(INPUTS_MAX);
    let (tasks, tasks_queue) = mpsc::channel(task::TASKS_MAX);
    let (jobs, jobs_queue) = mpsc::channel(task::JOBS_MAX);
    let (forwards, forwards_queue) = mpsc::channel(transactions::FORWARDS_MAX);
    let (evidence, evidence_queue) = mpsc::channel(evidence::EVIDENCE_MAX);
    let (snapshots, maker) = snapshots::begin(home, config, registry)?;
    let height = state.tip().header.height;
    let context = Arc::new(Context {
        chain,
        verifier: cairn_crypto::Verifier::new(chain),
        pool,
        turns,
        genesis,
        genesis_text,
        in_force,
        keys,
        epoch_turned: Notify::new(),
        evidence,
        answered: Context::nobody_answered(),
        state,
        net: handle,
        runtime: networks.handle().clone(),
        inputs,
        executor: tasks,
        jobs,
        uncommitted: uncommitted::Uncommitted::default(),
        assembling: compact::Assembling::default(),
        drain: admission::Drain::new(std::time::Instant::now()),
        waiters: waiters::Waiters::default(),
        position: Position::new(height, signed.as_ref()),
        presence: presence::Presence::new()?,
        recent: Mutex::new(recent::Recent::new()),
        final_height: watch::Sender::new(height),
        may_join: watch::Sender::new(false),
        pool_changed: Notify::new(),
        metrics: metrics::NodeMetrics::new(registry),
        stages: stages::Stages::new(registry),
        snapshots,
        shutdown: CancellationToken::new(),
        failure: Mutex::new(None),
        disaster,
    });
    let consensus =
        ConsensusLoop::new(Arc::clone(&context), replica, Store::of(journal, &context), inputs_queue);
    let (hot_workers, bulk_workers) = (Workers::default(), Workers::default());
    let transactions = Arc::new(Transactions::new(Arc::clone(&context), bulk_workers.clone(), forwards));
    networks.spawn(inbound::run(Arc::clone(&context), hot, hot_workers.clone()));
    networks.spawn(network::run(Arc::clone(&context), events, Arc::clone(&transactions)));
    networks.spawn(transactions::forward(Arc::clone(&context), forwards_queue));
    spawn_chores(networks, &context, &transactions, jobs_queue, evidence_queue, config);
    let threads = threads(&context, consensus, silence, tasks_queue, [&hot_workers, &bulk_workers], maker)?;
    Ok(Running { context, transactions, threads, workers: [hot_workers, bulk_workers] })
}

/// The threads beside the runtimes: consensus, the executor, one a core for each of `workers`, and one for snapshots.
fn threads(
    context: &Arc<Context>,
    consensus: ConsensusLoop,
    silence: Duration,
    tasks: mpsc::Receiver<Task>,
    workers: [&Workers; 2],
    maker: snapshots::Maker,
) -> anyhow::Result<Vec<JoinHandle<()>>> {
    let executor = Executor::new(Arc::clone(context), verifiers("verify-many")?);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut threads = Vec::new();
    for (name, workers) in ["verify", "verify-tx"].into_iter().zip(workers) {
        for _ in 0..cores {
            let workers = workers.clone();
            threads.push(thread(name, context, move || workers.work())?);
        }
    }
    threads.push(thread("executor", context, move || executor.run(tasks))?);
    threads.push(consensus_thread(context, consensus, silence)?);
    let held = Arc::clone(context);
    threads.push(thread("snapshots", context, move || maker.run(&held))?);
    Ok(threads)
}

fn consensus_thread(
    context: &Arc<Context>,
    consensus: ConsensusLoop,
    silence: Duration,
) -> anyhow::Result<JoinHandle<()>> {
    thread("consensus", context, move || match Builder::new_current_thread().enable_time().build() {
        Ok(runtime) => runtime.block_on(consensus.run(silence)),
        Err(error) => tracing::error!(%error, "cannot start the consensus loop"),
    })
}

/// What runs on its own, again and again.
fn spawn_chores(
    networks: &Runtime,
    context: &Arc<Context>,
    transactions: &Arc<Transactions>,
    jobs: mpsc::Receiver<task::Job>,
    evidence: mpsc::Receiver<Evidence>,
    config: &Config,
) {
    networks.spawn(evidence::bring(Arc::clone(context), Arc::clone(transactions), evidence));
    networks.spawn(sync::Sync::new(Arc::clone(context), config.join_blocks()).run(jobs));
    networks.spawn(expire(Arc::clone(context)));
    networks.spawn(keep_durable(Arc::clone(context)));
    if config.state.role != Role::Archive {
        networks.spawn(prune(Arc::clone(context), config.state.role, config.state.keep_blocks));
    }
}

/// A thread whose end, however it comes, stops the node.
fn thread(
    name: &'static str,
    context: &Arc<Context>,
    work: impl FnOnce() + Send + 'static,
) -> anyhow::Result<JoinHandle<()>> {
    let stop = context.shutdown.clone().drop_guard();
    let body = move || {
        let _stop = stop;
        work();
    };
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .with_context(|| format!("cannot start {name}"))
}

/// Puts committed blocks on disk behind the executor's back, many with one sync. Until then the journal's
/// block log has them.
async fn keep_durable(context: Arc<Context>) {
    let mut heights = context.final_height.subscribe();
    while heights.changed().await.is_ok() {
        let state = Arc::clone(&context.state);
        match tokio::task::spawn_blocking(move || state.sync()).await {
            Ok(Ok(height)) => {
                context.disaster.passes(Point::StateSynced);
                context.position.made_durable(height);
            }
            Ok(Err(error)) => return context.fail(format!("the state cannot be synced: {error}")),
            Err(_) => return,
        }
        tokio::time::sleep(SYNC_EVERY).await;
    }
}

/// Lets go of what the node's role does not keep, in small steps beside the executor.
async fn prune(context: Arc<Context>, role: Role, keep_blocks: u64) {
    loop {
        let (state, before) = (Arc::clone(&context.state), context.state.kept());
        match tokio::task::spawn_blocking(move || state.prune(role, keep_blocks)).await {
            Ok(Ok(kept)) if kept == before => tokio::time::sleep(PRUNE_EVERY).await,
            Ok(Ok(_)) => tokio::time::sleep(PRUNE_PAUSE).await,
            Ok(Err(error)) => return context.fail(format!("the state cannot be pruned: {error}")),
            Err(_) => return,
        }
    }
}

async fn expire(context: Arc<Context>) {
    loop {
        tokio::time::sleep(EXPIRE_EVERY).await;
        if context.executor.send(Task::Expire).await.is_err() {
            return;
        }
    }
}

/// Opens the interfaces on a runtime of their own.
fn serve(
    config: &Config,
    running: &Running,
    notary: notary::Notary,
    mut registry: Registry,
    interfaces: &Runtime,
) -> anyhow::Result<cairn_rpc::Bound> {
    let metrics = RpcMetrics::register(&mut registry);
    let context = Arc::clone(&running.context);
    let backend = backend::NodeBackend::new(context, Arc::clone(&running.transactions), notary);
    let rpc = cairn_rpc::RpcConfig {
        listen: config.rpc.listen,
        grpc_listen: config.rpc.grpc_listen,
        metrics_listen: config.rpc.metrics_listen,
        ..Default::default()
    };
    let shutdown = running.context.shutdown.clone();
    let serving = cairn_rpc::serve(rpc, Arc::new(backend), metrics, Arc::new(registry), shutdown);
    Ok(interfaces.block_on(serving)?)
}

/// Waits for a signal or for a loop to stop the node.
async fn until_stopped(context: &Context, bound: &cairn_rpc::Bound) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tracing::info!(
        rpc = %bound.http,
        grpc = ?bound.grpc,
        metrics = ?bound.metrics,
        height = %*context.final_height.borrow(),
        "the node is running"
    );
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: shutting down"),
        _ = interrupt.recv() => tracing::info!("SIGINT: shutting down"),
        () = context.shutdown.cancelled() => {}
    }
    Ok(())
}
