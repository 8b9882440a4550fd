//! Snapshots of the running node: every so many blocks the state is frozen for a moment, and written from there by a
//! thread of its own while blocks go on being committed.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use cairn_state::{Frozen, StateError};
use cairn_types::Height;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::context::Context;
use crate::config::Config;
use crate::home::Home;
use crate::snapshots::{Folder, Kept, Shelf, Stored, Writer};

/// How long the executor waits for the state to be frozen, so that all nodes freeze it at the same height. It takes a
/// thread's turn; where it does not come in time, the snapshot is of a block or two later.
const FREEZE_PATIENCE: Duration = Duration::from_millis(20);
/// How often the thread looks whether the node stops.
const STOP_POLL: Duration = Duration::from_millis(250);
/// Free disk space that a snapshot leaves alone, and how many times its expected length must be free beside it: a full
/// disk would stop the node.
const ROOM_LEFT_BYTES: u64 = 256 << 20;
const ROOM_TIMES: u64 = 2;
/// How far the thread stands back behind those of consensus, as `nice` counts it.
const NICENESS: i32 = 10;

/// Told when the state is frozen.
type FrozenNow = SyncSender<()>;

/// What the loops share: when a snapshot is due, which are here, and how far joining with one has come.
pub(crate) struct Snapshots {
    /// Blocks from one to the next; `None` = none are made.
    every: Option<u64>,
    /// The height of the newest snapshot, or at which none could be made.
    last: AtomicU64,
    wanted: SyncSender<FrozenNow>,
    folder: Folder,
    /// Those that peers are told of.
    pub(crate) shelf: Shelf,
    joining: JoinMetrics,
}

/// How far joining has come.
#[derive(Debug, Default)]
struct JoinMetrics {
    taken: Gauge,
    wanted: Gauge,
}

impl Snapshots {
    /// Where they lie.
    pub(crate) const fn folder(&self) -> &Folder {
        &self.folder
    }

    /// One of this height, made or verified here, is on disk now: peers are told of it, and the next is due an interval later.
    pub(crate) fn offer(&self, stored: Stored, height: Height) {
        self.last.fetch_max(height.get(), Ordering::Relaxed);
        if let Err(error) = self.folder.note(height, &stored.offer().id) {
            tracing::warn!(%error, "the snapshot will not be offered to peers after a restart");
        }
        self.shelf.put(stored);
    }

    /// Publishes how many chunks of how many have been taken in.
    pub(crate) fn join_progress(&self, taken: u32, wanted: u32) {
        self.joining.taken.set(taken.into());
        self.joining.wanted.set(wanted.into());
    }

    /// Told of each commit: when it passed a multiple of the interval, the state is frozen before the next one. Never
    /// waits for a snapshot to be written.
    pub(crate) fn committed(&self, height: Height) {
        let Some(every) = self.every else { return };
        let passed = |height: u64| height.checked_div(every).unwrap_or(0);
        if passed(height.get()) <= passed(self.last.load(Ordering::Relaxed)) {
            return;
        }
        let (done, frozen) = sync_channel(1);
        // Refused while one is being written: then the next commit asks again.
        if self.wanted.try_send(done).is_ok() {
            // Whether it came in time or not, blocks go on.
            let _ = frozen.recv_timeout(FREEZE_PATIENCE);
        }
    }
}

impl JoinMetrics {
    fn register(&self, registry: &mut Registry) {
        let chain = registry.sub_registry_with_prefix("cairn");
        let (taken, wanted) = (self.taken.clone(), self.wanted.clone());
        chain.register("join_chunks", "Chunks taken in of the snapshot this node begins with", taken);
        chain.register("join_chunks_wanted", "Chunks of that snapshot; 0 when there is none", wanted);
    }
}

/// The thread's side.
pub(crate) struct Maker {
    folder: Folder,
    keep: usize,
    wanted: Receiver<FrozenNow>,
    metrics: SnapshotMetrics,
}

/// Figures of the snapshots made.
#[derive(Debug, Default)]
struct SnapshotMetrics {
    height: Gauge,
    bytes: Gauge,
    milliseconds: Gauge,
    failed: Counter,
}

impl SnapshotMetrics {
    fn register(&self, registry: &mut Registry) {
        let chain = registry.sub_registry_with_prefix("cairn");
        chain.register("snapshot_height", "Height of the newest snapshot here", self.height.clone());
        chain.register("snapshot_bytes", "Length of the newest snapshot here", self.bytes.clone());
        chain.register(
            "snapshot_milliseconds",
            "Time the newest snapshot took to be written",
            self.milliseconds.clone(),
        );
        chain.register("snapshots_failed", "Snapshots that could not be written", self.failed.clone());
    }
}

/// Both sides.
///
/// # Errors
/// When the folder cannot be used.
pub(crate) fn begin(
    home: &Home,
    config: &Config,
    registry: &mut Registry,
) -> anyhow::Result<(Snapshots, Maker)> {
    let folder = Folder::new(home.snapshots());
    folder.prepare()?;
    let last = folder.list()?.first().map_or(0, |newest| newest.height.get());
    let metrics = SnapshotMetrics::default();
    metrics.register(registry);
    metrics.height.set(i64::try_from(last).unwrap_or(i64::MAX));
    // No place in it: whoever asks finds the thread waiting, or goes on.
    let (sender, wanted) = sync_channel(0);
    let joining = JoinMetrics::default();
    joining.register(registry);
    let snapshots = Snapshots {
        every: config.snapshots.interval(&config.state),
        last: AtomicU64::new(last),
        wanted: sender,
        folder: folder.clone(),
        shelf: Shelf::default(),
        joining,
    };
    Ok((snapshots, Maker { folder, keep: config.snapshots.keep, wanted, metrics }))
}

impl Maker {
    /// Makes what is asked for until the node stops.
    pub(crate) fn run(self, context: &Context) {
        // Without it the thread only competes as an equal.
        let _ = rustix::process::setpriority_process(None, NICENESS);
        self.show_kept(context);
        while !context.shutdown.is_cancelled() {
            match self.wanted.recv_timeout(STOP_POLL) {
                Ok(done) => self.make(context, &done),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Puts what was made or verified here before on the shelf, where it is still the same.
    fn show_kept(&self, context: &Context) {
        for Kept { path, height } in self.folder.list().unwrap_or_default() {
            let shown = Stored::open(&path).map_err(|error| error.to_string()).and_then(|stored| {
                if stored.chain() != context.chain {
                    return Err(format!("it is of chain {}", stored.chain()));
                }
                if self.folder.noted(height) != Some(stored.offer().id) {
                    return Err("it was not made here, or has changed since".to_owned());
                }
                context.snapshots.shelf.put(stored);
                Ok(())
            });
            if let Err(why) = shown {
                tracing::warn!(path = %path.display(), why, "a snapshot is not offered to peers");
            }
        }
    }

    fn make(&self, context: &Context, done: &FrozenNow) {
        let frozen = context.state.freeze();
        // The executor may have stopped waiting.
        let _ = done.try_send(());
        let outcome = match frozen {
            // A block later there is one that will do.
            Ok(None) => return,
            Ok(Some(frozen)) => self.write(context, &frozen).map(|()| frozen.header().height),
            Err(error) => Err(error.into()),
        };
        let tried = match outcome {
            Ok(height) => height,
            Err(_) if context.shutdown.is_cancelled() => return,
            Err(error) => {
                let lacking = error.downcast_ref::<StateError>();
                if matches!(lacking, Some(StateError::Pruned { .. })) {
                    tracing::info!(%error, "no snapshot now; this node began with one itself");
                } else {
                    self.metrics.failed.inc();
                    tracing::error!(%error, "a snapshot could not be written; the node goes on");
                }
                context.state.tip().header.height
            }
        };
        context.snapshots.last.fetch_max(tried.get(), Ordering::Relaxed);
    }

    fn write(&self, context: &Context, frozen: &Frozen<'_>) -> anyhow::Result<()> {
        let (began, header) = (Instant::now(), frozen.header());
        let newest = self.folder.list()?.first().and_then(|kept| kept.path.metadata().ok());
        check_room(&self.folder, newest.map_or(0, |it| it.len()))?;
        let mut writer = Writer::create(&self.folder.unfinished(header.height), &frozen.head(0))?;
        let chunks = frozen.write_chunks(&mut |chunk| match context.shutdown.is_cancelled() {
            true => Err(io::Error::new(io::ErrorKind::Interrupted, "the node stops")),
            false => writer.frame(&chunk),
        })?;
        let bytes = writer.sync(&frozen.head(chunks))?;
        let path = self.folder.path_of(header.height);
        writer.publish(&path)?;
        self.folder.keep(self.keep)?;
        match Stored::open(&path) {
            Ok(stored) => context.snapshots.offer(stored, header.height),
            Err(error) => tracing::warn!(%error, "the snapshot is not offered to peers"),
        }
        let took = began.elapsed();
        let figure = |value: u128| i64::try_from(value).unwrap_or(i64::MAX);
        self.metrics.height.set(figure(header.height.get().into()));
        self.metrics.bytes.set(figure(bytes.into()));
        self.metrics.milliseconds.set(figure(took.as_millis()));
        tracing::info!(height = %header.height, bytes, chunks, took_ms = took.as_millis(), "a snapshot is written");
        Ok(())
    }
}

/// Refuses where a snapshot of so many bytes could fill the disk.
pub(crate) fn check_room(folder: &Folder, expected: u64) -> anyhow::Result<()> {
    let needed = ROOM_LEFT_BYTES.saturating_add(ROOM_TIMES.saturating_mul(expected));
    let free = free_bytes(folder.path())?;
    anyhow::ensure!(
        free >= needed,
        "the disk has {} MiB free, and a snapshot is written where {} MiB are",
        free >> 20,
        needed >> 20
    );
    Ok(())
}

fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
