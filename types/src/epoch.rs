//! The proof that an epoch has ended (consensus rule E).

use std::io::{Read, Result as IoResult};
use std::sync::Arc;

use borsh::{BorshDeserialize, BorshSerialize};
use thiserror::Error;

use crate::block::{HEADER_VERSION, Header};
use crate::certificate::{CommitCert, read_list};
use crate::codec::invalid;
use crate::id::{BlockId, ChainId, Epoch};
use crate::log::TreeHash;
use crate::validator::ValidatorSet;

/// Headers of one proof, at most: the last block and its carriers. As many uncommitted blocks as a replica
/// holds; each carrier is a view whose commit votes were lost.
pub const EPOCH_HEADERS_MAX: usize = 128;

/// An epoch's commit proof: the headers from the epoch's last block to the one that a commit certificate
/// names. It makes everything up to the last block final, and is the next epoch's certificate of view 0.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize)]
pub struct EpochProof {
    /// The epoch's last block first, then its carriers, each on the one before.
    pub headers: Vec<Header>,
    /// A commit certificate of the last of `headers`.
    pub certificate: Arc<CommitCert>,
}

/// Why a proof's shape is refused, before any signature is looked at.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum EpochProofFault {
    #[error("{got} headers; expected 1 to {EPOCH_HEADERS_MAX}")]
    Count { got: usize },
    #[error("the proof is of epoch {got}; expected epoch {expected}")]
    WrongEpoch { got: Epoch, expected: Epoch },
    #[error("the first header is of another chain, header version or validator set")]
    Foreign,
    #[error("the first header is not the last block of an epoch")]
    NotAnEnd,
    #[error("the header at position {position} is no carrier of the one before it")]
    NotACarrier { position: usize },
    #[error("the certificate names block {got}; the last header is {expected}")]
    OtherBlock { got: BlockId, expected: BlockId },
}

impl EpochProof {
    /// The header of the epoch's last block.
    ///
    /// # Errors
    /// When there is none: decoding refuses such a proof.
    pub fn last_block(&self) -> Result<&Header, EpochProofFault> {
        self.headers.first().ok_or(EpochProofFault::Count { got: 0 })
    }

    /// The epoch that it ends.
    pub fn epoch(&self) -> Epoch {
        self.certificate.epoch
    }

    /// Whether the last block was committed through a carrier, so that no certificate names it.
    pub fn is_carried(&self) -> bool {
        self.headers.len() > 1
    }

    /// Checks everything but the certificate's signatures against the set that signs the epoch.
    ///
    /// # Errors
    /// The first rule broken.
    pub fn check_shape(&self, chain: ChainId, set: &ValidatorSet) -> Result<(), EpochProofFault> {
        let got = self.headers.len();
        if got > EPOCH_HEADERS_MAX {
            return Err(EpochProofFault::Count { got });
        }
        let last = self.last_block()?;
        if self.epoch() != set.epoch() || last.epoch != set.epoch() {
            return Err(EpochProofFault::WrongEpoch { got: last.epoch, expected: set.epoch() });
        }
        if last.chain != chain || last.version != HEADER_VERSION || last.validators != set.digest() {
            return Err(EpochProofFault::Foreign);
        }
        if !last.ends_epoch() || last.tx_count == 0 {
            return Err(EpochProofFault::NotAnEnd);
        }
        let mut above = last;
        for (position, carrier) in self.headers.iter().enumerate().skip(1) {
            if !carrier.carries(above) {
                return Err(EpochProofFault::NotACarrier { position });
            }
            above = carrier;
        }
        let (got, expected) = (self.certificate.block, above.id());
        if got != expected || self.certificate.view != above.view {
            return Err(EpochProofFault::OtherBlock { got, expected });
        }
        Ok(())
    }
}

impl Header {
    /// Whether this header carries the end of the epoch on from `below`, which is the epoch's last block or
    /// a carrier of it: no transactions, everything else but its place repeated.
    pub fn carries(&self, below: &Self) -> bool {
        let expected = Self {
            view: self.view,
            height: below.height.next(),
            parent: below.id(),
            parent_view: below.view,
            time_ms: self.time_ms,
            proposer: self.proposer,
            tx_root: TreeHash::Transactions.empty(),
            tx_count: 0,
            ..below.clone()
        };
        below.ends_epoch() && *self == expected && self.view > below.view && self.time_ms > below.time_ms
    }

    /// Whether it only carries the end of its epoch, and is no part of the chain.
    pub fn is_carrier(&self) -> bool {
        self.ends_epoch() && self.tx_count == 0
    }
}

impl BorshDeserialize for EpochProof {
    fn deserialize_reader<R: Read>(reader: &mut R) -> IoResult<Self> {
        let headers: Vec<Header> = read_list(reader, EPOCH_HEADERS_MAX)?;
        if headers.is_empty() {
            return Err(invalid(EpochProofFault::Count { got: 0 }.to_string()));
        }
        Ok(Self { headers, certificate: Arc::new(CommitCert::deserialize_reader(reader)?) })
    }
}
