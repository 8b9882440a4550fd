//! The blocks seen last, whole: others ask for them by id.

use std::num::NonZeroUsize;

use cairn_types::BlockId;
use lru::LruCache;

use super::wire::Found;

/// Blocks kept, at most.
const BLOCKS_MAX: NonZeroUsize = NonZeroUsize::new(16).expect("not zero");
/// Bytes of their transactions kept, at most, beside the newest block: four full blocks. Decoded, many small proofs take
/// several times as much.
const BYTES_MAX: usize = 12 << 20;

/// Bounded by number and by bytes, the least recently used first.
pub(crate) struct Recent {
    blocks: LruCache<BlockId, (Found, usize)>,
    bytes: usize,
}

impl Recent {
    pub(crate) fn new() -> Self {
        Self { blocks: LruCache::new(BLOCKS_MAX), bytes: 0 }
    }

    pub(crate) fn contains(&self, id: &BlockId) -> bool {
        self.blocks.contains(id)
    }

    pub(crate) fn get(&mut self, id: &BlockId) -> Option<&Found> {
        self.blocks.get(id).map(|(found, _)| found)
    }

    /// Keeps a block whose header was checked, so that others can have it. A leader's signature covers the header alone, so
    /// it may send a second body, or only a wrong one, under a header that is good: whoever were given that would take us for
    /// a liar. Kept is the body that the header names, and nothing takes its place.
    pub(crate) fn keep(&mut self, found: Found) {
        let id = found.block().id();
        if !self.contains(&id) && found.block().matches_tx_root() {
            self.put(id, found);
        }
    }

    fn put(&mut self, id: BlockId, found: Found) {
        let bytes = found.block().transactions().iter().map(|tx| tx.canonical().len()).sum();
        self.bytes += bytes;
        if let Some((_, (_, gone))) = self.blocks.push(id, (found, bytes)) {
            self.bytes -= gone;
        }
        while self.bytes > BYTES_MAX
            && self.blocks.len() > 1
            && let Some((_, (_, gone))) = self.blocks.pop_lru()
        {
            self.bytes -= gone;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cairn_crypto::KeyPair;
    use cairn_types::transaction::{Proofs, TRANSACTION_VERSION};
    use cairn_types::{
        Admission, Block, ChainId, Genesis, Hash, Header, Payload, Proof, Scheme, Signature,
        SignedTransaction, Transaction, TreeKind, Validator, View, tree,
    };

    use super::*;

    /// A block of `count` transactions with as many proofs as fit.
    fn block(view: u64, count: u64) -> (BlockId, Found, usize) {
        let proof = Proof { metadata: vec![7; 1_024], ..Proof::batch(TreeKind::CairnB3V1, Hash([1; 32]), 1) };
        let transaction = |nonce| {
            let payload = Payload::Proofs(Proofs(vec![proof.clone(); 200]));
            let (chain, sender) = (ChainId::new(Hash([2; 32])), Default::default());
            let version = TRANSACTION_VERSION;
            let tx = Transaction { version, chain, sender, nonce, expires_ms: 1, keys: Vec::new(), payload };
            Arc::new(SignedTransaction::new(tx, vec![Signature::new(&[3; 64]).unwrap()]))
        };
        let transactions: Vec<_> = (0..count).map(transaction).collect();
        let bytes = transactions.iter().map(|tx| tx.canonical().len()).sum();
        let header = Header { view: View::new(view), ..header() };
        let block = Block::new(header, transactions);
        (block.id(), Found::Block(Arc::new(block)), bytes)
    }

    fn header() -> Header {
        let key = KeyPair::generate(Scheme::MlDsa65).public().clone();
        let validators = vec![Validator { address: key.address(), key, power: 1 }];
        let (params, admission) = (Default::default(), Admission::Open);
        let genesis = Genesis { version: 1, name: "test".into(), time_ms: 1, params, admission, validators };
        genesis.header(Hash([4; 32])).unwrap()
    }

    #[test]
    fn another_body_under_the_same_header_is_neither_kept_nor_takes_the_place_of_the_right_one() {
        let (_, named, _) = block(1, 2);
        let (_, other, _) = block(1, 3);
        let leaves: Vec<Hash> = named.block().transactions().iter().map(|tx| tx.block_leaf()).collect();
        let tx_root = tree::tx_root(&leaves);
        let header = Header { tx_root, tx_count: 2, ..named.block().header().clone() };
        let with = |body: &Found| {
            let transactions = body.block().transactions().to_vec();
            Found::Block(Arc::new(Block::new(header.clone(), transactions)))
        };
        let (right, wrong, id) = (with(&named), with(&other), header.id());
        let held = |recent: &mut Recent| recent.get(&id).map(|found| found.block().transactions().len());
        let mut recent = Recent::new();
        recent.keep(wrong.clone());
        assert_eq!(held(&mut recent), None);
        recent.keep(right);
        assert_eq!(held(&mut recent), Some(2));
        recent.keep(wrong);
        assert_eq!(held(&mut recent), Some(2));
    }

    #[test]
    fn small_blocks_are_bounded_by_number_and_large_ones_by_bytes() {
        let mut recent = Recent::new();
        for view in 1..=40 {
            let (id, found, _) = block(view, 0);
            recent.put(id, found);
            assert!(recent.contains(&id));
        }
        assert_eq!((recent.blocks.len(), recent.bytes), (16, 0));
        let mut sizes = Vec::new();
        for view in 41..=60 {
            let (id, found, bytes) = block(view, 15);
            recent.put(id, found.clone());
            recent.put(id, found);
            sizes.push(bytes);
        }
        let size = sizes[0];
        assert!(size > 3_000_000, "{size}");
        assert_eq!((recent.blocks.len(), recent.bytes), (BYTES_MAX / size, BYTES_MAX / size * size));
        let (huge, found, bytes) = block(61, 80);
        recent.put(huge, found);
        assert_eq!((recent.blocks.len(), recent.bytes), (1, bytes), "the newest is always kept");
    }
}
