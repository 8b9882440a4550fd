//! Operating-system processes of a local network. A process is signalled only after its command line
//! has shown that it is the node we started: process ids are reused.

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use std::os::unix::process::CommandExt;

use cairn_types::shortcut::LEFT_OUT_VARIABLE;
use rustix::process::{Pid, Signal, kill_process};

use crate::fault::Fault;
use crate::layout::NodePaths;
use crate::rehearsal::Rehearsal;

/// How long a node may take to end after SIGTERM before it is killed.
pub const TERMINATE_PATIENCE: Duration = Duration::from_secs(10);
/// How long the kernel may take to remove a killed process.
const KILL_PATIENCE: Duration = Duration::from_secs(5);
/// How often a process that should end is looked at.
const POLL: Duration = Duration::from_millis(20);
/// Ticks per second of the times in `/proc/<pid>/stat`: 100 on every Linux architecture Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Starts `cairn start` on a home, detached, with its output appended to the node's log, and with a disaster
/// to rehearse if there is one.
///
/// # Errors
/// When the log or pid file cannot be written or the process cannot be started.
pub fn spawn(binary: &Path, paths: &NodePaths, rehearsal: Option<Rehearsal>) -> Result<Child, Fault> {
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&paths.log)
        .map_err(|e| Fault::io("opening the log", &paths.log, e))?;
    let twin = log.try_clone().map_err(|e| Fault::io("opening the log", &paths.log, e))?;
    let mut command = cairn(binary);
    command.arg("start").arg("--home").arg(&paths.home);
    if let Some(rehearsal) = rehearsal {
        command.arg("--rehearse").arg(rehearsal.to_string());
    }
    // A group of its own: Ctrl-C at the terminal that started the network is not for the nodes.
    command.stdin(Stdio::null()).stdout(log).stderr(twin).process_group(0);
    let child = command.spawn().map_err(|e| Fault::io("starting", binary, e))?;
    fs::write(&paths.pid, format!("{}\n", child.id())).map_err(|e| Fault::io("writing", &paths.pid, e))?;
    Ok(child)
}

/// A command of the binary that sees none of the caller's `CAIRN_` settings: a network is what its
/// directory says.
pub fn cairn(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    // Which steps a benchmark build leaves out is for its nodes; an ordinary build does not look.
    let settings =
        |name: &std::ffi::OsStr| name.to_string_lossy().starts_with("CAIRN_") && name != LEFT_OUT_VARIABLE;
    for (name, _) in std::env::vars_os().filter(|(name, _)| settings(name)) {
        command.env_remove(name);
    }
    command
}

/// The process recorded for a node, if it is alive and is that node.
pub fn running(paths: &NodePaths) -> Option<u32> {
    let pid = fs::read_to_string(&paths.pid).ok()?.trim().parse().ok()?;
    is_node(pid, &paths.home).then_some(pid)
}

/// Whether `pid` is alive and was started as `... start --home <home>`.
fn is_node(pid: u32, home: &Path) -> bool {
    let Ok(command_line) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    let arguments: Vec<&[u8]> = command_line.split(|byte| *byte == 0).collect();
    let home = home.as_os_str().as_encoded_bytes();
    let ours = arguments.contains(&b"start".as_slice())
        && arguments.windows(2).any(|pair| pair[0] == b"--home" && pair[1] == home);
    // A zombie has an empty command line, so it counts as ended.
    ours
}

/// Ends a node: SIGTERM, and SIGKILL after [`TERMINATE_PATIENCE`]. Returns whether SIGTERM was enough.
///
/// # Errors
/// When the process outlives SIGKILL.
pub fn terminate(node: u16, paths: &NodePaths) -> Result<bool, Fault> {
    let Some(pid) = running(paths) else { return Ok(true) };
    signal(pid, Signal::TERM);
    // A paused process hears nothing else.
    signal(pid, Signal::CONT);
    if wait_gone(paths, TERMINATE_PATIENCE) {
        forget(paths);
        return Ok(true);
    }
    kill(node, paths)?;
    Ok(false)
}

/// SIGKILL, and waits until the process is gone.
///
/// # Errors
/// When it outlives that.
pub fn kill(node: u16, paths: &NodePaths) -> Result<(), Fault> {
    let Some(pid) = running(paths) else { return Ok(()) };
    signal(pid, Signal::KILL);
    if !wait_gone(paths, KILL_PATIENCE) {
        return Err(Fault::Unkillable { node, pid, seconds: KILL_PATIENCE.as_secs() });
    }
    forget(paths);
    Ok(())
}

/// SIGSTOP. Whether there was a process to stop.
pub fn pause(paths: &NodePaths) -> bool {
    running(paths).inspect(|pid| signal(*pid, Signal::STOP)).is_some()
}

/// SIGCONT. Whether there was a process to go on.
pub fn resume(paths: &NodePaths) -> bool {
    running(paths).inspect(|pid| signal(*pid, Signal::CONT)).is_some()
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended since we looked; the wait that follows sees that.
        let _ = kill_process(pid, signal);
    }
}

fn wait_gone(paths: &NodePaths, patience: Duration) -> bool {
    let until = Instant::now() + patience;
    while running(paths).is_some() {
        if Instant::now() >= until {
            return false;
        }
        std::thread::sleep(POLL);
    }
    true
}

/// How a process of ours that is ending has ended; `None` when it takes longer than a killed process may.
pub fn wait_for(child: &mut Child) -> Option<ExitStatus> {
    let until = Instant::now() + KILL_PATIENCE;
    loop {
        match child.try_wait() {
            Ok(None) if Instant::now() < until => std::thread::sleep(POLL),
            ended => return ended.ok().flatten(),
        }
    }
}

fn forget(paths: &NodePaths) {
    // A stale pid file does no harm: `running` compares the command line.
    let _ = fs::remove_file(&paths.pid);
}

/// CPU seconds (user and system) a process has used since it started.
pub fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field, the name in parentheses, may hold spaces: count from after it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

/// Resident memory of a process in KiB.
pub fn resident_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_use_of_the_machine_is_read() {
        let pid = std::process::id();
        assert!(cpu_seconds(pid).is_some_and(|seconds| seconds >= 0.0));
        assert!(resident_kib(pid).is_some_and(|kib| kib > 100));
    }

    #[test]
    fn a_process_with_another_command_line_is_not_ours() {
        let dir = tempfile::tempdir().unwrap();
        let paths = NodePaths::new(dir.path(), 0);
        fs::write(&paths.pid, std::process::id().to_string()).unwrap();
        assert_eq!(running(&paths), None);
    }
}
