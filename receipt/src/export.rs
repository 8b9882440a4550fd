//! A Cairn proof in the formats of other worlds, from the SHA-256 log: C2SP checkpoints and tlog-proofs, COSE
//! receipts (RFC 9942), OpenTimestamps.
//!
//! What each says is less than what a receipt says. A checkpoint, tlog-proof or COSE receipt rests on Ed25519
//! note keys, which a reader must trust by itself, not on a quorum of validators; and its leaf is the
//! *record*, so the way from a file to the record is the receipt's. An OpenTimestamps file shows how a
//! file's SHA-256 leads into the log's root and the header; no Bitcoin block and no calendar attests it.

mod cose;
mod note;
mod ots;
mod tlog;

pub use cose::{CoseFault, CoseReceipt, cose_key, cose_receipt, cose_root_to_sign, parse_cose, verify_cose};
pub use note::{
    NoteFault, NoteSignature, SignedNote, note_body, note_key_name, note_origin, note_verifier_key,
    parse_verifier_key,
};
pub use ots::{OTS_ATTESTATION_TAG, OtsFault, ots_of, verify_ots};
pub use tlog::{TlogFault, TlogProof};
