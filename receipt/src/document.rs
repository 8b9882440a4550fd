//! Every kind of file this crate reads and writes, told apart by its keys.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cairn_types::Hash;
use cairn_types::log::TreeHash;
use cairn_types::receipt::{Bundle, BundledBatch, BundledLeaf, EpochHandover, Finality, Receipt};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::RECEIPT_VERSION;
use crate::anchor::AnchorReceipt;
use crate::bundle::AnchorBundle;
use crate::read::{self, At, Fields, FinalFields, FormatFault, RECEIPT_BYTES_MAX};
use crate::write::{self, AnchorJson, EpochJson, FinalityJson};

/// Hashes of one multiproof, batches of one bundle and leaves of one batch: bounded by the text's own length.
const ITEMS_MAX: usize = RECEIPT_BYTES_MAX;
/// Hashes in one consistency proof, at most: RFC 9162 needs fewer than two for each level.
const CONSISTENCY_MAX: usize = 128;

/// A final header by itself: what `cairn trust export` writes, and what one pins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// Canonical bytes of the header.
    pub header_bytes: Vec<u8>,
    /// What makes it final.
    pub finality: Finality,
    /// Hand-overs from epoch 0 to the header's.
    pub epochs: Vec<EpochHandover>,
    /// Further evidence, each as compact JSON text: time stamps, for instance. Only of a checkpoint in a file of
    /// its own.
    pub external: Vec<String>,
}

/// That the anchor log of one header begins the log of a later, final one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsistencyProof {
    /// Which of the two logs over the same records.
    pub log: TreeHash,
    /// Canonical bytes of the earlier header. It carries the first size and root.
    pub from_bytes: Vec<u8>,
    /// The hashes of RFC 9162 section 2.1.4.
    pub path: Vec<Hash>,
    /// The later header.
    pub to: Checkpoint,
}

/// The names of the logs that a [`ConsistencyProof`] may be of.
pub const LOG_NAMES: [(&str, TreeHash); 2] =
    [("anchors", TreeHash::Anchors), ("anchors_sha256", TreeHash::AnchorsSha256)];

/// Anything that a file of this format may hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Document {
    /// One leaf's receipt.
    Receipt(Box<Receipt>),
    /// Many leaves' receipts.
    Bundle(Box<Bundle>),
    /// A record's part of a receipt, as nodes hand it out.
    Anchor(Box<AnchorReceipt>),
    /// Many records' part of a bundle.
    Anchors(Box<AnchorBundle>),
    /// A final header.
    Checkpoint(Box<Checkpoint>),
    /// A consistency proof between two headers.
    Consistency(Box<ConsistencyProof>),
}

impl Document {
    /// Reads whatever the text is, by its keys: `batches` a bundle, `records` the core of one, `from` a
    /// consistency proof, `record` with or without `subject` a receipt or its core, else a checkpoint.
    ///
    /// # Errors
    /// The first thing that is not exactly as that kind has it.
    pub fn parse(text: &str) -> Result<Self, FormatFault> {
        let fields = Fields::of_text(text)?;
        let has = |name: &str| fields.has(name);
        Ok(match () {
            () if has("batches") => Self::Bundle(Box::new(bundle(fields)?)),
            () if has("records") => Self::Anchors(Box::new(anchors(fields)?)),
            () if has("from") => Self::Consistency(Box::new(consistency(fields)?)),
            () if has("record") && !has("subject") => Self::Anchor(Box::new(AnchorReceipt::parse(text)?)),
            () if has("record") || has("subject") || !has("header") => {
                Self::Receipt(Box::new(read::parse(text)?))
            }
            () => Self::Checkpoint(Box::new(checkpoint(fields)?)),
        })
    }

    /// What it is, for people.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Receipt(_) => "receipt",
            Self::Bundle(_) => "bundle",
            Self::Anchor(_) => "receipt of a batch's root",
            Self::Anchors(_) => "core of a bundle",
            Self::Checkpoint(_) => "checkpoint",
            Self::Consistency(_) => "consistency proof",
        }
    }

    /// Its JSON text, with a line end.
    pub fn to_json(&self) -> String {
        match self {
            Self::Receipt(receipt) => write::to_json(receipt),
            Self::Bundle(bundle) => bundle_to_json(bundle),
            Self::Anchor(core) => core.to_json(),
            Self::Anchors(core) => core.to_json(),
            Self::Checkpoint(checkpoint) => checkpoint.to_json(),
            Self::Consistency(proof) => proof.to_json(),
        }
    }
}

/// Reads a bundle. Says nothing about whether it is true.
///
/// # Errors
/// The first thing that is not exactly as specified.
pub fn parse_bundle(text: &str) -> Result<Bundle, FormatFault> {
    bundle(Fields::of_text(text)?)
}

fn bundle(mut fields: Fields) -> Result<Bundle, FormatFault> {
    fields.version()?;
    let batches = fields.required("batches")?.list(false, ITEMS_MAX)?;
    let batches = batches.into_iter().map(bundled_batch).collect::<Result<_, _>>()?;
    let anchor_path = read::anchor_path(&mut fields, ITEMS_MAX)?;
    let FinalFields { header_bytes, finality, epochs } = read::final_fields(&mut fields)?;
    let external = fields.optional("external").map(read::external).transpose()?.unwrap_or_default();
    fields.finish()?;
    Ok(Bundle { batches, anchor_path, header_bytes, finality, epochs, external })
}

fn bundled_batch(at: At) -> Result<BundledBatch, FormatFault> {
    let mut fields = Fields::of(at)?;
    let record_bytes = read::base64(fields.required("record")?)?;
    let leaves = fields.required("leaves")?.list(false, ITEMS_MAX)?;
    let leaves = leaves.into_iter().map(bundled_leaf).collect::<Result<_, _>>()?;
    let path = read::path_of(fields.required("path")?, ITEMS_MAX)?;
    fields.finish()?;
    Ok(BundledBatch { record_bytes, leaves, path })
}

fn bundled_leaf(at: At) -> Result<BundledLeaf, FormatFault> {
    let mut fields = Fields::of(at)?;
    let index = fields.required("index")?.integer()?;
    let subject = read::subject_fields(&mut fields)?;
    fields.finish()?;
    Ok(BundledLeaf { index, subject })
}

fn anchors(mut fields: Fields) -> Result<AnchorBundle, FormatFault> {
    fields.version()?;
    let records = fields.required("records")?.list(false, ITEMS_MAX)?;
    let records = records.into_iter().map(read::base64).collect::<Result<_, _>>()?;
    let anchor_path = read::anchor_path(&mut fields, ITEMS_MAX)?;
    let FinalFields { header_bytes, finality, epochs } = read::final_fields(&mut fields)?;
    fields.finish()?;
    Ok(AnchorBundle { records, anchor_path, header_bytes, finality, epochs })
}

fn checkpoint(mut fields: Fields) -> Result<Checkpoint, FormatFault> {
    fields.version()?;
    let FinalFields { header_bytes, finality, epochs } = read::final_fields(&mut fields)?;
    let external = fields.optional("external").map(read::external).transpose()?.unwrap_or_default();
    fields.finish()?;
    Ok(Checkpoint { header_bytes, finality, epochs, external })
}

fn consistency(mut fields: Fields) -> Result<ConsistencyProof, FormatFault> {
    fields.version()?;
    let log = fields.required("log")?;
    let named = LOG_NAMES.iter().find(|(name, _)| log.text().is_ok_and(|text| text == *name));
    let log = named.map(|(_, log)| *log).ok_or_else(|| log.wrong("anchors or anchors_sha256"))?;
    let from_bytes = read::base64(fields.required("from")?)?;
    let path = read::path_of(fields.required("path")?, CONSISTENCY_MAX)?;
    let FinalFields { header_bytes, finality, epochs } = read::final_fields(&mut fields)?;
    fields.finish()?;
    Ok(ConsistencyProof { log, from_bytes, path, to: Checkpoint::new(header_bytes, finality, epochs) })
}

/// Every document but a receipt; the fields are written in this order.
#[derive(Default, Serialize)]
struct DocumentJson {
    version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    batches: Option<Vec<BatchJson>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    records: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    anchor: Option<AnchorJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<Vec<String>>,
    header: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    finality: Option<FinalityJson>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    epochs: Vec<EpochJson>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    external: Vec<Box<RawValue>>,
}

#[derive(Serialize)]
struct BatchJson {
    record: String,
    leaves: Vec<LeafJson>,
    path: Vec<String>,
}

#[derive(Serialize)]
struct LeafJson {
    index: u64,
    digest: String,
    algorithm: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    salt: String,
}

impl DocumentJson {
    fn new(header: &[u8], finality: &Finality, epochs: &[EpochHandover]) -> Self {
        Self {
            version: RECEIPT_VERSION,
            header: STANDARD.encode(header),
            finality: Some(FinalityJson::new(finality)),
            epochs: epochs.iter().map(write::epoch).collect(),
            ..Self::default()
        }
    }

    /// Without indentation: a bundle may hold a hundred thousand leaves.
    fn text(&self) -> String {
        // Strings, integers and checked raw JSON: nothing here can fail to serialise.
        let mut text = serde_json::to_string(self).unwrap_or_default();
        text.push('\n');
        text
    }
}

/// The bundle's text, on one line. External evidence that is no JSON is left out.
pub fn bundle_to_json(bundle: &Bundle) -> String {
    let leaf = |leaf: &BundledLeaf| LeafJson {
        index: leaf.index,
        digest: leaf.subject.digest.to_string(),
        algorithm: leaf.subject.algorithm.clone(),
        salt: hex::encode(&leaf.subject.salt),
    };
    let batch = |batch: &BundledBatch| BatchJson {
        record: STANDARD.encode(&batch.record_bytes),
        leaves: batch.leaves.iter().map(leaf).collect(),
        path: write::path(&batch.path),
    };
    let mut json = DocumentJson::new(&bundle.header_bytes, &bundle.finality, &bundle.epochs);
    json.batches = Some(bundle.batches.iter().map(batch).collect());
    json.anchor = Some(AnchorJson::new(&bundle.anchor_path));
    json.external = write::external(&bundle.external);
    json.text()
}

impl AnchorBundle {
    /// Reads the JSON form.
    ///
    /// # Errors
    /// The first thing that is not exactly as specified.
    pub fn parse(text: &str) -> Result<Self, FormatFault> {
        anchors(Fields::of_text(text)?)
    }

    /// The JSON form, on one line.
    pub fn to_json(&self) -> String {
        let mut json = DocumentJson::new(&self.header_bytes, &self.finality, &self.epochs);
        json.records = Some(self.records.iter().map(|record| STANDARD.encode(record)).collect());
        json.anchor = Some(AnchorJson::new(&self.anchor_path));
        json.text()
    }
}

impl Checkpoint {
    /// A final header without further evidence.
    pub const fn new(header_bytes: Vec<u8>, finality: Finality, epochs: Vec<EpochHandover>) -> Self {
        Self { header_bytes, finality, epochs, external: Vec::new() }
    }

    /// Reads the JSON form.
    ///
    /// # Errors
    /// The first thing that is not exactly as specified.
    pub fn parse(text: &str) -> Result<Self, FormatFault> {
        checkpoint(Fields::of_text(text)?)
    }

    /// The JSON form, on one line.
    pub fn to_json(&self) -> String {
        let mut json = DocumentJson::new(&self.header_bytes, &self.finality, &self.epochs);
        json.external = write::external(&self.external);
        json.text()
    }
}

impl ConsistencyProof {
    /// Reads the JSON form.
    ///
    /// # Errors
    /// The first thing that is not exactly as specified.
    pub fn parse(text: &str) -> Result<Self, FormatFault> {
        consistency(Fields::of_text(text)?)
    }

    /// The JSON form, on one line.
    pub fn to_json(&self) -> String {
        let to = &self.to;
        let mut json = DocumentJson::new(&to.header_bytes, &to.finality, &to.epochs);
        json.log = LOG_NAMES.iter().find(|(_, log)| *log == self.log).map(|(name, _)| *name);
        json.from = Some(STANDARD.encode(&self.from_bytes));
        json.path = Some(write::path(&self.path));
        json.text()
    }
}
