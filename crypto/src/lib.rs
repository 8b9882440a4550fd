//! Keys, signatures and the trust border: the only crate that turns a `T` from outside into a
//! [`Verified<T>`](cairn_types::Verified).
//!
//! Two schemes (FORMATS, "Signatures"): `dilithium3`, whose keys and signatures `pqcrypto-dilithium` makes and
//! `dilithium3` here checks; `ml-dsa-65` through `aws-lc-rs`. Every feature works with both, and one certificate may mix them.
//!
//! The order of work is the same everywhere: sizes, epoch, known signer, counts and uniqueness, and only
//! then cryptography. A refusal names what was wrong and says whether the peer is to blame
//! ([`MessageFault::is_peers_fault`]).
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing))]

mod certificate;
mod dilithium3;
mod expanded;
mod fault;
mod key_pair;
mod keystore;
mod login;
mod node_record;
mod note_key;
mod signature;
mod simulated;
mod transaction;
mod verdicts;
mod verifier;

pub use certificate::{Certificate, VerifiedCertificate};
pub use expanded::ExpandedKeys;
pub use fault::{CertKind, MessageFault};
pub use key_pair::{KeyFault, KeyPair};
pub use keystore::{EmptyPassphrase, Keystore, KeystoreFault, Passphrase};
pub use login::{
    LOGIN_SKEW_MAX_MS, LOGINS_REMEMBERED_MAX, LoginFault, LoginGuard, LoginMoment, sign_login, verify_login,
};
pub use note_key::{NoteKey, NoteKeyFault, note_binding_preimage, verify_note, verify_note_binding};
pub use signature::{SignatureFault, verify};
pub use simulated::sign_simulated;
pub use transaction::{TransactionFault, verify_transaction};
pub use verifier::{Resolved, Verifier};
