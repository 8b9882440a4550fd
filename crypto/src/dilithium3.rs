//! Checking `dilithium3` signatures: the August 2023 draft of FIPS 204, algorithm 3, its hash and sampling functions
//! and packing, with the work that depends on the key alone done once for many signatures.
//!
//! `pqcrypto-dilithium` makes keys and signatures. Its check for processors with AVX2 takes signatures that its check
//! for others refuses, and has no form for a key that is used again: `docs/decisions/017-checking-dilithium3.md`. All
//! that is worked on here is public, so nothing needs to take the same time for every input.

mod packing;
mod ring;

use std::sync::Arc;

use pulp::{Arch, Simd, WithSimd};
use shake::{ExtendableOutput as _, Shake128, Shake256, Update as _, XofReader as _};

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
        let (hash, rest) = signature.split_at(HASH_BYTES);
        let (z, hints) = rest.split_at(COLUMNS * Z_BYTES);
        let (Some(seed), Some(hints)) = (hash.get(..CHALLENGE_SEED_BYTES), unpack_hints(hints)) else {
            return false;
        };
        let commitment = Commitment { key: self, challenge: challenge(seed), z, hints };
        let Some(commitment) = Arch::new().dispatch(commitment) else {
            return false;
        };
        let message: [u8; 64] = hashed(&[&self.hash, message]);
        let expected: [u8; HASH_BYTES] = hashed(&[&message, commitment.as_flattened()]);
        hash == expected
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

/// The polynomial with 49 coefficients of 1 and -1 that `seed` stands for (FIPS 204, algorithm 29).
fn challenge(seed: &[u8]) -> Poly {
    let mut hasher = Shake256::default();
    hasher.update(seed);
    let mut stream = hasher.finalize_xof();
    let mut signs = [0; 8];
    stream.read(&mut signs);
    let mut signs = u64::from_le_bytes(signs);
    let mut poly = Poly::ZERO;
    let mut block = [0; 128];
    let mut bytes = [].iter();
    for last in 256 - TAU..256 {
        let place = loop {
            match bytes.next().copied().map(usize::from) {
                Some(place) if place <= last => break place,
                Some(_) => {}
                None => {
                    stream.read(&mut block);
                    bytes = block.iter();
                }
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
