//! Which transactions the blocks between the committed tip and any held block carry: a leader must not
//! build them in twice, and they are no new work.

use std::collections::{HashMap, HashSet};

use cairn_types::{Block, BlockId, Height, TxId};
use parking_lot::Mutex;

/// The transactions of one uncommitted block.
#[derive(Debug)]
struct Carried {
    parent: BlockId,
    height: Height,
    transactions: Vec<TxId>,
}

/// Every uncommitted block that was built or checked here. Bounded by the overlays that `state` keeps, since a
/// block is entered only after its overlay was made.
#[derive(Debug, Default)]
pub(crate) struct Uncommitted {
    blocks: Mutex<HashMap<BlockId, Carried>>,
}

impl Uncommitted {
    /// Enters a block whose overlay exists, with the ids of its transactions.
    pub(crate) fn insert(&self, block: &Block, transactions: Vec<TxId>) {
        let header = block.header();
        let carried = Carried { parent: header.parent, height: header.height, transactions };
        self.blocks.lock().insert(block.id(), carried);
    }

    /// Forgets every block up to the committed height.
    pub(crate) fn committed(&self, height: Height) {
        self.blocks.lock().retain(|_, carried| carried.height > height);
    }

    /// The transactions of `tip` and its uncommitted ancestors.
    pub(crate) fn transactions_up_to(&self, tip: BlockId) -> HashSet<TxId> {
        let blocks = self.blocks.lock();
        let mut found = HashSet::new();
        let mut at = tip;
        while let Some(carried) = blocks.get(&at) {
            found.extend(carried.transactions.iter().copied());
            at = carried.parent;
        }
        found
    }
}
