//! The queue of everything that is going to happen.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;

use cairn_catchup::RequestId;
use cairn_consensus::{Action, Input, Timer};
use cairn_types::Epoch;

use crate::compact::Compact;
use crate::executor::Task;
use crate::packet::Packet;

/// Events waiting, at most: a network that floods itself without end is stopped here, long before memory is.
pub(crate) const EVENTS_MAX: usize = 30_000_000;

/// Something that happens to a node, or to the network.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A packet comes to its receiver's line.
    Reach { from: usize, to: usize, packet: Packet },
    /// A packet comes in.
    Arrive { from: usize, to: usize, packet: Packet },
    /// Its signatures are checked.
    Checked { node: usize, incarnation: u32, from: usize, packet: Packet },
    /// The loop is free for its next turn.
    Turn { node: usize, incarnation: u32 },
    /// What a turn decided is durable and signed.
    Act { node: usize, incarnation: u32, actions: Rc<Vec<Action>> },
    /// A timer runs out.
    Timer { node: usize, incarnation: u32, epoch: Epoch, timer: Timer },
    /// The executor is free for its next task.
    Execute { node: usize, incarnation: u32 },
    /// The executor is through with a task.
    Executed { node: usize, incarnation: u32, input: Box<Input> },
    /// A block from the future may be checked now.
    CheckLater { node: usize, incarnation: u32, task: Box<Task> },
    /// Final blocks are synced to disk.
    SyncState { node: usize, incarnation: u32 },
    /// Transactions that wait are passed on.
    Forward { node: usize, incarnation: u32 },
    /// Whoever catches up looks whether answers are due.
    Tick { node: usize, incarnation: u32 },
    /// A question has waited long enough.
    Unanswered { node: usize, incarnation: u32, request: RequestId },
    /// Transactions that a proposal names may have come in.
    Rebuild { node: usize, incarnation: u32, from: usize, compact: Rc<Compact>, tries: u32 },
    /// A role's turn to misbehave by itself.
    Misbehave { node: usize },
    /// A role's message goes out late.
    Late { from: usize, to: usize, packet: Packet },
    /// A perturbation of the manifest begins.
    Begin { perturbation: usize },
    /// It ends.
    End { perturbation: usize },
    /// A node starts again.
    Restart { node: usize },
    /// A client submits.
    Submit,
    /// A client looks whether its transaction is final.
    Retry { transaction: usize },
    /// The operators of the validators look where a change of the set stands.
    Govern,
}

impl Event {
    /// A number for the kind of event, and the node it happens to.
    pub(crate) fn place(&self) -> (u8, usize) {
        match self {
            Self::Arrive { to, .. } => (0, *to),
            Self::Checked { node, .. } => (1, *node),
            Self::Turn { node, .. } => (2, *node),
            Self::Act { node, .. } => (3, *node),
            Self::Timer { node, .. } => (4, *node),
            Self::Execute { node, .. } => (5, *node),
            Self::Executed { node, .. } => (6, *node),
            Self::CheckLater { node, .. } => (7, *node),
            Self::SyncState { node, .. } => (8, *node),
            Self::Forward { node, .. } => (9, *node),
            Self::Tick { node, .. } => (10, *node),
            Self::Unanswered { node, .. } => (11, *node),
            Self::Rebuild { node, .. } => (12, *node),
            Self::Misbehave { node } => (13, *node),
            Self::Late { from, .. } => (14, *from),
            Self::Begin { perturbation } => (15, *perturbation),
            Self::End { perturbation } => (16, *perturbation),
            Self::Restart { node } => (17, *node),
            Self::Submit => (18, 0),
            Self::Retry { transaction } => (19, *transaction),
            Self::Govern => (20, 0),
            Self::Reach { to, .. } => (21, *to),
        }
    }

    /// The incarnation it belongs to; `None` for what happens whoever runs.
    pub(crate) const fn incarnation(&self) -> Option<u32> {
        match self {
            Self::Checked { incarnation, .. }
            | Self::Turn { incarnation, .. }
            | Self::Act { incarnation, .. }
            | Self::Timer { incarnation, .. }
            | Self::Execute { incarnation, .. }
            | Self::Executed { incarnation, .. }
            | Self::CheckLater { incarnation, .. }
            | Self::SyncState { incarnation, .. }
            | Self::Forward { incarnation, .. }
            | Self::Tick { incarnation, .. }
            | Self::Unanswered { incarnation, .. }
            | Self::Rebuild { incarnation, .. } => Some(*incarnation),
            _ => None,
        }
    }
}

struct Entry {
    at: u64,
    sequence: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

/// Events by time; those of one moment in the order they were planned.
#[derive(Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<Reverse<Entry>>,
    sequence: u64,
}

impl Queue {
    pub(crate) fn push(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.heap.push(Reverse(Entry { at, sequence: self.sequence, event }));
    }

    /// The next event, unless it lies after `deadline`.
    pub(crate) fn pop(&mut self, deadline: u64) -> Option<(u64, Event)> {
        if self.heap.peek().is_none_or(|next| next.0.at > deadline) {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| (entry.at, entry.event))
    }

    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_small_enough_to_be_moved_about() {
        assert!(size_of::<Event>() <= 64, "{} bytes", size_of::<Event>());
    }

    #[test]
    fn events_come_by_time_and_then_in_the_order_they_were_planned() {
        let mut queue = Queue::default();
        for (at, node) in [(5, 1), (3, 2), (5, 3), (4, 4)] {
            queue.push(at, Event::Restart { node });
        }
        let order: Vec<usize> =
            std::iter::from_fn(|| queue.pop(4).map(|(_, event)| event.place().1)).collect();
        assert_eq!((order, queue.len()), (vec![2, 4], 2));
        assert_eq!(queue.pop(9).map(|(at, event)| (at, event.place().1)), Some((5, 1)));
    }
}
