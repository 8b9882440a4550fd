//! What a replica is made of: the network it belongs to and what it remembered.

use std::sync::Arc;

use cairn_types::codec::decode;
use cairn_types::safety::SafetyRecord;
use cairn_types::{
    Block, BlockCert, BlockId, ChainId, CommitCert, Epoch, Header, Params, TimeoutCert, ValidatorIndex,
    ValidatorSet, View,
};
use thiserror::Error;

/// The network, the epoch and this replica's place in it.
#[derive(Clone, Debug)]
pub struct Config {
    /// The chain's identity.
    pub chain: ChainId,
    /// The validators of the epoch.
    pub set: Arc<ValidatorSet>,
    /// This replica's position in the set; `None` for a follower, which never signs.
    pub me: Option<ValidatorIndex>,
    /// The network's parameters.
    pub params: Params,
    /// The block that the implicit certificate of view 0 names: block 0, or the last block of the epoch
    /// before. The header rather than its id, because the first block's height and time are measured
    /// against it.
    pub root: Header,
    /// Whether the root became final through a carrier, so that no certificate names it: the epoch then begins
    /// with a block at once (rule E).
    pub root_is_carried: bool,
}

impl Config {
    /// The epoch all messages must belong to.
    pub fn epoch(&self) -> Epoch {
        self.set.epoch()
    }

    /// The implicit certificate of view 0.
    pub fn root_cert(&self) -> BlockCert {
        BlockCert::Root { epoch: self.epoch(), block: self.root.id() }
    }
}

/// The last block whose state is synced, and why it is final.
#[derive(Clone, Debug)]
pub struct CommittedTip {
    /// Its header.
    pub header: Header,
    /// A commit certificate of it or of a descendant in its epoch.
    pub certificate: Arc<CommitCert>,
}

/// What survived the last run. [`Recovered::default`] is a first start.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// The durable record; the default for a first start or a follower.
    pub record: SafetyRecord,
    /// The certificate that `record.high_qc` names. A follower, which has no record, may give any verified one.
    pub high_qc: Option<BlockCert>,
    /// The certificate that `record.high_tc` names.
    pub high_tc: Option<Arc<TimeoutCert>>,
    /// The last committed block, unless that is still the epoch's root.
    pub commit: Option<CommittedTip>,
    /// Bodies of the block log above the committed block, in any order.
    pub blocks: Vec<Arc<Block>>,
}

/// Why what was recovered cannot be continued from. The node must not sign.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum RecoverFault {
    #[error("the safety record is of epoch {got}, later than epoch {expected} of the state")]
    LaterEpoch { got: Epoch, expected: Epoch },
    #[error(
        "the safety record names a {what} of view {view} whose bytes are missing from the certificate file or differ"
    )]
    CertificateMissing { what: &'static str, view: View },
    #[error(
        "the safety record was signed in view {signed}, but its certificates only lead to view {reached}"
    )]
    ViewUnproven { signed: View, reached: View },
    #[error("validator position {me} does not exist in a set of {count}")]
    NotInSet { me: ValidatorIndex, count: usize },
    #[error("the committed block {id} is of epoch {got}; expected epoch {expected}")]
    TipEpoch { id: BlockId, got: Epoch, expected: Epoch },
}

/// The certificates that a record names, picked out of the certificate file's entries (the `certificates`
/// of every [`crate::Durable`] written so far, in any order; entries that are neither are passed over).
///
/// # Errors
/// When a certificate that the record names is not among the entries.
pub fn named_certificates<'a>(
    record: &SafetyRecord,
    entries: impl IntoIterator<Item = &'a [u8]>,
) -> Result<(Option<BlockCert>, Option<Arc<TimeoutCert>>), RecoverFault> {
    let (mut high_qc, mut high_tc) = (None, None);
    for entry in entries {
        if let Some((view, digest)) = record.high_qc
            && high_qc.is_none()
        {
            high_qc = decode::<BlockCert>(entry).ok().filter(|c| c.view() == view && c.digest() == digest);
        }
        if let Some((view, digest)) = record.high_tc
            && high_tc.is_none()
        {
            high_tc = decode::<TimeoutCert>(entry).ok().filter(|c| c.view == view && c.digest() == digest);
        }
    }
    match (record.high_qc, &high_qc, record.high_tc, &high_tc) {
        (Some((view, _)), None, _, _) => {
            Err(RecoverFault::CertificateMissing { what: "block certificate", view })
        }
        (_, _, Some((view, _)), None) => {
            Err(RecoverFault::CertificateMissing { what: "timeout certificate", view })
        }
        _ => Ok((high_qc, high_tc.map(Arc::new))),
    }
}
