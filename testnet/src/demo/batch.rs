//! The batch of the demonstration: its tree, its transaction, and the receipt of each leaf.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use cairn_crypto::KeyPair;
use cairn_receipt::AnchorReceipt;
use cairn_types::receipt::{BatchPath, Subject};
use cairn_types::tree::{BatchTree, batch_leaf};
use cairn_types::{ChainId, Proof, ProofKind, SignedTransaction, TreeKind};

use super::input::Item;
use crate::anchoring::{LIFE_MS, Sender};
use crate::clock;

/// Bytes of a leaf's salt: a receipt shows its neighbours' leaf hashes, and a salted one tells nothing.
const SALT_BYTES: usize = 16;
/// How the batch tree hashes.
const KIND: TreeKind = TreeKind::CairnB3V1;

/// Items with their salts and the tree over them.
pub(super) struct Batch {
    items: Vec<(Item, [u8; SALT_BYTES])>,
    pub(super) tree: BatchTree,
}

impl Batch {
    /// The batch of `items`, with fresh salts.
    pub(super) fn new(items: Vec<Item>) -> Result<Self> {
        let items: Vec<(Item, [u8; SALT_BYTES])> =
            items.into_iter().map(|item| (item, rand::random())).collect();
        let leaves = items.iter().map(|(item, salt)| batch_leaf(KIND, salt, &item.digest)).collect();
        let tree = BatchTree::new(KIND, leaves).context("there is nothing to anchor")?;
        Ok(Self { items, tree })
    }

    /// The signed PROOF transaction that anchors its root.
    pub(super) fn transaction(&self, chain: ChainId, key: KeyPair, reference: &str) -> SignedTransaction {
        let proof = Proof {
            kind: ProofKind::Batch,
            tree: KIND,
            root: self.tree.root(),
            leaves: self.tree.leaves(),
            reference: reference.to_owned(),
            previous: None,
            subject: None,
            on_behalf_of: None,
            metadata: Vec::new(),
        };
        let sender = Sender::from(key);
        let expires_ms = clock::unix_ms().saturating_add(LIFE_MS);
        sender.sign(sender.draft(chain, vec![proof], expires_ms))
    }

    /// Writes the receipt of every leaf into `dir`, from what the node gave for the root.
    pub(super) fn write_receipts(&self, core: &AnchorReceipt, dir: &Path) -> Result<Vec<Written>> {
        if dir.exists() {
            fs::remove_dir_all(dir)
                .with_context(|| format!("removing the receipts of an earlier run in {}", dir.display()))?;
        }
        fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
        (0..)
            .zip(&self.items)
            .map(|(index, (item, salt))| self.write_receipt(core, dir, index, item, salt))
            .collect()
    }

    fn write_receipt(
        &self,
        core: &AnchorReceipt,
        dir: &Path,
        index: u64,
        item: &Item,
        salt: &[u8],
    ) -> Result<Written> {
        let path = self.tree.path(index).context("every item is a leaf")?;
        let subject =
            Subject { digest: item.digest, algorithm: item.algorithm.to_owned(), salt: salt.to_vec() };
        // A batch of one leaf has no path.
        let batch = (self.tree.leaves() > 1).then_some(BatchPath { index, path });
        let text = cairn_receipt::to_json(&core.clone().complete(subject, batch));
        let file =
            dir.join(format!("{index:05}-{}.{}", item.name.replace('/', "_"), cairn_receipt::EXTENSION));
        fs::write(&file, &text).with_context(|| format!("writing {}", file.display()))?;
        Ok(Written { item: item.clone(), file, bytes: text.len() })
    }
}

/// A receipt on disk.
pub(super) struct Written {
    pub(super) item: Item,
    pub(super) file: PathBuf,
    pub(super) bytes: usize,
}
