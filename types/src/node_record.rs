//! Node records: how a validator says, under its consensus key, where it can be reached.

use borsh::{BorshDeserialize, BorshSerialize};

use crate::codec::encode;
use crate::hash::{Context, Hash};
use crate::id::{Address, ChainId};
use crate::key::Signature;
use crate::signing::Tag;

/// Addresses in one record, at most.
pub const NODE_ADDRESSES_MAX: usize = 8;
/// Longest life of a record, ms.
pub const NODE_RECORD_LIFE_MAX_MS: u64 = 24 * 3_600 * 1_000;
/// Bytes of one record, at most; anything longer is refused before decoding.
pub const NODE_RECORD_BYTES_MAX: usize = 8_192;

/// Where a validator can be reached, before it is signed.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct NodeRecord {
    /// The chain.
    pub chain: ChainId,
    /// The validator.
    pub address: Address,
    /// The PeerId (multihash bytes) of its mesh swarm.
    pub mesh_peer: Vec<u8>,
    /// The PeerId (multihash bytes) of its public swarm.
    pub public_peer: Vec<u8>,
    /// Multiaddresses of the mesh swarm as text, at most [`NODE_ADDRESSES_MAX`].
    pub mesh_addresses: Vec<String>,
    /// Multiaddresses of the public swarm as text, at most [`NODE_ADDRESSES_MAX`].
    pub public_addresses: Vec<String>,
    /// Rises with every new record of the validator.
    pub seq: u64,
    /// Unix milliseconds, at most [`NODE_RECORD_LIFE_MAX_MS`] ahead.
    pub expires_ms: u64,
}

impl NodeRecord {
    /// The bytes the validator signs.
    pub fn preimage(&self) -> Vec<u8> {
        Tag::Node.preimage(self.chain, &encode(self))
    }

    /// The DHT key of a validator's record: `H[node-record](chain ‖ address)`.
    pub fn key(chain: ChainId, address: &Address) -> Hash {
        Context::NodeRecord.hash_parts(&[chain.as_bytes(), address.as_bytes()])
    }
}

/// A node record with its validator's signature.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct SignedNodeRecord {
    /// The record.
    pub record: NodeRecord,
    /// The validator's signature over [`NodeRecord::preimage`].
    pub signature: Signature,
}
