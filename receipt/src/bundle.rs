//! Bundles: many receipts under one header, taken together and apart again.

use std::collections::BTreeMap;

use cairn_types::log::TreeHash;
use cairn_types::multiproof::{MultiproofFault, Subtrees};
use cairn_types::receipt::{
    AnchorProofs, BatchPath, Bundle, BundledBatch, BundledLeaf, EpochHandover, Finality, Receipt, Subject,
};
use cairn_types::tree::batch_leaf;
use cairn_types::{DecodeError, Hash, Header, Record, decode, encode};
use thiserror::Error;

use crate::anchor::AnchorReceipt;
use crate::timestamp::still_fitting;

/// Why receipts do not make a bundle, or a bundle gives no receipt.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum BundleFault {
    #[error("a bundle needs at least one receipt")]
    Empty,
    #[error(
        "receipt {position} has another header than the first (height {got}, not {expected}); refresh them to one header first"
    )]
    OtherHeader { position: usize, got: u64, expected: u64 },
    #[error("receipt {position} is of the same leaf as another one and says something else about it")]
    SameLeaf { position: usize },
    #[error("{what} of {place}: {why}")]
    Malformed { what: &'static str, place: String, why: String },
    #[error("it has no leaf {leaf} in batch {batch}")]
    NoLeaf { batch: usize, leaf: usize },
    #[error("the new core is not of these records: it lacks number {seq}, or differs from it")]
    OtherRecord { seq: u64 },
}

/// Records under one header, as a node hands them out: a bundle without its leaves. Its JSON has `records`
/// where a bundle has `batches`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AnchorBundle {
    /// Canonical bytes of the records, in strictly ascending order of `seq`.
    pub records: Vec<Vec<u8>>,
    /// Their multiproof in the anchor log.
    pub anchor_path: Vec<Hash>,
    /// Canonical bytes of a final header that covers them.
    pub header_bytes: Vec<u8>,
    /// What makes that header final.
    pub finality: Finality,
    /// Hand-overs from epoch 0 to the header's.
    pub epochs: Vec<EpochHandover>,
}

impl AnchorBundle {
    /// From what a node's state holds, with the hand-overs to the header's epoch. Without a certificate, or
    /// when `relative`, it relies on a checkpoint that its verifier has pinned.
    pub fn new(proofs: &AnchorProofs, epochs: Vec<EpochHandover>, relative: bool) -> Self {
        let certificate = proofs.certificate.as_ref().filter(|_| !relative);
        Self {
            records: proofs.records.iter().map(Record::to_bytes).collect(),
            anchor_path: proofs.path.clone(),
            header_bytes: encode(&proofs.header),
            epochs: if certificate.is_some() { epochs } else { Vec::new() },
            finality: certificate.map_or(Finality::Checkpoint, |it| Finality::Certificate(encode(it))),
        }
    }

    /// The same without signatures, for verifiers that have pinned the header's id.
    #[must_use]
    pub fn checkpoint_relative(self) -> Self {
        Self { finality: Finality::Checkpoint, epochs: Vec::new(), ..self }
    }

    /// The header, decoded.
    ///
    /// # Errors
    /// When the bytes are no canonical header.
    pub fn header(&self) -> Result<Header, DecodeError> {
        decode(&self.header_bytes)
    }

    /// The core of a receipt of each record, in the same order.
    ///
    /// # Errors
    /// When a part is malformed or the multiproof does not fit.
    pub fn apart(&self) -> Result<Vec<AnchorReceipt>, BundleFault> {
        let header = self.header().map_err(|fault| malformed("the header", "the core", &fault))?;
        let mut known = Subtrees::new(TreeHash::Anchors, header.anchors_size);
        let mut leaves = Vec::with_capacity(self.records.len());
        for bytes in &self.records {
            leaves.push((record_of(bytes, "the core")?.seq, TreeHash::Anchors.leaf(bytes)));
        }
        known
            .add_multiproof(&leaves, &self.anchor_path)
            .map_err(|fault| malformed("the anchor path", "the core", &fault))?;
        let core = |(record, (seq, _)): (&Vec<u8>, &(u64, Hash))| {
            let path = known.path(*seq);
            let path =
                path.ok_or_else(|| malformed("the anchor path", "the core", &MultiproofFault::NoLeaf))?;
            Ok(AnchorReceipt {
                record_bytes: record.clone(),
                anchor_path: path,
                header_bytes: self.header_bytes.clone(),
                finality: self.finality.clone(),
                epochs: self.epochs.clone(),
            })
        };
        self.records.iter().zip(&leaves).map(core).collect()
    }
}

fn malformed(what: &'static str, place: impl ToString, why: &impl ToString) -> BundleFault {
    BundleFault::Malformed { what, place: place.to_string(), why: why.to_string() }
}

fn record_of(bytes: &[u8], place: impl ToString) -> Result<Record, BundleFault> {
    decode(bytes).map_err(|fault| malformed("the record", place, &fault))
}

fn leaf_hash(record: &Record, subject: &Subject) -> Hash {
    batch_leaf(record.tree, &subject.salt, &subject.digest)
}

/// One batch while receipts are taken together.
struct Gathered {
    record: Record,
    bytes: Vec<u8>,
    known: Subtrees,
    leaves: BTreeMap<u64, Subject>,
}

impl Gathered {
    fn new(bytes: &[u8], record: Record) -> Self {
        let known = Subtrees::new(TreeHash::of_batch(record.tree), record.leaves);
        Self { record, bytes: bytes.to_vec(), known, leaves: BTreeMap::new() }
    }

    fn add(&mut self, receipt: &Receipt, position: usize) -> Result<(), BundleFault> {
        let single = BatchPath { index: 0, path: Vec::new() };
        let place = receipt.batch.as_ref().unwrap_or(&single);
        let leaf = leaf_hash(&self.record, &receipt.subject);
        self.known
            .add_path(place.index, leaf, &place.path)
            .map_err(|fault| malformed("the batch path", format!("receipt {position}"), &fault))?;
        match self.leaves.insert(place.index, receipt.subject.clone()) {
            Some(before) if before != receipt.subject => Err(BundleFault::SameLeaf { position }),
            _ => Ok(()),
        }
    }

    fn finish(self) -> Result<BundledBatch, BundleFault> {
        let indexes: Vec<u64> = self.leaves.keys().copied().collect();
        let path = self.known.multiproof(&indexes);
        let place = format!("record {}", self.record.seq);
        let path = path.ok_or_else(|| malformed("the batch path", place, &MultiproofFault::NoLeaf))?;
        let leaf = |(index, subject)| BundledLeaf { index, subject };
        Ok(BundledBatch {
            record_bytes: self.bytes,
            leaves: self.leaves.into_iter().map(leaf).collect(),
            path,
        })
    }
}

/// Takes receipts together that have one header, one kind of finality and the same hand-overs. Proves nothing
/// by itself: the bundle verifies exactly when each receipt does. A leaf given twice is kept once; external
/// evidence is kept, once each.
///
/// # Errors
/// When there is none, or they do not fit together.
pub fn bundle(receipts: &[Receipt]) -> Result<Bundle, BundleFault> {
    let first = receipts.first().ok_or(BundleFault::Empty)?;
    let header = |receipt: &Receipt, position: usize| -> Result<Header, BundleFault> {
        decode(&receipt.header_bytes)
            .map_err(|fault| malformed("the header", format!("receipt {position}"), &fault))
    };
    let top = header(first, 0)?;
    let mut anchors = Subtrees::new(TreeHash::Anchors, top.anchors_size);
    let mut batches: BTreeMap<u64, Gathered> = BTreeMap::new();
    let mut external: Vec<String> = Vec::new();
    for (position, receipt) in receipts.iter().enumerate() {
        let same = receipt.header_bytes == first.header_bytes
            && std::mem::discriminant(&receipt.finality) == std::mem::discriminant(&first.finality);
        if !same {
            let (got, expected) = (header(receipt, position)?.height.get(), top.height.get());
            return Err(BundleFault::OtherHeader { position, got, expected });
        }
        let record = record_of(&receipt.record_bytes, format!("receipt {position}"))?;
        let leaf = TreeHash::Anchors.leaf(&receipt.record_bytes);
        anchors
            .add_path(record.seq, leaf, &receipt.anchor_path)
            .map_err(|fault| malformed("the anchor path", format!("receipt {position}"), &fault))?;
        let batch = batches.entry(record.seq).or_insert_with(|| Gathered::new(&receipt.record_bytes, record));
        batch.add(receipt, position)?;
        external.extend(
            receipt.external.iter().filter(|item| !external.contains(item)).cloned().collect::<Vec<_>>(),
        );
    }
    let seqs: Vec<u64> = batches.keys().copied().collect();
    let anchor_path = anchors.multiproof(&seqs);
    let anchor_path =
        anchor_path.ok_or_else(|| malformed("the anchor path", "the log", &MultiproofFault::NoLeaf))?;
    Ok(Bundle {
        batches: batches.into_values().map(Gathered::finish).collect::<Result<_, _>>()?,
        anchor_path,
        header_bytes: first.header_bytes.clone(),
        finality: first.finality.clone(),
        epochs: first.epochs.clone(),
        external,
    })
}

/// Leaves of one batch with their multiproof `path`, under what a node gave for its root. Verifies nothing.
///
/// # Errors
/// When a part of the core is malformed.
pub fn bundle_of_batch(
    core: &AnchorReceipt,
    leaves: Vec<BundledLeaf>,
    path: Vec<Hash>,
) -> Result<Bundle, BundleFault> {
    let record = record_of(&core.record_bytes, "the core")?;
    let header = core.header().map_err(|fault| malformed("the header", "the core", &fault))?;
    let mut known = Subtrees::new(TreeHash::Anchors, header.anchors_size);
    known
        .add_path(record.seq, TreeHash::Anchors.leaf(&core.record_bytes), &core.anchor_path)
        .map_err(|fault| malformed("the anchor path", "the core", &fault))?;
    let anchor_path = known.multiproof(&[record.seq]);
    let anchor_path =
        anchor_path.ok_or_else(|| malformed("the anchor path", "the core", &MultiproofFault::NoLeaf))?;
    Ok(Bundle {
        batches: vec![BundledBatch { record_bytes: core.record_bytes.clone(), leaves, path }],
        anchor_path,
        header_bytes: core.header_bytes.clone(),
        finality: core.finality.clone(),
        epochs: core.epochs.clone(),
        external: Vec::new(),
    })
}

/// The part of a bundle that does not depend on its leaves.
pub fn core_of(bundle: &Bundle) -> AnchorBundle {
    AnchorBundle {
        records: bundle.batches.iter().map(|batch| batch.record_bytes.clone()).collect(),
        anchor_path: bundle.anchor_path.clone(),
        header_bytes: bundle.header_bytes.clone(),
        finality: bundle.finality.clone(),
        epochs: bundle.epochs.clone(),
    }
}

/// The same leaves under another header: a bundle made fresh, or relative to a checkpoint. `core` must hold
/// exactly the bundle's records. Time stamps of the header that is left are left out.
///
/// # Errors
/// [`BundleFault::OtherRecord`].
pub fn refreshed(bundle: &Bundle, core: AnchorBundle) -> Result<Bundle, BundleFault> {
    for (position, batch) in bundle.batches.iter().enumerate() {
        if core.records.get(position) != Some(&batch.record_bytes) {
            let seq = record_of(&batch.record_bytes, format!("batch {position}"))?.seq;
            return Err(BundleFault::OtherRecord { seq });
        }
    }
    if let Some(more) = core.records.get(bundle.batches.len()) {
        return Err(BundleFault::OtherRecord { seq: record_of(more, "the core")?.seq });
    }
    let AnchorBundle { records: _, anchor_path, header_bytes, finality, epochs } = core;
    let batches = bundle.batches.clone();
    let records: Vec<&[u8]> = batches.iter().map(|batch| batch.record_bytes.as_slice()).collect();
    let external = still_fitting(&bundle.external, &records, &header_bytes);
    Ok(Bundle { batches, anchor_path, header_bytes, finality, epochs, external })
}

/// Every leaf's own receipt, in the bundle's order.
///
/// # Errors
/// When a part is malformed or a multiproof does not fit.
pub fn receipts_of(bundle: &Bundle) -> Result<Vec<Receipt>, BundleFault> {
    let cores = core_of(bundle).apart()?;
    let mut receipts = Vec::new();
    for (position, (batch, core)) in bundle.batches.iter().zip(cores).enumerate() {
        let (record, known) = batch_subtrees(batch, position)?;
        for leaf in &batch.leaves {
            receipts.push(one(bundle, leaf, core.clone(), &record, &known)?);
        }
    }
    Ok(receipts)
}

/// The receipt of one leaf: number `leaf` of the batch number `batch`, both as they stand in the bundle.
///
/// # Errors
/// When there is no such leaf, or a part is malformed.
pub fn receipt_of(bundle: &Bundle, batch: usize, leaf: usize) -> Result<Receipt, BundleFault> {
    let missing = BundleFault::NoLeaf { batch, leaf };
    let held = bundle.batches.get(batch).ok_or(missing.clone())?;
    let (record, known) = batch_subtrees(held, batch)?;
    let core = core_of(bundle).apart()?.into_iter().nth(batch).ok_or(missing.clone())?;
    one(bundle, held.leaves.get(leaf).ok_or(missing)?, core, &record, &known)
}

fn batch_subtrees(batch: &BundledBatch, position: usize) -> Result<(Record, Subtrees), BundleFault> {
    let record = record_of(&batch.record_bytes, format!("batch {position}"))?;
    let mut known = Subtrees::new(TreeHash::of_batch(record.tree), record.leaves);
    let leaves: Vec<_> =
        batch.leaves.iter().map(|leaf| (leaf.index, leaf_hash(&record, &leaf.subject))).collect();
    known
        .add_multiproof(&leaves, &batch.path)
        .map_err(|fault| malformed("the path", format!("batch {position}"), &fault))?;
    Ok((record, known))
}

fn one(
    bundle: &Bundle,
    leaf: &BundledLeaf,
    core: AnchorReceipt,
    record: &Record,
    known: &Subtrees,
) -> Result<Receipt, BundleFault> {
    let path = known.path(leaf.index);
    let path = path
        .ok_or_else(|| malformed("the path", format!("record {}", record.seq), &MultiproofFault::NoLeaf))?;
    let place = (record.leaves != 1).then_some(BatchPath { index: leaf.index, path });
    let mut receipt = core.complete(leaf.subject.clone(), place);
    receipt.external = still_fitting(&bundle.external, &[&receipt.record_bytes], &receipt.header_bytes);
    Ok(receipt)
}

/// The places (batch, leaf) at which a bundle holds this digest.
pub fn places_of(bundle: &Bundle, digest: &Hash) -> Vec<(usize, usize)> {
    let mut places = Vec::new();
    for (batch, held) in bundle.batches.iter().enumerate() {
        for (leaf, it) in held.leaves.iter().enumerate() {
            if it.subject.digest == *digest {
                places.push((batch, leaf));
            }
        }
    }
    places
}
