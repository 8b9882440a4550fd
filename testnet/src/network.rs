//! A network of real `cairn` processes on this machine.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::NodeApi;
use crate::create::{self, NODES_MAX, Options};
use crate::fault::Fault;
use crate::layout::{Layout, Manifest};
use crate::ports::Ports;
use crate::process;
use crate::rehearsal::Rehearsal;

/// How long a network may take to become ready.
pub const READY_PATIENCE: Duration = Duration::from_secs(60);
/// How often a node that should become ready is asked.
const READY_POLL: Duration = Duration::from_millis(50);
/// Lines of a log shown when a node ended.
const TAIL_LINES: usize = 12;
/// Bytes of a log read for that.
const TAIL_BYTES: u64 = 16 << 10;

/// A network in a directory. Dropping it leaves the processes running.
#[derive(Debug)]
pub struct LocalNetwork {
    layout: Layout,
    manifest: Manifest,
    binary: PathBuf,
    /// The nodes this value started: reaped here, so that an ended one does not linger as a zombie.
    children: BTreeMap<u16, Child>,
    /// How those of them that have ended did.
    ended: BTreeMap<u16, ExitStatus>,
}

/// What one node is doing.
#[derive(Clone, Debug, Serialize)]
pub struct NodeState {
    /// Its number.
    pub node: u16,
    /// `validator` or `follower`.
    pub role: &'static str,
    /// Its process, when it runs.
    pub pid: Option<u32>,
    /// Resident memory, KiB.
    pub resident_kib: Option<u64>,
    /// CPU seconds since it started.
    pub cpu_seconds: Option<f64>,
    /// Its JSON-RPC address.
    pub rpc: String,
    /// What `chain_status` answers; null when it does not.
    pub status: Value,
}

impl LocalNetwork {
    /// Makes a new network; starts nothing.
    ///
    /// # Errors
    /// A directory that holds something else, a port in use, a missing binary, a full disk.
    pub fn create(options: &Options, binary: &Path) -> Result<Self, Fault> {
        let binary = check_binary(binary)?;
        let layout = Layout::new(&options.dir)?;
        create::check_vacant(&layout)?;
        let _busy = exclusive(&layout)?;
        let manifest = create::create(&layout, options, &binary)?;
        Ok(Self { layout, manifest, binary, children: BTreeMap::new(), ended: BTreeMap::new() })
    }

    /// An existing network.
    ///
    /// # Errors
    /// When there is none in `dir`, or the binary is missing.
    pub fn open(dir: &Path, binary: &Path) -> Result<Self, Fault> {
        let layout = Layout::new(dir)?;
        let manifest = Manifest::read(&layout)?;
        let binary = check_binary(binary)?;
        Ok(Self { layout, manifest, binary, children: BTreeMap::new(), ended: BTreeMap::new() })
    }

    /// A second look at the same network, for whoever only watches it. Processes stay with this value.
    pub fn view(&self) -> Self {
        Self {
            layout: self.layout.clone(),
            manifest: self.manifest.clone(),
            binary: self.binary.clone(),
            children: BTreeMap::new(),
            ended: BTreeMap::new(),
        }
    }

    /// Where its files are.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What it is.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The binary its nodes run.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// The numbers of all nodes, validators first.
    pub fn nodes(&self) -> std::ops::Range<u16> {
        0..self.manifest.nodes()
    }

    /// The ports of a node.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn ports(&self, node: u16) -> Result<Ports, Fault> {
        self.check_node(node)?;
        self.manifest.ports(node)
    }

    /// The JSON-RPC client of a node.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn api(&self, node: u16) -> Result<NodeApi, Fault> {
        Ok(NodeApi::new(&format!("http://127.0.0.1:{}", self.ports(node)?.rpc)))
    }

    /// The process of a node, when it runs.
    pub fn pid(&self, node: u16) -> Option<u32> {
        process::running(&self.layout.node(node))
    }

    /// The nodes that run.
    pub fn running(&self) -> Vec<u16> {
        self.nodes().filter(|node| self.pid(*node).is_some()).collect()
    }

    /// Starts every node.
    ///
    /// # Errors
    /// When any runs already, or a port is taken.
    pub fn start_all(&mut self) -> Result<(), Fault> {
        let running: Vec<String> = self
            .nodes()
            .filter_map(|n| self.pid(n).map(|pid| format!("node {n} is process {pid}")))
            .collect();
        if !running.is_empty() {
            let dir = self.layout.dir().to_owned();
            return Err(Fault::AlreadyRunning { dir, running: running.join(", ") });
        }
        // Those of nodes killed a moment ago may still be closing.
        for node in self.nodes() {
            self.ports(node)?.wait_free(node)?;
        }
        self.nodes().try_for_each(|node| self.start_node(node))
    }

    /// Starts one node.
    ///
    /// # Errors
    /// When it runs already or one of its ports is taken.
    pub fn start_node(&mut self, node: u16) -> Result<(), Fault> {
        self.start_rehearsing(node, None)
    }

    /// [`Self::start_node`] with a disaster to rehearse.
    ///
    /// # Errors
    /// As [`Self::start_node`].
    pub fn start_rehearsing(&mut self, node: u16, rehearsal: Option<Rehearsal>) -> Result<(), Fault> {
        self.check_node(node)?;
        let _busy = exclusive(&self.layout)?;
        if let Some(pid) = self.pid(node) {
            return Err(Fault::NodeRunning { node, pid });
        }
        self.ports(node)?.wait_free(node)?;
        self.reap(node);
        let child = process::spawn(&self.binary, &self.layout.node(node), rehearsal)?;
        self.children.insert(node, child);
        Ok(())
    }

    /// Waits until every one of `nodes` answers `GET /readyz` with 200.
    ///
    /// # Errors
    /// When one ends (with the end of its log) or is not ready within `patience`.
    pub async fn wait_ready(
        &mut self,
        nodes: impl IntoIterator<Item = u16>,
        patience: Duration,
    ) -> Result<Duration, Fault> {
        let began = Instant::now();
        for node in nodes {
            let api = self.api(node)?;
            loop {
                let last = match api.ready().await {
                    Ok(()) => break,
                    Err(why) => why,
                };
                if self.pid(node).is_none() && began.elapsed() > READY_POLL {
                    return Err(self.died(node));
                }
                if began.elapsed() > patience {
                    let log = self.layout.node(node).log;
                    return Err(Fault::NotReady { node, seconds: patience.as_secs(), last, log });
                }
                tokio::time::sleep(READY_POLL).await;
            }
        }
        Ok(began.elapsed())
    }

    /// Ends one node by SIGTERM, or SIGKILL when that does not help. Whether SIGTERM was enough.
    ///
    /// # Errors
    /// When there is no such node or it cannot be ended.
    pub fn stop_node(&mut self, node: u16) -> Result<bool, Fault> {
        self.check_node(node)?;
        let clean = process::terminate(node, &self.layout.node(node))?;
        self.reap(node);
        Ok(clean)
    }

    /// Ends one node by SIGKILL.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill_node(&mut self, node: u16) -> Result<u32, Fault> {
        self.check_node(node)?;
        let pid = self.pid(node).ok_or(Fault::NotRunning { node })?;
        process::kill(node, &self.layout.node(node))?;
        self.reap(node);
        Ok(pid)
    }

    /// Stops a node where it is (SIGSTOP): its connections stay open and it answers nothing.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause_node(&mut self, node: u16) -> Result<(), Fault> {
        self.check_node(node)?;
        if process::pause(&self.layout.node(node)) { Ok(()) } else { Err(Fault::NotRunning { node }) }
    }

    /// Lets a paused node go on (SIGCONT).
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume_node(&mut self, node: u16) -> Result<(), Fault> {
        self.check_node(node)?;
        if process::resume(&self.layout.node(node)) { Ok(()) } else { Err(Fault::NotRunning { node }) }
    }

    /// Ends every node, all at once. Those that had to be killed.
    ///
    /// # Errors
    /// When one cannot be ended.
    pub fn stop_all(&mut self) -> Result<Vec<u16>, Fault> {
        let paths: Vec<_> = self.nodes().map(|node| (node, self.layout.node(node))).collect();
        let ended: Vec<_> = std::thread::scope(|scope| {
            let workers: Vec<_> = paths
                .iter()
                .map(|(node, paths)| scope.spawn(move || (*node, process::terminate(*node, paths))))
                .collect();
            workers.into_iter().filter_map(|worker| worker.join().ok()).collect()
        });
        self.nodes().for_each(|node| self.reap(node));
        let mut killed = Vec::new();
        for (node, clean) in ended {
            if !clean? {
                killed.push(node);
            }
        }
        Ok(killed)
    }

    /// Makes a node without a validator key that knows one address, node 0's, and returns its number.
    ///
    /// # Errors
    /// A port in use, too many nodes, a full disk.
    pub fn add_follower(&mut self) -> Result<u16, Fault> {
        let _busy = exclusive(&self.layout)?;
        let node = self.manifest.nodes();
        if node >= NODES_MAX {
            return Err(Fault::Validators { asked: node + 1, max: NODES_MAX });
        }
        let wider = Manifest { followers: self.manifest.followers + 1, ..self.manifest.clone() };
        wider.ports(node)?.check_free(node)?;
        let home = self.layout.node(node).home;
        if home.exists() {
            // Left by an attempt that did not get as far as the manifest.
            create::remove(&home)?;
        }
        create::make_home(&self.layout, &wider, node, None, &self.binary)?;
        wider.write(&self.layout)?;
        self.manifest = wider;
        Ok(node)
    }

    /// What every node is doing.
    pub async fn status(&self) -> Vec<NodeState> {
        let mut states = Vec::new();
        for node in self.nodes() {
            let pid = self.pid(node);
            let api = self.api(node).ok();
            let status = match &api {
                Some(api) if pid.is_some() => api.call("chain_status", json!({})).await.unwrap_or_default(),
                _ => Value::Null,
            };
            states.push(NodeState {
                node,
                role: if node < self.manifest.validators { "validator" } else { "follower" },
                pid,
                resident_kib: pid.and_then(process::resident_kib),
                cpu_seconds: pid.and_then(process::cpu_seconds),
                rpc: api.map(|api| api.url().to_owned()).unwrap_or_default(),
                status,
            });
        }
        states
    }

    /// Stops the network and removes its directory.
    ///
    /// # Errors
    /// When a node cannot be ended or a file not removed.
    pub fn clean(mut self) -> Result<(), Fault> {
        self.stop_all()?;
        let dir = self.layout.dir();
        fs::remove_dir_all(dir).map_err(|e| Fault::io("removing", dir, e))
    }

    /// How a node that this value started ended, once it has.
    pub fn exit_status(&mut self, node: u16) -> Option<ExitStatus> {
        self.reap(node);
        self.ended.get(&node).copied()
    }

    fn reap(&mut self, node: u16) {
        if self.pid(node).is_some() {
            return;
        }
        let Some(child) = self.children.get_mut(&node) else { return };
        // A process that dies loses its command line first, and its files, the lock of its home among them, last.
        if let Some(status) = process::wait_for(child) {
            self.children.remove(&node);
            self.ended.insert(node, status);
        }
    }

    /// The last lines of a node's log.
    pub fn log_tail(&self, node: u16) -> String {
        tail(&self.layout.node(node).log)
    }

    fn died(&mut self, node: u16) -> Fault {
        self.reap(node);
        Fault::Died { node, log: self.layout.node(node).log, tail: self.log_tail(node) }
    }

    fn check_node(&self, node: u16) -> Result<(), Fault> {
        let last = self.manifest.nodes().saturating_sub(1);
        if node <= last { Ok(()) } else { Err(Fault::NoSuchNode { asked: node, last }) }
    }
}

fn check_binary(binary: &Path) -> Result<PathBuf, Fault> {
    let missing = || Fault::MissingBinary(binary.to_owned());
    let metadata = fs::metadata(binary).map_err(|_| missing())?;
    let runs = metadata.is_file() && metadata.permissions().mode() & 0o111 != 0;
    if runs { std::path::absolute(binary).map_err(|_| missing()) } else { Err(missing()) }
}

/// Keeps other commands from changing which nodes run, until dropped.
#[derive(Debug)]
struct Exclusive(File);

impl Drop for Exclusive {
    fn drop(&mut self) {
        // Closing is not enough: a process just started may hold a copy of the descriptor until the kernel
        // has closed it on exec, and the lock with it.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

fn exclusive(layout: &Layout) -> Result<Exclusive, Fault> {
    let path = layout.lock();
    create::private_dir(layout.dir())?;
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|e| Fault::io("opening", &path, e))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Exclusive(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Fault::Busy(layout.dir().to_owned())),
        Err(errno) => Err(Fault::io("locking", &path, errno.into())),
    }
}

fn tail(log: &Path) -> String {
    use std::io::{Read, Seek, SeekFrom};
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(TAIL_LINES);
    lines.get(from..).unwrap_or_default().join("\n")
}
