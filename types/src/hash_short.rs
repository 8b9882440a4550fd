//! BLAKE3 of what fits into one block, without the streaming hasher around it: one call of the compression
//! function, and for many blocks as many of them at once as the processor has lanes.
//!
//! Uses the compression function that the `blake3` crate exposes beside its documented interface
//! (`docs/decisions/`, "one block at a time"); tests compare every result with the documented one.

use std::sync::OnceLock;

use blake3::IncrementCounter;
use blake3::hazmat::ContextKey;
use blake3::platform::Platform;

use super::Hash;

/// Bytes of a block.
pub(super) const BLOCK_BYTES: usize = 64;
/// Blocks given to the processor at once: the most lanes that any of today's have.
pub(super) const LANES: usize = 16;
/// The flags of the BLAKE3 paper, section 2.2: derive-key material, first and last block of a chunk, root.
pub(super) const DERIVE_KEY_MATERIAL: u8 = 1 << 6;
pub(super) const CHUNK_START: u8 = 1 << 0;
pub(super) const CHUNK_END: u8 = 1 << 1;
const ROOT: u8 = 1 << 3;
/// All of them: of the only block of a message.
pub(super) const ONLY_BLOCK: u32 = (DERIVE_KEY_MATERIAL | CHUNK_START | CHUNK_END | ROOT) as u32;

/// A context's key as the compression function takes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key([u32; 8]);

impl Key {
    pub(super) fn new(key: &ContextKey) -> Self {
        Self(blake3::platform::words_from_le_bytes_32(key))
    }

    pub(super) const fn words(&self) -> &[u32; 8] {
        &self.0
    }
}

pub(super) fn platform() -> Platform {
    static PLATFORM: OnceLock<Platform> = OnceLock::new();
    *PLATFORM.get_or_init(Platform::detect)
}

/// A message of at most one block.
pub(super) struct Block {
    bytes: [u8; BLOCK_BYTES],
    length: u8,
}

impl Block {
    /// `None` for a longer message.
    pub(super) fn new(message: &[u8]) -> Option<Self> {
        let mut bytes = [0; BLOCK_BYTES];
        bytes.get_mut(..message.len())?.copy_from_slice(message);
        Some(Self { bytes, length: u8::try_from(message.len()).ok()? })
    }

    pub(super) fn hash(&self, key: &Key) -> Hash {
        let mut words = key.0;
        let flags = DERIVE_KEY_MATERIAL | CHUNK_START | CHUNK_END | ROOT;
        platform().compress_in_place(&mut words, &self.bytes, self.length, 0, flags);
        Hash(blake3::platform::le_bytes_from_words_32(&words))
    }
}

/// The hash of each pair of `below`, into `above`.
pub(super) fn hash_pairs(key: &Key, below: &[Hash], above: &mut [Hash]) {
    let mut blocks = [[0; BLOCK_BYTES]; LANES];
    let mut out = [0; 32 * LANES];
    for (below, above) in below.chunks(2 * LANES).zip(above.chunks_mut(LANES)) {
        for (pair, block) in below.chunks_exact(2).zip(&mut blocks) {
            let (left, right) = block.split_at_mut(32);
            if let [first, second] = pair {
                left.copy_from_slice(first.as_bytes());
                right.copy_from_slice(second.as_bytes());
            }
        }
        let inputs = blocks.each_ref();
        let count = (below.len() / 2).min(above.len());
        let (Some(inputs), Some(out)) = (inputs.get(..count), out.get_mut(..count.saturating_mul(32))) else {
            continue;
        };
        platform().hash_many(
            inputs,
            &key.0,
            0,
            IncrementCounter::No,
            DERIVE_KEY_MATERIAL,
            CHUNK_START,
            CHUNK_END | ROOT,
            out,
        );
        for (bytes, hash) in out.chunks_exact(32).zip(above) {
            hash.0.copy_from_slice(bytes);
        }
    }
}
