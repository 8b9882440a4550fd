//! The client of a Cairn network: batches, signed PROOF transactions, receipts.
//!
//! ```text
//! files ──hash──► digests ──salt, leaf──► batch tree ──root──► PROOF transaction ──► node
//!                                             │                                       │
//!                receipt per leaf ◄──path─────┴──── verified against the genesis ◄────┘
//! ```
//!
//! Nothing a node says is believed: its answer must verify against the genesis that the caller brought
//! before a receipt is handed out. Submitting is idempotent, so everything may be tried again, also on
//! another node and after a restart ([`Pending`]).
//!
//! ```no_run
//! # async fn run(genesis: cairn_types::Genesis, key: cairn_crypto::KeyPair) -> Result<(), cairn_client::ClientFault> {
//! # #[cfg(feature = "net")] {
//! let client = cairn_client::Client::connect("http://127.0.0.1:26657")?.with_genesis(genesis)?.with_key(key);
//! let receipt = client.anchor_file("model.bin".as_ref()).await?;
//! receipt.save_beside("model.bin".as_ref())?;
//! # }
//! # Ok(()) }
//! ```
//!
//! Feature `net` (default) adds everything that talks to nodes; the rest works without a network.

mod batch;
mod fault;
mod files;
mod hashing;
mod leaves;
mod pending;
mod sender;

#[cfg(feature = "net")]
mod anchor;
#[cfg(feature = "net")]
mod answers;
#[cfg(feature = "net")]
mod chains;
#[cfg(feature = "net")]
mod changes;
#[cfg(feature = "net")]
mod clock;
#[cfg(feature = "net")]
mod identities;
#[cfg(feature = "net")]
mod log;
#[cfg(feature = "net")]
mod methods;
#[cfg(feature = "net")]
mod transport;
#[cfg(feature = "net")]
mod validators;

pub use batch::{Batch, Item, SALT_BYTES, Salt, Salting};
pub use cairn_crypto::{LoginFault, LoginGuard, LoginMoment, sign_login, verify_login};
pub use cairn_receipt::{StateDocument, StateFinding, StateSubject};
pub use fault::{ClientFault, RpcError};
pub use files::{FileReceipt, receipt_path, write_atomically};
pub use hashing::{Algorithm, hash_file, hash_reader};
pub use leaves::{LeafFile, LeafWriter};
pub use pending::{Pending, PendingItem};
pub use sender::Sender;

#[cfg(feature = "net")]
pub use anchor::{AnchorOptions, Anchored};
#[cfg(feature = "net")]
pub use answers::{
    BlockRef, ChainStatus, Checked, Page, ProofFilter, ProofQuery, ProofState, Submitted, TxState, Wait, When,
};
#[cfg(feature = "net")]
pub use chains::{CHAIN_PROOFS_MAX, ProofChain};
#[cfg(feature = "net")]
pub use changes::{OpenMotions, ParamsAt};
#[cfg(feature = "net")]
pub use identities::{DelegationState, HistoryItem, KeyVote, ProposalState, ProvenFinding};
#[cfg(feature = "net")]
pub use log::{BUNDLE_RECORDS_MAX, Blocks, LogCheckpoint, TrustPath};
#[cfg(feature = "net")]
pub use methods::ANCHORED_AT_ONCE_MAX;
#[cfg(feature = "net")]
pub use transport::{Client, notify};
#[cfg(feature = "net")]
pub use validators::Signers;
