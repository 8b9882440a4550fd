//! Writing one plane of a link.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::{AsyncRead as _, AsyncWrite as _};
use libp2p::Stream;

use crate::frame::Frame;
use crate::message::Plane;
use crate::metrics::Metrics;
use crate::queue::Queues;

/// What is written before the other plane is looked at again.
const SLICE_BYTES: usize = 64 * 1_024;

/// Whether an outlet could go on at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Progress {
    /// A slice was written; there may be more.
    Wrote,
    /// Nothing to write, all flushed, or the stream takes no more now. The task is woken for either.
    Waiting,
}

/// The writing end of one plane.
#[derive(Debug)]
pub(crate) struct Outlet {
    plane: Plane,
    stream: Stream,
    frame: Option<Frame>,
    written: usize,
    unflushed: bool,
}

impl Outlet {
    pub(crate) const fn new(plane: Plane, stream: Stream) -> Self {
        // Unflushed from the start: the flush is what tells the other side that the stream exists.
        Self { plane, stream, frame: None, written: 0, unflushed: true }
    }

    /// Writes at most one slice.
    pub(crate) fn poll_slice(
        &mut self,
        cx: &mut Context<'_>,
        queues: &Queues,
        metrics: &Metrics,
    ) -> io::Result<Progress> {
        if self.frame.is_none() {
            self.frame = queues.pop(self.plane);
            self.written = 0;
        }
        let Some(frame) = &self.frame else { return self.flush(cx) };
        let end = frame.bytes.len().min(self.written.saturating_add(SLICE_BYTES));
        let slice = frame.bytes.get(self.written..end).unwrap_or_default();
        match Pin::new(&mut self.stream).poll_write(cx, slice) {
            Poll::Pending => return Ok(Progress::Waiting),
            Poll::Ready(written) => match written? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => self.written += written,
            },
        }
        self.unflushed = true;
        if self.written >= frame.bytes.len() {
            metrics.sent(self.plane, frame.kind, frame.bytes.len());
            self.frame = None;
        }
        Ok(Progress::Wrote)
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> io::Result<Progress> {
        if self.unflushed
            && let Poll::Ready(flushed) = Pin::new(&mut self.stream).poll_flush(cx)
        {
            flushed?;
            self.unflushed = false;
        }
        Ok(Progress::Waiting)
    }

    /// Nothing is ever read here; an end or a fault means that the other side refused or left.
    pub(crate) fn check_open(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let mut byte = [0];
        match Pin::new(&mut self.stream).poll_read(cx, &mut byte) {
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(0)) => Err(io::ErrorKind::UnexpectedEof.into()),
            Poll::Ready(Ok(_)) => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "bytes on a stream that only we write"))
            }
            Poll::Ready(Err(fault)) => Err(fault),
        }
    }
}
