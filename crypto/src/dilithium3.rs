//! Checking `dilithium3` signatures: the August 2023 draft of FIPS 204, algorithm 3, its hash and sampling functions
//! and packing, with the work that depends on the key alone done once for many signatures.
//!
//! `pqcrypto-dilithium` makes keys and signatures. Its check for processors with AVX2 takes signatures that its check
//! for others refuses, and has no form for a key that is used again: `docs/decisions/017-checking-dilithium3.md`. All
//! that is worked on here is public, so nothing needs to take the same time for every input.

mod lanes;
mod packing;
mod ring;

use std::sync::Arc;

use pulp::{Arch, Simd, WithSimd};
use shake::{ExtendableOutput as _, Shake128, Shake256, Update as _, XofReader as _};

use lanes::{LANES, RATE, hashed_together};
use packing::{T1_BYTES, W1_BYTES, Z_BYTES, unpack_hints, unpack_t1, unpack_z, use_hints};
use ring::{Poly, Q, inner_product};

/// Rows of a key's matrix, the `k` of FIPS 204.
const ROWS: usize = 6;
/// Columns of a key's matrix, the `l` of FIPS 204.
const COLUMNS: usize = 5;
/// Coefficients of `z` are below this in absolute value.
const GAMMA_1: u32 = 1 << 19;
/// Coefficients of a challenge that are not zero.
const TAU: usize = 49;
/// Bytes of the seed of a matrix.
const SEED_BYTES: usize = 32;
/// Bytes of the hash of a challenge, and how many of them its coefficients are drawn from: the draft takes the first
/// 32, FIPS 204 in the end all 48.
const HASH_BYTES: usize = 48;
const CHALLENGE_SEED_BYTES: usize = 32;

/// From so many signatures on it takes less to check them together.
const TOGETHER_MIN: usize = 4;

/// The length of a key.
pub(crate) const KEY_BYTES: usize = SEED_BYTES + ROWS * T1_BYTES;
/// The length of a signature.
pub(crate) const SIGNATURE_BYTES: usize = 3_309;

/// What a check needs of a key, 37 kB.
pub(crate) struct ExpandedKey {
    /// The matrix that the key's seed stands for, transformed.
    matrix: [[Poly; COLUMNS]; ROWS],
    /// The key's own polynomials, transformed.
    t1: [Poly; ROWS],
    /// The hash of the key.
    hash: [u8; 64],
}

impl ExpandedKey {
    /// The key with these bytes: any are one.
    pub(crate) fn new(key: &[u8; KEY_BYTES]) -> Arc<Self> {
        let hash = hashed(&[key]);
        let (seed, t1) = key.split_at(SEED_BYTES);
        let mut matrix = [[Poly::ZERO; COLUMNS]; ROWS];
        for (row, polys) in (0..).zip(&mut matrix) {
            for (column, poly) in (0..).zip(polys) {
                *poly = uniform(seed, row, column);
            }
        }
        let mut own = [Poly::ZERO; ROWS];
        for (poly, bytes) in own.iter_mut().zip(t1.chunks_exact(T1_BYTES)) {
            *poly = Arch::new().dispatch(Transform(unpack_t1(bytes))).modulo_q();
        }
        Arc::new(Self { matrix, t1: own, hash })
    }

    /// Whether `signature` is this key's over `message`.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
        let Some(parts) = Parts::of(signature) else { return false };
        let challenge = challenge(parts.seed, &hashed(&[parts.seed]));
        let Some(commitment) = parts.commitment(self, challenge) else { return false };
        let message: [u8; 64] = hashed(&[&self.hash, message]);
        let expected: [u8; HASH_BYTES] = hashed(&[&message, commitment.as_flattened()]);
        parts.hash == expected
    }
}

/// A signature to check.
pub(crate) struct Check<'a> {
    pub(crate) key: Arc<ExpandedKey>,
    pub(crate) message: &'a [u8],
    pub(crate) signature: &'a [u8; SIGNATURE_BYTES],
}

/// Whether each signature is its key's over its message, in order. Many take a quarter less than one after the other: their
/// hashes are found several at a time.
pub(crate) fn verify_together(checks: &[Check<'_>]) -> Vec<bool> {
    let alone = |check: &Check<'_>| check.key.verifies(check.message, check.signature);
    let (many, few) = checks.split_at(checks.len() - checks.len() % LANES);
    let (more, few) = if few.len() < TOGETHER_MIN { ([].as_slice(), few) } else { (few, [].as_slice()) };
    let lists = many.chunks(LANES).chain((!more.is_empty()).then_some(more));
    let together = lists.flat_map(|checks| verify_lanes(checks).into_iter().take(checks.len()));
    together.chain(few.iter().map(alone)).collect()
}

/// The same of at most [`LANES`].
fn verify_lanes(checks: &[Check<'_>]) -> [bool; LANES] {
    let nothing = [[].as_slice(); 2];
    let parts: Vec<_> = checks.iter().map(|check| Parts::of(check.signature)).collect();
    let seeds: Vec<_> =
        parts.iter().map(|parts| parts.as_ref().map_or(nothing, |parts| [parts.seed, &[]])).collect();
    let messages: Vec<_> = checks.iter().map(|check| [&check.key.hash, check.message]).collect();
    let blocks: [[u8; RATE]; LANES] = hashed_together(&seeds);
    let messages: [[u8; 64]; LANES] = hashed_together(&messages);
    let commitments: Vec<_> = checks
        .iter()
        .zip(&parts)
        .zip(&blocks)
        .map(|((check, parts), block)| {
            let parts = parts.as_ref()?;
            parts.commitment(&check.key, challenge(parts.seed, block))
        })
        .collect();
    let inputs: Vec<_> = messages
        .iter()
        .zip(&commitments)
        .map(|(message, commitment)| {
            commitment.as_ref().map_or(nothing, |it| [message.as_slice(), it.as_flattened()])
        })
        .collect();
    let expected: [[u8; HASH_BYTES]; LANES] = hashed_together(&inputs);
    let mut good = [false; LANES];
    for (good, ((parts, commitment), expected)) in
        good.iter_mut().zip(parts.iter().zip(&commitments).zip(&expected))
    {
        *good = commitment.is_some() && parts.as_ref().is_some_and(|parts| parts.hash == expected);
    }
    good
}

/// A signature taken apart.
struct Parts<'a> {
    /// The hash of the challenge, and what of it the challenge is drawn from.
    hash: &'a [u8],
    seed: &'a [u8],
    z: &'a [u8],
    hints: [&'a [u8]; ROWS],
}

impl<'a> Parts<'a> {
    /// `None` for hints that are spelled wrongly.
    fn of(signature: &'a [u8; SIGNATURE_BYTES]) -> Option<Self> {
        let (hash, rest) = signature.split_at(HASH_BYTES);
        let (z, hints) = rest.split_at(COLUMNS * Z_BYTES);
        let seed = hash.get(..CHALLENGE_SEED_BYTES)?;
        Some(Self { hash, seed, z, hints: unpack_hints(hints)? })
    }

    /// What the signer committed to; `None` for a `z` that is too large.
    fn commitment(&self, key: &ExpandedKey, challenge: Poly) -> Option<[[u8; W1_BYTES]; ROWS]> {
        Arch::new().dispatch(Commitment { key, challenge, z: self.z, hints: self.hints })
    }
}

/// What the signer committed to before it knew the challenge, as the signature lets one recompute it: the high bits
/// of `A z - c t1`, corrected by the hints. `None` for a `z` that is too large.
struct Commitment<'a> {
    key: &'a ExpandedKey,
    challenge: Poly,
    z: &'a [u8],
    hints: [&'a [u8]; ROWS],
}

impl WithSimd for Commitment<'_> {
    type Output = Option<[[u8; W1_BYTES]; ROWS]>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
        let mut z = [Poly::ZERO; COLUMNS];
        for (poly, bytes) in z.iter_mut().zip(self.z.chunks_exact(Z_BYTES)) {
            *poly = unpack_z(bytes)?.transform(simd);
        }
        let challenge = self.challenge.transform(simd);
        let mut commitment = [[0; W1_BYTES]; ROWS];
        let rows = self.key.matrix.iter().zip(&self.key.t1).zip(self.hints);
        for (bytes, ((row, t1), hints)) in commitment.iter_mut().zip(rows) {
            let w = inner_product(row, &z, t1, &challenge).inverse(simd);
            *bytes = use_hints(&w, hints);
        }
        Some(commitment)
    }
}

struct Transform(Poly);

impl WithSimd for Transform {
    type Output = Poly;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Poly {
        self.0.transform(simd)
    }
}

fn hashed<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut hasher = Shake256::default();
    for part in parts {
        hasher.update(part);
    }
    let mut out = [0; N];
    hasher.finalize_xof().read(&mut out);
    out
}

/// The polynomial of a matrix at `row` and `column` (FIPS 204, algorithms 30 and 32): 23 bits at a time, those that are
/// no number below `q` left out.
fn uniform(seed: &[u8], row: u8, column: u8) -> Poly {
    let mut hasher = Shake128::default();
    hasher.update(seed);
    hasher.update(&[column, row]);
    let mut stream = hasher.finalize_xof();
    let mut poly = Poly::ZERO;
    let mut places = poly.coefficients_mut().iter_mut().peekable();
    let mut block = [0; 168];
    while places.peek().is_some() {
        stream.read(&mut block);
        for [a, b, c] in block.as_chunks::<3>().0 {
            let value = u32::from_le_bytes([*a, *b, c & 0x7f, 0]);
            if value < Q {
                let Some(place) = places.next() else { break };
                *place = value;
            }
        }
    }
    poly.transpose()
}

/// The polynomial with 49 coefficients of 1 and -1 that `seed` stands for (FIPS 204, algorithm 29). `first` are the first bytes of
/// the seed's hash, more than enough but for one seed in very many.
fn challenge(seed: &[u8], first: &[u8; RATE]) -> Poly {
    let (signs, first) = first.split_at(8);
    let mut signs = signs.first_chunk().map_or(0, |signs| u64::from_le_bytes(*signs));
    let mut more = None;
    let mut bytes = first.iter().copied();
    let mut next = || {
        bytes.next().unwrap_or_else(|| {
            let stream = more.get_or_insert_with(|| {
                let mut hasher = Shake256::default();
                hasher.update(seed);
                let mut stream = hasher.finalize_xof();
                stream.read(&mut [0; RATE]);
                stream
            });
            let mut byte = [0];
            stream.read(&mut byte);
            let [byte] = byte;
            byte
        })
    };
    let mut poly = Poly::ZERO;
    for last in 256 - TAU..256 {
        let place = loop {
            let place = usize::from(next());
            if place <= last {
                break place;
            }
        };
        let coefficients = poly.coefficients_mut();
        coefficients.swap(last, place);
        if let Some(coefficient) = coefficients.get_mut(place) {
            *coefficient = if signs & 1 == 0 { 1 } else { Q - 1 };
        }
        signs >>= 1;
    }
    poly
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_whose_z_is_too_large_is_refused_even_with_the_hash_of_nothing() {
        let mut signature = [0; SIGNATURE_BYTES];
        signature[..HASH_BYTES].copy_from_slice(&hashed::<HASH_BYTES>(&[]));
        let key = ExpandedKey::new(&[7; KEY_BYTES]);
        assert!(Parts::of(&signature).is_some_and(|parts| parts.commitment(&key, Poly::ZERO).is_none()));
        let check = || Check { key: Arc::clone(&key), message: b"m", signature: &signature };
        for count in [1, TOGETHER_MIN, LANES, LANES + 1] {
            let checks: Vec<_> = (0..count).map(|_| check()).collect();
            assert_eq!(verify_together(&checks), vec![false; count]);
        }
    }

    #[test]
    fn a_challenge_goes_on_where_its_first_bytes_end() {
        // Bytes that are refused until the 200th place may be had: then the seed's own hash goes on.
        let mut first = [0xff; RATE];
        let known: [u8; 2 * RATE] = hashed(&[b"seed"]);
        let (_, more) = known.split_at(RATE);
        let (late, early) = (challenge(b"seed", &first), more.iter().copied().find(|byte| *byte <= 207));
        assert_eq!(late.coefficients()[usize::from(early.unwrap())].min(1), 1);
        first[8..8 + RATE - 8].copy_from_slice(&more[..RATE - 8]);
        assert_eq!(challenge(b"seed", &first).coefficients(), late.coefficients());
    }
}
