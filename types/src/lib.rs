//! Cairn's data: ids, transactions, blocks, votes, certificates, trees and receipts, with the
//! canonical bytes that are hashed and signed. Pure data: no I/O, no clock, no randomness, and no
//! signature is checked here (see [`Verified`]).
//!
//! `docs/FORMATS.md` is the specification of every byte in this crate.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

pub mod block;
pub mod certificate;
pub mod codec;
pub mod compact;
pub mod consistency;
pub mod delegation;
pub mod epoch;
pub mod event;
pub mod evidence;
pub mod genesis;
pub mod governance;
pub mod hash;
pub mod id;
pub mod identity;
pub mod key;
pub mod log;
pub mod login;
pub mod message;
pub mod multiproof;
pub mod multisig;
pub mod node_record;
pub mod receipt;
pub mod record;
pub mod safety;
pub mod shortcut;
pub mod signing;
pub mod state_key;
pub mod state_proof;
pub mod transaction;
pub mod tree;
pub mod validator;
pub mod verified;

pub use block::{Block, CertifiedBlock, Header, Slot};
pub use certificate::{BlockCert, CertFault, CommitCert, QuorumCert, TimeoutCert, TimeoutEntry};
pub use codec::{DecodeError, decode, encode};
pub use compact::{Assembly, CompactFault, CompactProposal};
pub use epoch::{EPOCH_HEADERS_MAX, EpochProof, EpochProofFault};
pub use evidence::{Conflict, Evidence};
pub use genesis::{Admission, Genesis, ParamFault, Params};
pub use governance::{Change, ChangeFault, Changes, GovernanceOp, Motion, Regime};
pub use hash::{Context, Hash};
pub use id::{Address, BlockId, ChainId, Epoch, Height, ProofId, TxId, ValidatorIndex, View};
pub use key::{PublicKey, Scheme, Signature};
pub use message::{Carried, CommitVote, Message, Proposal, Status, Timeout, Vote};
pub use record::Record;
pub use state_key::StateKey;
pub use state_proof::StateProof;
pub use transaction::{
    AuthenticatedTx, KeyRef, Payload, Proof, ProofKind, SignedParts, SignedTransaction, Transaction,
    TreeKind, TxFault,
};
pub use validator::{Validator, ValidatorSet};
pub use verified::Verified;
