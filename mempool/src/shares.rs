//! What each sender holds: its queue, its weight, and its place in the rotation.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use cairn_types::{Address, TxId};

/// Which of the pool's two bounds is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Measure {
    Transactions,
    Bytes,
}

#[derive(Debug)]
struct Holding {
    /// Arrival number to id: the order in which the sender's transactions are taken.
    queue: BTreeMap<u64, TxId>,
    bytes: usize,
    turn: u64,
}

/// All senders' holdings, with the biggest at hand by either measure.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    holdings: HashMap<Address, Holding>,
    by_transactions: BTreeSet<(usize, Address)>,
    by_bytes: BTreeSet<(usize, Address)>,
    /// Senders in the order in which a block serves them.
    rotation: BTreeMap<u64, Address>,
    next_turn: u64,
}

impl Shares {
    pub(crate) fn senders(&self) -> usize {
        self.holdings.len()
    }

    /// What `sender` holds, by `measure`.
    pub(crate) fn held(&self, sender: &Address, measure: Measure) -> usize {
        self.holdings.get(sender).map_or(0, |holding| match measure {
            Measure::Transactions => holding.queue.len(),
            Measure::Bytes => holding.bytes,
        })
    }

    /// The biggest sender by `measure` and what it holds.
    pub(crate) fn biggest(&self, measure: Measure) -> Option<(usize, Address)> {
        match measure {
            Measure::Transactions => self.by_transactions.last().copied(),
            Measure::Bytes => self.by_bytes.last().copied(),
        }
    }

    /// The latest arrival of `sender`.
    pub(crate) fn newest(&self, sender: &Address) -> Option<TxId> {
        self.holdings.get(sender)?.queue.last_key_value().map(|(_, id)| *id)
    }

    pub(crate) fn add(&mut self, sender: Address, arrival: u64, id: TxId, bytes: usize) {
        self.unweigh(&sender);
        let holding = self.holdings.entry(sender).or_insert_with(|| {
            let turn = self.next_turn;
            self.next_turn = turn.saturating_add(1);
            self.rotation.insert(turn, sender);
            Holding { queue: BTreeMap::new(), bytes: 0, turn }
        });
        holding.queue.insert(arrival, id);
        holding.bytes = holding.bytes.saturating_add(bytes);
        self.weigh(&sender);
    }

    pub(crate) fn take(&mut self, sender: &Address, arrival: u64, bytes: usize) {
        self.unweigh(sender);
        let Some(holding) = self.holdings.get_mut(sender) else { return };
        holding.queue.remove(&arrival);
        holding.bytes = holding.bytes.saturating_sub(bytes);
        if holding.queue.is_empty() {
            self.rotation.remove(&holding.turn);
            self.holdings.remove(sender);
        } else {
            self.weigh(sender);
        }
    }

    /// Puts a sender that was served at the end of the rotation.
    pub(crate) fn served(&mut self, sender: &Address) {
        if let Some(holding) = self.holdings.get_mut(sender) {
            self.rotation.remove(&holding.turn);
            holding.turn = self.next_turn;
            self.rotation.insert(holding.turn, *sender);
            self.next_turn = self.next_turn.saturating_add(1);
        }
    }

    /// Each sender's queue, in rotation order.
    pub(crate) fn queues(&self) -> impl Iterator<Item = impl Iterator<Item = TxId> + '_> + '_ {
        self.rotation
            .values()
            .filter_map(|sender| self.holdings.get(sender))
            .map(|holding| holding.queue.values().copied())
    }

    fn weigh(&mut self, sender: &Address) {
        if let Some(holding) = self.holdings.get(sender) {
            self.by_transactions.insert((holding.queue.len(), *sender));
            self.by_bytes.insert((holding.bytes, *sender));
        }
    }

    fn unweigh(&mut self, sender: &Address) {
        if let Some(holding) = self.holdings.get(sender) {
            self.by_transactions.remove(&(holding.queue.len(), *sender));
            self.by_bytes.remove(&(holding.bytes, *sender));
        }
    }
}
