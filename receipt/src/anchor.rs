//! What a node hands out: a receipt that lacks only what the anchoring client alone knows.

use cairn_types::receipt::{AnchorProof, BatchPath, EpochHandover, Finality, Receipt, Subject};
use cairn_types::{DecodeError, Hash, Header, Record, decode, encode};

use crate::read::{FormatFault, parse_anchor};
use crate::write::anchor_to_json;

/// The part of a receipt that is the same for every leaf of a batch: record, anchor path, header and
/// finality. A node knows no leaves, so its answer stops at the record's root; whoever made the batch
/// adds subject and batch path with [`AnchorReceipt::complete`]. Its JSON is a receipt's without `subject`,
/// `batch` and `external`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AnchorReceipt {
    /// Canonical bytes of the record.
    pub record_bytes: Vec<u8>,
    /// The path of leaf `record.seq` in the anchor log of `header.anchors_size` records.
    pub anchor_path: Vec<Hash>,
    /// Canonical bytes of a final header that covers the record.
    pub header_bytes: Vec<u8>,
    /// What makes that header final.
    pub finality: Finality,
    /// Hand-overs from epoch 0 to the header's.
    pub epochs: Vec<EpochHandover>,
}

/// The receipt core of a record whose header is of epoch 0, as a node's state holds it.
pub fn anchor_receipt(proof: &AnchorProof) -> AnchorReceipt {
    AnchorReceipt::new(proof, Vec::new())
}

impl AnchorReceipt {
    /// From what a node's state holds about a record, with the hand-overs to the header's epoch (none
    /// within epoch 0).
    pub fn new(proof: &AnchorProof, epochs: Vec<EpochHandover>) -> Self {
        Self {
            record_bytes: proof.record.to_bytes(),
            anchor_path: proof.path.clone(),
            header_bytes: encode(&proof.header),
            finality: Finality::Certificate(encode(&proof.certificate)),
            epochs,
        }
    }

    /// The part of `receipt` that does not depend on the leaf.
    pub fn of(receipt: &Receipt) -> Self {
        Self {
            record_bytes: receipt.record_bytes.clone(),
            anchor_path: receipt.anchor_path.clone(),
            header_bytes: receipt.header_bytes.clone(),
            finality: receipt.finality.clone(),
            epochs: receipt.epochs.clone(),
        }
    }

    /// The same without signatures, for verifiers that have pinned the header's id: about 2 kB.
    #[must_use]
    pub fn checkpoint_relative(self) -> Self {
        Self { finality: Finality::Checkpoint, epochs: Vec::new(), ..self }
    }

    /// The receipt of one leaf. `batch` is `None` exactly when the record has one leaf.
    pub fn complete(self, subject: Subject, batch: Option<BatchPath>) -> Receipt {
        Receipt {
            subject,
            batch,
            record_bytes: self.record_bytes,
            anchor_path: self.anchor_path,
            header_bytes: self.header_bytes,
            finality: self.finality,
            epochs: self.epochs,
            external: Vec::new(),
        }
    }

    /// The record, decoded.
    ///
    /// # Errors
    /// When the bytes are no canonical record.
    pub fn record(&self) -> Result<Record, DecodeError> {
        decode(&self.record_bytes)
    }

    /// The header, decoded.
    ///
    /// # Errors
    /// When the bytes are no canonical header.
    pub fn header(&self) -> Result<Header, DecodeError> {
        decode(&self.header_bytes)
    }

    /// Reads the JSON form.
    ///
    /// # Errors
    /// The first thing that is not exactly as specified.
    pub fn parse(text: &str) -> Result<Self, FormatFault> {
        parse_anchor(text)
    }

    /// The JSON form, indented, with a line end.
    pub fn to_json(&self) -> String {
        anchor_to_json(self)
    }
}
