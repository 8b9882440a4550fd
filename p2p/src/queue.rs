//! What waits to be sent on one link, bounded in bytes per plane.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use cairn_types::{Epoch, View};
use futures::task::AtomicWaker;

use crate::frame::Frame;
use crate::message::{MessageKind, Plane};
use crate::metrics::{DropReason, Metrics};

/// Bytes waiting on the hot plane: one proposal of the largest size, or a thousand votes.
pub(crate) const HOT_QUEUE_BYTES_MAX: usize = 4 * 1_024 * 1_024;
/// Bytes waiting on the bulk plane: four of the largest payloads.
pub(crate) const BULK_QUEUE_BYTES_MAX: usize = 16 * 1_024 * 1_024;

type HotKey = (Epoch, View, MessageKind);

/// What became of a pushed frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Pushed {
    /// Frames the push removed or refused because there was no room.
    pub(crate) overflowed: usize,
    /// Whether it took the place of an older frame of its kind and view.
    pub(crate) replaced: bool,
    /// Whether the frame itself is now queued.
    pub(crate) queued: bool,
}

/// Frames in the order of their first push; a newer frame of one (epoch, view, kind) takes the older's
/// place. When there is no room, the lowest views go first: what they say is the most likely to be stale.
#[derive(Debug, Default)]
pub(crate) struct HotQueue {
    order: BTreeMap<u64, Frame>,
    places: BTreeMap<HotKey, u64>,
    bytes: usize,
    next: u64,
}

impl HotQueue {
    pub(crate) fn push(&mut self, frame: Frame, bytes_max: usize) -> Pushed {
        let key = (frame.epoch, frame.view, frame.kind);
        let mut pushed = Pushed::default();
        let place = self.places.remove(&key).inspect(|place| {
            pushed.replaced = true;
            if let Some(older) = self.order.remove(place) {
                self.bytes -= older.bytes.len();
            }
        });
        while self.bytes + frame.bytes.len() > bytes_max {
            pushed.overflowed += 1;
            match self.places.first_key_value() {
                Some((lowest, place)) if *lowest < key => {
                    let (lowest, place) = (*lowest, *place);
                    self.places.remove(&lowest);
                    if let Some(older) = self.order.remove(&place) {
                        self.bytes -= older.bytes.len();
                    }
                }
                _ => return pushed,
            }
        }
        let place = place.unwrap_or_else(|| {
            self.next += 1;
            self.next
        });
        self.bytes += frame.bytes.len();
        self.order.insert(place, frame);
        self.places.insert(key, place);
        pushed.queued = true;
        pushed
    }

    pub(crate) fn pop(&mut self) -> Option<Frame> {
        let (_, frame) = self.order.pop_first()?;
        self.places.remove(&(frame.epoch, frame.view, frame.kind));
        self.bytes -= frame.bytes.len();
        Some(frame)
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Frames in order. When there is no room, waiting transactions make way for anything else, for they
/// reach the leader by gossip too; otherwise the new frame is dropped, so a block once queued is sent.
#[derive(Debug, Default)]
pub(crate) struct BulkQueue {
    frames: VecDeque<Frame>,
    bytes: usize,
}

impl BulkQueue {
    pub(crate) fn push(&mut self, frame: Frame, bytes_max: usize) -> Pushed {
        let mut pushed = Pushed::default();
        while self.bytes + frame.bytes.len() > bytes_max {
            pushed.overflowed += 1;
            let oldest = match frame.kind {
                MessageKind::Transactions => None,
                _ => self.frames.iter().position(|waiting| waiting.kind == MessageKind::Transactions),
            };
            let Some(removed) = oldest.and_then(|place| self.frames.remove(place)) else { return pushed };
            self.bytes -= removed.bytes.len();
        }
        self.bytes += frame.bytes.len();
        self.frames.push_back(frame);
        pushed.queued = true;
        pushed
    }

    pub(crate) fn pop(&mut self) -> Option<Frame> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.bytes.len();
        Some(frame)
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Both queues of one link, and the waker of the connection that empties them.
#[derive(Debug)]
pub(crate) struct Queues {
    hot: Mutex<HotQueue>,
    bulk: Mutex<BulkQueue>,
    waker: AtomicWaker,
    metrics: Metrics,
}

impl Queues {
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self { hot: Mutex::default(), bulk: Mutex::default(), waker: AtomicWaker::new(), metrics }
    }

    /// Queues a frame and wakes the link. Returns whether the frame is queued.
    pub(crate) fn push(&self, plane: Plane, frame: Frame) -> bool {
        let (pushed, before, after) = match plane {
            Plane::Hot => {
                let mut queue = lock(&self.hot);
                let before = queue.bytes();
                (queue.push(frame, HOT_QUEUE_BYTES_MAX), before, queue.bytes())
            }
            Plane::Bulk => {
                let mut queue = lock(&self.bulk);
                let before = queue.bytes();
                (queue.push(frame, BULK_QUEUE_BYTES_MAX), before, queue.bytes())
            }
        };
        self.metrics.queue_changed(plane, before, after);
        self.metrics.dropped(plane, DropReason::Overflow, pushed.overflowed);
        self.metrics.dropped(plane, DropReason::Replaced, usize::from(pushed.replaced));
        self.waker.wake();
        pushed.queued
    }

    /// Takes the next frame to send.
    pub(crate) fn pop(&self, plane: Plane) -> Option<Frame> {
        let frame = match plane {
            Plane::Hot => lock(&self.hot).pop(),
            Plane::Bulk => lock(&self.bulk).pop(),
        };
        if let Some(frame) = &frame {
            self.metrics.queue_changed(plane, frame.bytes.len(), 0);
        }
        frame
    }

    /// Bytes waiting on a plane.
    pub(crate) fn bytes(&self, plane: Plane) -> usize {
        match plane {
            Plane::Hot => lock(&self.hot).bytes(),
            Plane::Bulk => lock(&self.bulk).bytes(),
        }
    }

    /// Wakes `waker` at the next push. To be called before looking into the queues.
    pub(crate) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }
}

impl Drop for Queues {
    fn drop(&mut self) {
        for plane in Plane::ALL {
            self.metrics.queue_changed(plane, self.bytes(plane), 0);
        }
    }
}

/// The queues stay consistent between statements, so a panic elsewhere while the lock was held (there is
/// no code that could) would not make them unusable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
