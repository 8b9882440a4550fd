//! What a verification found.

use std::fmt;

use cairn_types::{BlockId, Epoch, Header, Height, Record};

use crate::timestamp::ExternalTime;

/// One step of a verification. The names are part of the format: test vectors and other implementations
/// use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CheckName {
    /// The text is a receipt at all.
    Format,
    /// The record's bytes are a canonical record of a known version.
    Record,
    /// The header's bytes are a canonical header of a known version.
    Header,
    /// The subject leads to the record's root.
    Batch,
    /// The record leads to the header's anchor root.
    Anchor,
    /// The log of the later header begins with the log of the earlier one.
    Consistency,
    /// The header is of the trusted chain.
    Chain,
    /// The header is part of the chain, not the carrier of an epoch's end.
    Carrier,
    /// Hand-overs lead from the genesis validators to the header's epoch.
    Epochs,
    /// The header names exactly those validators.
    Validators,
    /// A quorum of them signed that exactly this header is final.
    Certificate,
    /// The header's id is a pinned checkpoint.
    Checkpoint,
    /// The header's state holds, or does not hold, what the document says.
    State,
    /// A state travels with the receipt that shows the key that signed to have been the sender's then.
    Signer,
    /// A state travels with the receipt that shows a delegation to have been in force then.
    Delegation,
    /// A time authority that the verifier trusts stamped the record or the header.
    Time,
}

impl CheckName {
    /// Every check, in the order in which they are made.
    pub const ALL: [Self; 16] = [
        Self::Format,
        Self::Record,
        Self::Header,
        Self::Batch,
        Self::Anchor,
        Self::Consistency,
        Self::Chain,
        Self::Carrier,
        Self::Epochs,
        Self::Validators,
        Self::Certificate,
        Self::Checkpoint,
        Self::State,
        Self::Signer,
        Self::Delegation,
        Self::Time,
    ];

    /// The name in files and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Record => "record",
            Self::Header => "header",
            Self::Batch => "batch",
            Self::Anchor => "anchor",
            Self::Consistency => "consistency",
            Self::Chain => "chain",
            Self::Carrier => "carrier",
            Self::Epochs => "epochs",
            Self::Validators => "validators",
            Self::Certificate => "certificate",
            Self::Checkpoint => "checkpoint",
            Self::State => "state",
            Self::Signer => "signer",
            Self::Delegation => "delegation",
            Self::Time => "time",
        }
    }
}

impl fmt::Display for CheckName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One check and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Which.
    pub name: CheckName,
    /// Whether it passed.
    pub passed: bool,
    /// What was found, for people.
    pub detail: String,
}

/// What a valid verdict rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Nothing: the receipt is not valid.
    Nothing,
    /// The genesis file, and every validator set from it up to this epoch.
    Genesis {
        /// The epoch of the set that signed.
        epoch: Epoch,
    },
    /// A checkpoint that the verifier pinned.
    Checkpoint(BlockId),
}

/// The outcome of verifying a receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether every check passed. Nothing else makes a receipt valid.
    pub valid: bool,
    /// The checks in order; the last is the first that failed, when one did.
    pub checks: Vec<Check>,
    /// What a valid verdict rests on.
    pub trust: Trust,
    /// What a reader should know although everything passed.
    pub warnings: Vec<String>,
    /// The record; only of a valid receipt, or of a valid bundle that holds no other.
    pub record: Option<Record>,
    /// Every record; only of a valid receipt or bundle.
    pub records: Vec<Record>,
    /// The final header; only of a valid receipt.
    pub header: Option<Header>,
    /// Times that an authority states which the verifier trusts; only of a valid receipt.
    pub times: Vec<ExternalTime>,
}

impl Verdict {
    /// The check that failed.
    pub fn failed(&self) -> Option<&Check> {
        self.checks.iter().find(|check| !check.passed)
    }

    /// The height of the block that anchored it; only of a valid receipt.
    pub fn height(&self) -> Option<Height> {
        self.record.as_ref().map(|record| record.height)
    }

    /// The time of that block, Unix milliseconds; only of a valid receipt. The subject existed no later
    /// than this plus the chain's `drift_ms`.
    pub fn time_ms(&self) -> Option<u64> {
        self.record.as_ref().map(|record| record.time_ms)
    }
}
