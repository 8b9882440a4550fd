//! Receipts: the strict JSON that users keep, and their verification with nothing but the genesis.
//!
//! `docs/FORMATS.md`, "Finality proof and receipt", is the specification. Everything fails closed: a receipt
//! is valid only when every [`Check`] of its [`Verdict`] passed, and the first that did not is named.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing))]

mod anchor;
mod bundle;
mod document;
pub mod export;
mod read;
mod state;
mod strict_json;
mod timestamp;
mod verdict;
mod verify;
mod verify_documents;
mod write;

pub use anchor::{AnchorReceipt, anchor_receipt};
pub use bundle::{
    AnchorBundle, BundleFault, bundle, bundle_of_batch, core_of, places_of, receipt_of, receipts_of,
    refreshed,
};
pub use document::{Checkpoint, ConsistencyProof, Document, LOG_NAMES, bundle_to_json, parse_bundle};
pub use read::{FormatFault, RECEIPT_BYTES_MAX, parse};
pub use state::{StateDocument, StateFinding, StateSubject, StateVerdict};
pub use timestamp::{
    ExternalTime, TimeAuthorities, TimedPart, TimestampFault, attach_timestamp, claimed_times,
    timestamp_request,
};
pub use verdict::{Check, CheckName, Trust, Verdict};
pub use verify::{ReceiptVerifier, Trusted, verify, verify_json};
pub use write::to_json;

/// The only receipt version.
pub const RECEIPT_VERSION: u64 = 1;
/// The media type of a receipt.
pub const MEDIA_TYPE: &str = "application/vnd.cairn.receipt+json";
/// The file extension of a receipt.
pub const EXTENSION: &str = "cairn";
