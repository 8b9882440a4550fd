//! What nodes ask one another outside of consensus messages: the bodies of p2p requests, responses and
//! announcements, in the canonical codec. p2p carries them as opaque bytes.

use std::io::{Read, Result as IoResult};
use std::sync::Arc;

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_types::{Block, BlockId, CommitCert, Header, Height, Proposal, SignedTransaction};

/// Blocks in one range response, at most; the byte limit usually ends it sooner.
pub(crate) const RANGE_BLOCKS_MAX: u32 = 512;
/// Bytes of blocks in one range response; p2p refuses responses above 4 MiB, and one block may have 3 MiB.
pub(crate) const RANGE_BYTES_MAX: usize = 3 << 20;

/// A question to a peer.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) enum Request {
    /// Where do you stand?
    Tip,
    /// The final blocks from this height on, as many as fit.
    Range {
        /// First height wanted.
        from: Height,
    },
    /// One block, final or not.
    Block(BlockId),
}

/// The answer to the [`Request`] of the same name.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) enum Response {
    /// The newest final header with its own commit certificate; `None` before the first block.
    Tip(Option<Announcement>),
    /// Consecutive blocks, and a commit certificate of the last one. Empty when there are none.
    Range(Option<Range>),
    /// The block, as the leader's whole proposal where it is still at hand.
    Block(Option<Found>),
}

/// A final header and its proof.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) struct Announcement {
    /// The header.
    pub(crate) header: Header,
    /// A commit certificate naming it.
    pub(crate) certificate: Arc<CommitCert>,
}

/// Consecutive final blocks.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize)]
pub(crate) struct Range {
    /// The blocks, lowest first.
    pub(crate) blocks: Vec<Arc<Block>>,
    /// A commit certificate naming the last of them.
    pub(crate) certificate: Arc<CommitCert>,
}

impl BorshDeserialize for Range {
    fn deserialize_reader<R: Read>(reader: &mut R) -> IoResult<Self> {
        let count = u32::deserialize_reader(reader)?;
        if count > RANGE_BLOCKS_MAX {
            let why = format!("{count} blocks in a range; expected at most {RANGE_BLOCKS_MAX}");
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, why));
        }
        let blocks = (0..count).map(|_| Arc::deserialize_reader(reader)).collect::<IoResult<Vec<_>>>()?;
        Ok(Self { blocks, certificate: Arc::deserialize_reader(reader)? })
    }
}

/// A block found by its id.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) enum Found {
    /// With everything a replica needs to judge it as if its leader had sent it.
    Proposal(Proposal),
    /// The block alone.
    Block(Arc<Block>),
}

/// Transactions on their way to a leader, or gossiped.
pub(crate) fn encode_transactions(transactions: &[Arc<SignedTransaction>]) -> Vec<bytes::Bytes> {
    transactions.iter().map(|tx| cairn_types::encode(tx).into()).collect()
}
