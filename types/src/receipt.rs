//! A receipt as data. Its JSON form and its verification are in `cairn-receipt`.

use crate::block::Header;
use crate::certificate::CommitCert;
use crate::hash::Hash;
use crate::record::Record;
use crate::validator::ValidatorSet;

/// Everything needed to show, offline, that a digest was anchored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Receipt {
    /// The digest that was anchored.
    pub subject: Subject,
    /// Its place in the batch; absent exactly when the record's `leaves` is 1.
    pub batch: Option<BatchPath>,
    /// The record, as the canonical bytes the anchor log hashed.
    pub record_bytes: Vec<u8>,
    /// The path of leaf `record.seq` in the anchor log of `header.anchors_size` records.
    pub anchor_path: Vec<Hash>,
    /// The canonical bytes of any final header with `anchors_size > seq`.
    pub header_bytes: Vec<u8>,
    /// What makes that header final.
    pub finality: Finality,
    /// The hand-overs from the genesis epoch to the header's; empty within epoch 0.
    pub epochs: Vec<EpochHandover>,
    /// Further evidence, each as compact JSON text. What it says, `cairn-receipt` knows.
    pub external: Vec<String>,
}

/// What was anchored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subject {
    /// The digest.
    pub digest: Hash,
    /// How the digest was made from a file: `blake3`, `sha256`, ... Only says how to hash an offered file.
    pub algorithm: String,
    /// The leaf's salt, 0 or 16 bytes.
    pub salt: Vec<u8>,
}

/// A leaf's place in its batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BatchPath {
    /// Position among the record's `leaves`.
    pub index: u64,
    /// Siblings, nearest first.
    pub path: Vec<Hash>,
}

/// What makes a receipt's header final.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Finality {
    /// Canonical bytes of a commit certificate of exactly that header.
    Certificate(Vec<u8>),
    /// The header's id equals a checkpoint that the verifier has pinned.
    Checkpoint,
}

/// The step from one epoch's validators to the next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EpochHandover {
    /// Canonical bytes of the epoch's last header, then of its carriers up to the certified one.
    pub headers: Vec<Vec<u8>>,
    /// Canonical bytes of the commit certificate of the last of `headers`.
    pub certificate: Vec<u8>,
    /// Canonical bytes of the next epoch's validator set.
    pub validators: Vec<u8>,
}

/// Many receipts as one: leaves of one or more batches, all under one final header (FORMATS, "Bundles").
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bundle {
    /// The batches, in strictly ascending order of their records' `seq`.
    pub batches: Vec<BundledBatch>,
    /// The multiproof of the records in the anchor log of `header.anchors_size` records.
    pub anchor_path: Vec<Hash>,
    /// The canonical bytes of any final header that covers every record.
    pub header_bytes: Vec<u8>,
    /// What makes that header final.
    pub finality: Finality,
    /// The hand-overs from the genesis epoch to the header's; empty within epoch 0.
    pub epochs: Vec<EpochHandover>,
    /// Further evidence, each as compact JSON text. What it says, `cairn-receipt` knows.
    pub external: Vec<String>,
}

/// Some leaves of one batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BundledBatch {
    /// The record, as the canonical bytes the anchor log hashed.
    pub record_bytes: Vec<u8>,
    /// The leaves, in strictly ascending order of their index; at least one.
    pub leaves: Vec<BundledLeaf>,
    /// The multiproof of the leaves in the batch of the record's `leaves`.
    pub path: Vec<Hash>,
}

/// One leaf of a bundle.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BundledLeaf {
    /// Position among the record's `leaves`.
    pub index: u64,
    /// What was anchored.
    pub subject: Subject,
}

/// What a node holds about several anchored proofs under one header: the core of a bundle.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AnchorProofs {
    /// The records, in strictly ascending order of their `seq`.
    pub records: Vec<Record>,
    /// Their multiproof in the log of `header.anchors_size` records.
    pub path: Vec<Hash>,
    /// A final header that covers them.
    pub header: Header,
    /// The commit certificate of that header; `None` when it is final only through a descendant.
    pub certificate: Option<CommitCert>,
}

/// What a node holds about one anchored proof and hands out as the core of a receipt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AnchorProof {
    /// The record.
    pub record: Record,
    /// Its path in the log of `header.anchors_size` records.
    pub path: Vec<Hash>,
    /// A final header that covers it.
    pub header: Header,
    /// The commit certificate of that header.
    pub certificate: CommitCert,
    /// The validators that signed it.
    pub validators: ValidatorSet,
}
