//! Hashing: BLAKE3 in derive-key mode, one context per kind of object (FORMATS, "Hashing").

use borsh::{BorshDeserialize, BorshSerialize};
use std::fmt;
use std::sync::OnceLock;

use blake3::hazmat::{ContextKey, HasherExt, hash_derive_key_context};

#[path = "hash_chunks.rs"]
mod chunks;
#[path = "hash_lanes.rs"]
mod lanes;
#[path = "hash_short.rs"]
mod short;

/// A 32-byte digest. Displays as lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, BorshSerialize, BorshDeserialize)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads 64 hex digits of either case, with or without a leading `0x`; `None` for anything else.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// What is being hashed. Two objects of different kinds never share a preimage, because each kind has
/// a derive-key context of its own: `cairn 2026 <name> v1`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[expect(missing_docs, reason = "each variant is named after its context string")]
pub enum Context {
    Genesis,
    Address,
    Tx,
    Witness,
    Proof,
    Metadata,
    Block,
    BatchLeaf,
    BatchNode,
    BatchRoot,
    AnchorLeaf,
    AnchorNode,
    TxLeaf,
    TxNode,
    HistoryLeaf,
    HistoryNode,
    State,
    ValidatorSet,
    Params,
    NodeRecord,
    Checkpoint,
    Snapshot,
}

impl Context {
    /// Every context, in the order of the specification.
    pub const ALL: [Self; 22] = [
        Self::Genesis,
        Self::Address,
        Self::Tx,
        Self::Witness,
        Self::Proof,
        Self::Metadata,
        Self::Block,
        Self::BatchLeaf,
        Self::BatchNode,
        Self::BatchRoot,
        Self::AnchorLeaf,
        Self::AnchorNode,
        Self::TxLeaf,
        Self::TxNode,
        Self::HistoryLeaf,
        Self::HistoryNode,
        Self::State,
        Self::ValidatorSet,
        Self::Params,
        Self::NodeRecord,
        Self::Checkpoint,
        Self::Snapshot,
    ];

    /// The full derive-key context string, for instance `cairn 2026 batch-leaf v1`.
    pub const fn string(self) -> &'static str {
        match self {
            Self::Genesis => "cairn 2026 genesis v1",
            Self::Address => "cairn 2026 address v1",
            Self::Tx => "cairn 2026 tx v1",
            Self::Witness => "cairn 2026 witness v1",
            Self::Proof => "cairn 2026 proof v1",
            Self::Metadata => "cairn 2026 metadata v1",
            Self::Block => "cairn 2026 block v1",
            Self::BatchLeaf => "cairn 2026 batch-leaf v1",
            Self::BatchNode => "cairn 2026 batch-node v1",
            Self::BatchRoot => "cairn 2026 batch-root v1",
            Self::AnchorLeaf => "cairn 2026 anchor-leaf v1",
            Self::AnchorNode => "cairn 2026 anchor-node v1",
            Self::TxLeaf => "cairn 2026 tx-leaf v1",
            Self::TxNode => "cairn 2026 tx-node v1",
            Self::HistoryLeaf => "cairn 2026 history-leaf v1",
            Self::HistoryNode => "cairn 2026 history-node v1",
            Self::State => "cairn 2026 state v1",
            Self::ValidatorSet => "cairn 2026 validator-set v1",
            Self::Params => "cairn 2026 params v1",
            Self::NodeRecord => "cairn 2026 node-record v1",
            Self::Checkpoint => "cairn 2026 checkpoint v1",
            Self::Snapshot => "cairn 2026 snapshot v1",
        }
    }

    /// `H[context](bytes)`.
    pub fn hash(self, bytes: &[u8]) -> Hash {
        if let Some(block) = short::Block::new(bytes) {
            return block.hash(self.short_key());
        }
        let (key, words) = self.keys();
        chunks::hash(key, words, bytes).unwrap_or_else(|| self.hash_parts(&[bytes]))
    }

    /// `H[context](left ‖ right)` of each pair in `below`, into `above`; both end with the shorter one. Several
    /// at once where the processor can.
    pub fn hash_pairs(self, below: &[Hash], above: &mut [Hash]) {
        short::hash_pairs(self.short_key(), below, above);
    }

    /// `H[context]` of each of `rows`, into `out`; both end with the shorter one. Several at once where the processor
    /// can.
    pub fn hash_rows<const N: usize>(self, rows: &[[u8; N]], out: &mut [Hash]) {
        const { assert!(N <= short::BLOCK_BYTES, "a row fits into one block") };
        lanes::hash_rows(self.short_key(), rows, out);
    }

    /// `H[context]` of the concatenation of `parts`. Callers keep the split unambiguous: every part but
    /// the last has a fixed length.
    pub fn hash_parts(self, parts: &[&[u8]]) -> Hash {
        let mut hasher = self.hasher();
        for part in parts {
            hasher.update(part);
        }
        Hash(*hasher.finalize().as_bytes())
    }

    /// A streaming hasher already keyed with this context.
    pub fn hasher(self) -> blake3::Hasher {
        blake3::Hasher::new_from_context_key(self.key())
    }

    fn key(self) -> &'static ContextKey {
        &self.keys().0
    }

    fn short_key(self) -> &'static short::Key {
        &self.keys().1
    }

    #[expect(clippy::indexing_slicing, reason = "the table has one entry per variant, in variant order")]
    fn keys(self) -> &'static (ContextKey, short::Key) {
        static KEYS: OnceLock<[(ContextKey, short::Key); Context::ALL.len()]> = OnceLock::new();
        let keys = KEYS.get_or_init(|| {
            Context::ALL.map(|context| {
                let key = hash_derive_key_context(context.string());
                (key, short::Key::new(&key))
            })
        });
        &keys[self as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cached_keys_give_what_derive_key_gives() {
        for context in Context::ALL {
            assert_eq!(context.hash(b"m").0, blake3::derive_key(context.string(), b"m"), "{context:?}");
        }
    }

    #[test]
    fn every_length_around_a_block_gives_what_derive_key_gives() {
        let bytes: Vec<u8> = (0..200u8).collect();
        for length in 0..=bytes.len() {
            let expected = blake3::derive_key(Context::BatchLeaf.string(), &bytes[..length]);
            assert_eq!(Context::BatchLeaf.hash(&bytes[..length]).0, expected, "{length} bytes");
        }
    }

    #[test]
    fn every_number_of_chunks_gives_what_derive_key_gives() {
        let bytes: Vec<u8> =
            (0..18 * 1_024u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for chunks in 0..=17 {
            for around in [0, 1, 63, 64, 65, 245, 1_023] {
                let message = &bytes[..chunks * 1_024 + around];
                let expected = blake3::derive_key(Context::Witness.string(), message);
                assert_eq!(Context::Witness.hash(message).0, expected, "{} bytes", message.len());
            }
        }
    }

    #[test]
    fn rows_hashed_together_are_what_each_gives_alone() {
        fn check<const N: usize>() {
            let rows: Vec<[u8; N]> =
                (0..83u8).map(|at| std::array::from_fn(|byte| at.wrapping_mul(31) ^ byte as u8)).collect();
            for count in [0, 1, 2, 7, 8, 15, 16, 17, 31, 32, 33, 83] {
                let mut out = vec![Hash::default(); count];
                Context::BatchLeaf.hash_rows(&rows[..count], &mut out);
                let expected =
                    rows[..count].iter().map(|row| blake3::derive_key(Context::BatchLeaf.string(), row));
                assert_eq!(out, expected.map(Hash).collect::<Vec<_>>(), "{count} rows of {N} bytes");
            }
        }
        check::<0>();
        check::<1>();
        check::<31>();
        check::<32>();
        check::<48>();
        check::<63>();
        check::<64>();
    }

    #[test]
    fn pairs_hashed_together_are_what_each_gives_alone() {
        let below: Vec<Hash> = (0..83u8).map(|at| Hash([at; 32])).collect();
        for count in 0..below.len() {
            let mut above = vec![Hash::default(); count / 2];
            Context::BatchNode.hash_pairs(&below[..count], &mut above);
            let alone = |pair: &[Hash]| {
                let pair = [pair[0].0, pair[1].0].concat();
                Hash(blake3::derive_key(Context::BatchNode.string(), &pair))
            };
            let expected: Vec<Hash> = below[..count].chunks_exact(2).map(alone).collect();
            assert_eq!(above, expected, "{count} hashes");
        }
    }

    #[test]
    fn hex_takes_either_case_and_refuses_the_rest() {
        let hash = Context::Tx.hash(b"x");
        assert_eq!(Hash::from_hex(&hash.to_string()), Some(hash));
        assert_eq!(Hash::from_hex(&format!("0x{}", hash.to_string().to_uppercase())), Some(hash));
        assert_eq!(Hash::from_hex("00"), None);
        assert_eq!(Hash::from_hex(&"g".repeat(64)), None);
    }
}
