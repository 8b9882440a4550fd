//! Why a journal was not opened.

use std::io;

use cairn_types::id::{Address, ChainId};
use cairn_types::safety::Regression;
use thiserror::Error;

/// Why a journal was not created, opened or imported. Each sentence says what to do next.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum JournalFault {
    #[error(
        "there is a safety journal in {place} already; it is never replaced, because it holds what this key has signed"
    )]
    Exists { place: String },
    #[error(
        "there is no safety journal in {place}; refusing to sign. If this key has never signed, create the home anew; \
         otherwise import a watermark at least as high as its last signature, or give the validator a new key"
    )]
    Missing { place: String },
    #[error(
        "the safety journal in {place} is in use by process {pid}; two processes must never sign with one key"
    )]
    Locked { place: String, pid: String },
    #[error(
        "the safety journal in {place} belongs to validator {got}, the key of this home is {expected}; refusing to sign. \
         Use the home that goes with this key"
    )]
    WrongValidator { place: String, got: Address, expected: Address },
    #[error(
        "the safety journal in {place} belongs to chain {got}, the genesis of this home is {expected}; refusing to sign. \
         Use the home that goes with this chain"
    )]
    WrongChain { place: String, got: ChainId, expected: ChainId },
    #[error(
        "the safety journal in {place} is damaged: {what}. Refusing to sign, and nothing was changed. Keep the files; \
         import a watermark at least as high as this key's last signature into an empty directory, or give the \
         validator a new key"
    )]
    Damaged { place: String, what: String },
    #[error("the watermark file is damaged or of another kind: {why}")]
    BadWatermark { why: String },
    #[error("the watermark is not at or above the journal: {0}")]
    Lower(#[from] Regression),
    #[error("{doing} in {place}: {source}")]
    Io { place: String, doing: &'static str, source: io::Error },
}
