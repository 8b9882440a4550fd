//! Links between validators: authentication, then one long-lived stream per plane and direction.
//!
//! Upon a connection: the dialer opens the `auth` stream and both sides prove their validator keys
//! ([`auth`]). Upon a proof the mesh task decides; upon its admission the handler opens a `hot` and a
//! `bulk` stream for writing and begins to read those of the other side. Streams that arrive before
//! that stay unread.
//!
//! Why not `libp2p-stream`: its senders are never pruned and are made even for denied connections, its
//! accept queue holds one stream, a lost dial is never reported, and each stream would need a task of its
//! own between the link's queue and the connection. A handler of our own writes and reads within the
//! connection's task, so a message crosses no task between the queue and the socket.

pub(crate) mod allowance;
pub(crate) mod auth;
pub(crate) mod behaviour;
pub(crate) mod handler;
pub(crate) mod intake;
mod outlet;

use std::convert::Infallible;
use std::sync::Arc;

use cairn_types::ChainId;
use futures::future::{Ready, ready};
use libp2p::StreamProtocol;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};

use crate::message::Plane;

/// What a stream of a link is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    Auth,
    Carry(Plane),
}

impl Purpose {
    const ALL: [Self; 3] = [Self::Auth, Self::Carry(Plane::Hot), Self::Carry(Plane::Bulk)];

    const fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Carry(plane) => plane.name(),
        }
    }
}

/// The name of one of our protocols on this chain: `/cairn/<chain>/<name>/1`.
pub(crate) fn protocol(chain: ChainId, name: &str) -> StreamProtocol {
    // Hex digits and fixed names after a leading slash are always a valid protocol name.
    StreamProtocol::try_from_owned(format!("/cairn/{chain}/{name}/1"))
        .unwrap_or(StreamProtocol::new("/cairn/invalid"))
}

/// One of a link's protocol names with its purpose.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    name: StreamProtocol,
    purpose: Purpose,
}

impl AsRef<str> for Named {
    fn as_ref(&self) -> &str {
        self.name.as_ref()
    }
}

/// Negotiates link streams; yields the stream and its purpose.
#[derive(Clone, Debug)]
pub(crate) struct LinkUpgrade(Arc<[Named]>);

impl LinkUpgrade {
    /// All link protocols of a chain: what a side listens to.
    pub(crate) fn all(chain: ChainId) -> Self {
        let named = Purpose::ALL.map(|purpose| Named { name: protocol(chain, purpose.name()), purpose });
        Self(Arc::new(named))
    }

    /// One of them: what a side opens.
    fn only(&self, purpose: Purpose) -> Self {
        Self(self.0.iter().filter(|named| named.purpose == purpose).cloned().collect())
    }
}

impl UpgradeInfo for LinkUpgrade {
    type Info = Named;
    type InfoIter = Vec<Named>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.to_vec()
    }
}

impl<S> InboundUpgrade<S> for LinkUpgrade {
    type Output = (S, Purpose);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: S, info: Named) -> Self::Future {
        ready(Ok((stream, info.purpose)))
    }
}

impl<S> OutboundUpgrade<S> for LinkUpgrade {
    type Output = (S, Purpose);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: S, info: Named) -> Self::Future {
        ready(Ok((stream, info.purpose)))
    }
}
