//! The anchor record: the leaf of the anchor logs.

use borsh::{BorshDeserialize, BorshSerialize};

use crate::codec::encode;
use crate::hash::{Context, Hash};
use crate::id::{Address, Height, ProofId, TxId};
use crate::transaction::{Proof, ProofKind, TreeKind};

/// The only record version.
pub const RECORD_VERSION: u8 = 1;

/// What the chain says about one anchored proof. Its borsh bytes are the leaf of both anchor logs, so a
/// receipt needs neither the transaction nor its signature.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Record {
    /// [`RECORD_VERSION`].
    pub version: u8,
    /// Position in the anchor logs, from 0.
    pub seq: u64,
    /// The proof's id.
    pub proof_id: ProofId,
    /// From the proof.
    pub kind: ProofKind,
    /// From the proof.
    pub tree: TreeKind,
    /// From the proof.
    pub root: Hash,
    /// From the proof.
    pub leaves: u64,
    /// Who anchored it.
    pub sender: Address,
    /// The address (key hash) of the first key that signed.
    pub key_address: Address,
    /// From the proof.
    pub on_behalf_of: Option<Address>,
    /// From the proof.
    pub previous: Option<ProofId>,
    /// From the proof.
    pub subject: Option<ProofId>,
    /// From the proof.
    pub reference: String,
    /// `H[metadata](metadata)`.
    pub metadata_hash: Hash,
    /// The transaction that carried it.
    pub tx_id: TxId,
    /// The block that carried it.
    pub height: Height,
    /// That block's time, Unix milliseconds: the proof existed no later than this, plus the drift.
    pub time_ms: u64,
}

/// How one proof names another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Naming {
    /// It continues it (`previous`).
    Continues,
    /// It speaks about it (`subject`).
    SpeaksOf,
}

/// Where a proof landed: the part of a [`Record`] that the proof itself does not say.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the fields are those of `Record`")]
pub struct Landing {
    pub seq: u64,
    pub proof_id: ProofId,
    pub sender: Address,
    pub key_address: Address,
    pub tx_id: TxId,
    pub height: Height,
    pub time_ms: u64,
}

impl Record {
    /// The record of `proof` landing at `at`.
    pub fn new(proof: &Proof, at: Landing) -> Self {
        Self {
            version: RECORD_VERSION,
            seq: at.seq,
            proof_id: at.proof_id,
            kind: proof.kind,
            tree: proof.tree,
            root: proof.root,
            leaves: proof.leaves,
            sender: at.sender,
            key_address: at.key_address,
            on_behalf_of: proof.on_behalf_of,
            previous: proof.previous,
            subject: proof.subject,
            reference: proof.reference.clone(),
            metadata_hash: Context::Metadata.hash(&proof.metadata),
            tx_id: at.tx_id,
            height: at.height,
            time_ms: at.time_ms,
        }
    }

    /// The canonical bytes: what both anchor logs hash.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }
}
