//! The canonical genesis: what the chain's identity is the hash of.

use borsh::{BorshDeserialize, BorshSerialize};
use thiserror::Error;

use crate::block::{HEADER_VERSION, Header};
use crate::codec::encode;
use crate::hash::{Context, Hash};
use crate::id::{Address, BlockId, ChainId, Epoch, Height, ValidatorIndex, View};
use crate::log::TreeHash;
use crate::tree;
use crate::validator::{SetFault, Validator, ValidatorSet};

/// The only genesis version.
pub const GENESIS_VERSION: u8 = 1;

/// A view cannot be shorter than a few disk syncs and network delays.
const TIMEOUT_BASE_MS_MIN: u64 = 20;
/// No duration of a network is longer than a day; keeps sums and doublings far from overflow.
const DURATION_MS_MAX: u64 = 24 * 3_600 * 1_000;
/// Doublings of `lag_max_ms` past any real lag; the bound keeps the shift in range.
const LAG_EXPONENT_MAX: u32 = 16;
/// Room for one key, one signature and the largest proof, or for evidence of two more signatures.
const TRANSACTION_BYTES_MIN: u32 = 16 * 1_024;
/// Transactions of a block: with its certificates, what one message and one answer of 4 MiB carry. Larger blocks could be
/// proposed, and never fetched again.
pub const BLOCK_BYTES_MAX: u32 = 3 << 20;
/// What one gossiped message carries. Larger transactions would reach only the validators that get them directly.
pub const TRANSACTION_BYTES_MAX: u32 = 64 << 10;
/// Shorter than this, a client's clock and the chain's cannot agree on an expiry.
const REPLAY_WINDOW_MS_MIN: u64 = 1_000;

/// A parameter that cannot be, by the relations that liveness and sizes rest on.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("`{field}` is {got}; expected {expected}")]
pub struct ParamFault {
    /// The parameter's name.
    pub field: &'static str,
    /// Its value.
    pub got: u64,
    /// What it may be.
    pub expected: String,
}

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
            block_bytes_max: BLOCK_BYTES_MAX,
            transaction_bytes_max: TRANSACTION_BYTES_MAX,
            replay_window_ms: 120_000,
        }
    }
}

impl Params {
    /// Checks the relations between parameters that liveness and sizes rest on.
    ///
    /// # Errors
    /// The first parameter that cannot be.
    pub fn check(&self) -> Result<(), ParamFault> {
        let Self { timeout_base_ms: base, timeout_cap_ms: cap, .. } = *self;
        within("timeout_base_ms", base, TIMEOUT_BASE_MS_MIN, DURATION_MS_MAX)?;
        within("timeout_cap_ms", cap, base, DURATION_MS_MAX)?;
        // A leader may stamp a block up to `drift` ahead, and replicas hold it that long: a whole view must not go by.
        below("drift_ms", self.drift_ms, base)?;
        within("lag_max_ms", self.lag_max_ms, base, DURATION_MS_MAX)?;
        // A leader that waits longer than the view lasts would never propose.
        below("interval_min_ms", self.interval_min_ms, base)?;
        within("interval_idle_ms", self.interval_idle_ms, self.interval_min_ms.max(1), DURATION_MS_MAX)?;
        let (transaction, block) = (self.transaction_bytes_max, self.block_bytes_max);
        within("block_bytes_max", block.into(), TRANSACTION_BYTES_MIN.into(), BLOCK_BYTES_MAX.into())?;
        let most = block.min(TRANSACTION_BYTES_MAX);
        within("transaction_bytes_max", transaction.into(), TRANSACTION_BYTES_MIN.into(), most.into())?;
        within("replay_window_ms", self.replay_window_ms, REPLAY_WINDOW_MS_MIN, DURATION_MS_MAX)
    }

    /// Whether a block's time is older than `clock - lag_max * 2^lag_exponent`: it is held, not voted for.
    pub fn too_old(&self, time_ms: u64, clock_ms: u64, lag_exponent: u32) -> bool {
        let lag_max = self.lag_max_ms.saturating_mul(1 << lag_exponent.min(LAG_EXPONENT_MAX));
        time_ms < clock_ms.saturating_sub(lag_max)
    }

    /// `H[params](borsh Params)`.
    pub fn digest(&self) -> Hash {
        tree::digest(Context::Params, self)
    }
}

fn within(field: &'static str, got: u64, low: u64, high: u64) -> Result<(), ParamFault> {
    if (low..=high).contains(&got) {
        return Ok(());
    }
    Err(ParamFault { field, got, expected: format!("{low} to {high}") })
}

fn below(field: &'static str, got: u64, base: u64) -> Result<(), ParamFault> {
    if got < base {
        return Ok(());
    }
    Err(ParamFault { field, got, expected: format!("less than timeout_base_ms ({base})") })
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
