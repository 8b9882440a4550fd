//! What nodes ask one another outside of consensus messages: the bodies of mesh requests, sync responses and
//! announcements, in the canonical codec. p2p carries them as opaque bytes.

use std::io::{Error, ErrorKind, Read, Result as IoResult};
use std::sync::Arc;

use borsh::{BorshDeserialize, BorshSerialize};
use bytes::Bytes;
use cairn_catchup::RANGE_BLOCKS_MAX;
use cairn_types::genesis::{BLOCK_BYTES_MAX, TRANSACTION_BYTES_MAX};
use cairn_types::{Block, BlockId, CommitCert, Header, Height, Proposal, SignedTransaction};

/// Bytes of blocks in one range answer, unless a single block has more. p2p refuses answers above 4 MiB;
/// a block has at most 3 MiB of transactions and its certificate some hundred kB.
pub(crate) const RANGE_BYTES_MAX: usize = 3 << 20;
/// Signatures of three quorums of 100 validators: what a proposal after a timeout carries. A final block carries two at most,
/// its own certificate and the proof of the epoch it ends.
const CERTIFICATES_BYTES: usize = 3 * 67 * 3_400;
// Whatever the parameters of a network, its largest block fits into an answer and a proposal, and its largest
// transaction into a gossiped batch.
const _: () = assert!(BLOCK_BYTES_MAX as usize + CERTIFICATES_BYTES <= cairn_p2p::RESPONSE_BYTES_MAX);
const _: () = assert!(BLOCK_BYTES_MAX as usize + CERTIFICATES_BYTES <= cairn_p2p::HOT_BODY_BYTES_MAX);
const _: () = assert!(TRANSACTION_BYTES_MAX as usize <= cairn_p2p::GOSSIP_BATCH_BYTES_MAX);
/// Transactions in one forwarded list, at most.
pub(crate) const FORWARD_TRANSACTIONS_MAX: usize = 1_024;

/// A validator's question to another, over the mesh.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) enum MeshRequest {
    /// One block, final or not. Answered with [`Found`].
    Block(BlockId),
    /// The final blocks from this height on, as many as fit, at most `count`. Answered with [`Entries`].
    Range { from: Height, count: u32 },
    /// Transactions of a recent block by their positions, at most [`FORWARD_TRANSACTIONS_MAX`]. Answered with
    /// [`Forwarded`].
    Transactions {
        /// The block.
        block: BlockId,
        /// The positions, ascending.
        positions: Vec<u32>,
    },
}

/// A block found by its id.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) enum Found {
    /// With everything a replica needs to judge it as if its leader had sent it.
    Proposal(Arc<Proposal>),
    /// The block alone.
    Block(Arc<Block>),
}

impl Found {
    /// The block.
    pub(crate) fn block(&self) -> &Arc<Block> {
        match self {
            Self::Proposal(proposal) => &proposal.block,
            Self::Block(block) => block,
        }
    }
}

/// Consecutive final blocks, lowest first, each as the bytes of a [`cairn_catchup::Entry`].
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize)]
pub(crate) struct Entries(pub(crate) Vec<Vec<u8>>);

impl BorshDeserialize for Entries {
    fn deserialize_reader<R: Read>(reader: &mut R) -> IoResult<Self> {
        let count = u32::deserialize_reader(reader)?;
        if count > RANGE_BLOCKS_MAX {
            return Err(too_many("blocks in a range", count, RANGE_BLOCKS_MAX as usize));
        }
        (0..count).map(|_| Vec::deserialize_reader(reader)).collect::<IoResult<_>>().map(Self)
    }
}

/// Transactions on their way to a leader, each as its canonical bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Forwarded(pub(crate) Vec<Bytes>);

impl Forwarded {
    /// The bytes of a list of these transactions, each copied once.
    pub(crate) fn encode(transactions: &[Arc<SignedTransaction>]) -> Vec<u8> {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
        let total: usize = transactions.iter().map(|tx| 4 + tx.canonical().len()).sum();
        let mut bytes = Vec::with_capacity(4 + total);
        bytes.extend_from_slice(&u32::try_from(transactions.len()).unwrap_or(u32::MAX).to_le_bytes());
        for tx in transactions {
            bytes.extend_from_slice(&length(tx.canonical()));
            bytes.extend_from_slice(tx.canonical());
        }
        bytes
    }

    /// Reads what [`Forwarded::encode`] wrote. Each transaction gets memory of its own: one that waits for long does not hold the
    /// others'.
    ///
    /// # Errors
    /// When the bytes are anything else, or more than [`FORWARD_TRANSACTIONS_MAX`] transactions.
    pub(crate) fn decode(mut bytes: &[u8]) -> IoResult<Self> {
        let rest = &mut bytes;
        let count = u32::deserialize(rest)?;
        if count as usize > FORWARD_TRANSACTIONS_MAX {
            return Err(too_many("forwarded transactions", count, FORWARD_TRANSACTIONS_MAX));
        }
        let mut list = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let length = u32::deserialize(rest)? as usize;
            let (transaction, after) = rest.split_at_checked(length).ok_or(ErrorKind::UnexpectedEof)?;
            list.push(Bytes::copy_from_slice(transaction));
            *rest = after;
        }
        if !rest.is_empty() {
            let why = format!("{} bytes after the last forwarded transaction", rest.len());
            return Err(Error::new(ErrorKind::InvalidData, why));
        }
        Ok(Self(list))
    }
}

/// News of a final block: its header and a certificate naming it.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) struct Announcement {
    /// The header.
    pub(crate) header: Header,
    /// Its commit certificate.
    pub(crate) certificate: Arc<CommitCert>,
}

fn too_many(what: &str, got: u32, most: usize) -> Error {
    Error::new(ErrorKind::InvalidData, format!("{got} {what}; expected at most {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_types::identity::IdentityOp;
    use cairn_types::{Address, ChainId, Payload, Signature, Transaction};

    fn signed(nonce: u64) -> Arc<SignedTransaction> {
        let transaction = Transaction {
            version: 1,
            chain: ChainId::ZERO,
            sender: Address::default(),
            nonce,
            expires_ms: 9,
            keys: Vec::new(),
            payload: Payload::Identity(IdentityOp::Register),
        };
        Arc::new(SignedTransaction::new(transaction, vec![Signature::new(&[7; 300]).unwrap()]))
    }

    #[test]
    fn a_forwarded_list_is_read_whole_or_not_at_all() {
        for count in [0, 1, 3, FORWARD_TRANSACTIONS_MAX] {
            let list: Vec<_> = (0..count as u64).map(signed).collect();
            let bytes = Forwarded::encode(&list);
            let read = Forwarded::decode(&bytes).unwrap().0;
            assert_eq!(read, list.iter().map(|tx| tx.canonical().clone()).collect::<Vec<_>>());
            if count < 10 {
                (0..bytes.len()).for_each(|cut| assert!(Forwarded::decode(&bytes[..cut]).is_err(), "{cut}"));
                assert!(Forwarded::decode(&[bytes, vec![0]].concat()).is_err());
            }
        }
        let too_many: Vec<_> = (0..=FORWARD_TRANSACTIONS_MAX as u64).map(signed).collect();
        assert!(Forwarded::decode(&Forwarded::encode(&too_many)).is_err());
        let endless = [1u32.to_le_bytes(), u32::MAX.to_le_bytes()].concat();
        assert!(Forwarded::decode(&endless).is_err());
    }
}
