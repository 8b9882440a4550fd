//! The canonical codec: borsh with strict order, no trailing bytes.

use borsh::{BorshDeserialize, BorshSerialize};
use thiserror::Error;

/// Why bytes were not the canonical form of the expected type.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("not a canonical {expected}: {why}")]
pub struct DecodeError {
    /// The Rust name of the type that was expected.
    pub expected: &'static str,
    /// What the decoder met.
    pub why: String,
}

/// The canonical bytes of `value`.
pub fn encode<T: BorshSerialize>(value: &T) -> Vec<u8> {
    // Writing to a Vec fails only for a length above u32::MAX, and every list in the formats has a
    // far lower bound; an over-long value would decode nowhere, so an empty result is the safe answer.
    borsh::to_vec(value).unwrap_or_default()
}

/// [`encode`] into a buffer that has room for `size` bytes from the start.
pub(crate) fn encode_sized<T: BorshSerialize>(value: &T, size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size);
    match value.serialize(&mut bytes) {
        Ok(()) => bytes,
        // As in `encode`.
        Err(_) => Vec::new(),
    }
}

/// Decodes exactly one `T` and nothing after it.
///
/// # Errors
/// When the bytes are cut short, have bytes left over, or break a bound of the type.
pub fn decode<T: BorshDeserialize>(bytes: &[u8]) -> Result<T, DecodeError> {
    borsh::from_slice(bytes).map_err(|error| DecodeError {
        expected: std::any::type_name::<T>().rsplit("::").next().unwrap_or("value"),
        why: error.to_string(),
    })
}

/// An `InvalidData` error, for hand-written decoders.
pub(crate) fn invalid(why: impl Into<String>) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, why.into())
}
