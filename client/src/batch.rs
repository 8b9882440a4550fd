//! A batch: digests, their salts, and the tree over them.

use cairn_receipt::AnchorReceipt;
use cairn_types::receipt::{BatchPath, Bundle, BundledLeaf, Receipt, Subject};
use cairn_types::tree::{BatchTree, batch_leaves, salted_row};
use cairn_types::{Hash, Proof, ProofKind, TreeKind};

use crate::fault::ClientFault;

/// Bytes of a salt.
pub const SALT_BYTES: usize = 16;
/// A leaf's salt.
pub type Salt = [u8; SALT_BYTES];

/// One thing to anchor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item {
    /// Its digest.
    pub digest: Hash,
    /// How the digest was made; only says how to hash an offered file.
    pub algorithm: String,
}

/// Whether leaves get salts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Salting {
    /// A random salt for each leaf: a receipt then says nothing about its neighbours in the batch.
    #[default]
    Random,
    /// None: whoever holds a receipt can test guesses of a neighbour's digest.
    None,
}

/// Items under one root.
#[derive(Clone, Debug)]
pub struct Batch {
    items: Vec<Item>,
    /// One per item, or none at all.
    salts: Vec<Salt>,
    tree: BatchTree,
}

impl Batch {
    /// A new batch over `items`, in their order.
    ///
    /// # Errors
    /// When there are none, or no randomness for the salts.
    pub fn new(items: Vec<Item>, kind: TreeKind, salting: Salting) -> Result<Self, ClientFault> {
        let mut salts = Vec::new();
        if salting == Salting::Random {
            salts = vec![[0; SALT_BYTES]; items.len()];
            getrandom::fill(salts.as_flattened_mut())
                .map_err(|error| ClientFault::NoRandomness { why: error.to_string() })?;
        }
        Self::with_salts(items, salts, kind)
    }

    /// The batch over these items with these salts: one for each, or none at all.
    ///
    /// # Errors
    /// When there are no items, or the counts differ.
    pub fn with_salts(items: Vec<Item>, salts: Vec<Salt>, kind: TreeKind) -> Result<Self, ClientFault> {
        if !salts.is_empty() && salts.len() != items.len() {
            return Err(ClientFault::SaltCount { got: salts.len(), items: items.len() });
        }
        let leaves = if salts.is_empty() {
            let rows: Vec<[u8; 32]> = items.iter().map(|item| item.digest.0).collect();
            batch_leaves(kind, &rows)
        } else {
            let rows: Vec<_> =
                salts.iter().zip(&items).map(|(salt, item)| salted_row(salt, &item.digest)).collect();
            batch_leaves(kind, &rows)
        };
        let tree = BatchTree::new(kind, leaves).ok_or(ClientFault::EmptyBatch)?;
        Ok(Self { items, salts, tree })
    }

    /// The root to anchor.
    pub fn root(&self) -> Hash {
        self.tree.root()
    }

    /// Number of leaves.
    pub fn leaves(&self) -> u64 {
        self.tree.leaves()
    }

    /// How the tree hashes.
    pub const fn kind(&self) -> TreeKind {
        self.tree.kind()
    }

    /// The items, in leaf order.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// The salts: one per item, or none at all.
    pub fn salts(&self) -> &[Salt] {
        &self.salts
    }

    /// The proof that anchors it.
    pub fn proof(&self, kind: ProofKind, reference: String) -> Proof {
        Proof { kind, reference, ..Proof::batch(self.kind(), self.root(), self.leaves()) }
    }

    /// What a receipt says about leaf `index`.
    ///
    /// # Errors
    /// When there is no such leaf.
    pub fn leaf(&self, index: u64) -> Result<(Subject, Option<BatchPath>), ClientFault> {
        let no_leaf = || ClientFault::NoLeaf { index, leaves: self.leaves() };
        let at = usize::try_from(index).map_err(|_| no_leaf())?;
        let item = self.items.get(at).ok_or_else(no_leaf)?;
        let path = self.tree.path(index).ok_or_else(no_leaf)?;
        let subject = Subject {
            digest: item.digest,
            algorithm: item.algorithm.clone(),
            salt: self.salts.get(at).map(|salt| salt.to_vec()).unwrap_or_default(),
        };
        Ok((subject, (self.leaves() > 1).then_some(BatchPath { index, path })))
    }

    /// The receipt of leaf `index`, from what a node gave for the root. Verifies nothing.
    ///
    /// # Errors
    /// When there is no such leaf.
    pub fn receipt(&self, core: &AnchorReceipt, index: u64) -> Result<Receipt, ClientFault> {
        let (subject, path) = self.leaf(index)?;
        Ok(core.clone().complete(subject, path))
    }

    /// One bundle of the leaves at `indexes` (strictly ascending), from what a node gave for the root: they
    /// share everything they have in common. Verifies nothing.
    ///
    /// # Errors
    /// When there is no such leaf, or the core is malformed.
    pub fn bundle(&self, core: &AnchorReceipt, indexes: &[u64]) -> Result<Bundle, ClientFault> {
        let leaf = |index: &u64| -> Result<BundledLeaf, ClientFault> {
            let at = usize::try_from(*index).ok();
            let no_leaf = || ClientFault::NoLeaf { index: *index, leaves: self.leaves() };
            let item = at.and_then(|at| self.items.get(at)).ok_or_else(no_leaf)?;
            let salt = at.and_then(|at| self.salts.get(at)).map(|salt| salt.to_vec()).unwrap_or_default();
            let subject = Subject { digest: item.digest, algorithm: item.algorithm.clone(), salt };
            Ok(BundledLeaf { index: *index, subject })
        };
        let leaves = indexes.iter().map(leaf).collect::<Result<Vec<_>, _>>()?;
        let path = self.tree.multiproof(indexes).ok_or(ClientFault::EmptyBatch)?;
        Ok(cairn_receipt::bundle_of_batch(core, leaves, path)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_types::tree::{batch_leaf, verify_batch_path};

    fn items(count: u8) -> Vec<Item> {
        (0..count).map(|at| Item { digest: Hash([at; 32]), algorithm: "blake3".into() }).collect()
    }

    #[test]
    fn every_leaf_leads_to_the_root_with_and_without_salts() {
        for kind in [TreeKind::CairnB3V1, TreeKind::Rfc9162Sha256] {
            for salting in [Salting::Random, Salting::None] {
                for count in 1..12 {
                    let batch = Batch::new(items(count), kind, salting).unwrap();
                    for index in 0..u64::from(count) {
                        let (subject, path) = batch.leaf(index).unwrap();
                        assert_eq!(subject.salt.len(), if salting == Salting::None { 0 } else { SALT_BYTES });
                        assert_eq!(path.is_none(), count == 1);
                        let path = path.map(|path| path.path).unwrap_or_default();
                        let leaf = batch_leaf(kind, &subject.salt, &subject.digest);
                        let root = batch.root();
                        let found = verify_batch_path(kind, leaf, index, batch.leaves(), &path, &root);
                        assert_eq!(found, Ok(true), "{kind:?} {salting:?} leaf {index} of {count}");
                    }
                    assert!(matches!(batch.leaf(u64::from(count)), Err(ClientFault::NoLeaf { .. })));
                }
            }
        }
    }

    #[test]
    fn salts_hide_equal_digests_and_are_all_different() {
        let twins = vec![items(1).remove(0); 100];
        let batch = Batch::new(twins.clone(), TreeKind::CairnB3V1, Salting::Random).unwrap();
        let different: std::collections::BTreeSet<_> = batch.salts().iter().collect();
        assert_eq!(different.len(), 100);
        let again = Batch::with_salts(twins, batch.salts().to_vec(), TreeKind::CairnB3V1).unwrap();
        assert_eq!(again.root(), batch.root());
    }

    #[test]
    fn large_batches_hash_the_same_on_all_cores() {
        let many: Vec<Item> = (0..5_000u32)
            .map(|at| Item {
                digest: Hash(*blake3::hash(&at.to_le_bytes()).as_bytes()),
                algorithm: String::new(),
            })
            .collect();
        let batch = Batch::new(many.clone(), TreeKind::CairnB3V1, Salting::None).unwrap();
        let leaves = many.iter().map(|item| batch_leaf(TreeKind::CairnB3V1, &[], &item.digest)).collect();
        assert_eq!(batch.root(), BatchTree::new(TreeKind::CairnB3V1, leaves).unwrap().root());
    }

    #[test]
    fn empty_batches_and_wrong_counts_are_refused() {
        let none = Batch::new(Vec::new(), TreeKind::CairnB3V1, Salting::Random);
        assert!(matches!(none, Err(ClientFault::EmptyBatch)));
        let two = Batch::with_salts(items(3), vec![[0; SALT_BYTES]; 2], TreeKind::CairnB3V1);
        assert!(matches!(two, Err(ClientFault::SaltCount { got: 2, items: 3 })));
    }
}
