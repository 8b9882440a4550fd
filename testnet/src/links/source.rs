//! Which node a connection comes from: the kernel's tables name the socket, and the process that holds it.

use std::fs;

use crate::layout::NodePaths;
use crate::process;

/// The place in `homes` of the node whose process connected from 127.0.0.1:`from` to 127.0.0.1:`to`.
pub(super) fn node_of(homes: &[NodePaths], from: u16, to: u16) -> Option<usize> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let socket = format!("socket:[{}]", inode(&table, from, to)?);
    homes.iter().position(|paths| process::running(paths).is_some_and(|pid| holds(pid, &socket)))
}

/// The inode of the socket with these ends, out of the text of `/proc/net/tcp` (proc_net_tcp, kernel documentation):
/// number, local address, remote address, state, four counters in three fields, user, timeout, inode.
fn inode(table: &str, local: u16, remote: u16) -> Option<u64> {
    let (local, remote) = (format!("0100007F:{local:04X}"), format!("0100007F:{remote:04X}"));
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let found = fields.next()? == local && fields.next()? == remote;
        found.then(|| fields.nth(6))??.parse().ok()
    })
}

fn holds(pid: u32, socket: &str) -> bool {
    let Ok(handles) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let mut targets = handles.filter_map(Result::ok).filter_map(|handle| fs::read_link(handle.path()).ok());
    targets.any(|target| target.as_os_str() == socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
   0: 0100007F:6978 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0 100 0 0 10 0\n\
   1: 0100007F:D431 0100007F:6978 01 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 20 4 30 10 -1\n";

    #[test]
    fn the_socket_is_found_by_both_ends() {
        assert_eq!(inode(TABLE, 0xd431, 0x6978), Some(4711));
        assert_eq!(inode(TABLE, 0x6978, 0xd431), None);
        assert_eq!(inode(TABLE, 0xd431, 0x6979), None);
    }

    #[test]
    fn a_process_that_holds_a_socket_is_recognised() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let here = listener.local_addr().unwrap().port();
        let dialled = std::net::TcpStream::connect(("127.0.0.1", here)).unwrap();
        let from = dialled.local_addr().unwrap().port();
        let table = fs::read_to_string("/proc/net/tcp").unwrap();
        let socket = format!("socket:[{}]", inode(&table, from, here).unwrap());
        assert!(holds(std::process::id(), &socket));
        assert!(!holds(std::process::id(), "socket:[1]"));
    }
}
