//! The canonical genesis: what the chain's identity is the hash of.

use borsh::{BorshDeserialize, BorshSerialize};

use crate::block::{HEADER_VERSION, Header};
use crate::codec::encode;
use crate::hash::{Context, Hash};
use crate::id::{Address, BlockId, ChainId, Epoch, Height, ValidatorIndex, View};
use crate::log::TreeHash;
use crate::tree;
use crate::validator::{SetFault, Validator, ValidatorSet};

/// The only genesis version.
pub const GENESIS_VERSION: u8 = 1;

/// Everything that defines a chain. `H[genesis](borsh Genesis)` is the chain's identity.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Genesis {
    /// [`GENESIS_VERSION`].
    pub version: u8,
    /// A name for people, 1 to 64 characters of `a-z 0-9 -`.
    pub name: String,
    /// The time of block 0, Unix milliseconds.
    pub time_ms: u64,
    /// Network parameters.
    pub params: Params,
    /// Who may anchor.
    pub admission: Admission,
    /// The validators of epoch 0, in address order.
    pub validators: Vec<Validator>,
}

/// Who may anchor.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub enum Admission {
    /// Any key.
    Open,
    /// Only registered identities that this registrar has admitted.
    Registered {
        /// The identity whose `Admit` transactions count.
        registrar: Address,
    },
}

/// Network parameters: the same for every node of a chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Params {
    /// First view timeout, ms.
    pub timeout_base_ms: u64,
    /// Longest view timeout, ms.
    pub timeout_cap_ms: u64,
    /// How far ahead of the clock a block's time may be, ms; below `timeout_base_ms`.
    pub drift_ms: u64,
    /// How far behind the clock a block's time may be for a vote, ms; doubles with each timed-out view.
    pub lag_max_ms: u64,
    /// Shortest wait of a leader from learning the parent's certificate, ms.
    pub interval_min_ms: u64,
    /// Heartbeat of an idle chain, ms.
    pub interval_idle_ms: u64,
    /// Largest block body, bytes of transactions.
    pub block_bytes_max: u32,
    /// Largest signed transaction, bytes.
    pub transaction_bytes_max: u32,
    /// How long a transaction id blocks its repetition, ms. Fixed for the chain's life.
    pub replay_window_ms: u64,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            timeout_base_ms: 1_000,
            timeout_cap_ms: 30_000,
            drift_ms: 500,
            lag_max_ms: 10_000,
            interval_min_ms: 0,
            interval_idle_ms: 60_000,
            block_bytes_max: 3 << 20,
            transaction_bytes_max: 64 << 10,
            replay_window_ms: 120_000,
        }
    }
}

impl Params {
    /// `H[params](borsh Params)`.
    pub fn digest(&self) -> Hash {
        tree::digest(Context::Params, self)
    }
}

impl Genesis {
    /// The chain's identity.
    pub fn chain(&self) -> ChainId {
        ChainId::new(Context::Genesis.hash(&encode(self)))
    }

    /// The validators of epoch 0 as a set.
    ///
    /// # Errors
    /// When they do not make one.
    pub fn validator_set(&self) -> Result<ValidatorSet, SetFault> {
        ValidatorSet::new(Epoch::ZERO, self.validators.clone())
    }

    /// The header of block 0, given the root of the authenticated map that the genesis state makes.
    ///
    /// # Errors
    /// When the validators do not make a set.
    pub fn header(&self, state_root: Hash) -> Result<Header, SetFault> {
        let validators = self.validator_set()?.digest();
        Ok(Header {
            version: HEADER_VERSION,
            chain: self.chain(),
            epoch: Epoch::ZERO,
            view: View::ZERO,
            height: Height::ZERO,
            parent: BlockId::ZERO,
            parent_view: View::ZERO,
            time_ms: self.time_ms,
            proposer: ValidatorIndex(0),
            tx_root: TreeHash::Transactions.empty(),
            tx_count: 0,
            state_root,
            anchors_root: TreeHash::Anchors.empty(),
            anchors_size: 0,
            anchors_sha256: TreeHash::AnchorsSha256.empty(),
            history_root: TreeHash::History.empty(),
            validators,
            next_validators: validators,
        })
    }
}
