//! BLAKE3 of many messages of one length that fit into one block, as many at once as the processor has lanes.
//!
//! `blake3` hashes several blocks at once only where they are full ([`super::short`]); the leaves of a batch have 32 or 48
//! bytes. This is its compression function (BLAKE3 paper, section 2.2) on sixteen messages side by side; tests compare
//! every result with the crate's.

use pulp::{Arch, Simd, WithSimd};

use super::Hash;
use super::short;

/// Messages worked on together.
const MESSAGES: usize = 16;
/// Words of a block.
const WORDS: usize = 16;
/// The first words of the state that are not the key: the beginning of SHA-256's.
const IV: [u32; 4] = [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a];
/// Which word of the message comes where, round by round (table 2, applied again and again).
const SCHEDULE: [[usize; WORDS]; 7] = schedule();

#[expect(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "worked out by the compiler")]
const fn schedule() -> [[usize; WORDS]; 7] {
    const PERMUTATION: [usize; WORDS] = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8];
    let mut all = [[0; WORDS]; 7];
    let mut round = 0;
    while round < all.len() {
        let mut word = 0;
        while word < WORDS {
            all[round][word] = if round == 0 { word } else { all[round - 1][PERMUTATION[word]] };
            word += 1;
        }
        round += 1;
    }
    all
}

/// One word of each of the messages.
type Row = [u32; MESSAGES];

/// The hash of each of `rows` under `key`, into `out`; both end with the shorter one. A row has at most a block.
pub(super) fn hash_rows<const N: usize>(key: &short::Key, rows: &[[u8; N]], out: &mut [Hash]) {
    for (rows, out) in rows.chunks(MESSAGES).zip(out.chunks_mut(MESSAGES)) {
        let mut words = [[0; MESSAGES]; WORDS];
        for (at, row) in rows.iter().enumerate() {
            let (whole, rest) = row.as_chunks::<4>();
            let mut last = [0; 4];
            for (to, from) in last.iter_mut().zip(rest) {
                *to = *from;
            }
            for (word, bytes) in words.iter_mut().zip(whole.iter().chain(&[last])) {
                if let Some(word) = word.get_mut(at) {
                    *word = u32::from_le_bytes(*bytes);
                }
            }
        }
        let hashes = Arch::new().dispatch(Compress { key: key.words(), words: &words, length: N as u32 });
        for (at, out) in out.iter_mut().enumerate() {
            for (bytes, word) in out.0.as_chunks_mut::<4>().0.iter_mut().zip(&hashes) {
                *bytes = word.get(at).copied().unwrap_or_default().to_le_bytes();
            }
        }
    }
}

/// The only block of each of sixteen messages.
struct Compress<'a> {
    key: &'a [u32; 8],
    words: &'a [Row; WORDS],
    length: u32,
}

impl WithSimd for Compress<'_> {
    /// The hashes, word by word.
    type Output = [Row; 8];

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> [Row; 8] {
        let mut out = [[0; MESSAGES]; 8];
        for part in 0..S::as_simd_u32s(&[0; MESSAGES]).0.len() {
            let zero = simd.splat_u32s(0);
            let mut message = [zero; WORDS];
            for (word, row) in message.iter_mut().zip(self.words) {
                *word = S::as_simd_u32s(row).0.get(part).copied().unwrap_or(zero);
            }
            let mut state = [zero; 16];
            let rest = [0, 0, self.length, short::ONLY_BLOCK];
            for (word, start) in state.iter_mut().zip(self.key.iter().chain(&IV).chain(&rest)) {
                *word = simd.splat_u32s(*start);
            }
            rounds(simd, &mut state, &message);
            let (low, high) = state.split_at(8);
            for ((row, low), high) in out.iter_mut().zip(low).zip(high) {
                if let Some(out) = S::as_mut_simd_u32s(row).0.get_mut(part) {
                    *out = simd.xor_u32s(*low, *high);
                }
            }
        }
        out
    }
}

#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "the schedule's numbers are below 16")]
fn rounds<S: Simd>(simd: S, v: &mut [S::u32s; 16], m: &[S::u32s; WORDS]) {
    for s in &SCHEDULE {
        mix(simd, v, [0, 4, 8, 12], m[s[0]], m[s[1]]);
        mix(simd, v, [1, 5, 9, 13], m[s[2]], m[s[3]]);
        mix(simd, v, [2, 6, 10, 14], m[s[4]], m[s[5]]);
        mix(simd, v, [3, 7, 11, 15], m[s[6]], m[s[7]]);
        mix(simd, v, [0, 5, 10, 15], m[s[8]], m[s[9]]);
        mix(simd, v, [1, 6, 11, 12], m[s[10]], m[s[11]]);
        mix(simd, v, [2, 7, 8, 13], m[s[12]], m[s[13]]);
        mix(simd, v, [3, 4, 9, 14], m[s[14]], m[s[15]]);
    }
}

/// The quarter round `G`.
#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "called with numbers below 16")]
fn mix<S: Simd>(simd: S, v: &mut [S::u32s; 16], [a, b, c, d]: [usize; 4], x: S::u32s, y: S::u32s) {
    v[a] = simd.add_u32s(simd.add_u32s(v[a], v[b]), x);
    v[d] = rotated(simd, simd.xor_u32s(v[d], v[a]), 16);
    v[c] = simd.add_u32s(v[c], v[d]);
    v[b] = rotated(simd, simd.xor_u32s(v[b], v[c]), 12);
    v[a] = simd.add_u32s(simd.add_u32s(v[a], v[b]), y);
    v[d] = rotated(simd, simd.xor_u32s(v[d], v[a]), 8);
    v[c] = simd.add_u32s(v[c], v[d]);
    v[b] = rotated(simd, simd.xor_u32s(v[b], v[c]), 7);
}

/// To the right.
#[inline(always)]
fn rotated<S: Simd>(simd: S, value: S::u32s, bits: u32) -> S::u32s {
    let right = simd.wrapping_dyn_shr_u32s(value, simd.splat_u32s(bits));
    let left = simd.wrapping_dyn_shl_u32s(value, simd.splat_u32s(32_u32.wrapping_sub(bits)));
    simd.or_u32s(right, left)
}
