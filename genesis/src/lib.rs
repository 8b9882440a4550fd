//! The genesis file: JSON for people, one to one with the canonical [`Genesis`] whose hash is the chain's
//! identity. `docs/FORMATS.md`, "Genesis file", is the exact mapping.
//!
//! A file is either exactly right or refused with the field that is not: unknown, missing and repeated
//! fields, hex in upper case, validators out of order, an address that is not its key's hash, and
//! parameters that contradict one another.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing))]

mod file;
mod rules;

pub use cairn_types::genesis::{Admission, Genesis, Params};
pub use file::{FILE_BYTES_MAX, load, parse, to_json};
pub use rules::{GenesisFault, assemble, validate};
