//! Why a network could not be made, started or stopped: sentences for the person at the terminal.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why an operation on a local network failed.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum Fault {
    #[error(
        "port {port} ({use_of}) is already in use by another program: choose another --base-port \
         (0 finds free ones), or see what holds it with `ss -ltnp 'sport = :{port}'`"
    )]
    PortInUse { port: u16, use_of: String },
    #[error("no run of free ports was found for {nodes} nodes below port 32768: stop something that listens")]
    NoFreePorts { nodes: u16 },
    #[error(
        "--base-port {base_port} leaves no room: node {node} would need port {port}; the highest is 65535"
    )]
    PortTooHigh { base_port: u16, node: u16, port: u32 },
    #[error(
        "a network is already running in {}: {running}; `cairn testnet down` stops it, \
         `cairn testnet restart N` restarts one node", dir.display()
    )]
    AlreadyRunning { dir: PathBuf, running: String },
    #[error(
        "`{text}` is nothing to rehearse: expected `lose-unsynced` or `lose-bodies`, `<point>:<pass>` with a pass from 1, or both with a \
         comma between; the points are {}",
        points()
    )]
    Rehearsal { text: String },
    #[error("another `cairn testnet` command is working in {}: wait for it to end", .0.display())]
    Busy(PathBuf),
    #[error("there is no network in {}: `cairn testnet up` makes one", .0.display())]
    NoNetwork(PathBuf),
    #[error(
        "{} is not empty and holds no network made by `cairn testnet`: choose another --dir, \
         nothing in it was touched", .0.display()
    )]
    ForeignDirectory(PathBuf),
    #[error(
        "the network in {} has {what} {existing}, not {asked}: leave the option out to start it as it is, \
         or `cairn testnet clean` to delete it and make a new one", dir.display()
    )]
    OtherNetwork { dir: PathBuf, what: &'static str, existing: String, asked: String },
    #[error("{asked} validators; expected 1 to {max}")]
    Validators { asked: u16, max: u16 },
    #[error("the cairn binary {} is missing or not executable: build it with `cargo build --release -p cairn-node`",
        .0.display())]
    MissingBinary(PathBuf),
    #[error("only {free_mib} MiB are free where {} lies; {nodes} nodes want {need_mib}: free some space or \
         choose another --dir", dir.display())]
    DiskFull { dir: PathBuf, nodes: u16, free_mib: u64, need_mib: u64 },
    #[error("there is no node {asked}: this network has nodes 0 to {last}")]
    NoSuchNode { asked: u16, last: u16 },
    #[error("node {node} is not running")]
    NotRunning { node: u16 },
    #[error("node {node} is already running as process {pid}")]
    NodeRunning { node: u16, pid: u32 },
    #[error("`{command}` failed with {status}: {message}")]
    Command { command: String, status: String, message: String },
    #[error("node {node} ended while starting; the last lines of {}:\n{tail}", log.display())]
    Died { node: u16, log: PathBuf, tail: String },
    #[error("node {node} is not ready after {seconds} s ({last}); its log is {}", log.display())]
    NotReady { node: u16, seconds: u64, last: String, log: PathBuf },
    #[error("process {pid} of node {node} is still there {seconds} s after SIGKILL")]
    Unkillable { node: u16, pid: u32, seconds: u64 },
    #[error("{what}: {message}")]
    Invalid { what: String, message: String },
    #[error("the disk is full: {what}; free some space and try again")]
    NoSpace { what: String },
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
}

fn points() -> String {
    crate::rehearsal::Point::ALL.map(crate::rehearsal::Point::name).join(", ")
}

impl Fault {
    /// What was being done to `path` when `source` happened.
    pub fn io(doing: &str, path: &Path, source: io::Error) -> Self {
        let what = format!("{doing} {}", path.display());
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace { what },
            _ => Self::Io { what, source },
        }
    }

    /// Something that should have been well formed and is not.
    pub fn invalid(what: impl Into<String>, message: impl ToString) -> Self {
        Self::Invalid { what: what.into(), message: message.to_string() }
    }
}
