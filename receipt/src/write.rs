//! Receipt to text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cairn_types::Hash;
use cairn_types::receipt::{EpochHandover, Finality, Receipt};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::RECEIPT_VERSION;
use crate::anchor::AnchorReceipt;

#[derive(Serialize)]
struct ReceiptJson {
    version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<SubjectJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    batch: Option<BatchJson>,
    record: String,
    anchor: AnchorJson,
    header: String,
    finality: FinalityJson,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    epochs: Vec<EpochJson>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    external: Vec<Box<RawValue>>,
}

#[derive(Serialize)]
struct SubjectJson {
    digest: String,
    algorithm: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    salt: String,
}

#[derive(Serialize)]
struct BatchJson {
    index: u64,
    path: Vec<String>,
}

#[derive(Serialize)]
pub(crate) struct AnchorJson {
    path: Vec<String>,
}

impl AnchorJson {
    pub(crate) fn new(hashes: &[Hash]) -> Self {
        Self { path: path(hashes) }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FinalityJson {
    Certificate(String),
    Checkpoint(bool),
}

impl FinalityJson {
    pub(crate) fn new(finality: &Finality) -> Self {
        match finality {
            Finality::Certificate(bytes) => Self::Certificate(STANDARD.encode(bytes)),
            Finality::Checkpoint => Self::Checkpoint(true),
        }
    }
}

#[derive(Serialize)]
pub(crate) struct EpochJson {
    headers: Vec<String>,
    certificate: String,
    validators: String,
}

/// The receipt's text, indented, with a line end. External evidence that is no JSON is left out.
pub fn to_json(receipt: &Receipt) -> String {
    let core = AnchorReceipt::of(receipt);
    let subject = &receipt.subject;
    let mut json = core_json(&core);
    json.subject = Some(SubjectJson {
        digest: subject.digest.to_string(),
        algorithm: subject.algorithm.clone(),
        salt: hex::encode(&subject.salt),
    });
    json.batch =
        receipt.batch.as_ref().map(|batch| BatchJson { index: batch.index, path: path(&batch.path) });
    json.external = external(&receipt.external);
    text(&json)
}

pub(crate) fn anchor_to_json(receipt: &AnchorReceipt) -> String {
    text(&core_json(receipt))
}

fn core_json(receipt: &AnchorReceipt) -> ReceiptJson {
    ReceiptJson {
        version: RECEIPT_VERSION,
        subject: None,
        batch: None,
        record: STANDARD.encode(&receipt.record_bytes),
        anchor: AnchorJson::new(&receipt.anchor_path),
        header: STANDARD.encode(&receipt.header_bytes),
        finality: FinalityJson::new(&receipt.finality),
        epochs: receipt.epochs.iter().map(epoch).collect(),
        external: Vec::new(),
    }
}

fn text(json: &ReceiptJson) -> String {
    // Strings, integers and checked raw JSON: nothing here can fail to serialise.
    let mut text = serde_json::to_string_pretty(json).unwrap_or_default();
    text.push('\n');
    text
}

/// Texts that are no JSON are left out.
pub(crate) fn external(items: &[String]) -> Vec<Box<RawValue>> {
    items.iter().filter_map(|text| RawValue::from_string(text.clone()).ok()).collect()
}

pub(crate) fn path(hashes: &[Hash]) -> Vec<String> {
    hashes.iter().map(Hash::to_string).collect()
}

pub(crate) fn epoch(handover: &EpochHandover) -> EpochJson {
    EpochJson {
        headers: handover.headers.iter().map(|bytes| STANDARD.encode(bytes)).collect(),
        certificate: STANDARD.encode(&handover.certificate),
        validators: STANDARD.encode(&handover.validators),
    }
}
