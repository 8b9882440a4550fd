//! Opening a listening socket, with an error that says what to do.

use std::io::ErrorKind;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use crate::config::ServeError;

/// Connections the kernel may hold for us before they are accepted.
const BACKLOG: i32 = 1_024;

/// Listens on `address`, which came from config key `key`.
pub(crate) async fn bind(address: SocketAddr, key: &'static str) -> Result<TcpListener, ServeError> {
    open(address).map_err(|error| {
        let why = match error.kind() {
            ErrorKind::AddrInUse => format!(
                "port {} is in use by another program; stop it, or choose another port",
                address.port()
            ),
            ErrorKind::PermissionDenied => {
                format!("port {} needs rights this program has not; choose one above 1023", address.port())
            }
            ErrorKind::AddrNotAvailable => format!("{} is no address of this machine", address.ip()),
            _ => error.to_string(),
        };
        ServeError::Bind { address, key, why }
    })
}

fn open(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted node must get its port back while old connections linger in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
