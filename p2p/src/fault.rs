//! What can go wrong, said so that an operator can act on it.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why networking could not start.
#[derive(Debug, Error)]
pub enum P2pFault {
    /// A configured address is not a multiaddress of a kind this node dials or listens on.
    #[error("{field}: {address:?} is not usable: {why}; expected for instance /ip4/127.0.0.1/tcp/7000")]
    Address {
        /// The configuration field.
        field: &'static str,
        /// The text found there.
        address: String,
        /// What is wrong with it.
        why: String,
    },
    /// A configuration field is out of range.
    #[error("{field}: {why}")]
    Config {
        /// The configuration field.
        field: &'static str,
        /// What is wrong and what was expected.
        why: String,
    },
    /// The node key file could not be read or made.
    #[error("node key {}: {why}", path.display())]
    NodeKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The address book exists but cannot be read.
    #[error("address book {}: {source}", path.display())]
    AddressBook {
        /// The file.
        path: PathBuf,
        /// The fault met.
        source: io::Error,
    },
    /// A transport or behaviour could not be set up.
    #[error("{swarm} network: {why}")]
    Setup {
        /// `mesh` or `public`.
        swarm: &'static str,
        /// What failed.
        why: String,
    },
    /// The listen address could not be bound.
    #[error("{swarm} network: cannot listen on {address}: {why}")]
    Listen {
        /// `mesh` or `public`.
        swarm: &'static str,
        /// The address.
        address: String,
        /// What the system said.
        why: String,
    },
}

/// Why a command was not taken.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum SendFault {
    /// Networking has shut down.
    #[error("networking has shut down")]
    Closed,
    /// The command queue is full; the command was dropped.
    #[error("the command queue is full")]
    Full,
}

/// Why a request brought no answer.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum RequestFault {
    /// There is no link to that peer now.
    #[error("not connected to that peer")]
    NotConnected,
    /// No answer within the time limit.
    #[error("no answer in time")]
    Timeout,
    /// The link broke, or the peer does not speak the protocol, or it chose not to answer.
    #[error("the peer gave no answer")]
    Refused,
    /// The request is longer than the protocol allows.
    #[error("the request has {0} bytes, the protocol allows 16 KiB")]
    TooLong(usize),
    /// The answer is not what the protocol allows.
    #[error("the peer's answer cannot be decoded")]
    Malformed,
    /// As many requests are under way as the protocol allows.
    #[error("too many requests under way")]
    Busy,
}
