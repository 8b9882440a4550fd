//! Headers, blocks and the slot a leader fills.

use std::sync::Arc;

use borsh::{BorshDeserialize, BorshSerialize};

use crate::certificate::CommitCert;
use crate::codec::encode;
use crate::hash::{Context, Hash};
use crate::id::{BlockId, ChainId, Epoch, Height, ValidatorIndex, View};
use crate::transaction::SignedTransaction;
use crate::tree;

/// The highest protocol version this build knows, and the version of its headers.
pub const HEADER_VERSION: u8 = 1;
/// Transactions in one block, at most; bounds decoding before anything else is known.
pub const BLOCK_TRANSACTIONS_MAX: usize = 65_536;

/// A block's header. All roots are those *after* executing this block.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Header {
    /// [`HEADER_VERSION`].
    pub version: u8,
    /// The chain's identity.
    pub chain: ChainId,
    /// The epoch whose validators sign this block.
    pub epoch: Epoch,
    /// The view it was proposed in; 0 only for block 0.
    pub view: View,
    /// One more than the parent's.
    pub height: Height,
    /// The parent; all zero for block 0.
    pub parent: BlockId,
    /// The view of the parent's certificate.
    pub parent_view: View,
    /// Unix milliseconds; strictly rising along the chain.
    pub time_ms: u64,
    /// The leader that proposed it.
    pub proposer: ValidatorIndex,
    /// Root over the block leaves.
    pub tx_root: Hash,
    /// Number of transactions.
    pub tx_count: u32,
    /// Root of the authenticated map: identities, validators, parameters.
    pub state_root: Hash,
    /// Root of the anchor log.
    pub anchors_root: Hash,
    /// Records in the anchor logs.
    pub anchors_size: u64,
    /// Root of the SHA-256 anchor log.
    pub anchors_sha256: Hash,
    /// Root of the log of all ancestors' ids; its size is `height`.
    pub history_root: Hash,
    /// Digest of the validator set that signs this block.
    pub validators: Hash,
    /// The same, except in an epoch's last block and its carriers: the set numbered epoch + 1.
    pub next_validators: Hash,
}

impl Header {
    /// `H[block](borsh Header)`.
    pub fn id(&self) -> BlockId {
        BlockId::new(Context::Block.hash(&encode(self)))
    }

    /// Whether this header ends its epoch or carries its end (consensus rule E).
    pub fn ends_epoch(&self) -> bool {
        self.next_validators != self.validators
    }

    /// The place this header fills.
    pub fn slot(&self) -> Slot {
        Slot {
            epoch: self.epoch,
            view: self.view,
            height: self.height,
            parent: self.parent,
            parent_view: self.parent_view,
            proposer: self.proposer,
        }
    }
}

/// A place in the chain for which consensus asks the executor to build a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the fields are those of `Header`")]
pub struct Slot {
    pub epoch: Epoch,
    pub view: View,
    pub height: Height,
    pub parent: BlockId,
    pub parent_view: View,
    pub proposer: ValidatorIndex,
}

/// A header with its transactions. The id is worked out once, when the block is made or decoded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block {
    id: BlockId,
    header: Header,
    transactions: Vec<Arc<SignedTransaction>>,
}

impl Block {
    /// The block with this header and these transactions. Nothing is compared: see [`Block::matches_tx_root`].
    pub fn new(header: Header, transactions: Vec<Arc<SignedTransaction>>) -> Self {
        Self { id: header.id(), header, transactions }
    }

    /// The header's id.
    pub const fn id(&self) -> BlockId {
        self.id
    }

    /// The header.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// The transactions, in block order.
    pub fn transactions(&self) -> &[Arc<SignedTransaction>] {
        &self.transactions
    }

    /// The canonical bytes of the list of transactions, as after the header.
    pub fn encode_transactions(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.transactions_bytes());
        self.append_transactions(&mut bytes);
        bytes
    }

    /// [`Block::encode_transactions`] at the end of `bytes`.
    pub fn append_transactions(&self, bytes: &mut Vec<u8>) {
        let start = bytes.len();
        // Fails only for more transactions than a u32 counts, which no block holds.
        if self.serialize_transactions(bytes).is_err() {
            bytes.truncate(start);
        }
    }

    /// Length of [`Block::encode_transactions`].
    pub fn transactions_bytes(&self) -> usize {
        let bytes = self.transactions.iter().map(|tx| tx.canonical().len());
        bytes.fold(size_of::<u32>(), usize::saturating_add)
    }

    fn serialize_transactions<W: std::io::Write>(&self, writer: &mut W) -> std::io::Result<()> {
        let count = u32::try_from(self.transactions.len())
            .map_err(|_| crate::codec::invalid("more transactions than a u32 counts"))?;
        count.serialize(writer)?;
        self.transactions.iter().try_for_each(|tx| tx.as_ref().serialize(writer))
    }

    /// Whether it holds no transactions.
    pub fn is_empty(&self) -> bool {
        self.transactions.is_empty()
    }

    /// Whether the transactions are those the header commits to.
    pub fn matches_tx_root(&self) -> bool {
        let leaves: Vec<Hash> = self.transactions.iter().map(|tx| tx.block_leaf()).collect();
        u32::try_from(leaves.len()) == Ok(self.header.tx_count)
            && tree::tx_root(&leaves) == self.header.tx_root
    }
}

impl BorshSerialize for Block {
    fn serialize<W: std::io::Write>(&self, writer: &mut W) -> std::io::Result<()> {
        self.header.serialize(writer)?;
        self.serialize_transactions(writer)
    }
}

impl BorshDeserialize for Block {
    fn deserialize_reader<R: std::io::Read>(reader: &mut R) -> std::io::Result<Self> {
        let header = Header::deserialize_reader(reader)?;
        let count = u32::deserialize_reader(reader)? as usize;
        if count > BLOCK_TRANSACTIONS_MAX {
            return Err(crate::codec::invalid(format!(
                "{count} transactions in a block; expected at most {BLOCK_TRANSACTIONS_MAX}"
            )));
        }
        let transactions = (0..count)
            .map(|_| SignedTransaction::deserialize_reader(reader).map(Arc::new))
            .collect::<std::io::Result<Vec<_>>>()?;
        Ok(Self::new(header, transactions))
    }
}

/// A committed block with a commit certificate of itself or of a descendant of its epoch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CertifiedBlock {
    /// The block.
    pub block: Arc<Block>,
    /// The commit certificate that made it final; names this block only when nothing above it was
    /// committed by the same certificate.
    pub certificate: Arc<CommitCert>,
}
