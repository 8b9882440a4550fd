//! Frames of a link's streams: `u32 big-endian length ‖ Envelope`. The envelope is a protobuf message
//! whose body is a slice of the frame, so reading its header copies and decodes nothing else.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use cairn_types::{Epoch, View};
use futures::AsyncRead;
use prost::Message as _;

use crate::message::{
    BULK_BODY_BYTES_MAX, FRAME_HEADROOM_BYTES, HOT_BODY_BYTES_MAX, MessageKind, Outbound, Plane,
};

/// What a frame holds.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Envelope {
    #[prost(uint32, tag = "1")]
    pub(crate) kind: u32,
    #[prost(uint64, tag = "2")]
    pub(crate) epoch: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) view: u64,
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) body: Bytes,
}

/// Bytes before the envelope.
pub(crate) const LENGTH_BYTES: usize = 4;

/// Longest body of a plane.
pub(crate) const fn body_bytes_max(plane: Plane) -> usize {
    match plane {
        Plane::Hot => HOT_BODY_BYTES_MAX,
        Plane::Bulk => BULK_BODY_BYTES_MAX,
    }
}

/// Longest envelope of a plane; a longer announced length ends the link before anything is allocated.
pub(crate) const fn envelope_bytes_max(plane: Plane) -> usize {
    body_bytes_max(plane) + FRAME_HEADROOM_BYTES
}

/// A message encoded once for all the links it takes.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) kind: MessageKind,
    pub(crate) epoch: Epoch,
    pub(crate) view: View,
    pub(crate) bytes: Bytes,
}

impl Frame {
    /// The frame of `message`; `None` when its body is longer than its plane allows.
    pub(crate) fn new(message: &Outbound) -> Option<Self> {
        if message.body.len() > body_bytes_max(message.plane) {
            return None;
        }
        let envelope = Envelope {
            kind: message.kind.number(),
            epoch: message.epoch.get(),
            view: message.view.get(),
            body: message.body.clone(),
        };
        let length = envelope.encoded_len();
        let mut bytes = BytesMut::with_capacity(LENGTH_BYTES + length);
        bytes.put_u32(u32::try_from(length).ok()?);
        envelope.encode(&mut bytes).ok()?;
        Some(Self { kind: message.kind, epoch: message.epoch, view: message.view, bytes: bytes.freeze() })
    }
}

/// A first buffer of this size holds any vote; larger frames grow by what has arrived.
const FIRST_BUFFER_BYTES: usize = 8 * 1_024;
/// How many times what has arrived a buffer holds: each time that it grows, all of that is copied.
const ROOM_FACTOR: usize = 4;

/// Reads one frame after another. Memory grows with the bytes received, never with the length announced.
#[derive(Debug)]
pub(crate) struct FrameReader {
    bytes_max: usize,
    prefix: [u8; LENGTH_BYTES],
    prefix_filled: usize,
    body: Vec<u8>,
    body_filled: usize,
}

impl FrameReader {
    /// A reader of frames whose envelopes have at most `bytes_max` bytes.
    pub(crate) const fn new(bytes_max: usize) -> Self {
        Self { bytes_max, prefix: [0; LENGTH_BYTES], prefix_filled: 0, body: Vec::new(), body_filled: 0 }
    }

    /// The length of the frame that begins here; `None` at a clean end of the stream.
    pub(crate) fn poll_length<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut R,
    ) -> Poll<io::Result<Option<usize>>> {
        while self.prefix_filled < LENGTH_BYTES {
            let Some(room) = self.prefix.get_mut(self.prefix_filled..) else {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            };
            match ready!(Pin::new(&mut *io).poll_read(cx, room))? {
                0 if self.prefix_filled == 0 => return Poll::Ready(Ok(None)),
                0 => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                read => self.prefix_filled += read,
            }
        }
        let length = u32::from_be_bytes(self.prefix) as usize;
        if length > self.bytes_max {
            let why = format!("a frame of {length} bytes; at most {} are allowed", self.bytes_max);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, why)));
        }
        Poll::Ready(Ok(Some(length)))
    }

    /// The frame whose length [`Self::poll_length`] gave.
    pub(crate) fn poll_body<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut R,
    ) -> Poll<io::Result<Bytes>> {
        let length = u32::from_be_bytes(self.prefix) as usize;
        while self.body_filled < length {
            if self.body_filled == self.body.len() {
                let size = (ROOM_FACTOR * self.body_filled).max(FIRST_BUFFER_BYTES).min(length);
                self.body.resize(size, 0);
            }
            let Some(room) = self.body.get_mut(self.body_filled..) else {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            };
            match ready!(Pin::new(&mut *io).poll_read(cx, room))? {
                0 => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                read => self.body_filled += read,
            }
        }
        self.prefix_filled = 0;
        self.body_filled = 0;
        Poll::Ready(Ok(Bytes::from(std::mem::take(&mut self.body))))
    }
}
