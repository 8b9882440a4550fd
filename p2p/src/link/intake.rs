//! Reading one plane of a link: credit → frame → rate → header-only decode → the node's channel.
//!
//! When the node lags, or the sender is too fast, reading stops and the sender's own bounded queue
//! fills; nothing is thrown away here and other validators are not held up. The channel serves waiting
//! links in turn.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use cairn_types::{Address, Epoch, View};
use libp2p::Stream;
use prost::Message as _;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::{PollSemaphore, PollSender};

use super::allowance::Allowance;
use super::auth::LinkFault;
use crate::event::{Event, HotEvent, MeshMessage};
use crate::frame::{Envelope, FrameReader, envelope_bytes_max};
use crate::message::{MessageKind, Plane};
use crate::metrics::{DropReason, Metrics};

/// Where a plane's messages go.
#[derive(Clone, Debug)]
pub(crate) enum Inbox {
    Hot(mpsc::Sender<HotEvent>),
    Bulk(mpsc::Sender<Event>),
}

#[derive(Debug)]
enum PollInbox {
    Hot(PollSender<HotEvent>),
    Bulk(PollSender<Event>),
}

impl PollInbox {
    fn poll_reserve(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LinkFault>> {
        let closed = LinkFault::Closed("node's own");
        match self {
            Self::Hot(sender) => sender.poll_reserve(cx).map_err(|_| closed),
            Self::Bulk(sender) => sender.poll_reserve(cx).map_err(|_| closed),
        }
    }

    fn send(&mut self, message: MeshMessage) {
        // Room has been reserved; a closed channel means that the node is ending.
        let _ = match self {
            Self::Hot(sender) => sender.send_item(HotEvent::Message(message)).is_ok(),
            Self::Bulk(sender) => sender.send_item(Event::Bulk(message)).is_ok(),
        };
    }
}

/// The reading end of one plane.
#[derive(Debug)]
pub(crate) struct Intake {
    from: Address,
    plane: Plane,
    stream: Stream,
    reader: FrameReader,
    allowance: Arc<Allowance>,
    credit: PollSemaphore,
    held: Option<OwnedSemaphorePermit>,
    pause: Option<Pin<Box<Sleep>>>,
    ready: Option<MeshMessage>,
    inbox: PollInbox,
    metrics: Metrics,
}

impl Intake {
    pub(crate) fn new(
        from: Address,
        plane: Plane,
        stream: Stream,
        allowance: Arc<Allowance>,
        inbox: Inbox,
        metrics: Metrics,
    ) -> Self {
        let inbox = match inbox {
            Inbox::Hot(sender) => PollInbox::Hot(PollSender::new(sender)),
            Inbox::Bulk(sender) => PollInbox::Bulk(PollSender::new(sender)),
        };
        Self {
            from,
            plane,
            stream,
            reader: FrameReader::new(envelope_bytes_max(plane)),
            credit: PollSemaphore::new(Arc::clone(&allowance.credit)),
            allowance,
            held: None,
            pause: None,
            ready: None,
            inbox,
            metrics,
        }
    }

    /// Takes in one frame. Ready once it is with the node (or dropped as malformed).
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LinkFault>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        if self.ready.is_none() {
            let bytes = ready!(self.poll_bytes(cx))?;
            let wait = self.allowance.charge(bytes.len(), Instant::now());
            if !wait.is_zero() {
                self.pause = Some(Box::pin(sleep(wait)));
            }
            let charge = self.held.take();
            self.ready = self.decode(bytes, charge);
        }
        if self.ready.is_some() {
            ready!(self.inbox.poll_reserve(cx))?;
        }
        if let Some(message) = self.ready.take() {
            self.inbox.send(message);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, LinkFault>> {
        let Some(length) = ready!(self.reader.poll_length(cx, &mut self.stream))? else {
            return Poll::Ready(Err(LinkFault::Closed(self.plane.name())));
        };
        if self.held.is_none() {
            // The reader bounds a frame to some 4 MiB, less than any allowance, so this always comes.
            let permits = u32::try_from(length).unwrap_or(u32::MAX);
            self.held = ready!(self.credit.poll_acquire_many(cx, permits));
        }
        self.reader.poll_body(cx, &mut self.stream).map_err(LinkFault::from)
    }

    fn decode(&self, bytes: Bytes, charge: Option<OwnedSemaphorePermit>) -> Option<MeshMessage> {
        let length = bytes.len();
        let envelope = Envelope::decode(bytes).ok();
        let kind = envelope.as_ref().and_then(|envelope| MessageKind::from_number(envelope.kind));
        let (Some(envelope), Some(kind)) = (envelope, kind) else {
            self.metrics.dropped(self.plane, DropReason::Malformed, 1);
            tracing::debug!(from = %self.from, plane = self.plane.name(), "a frame of no known kind");
            return None;
        };
        self.metrics.received(self.plane, kind, length);
        Some(MeshMessage {
            from: self.from,
            plane: self.plane,
            kind,
            epoch: Epoch::new(envelope.epoch),
            view: View::new(envelope.view),
            body: envelope.body,
            charge,
        })
    }
}
