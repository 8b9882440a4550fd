//! SHAKE256 (FIPS 202) of up to eight inputs side by side, one in each lane of the processor's vectors: with eight lanes it takes
//! hardly longer than that of one. `shake` has no form for several inputs; tests compare every result with it.

use pulp::{Arch, Simd, WithSimd};

/// Inputs hashed together, at most.
pub(super) const LANES: usize = 8;
/// Bytes that each permutation takes in or gives out.
pub(super) const RATE: usize = 136;
/// Words of a state.
const WORDS: usize = 25;
/// What follows an input: the suffix of SHAKE and the first bit of the padding (FIPS 202, sections 6.2 and 5.1).
const SUFFIX: u8 = 0x1f;

/// Constants of the rounds (FIPS 202, section 3.2.5).
const ROUNDS: [u64; 24] = [
    0x0000_0000_0000_0001,
    0x0000_0000_0000_8082,
    0x8000_0000_0000_808a,
    0x8000_0000_8000_8000,
    0x0000_0000_0000_808b,
    0x0000_0000_8000_0001,
    0x8000_0000_8000_8081,
    0x8000_0000_0000_8009,
    0x0000_0000_0000_008a,
    0x0000_0000_0000_0088,
    0x0000_0000_8000_8009,
    0x0000_0000_8000_000a,
    0x0000_0000_8000_808b,
    0x8000_0000_0000_008b,
    0x8000_0000_0000_8089,
    0x8000_0000_0000_8003,
    0x8000_0000_0000_8002,
    0x8000_0000_0000_0080,
    0x0000_0000_0000_800a,
    0x8000_0000_8000_000a,
    0x8000_0000_8000_8081,
    0x8000_0000_0000_8080,
    0x0000_0000_8000_0001,
    0x8000_0000_8000_8008,
];

/// One word of every lane's state.
type Row = [u64; LANES];

/// The first `N` bytes of the hash of each input, each given in two parts; all zeros for places without an input. At most
/// [`LANES`] inputs, and at most [`RATE`] bytes.
pub(super) fn hashed_together<const N: usize>(inputs: &[[&[u8]; 2]]) -> [[u8; N]; LANES] {
    const { assert!(N <= RATE) };
    let inputs = inputs.get(..LANES).unwrap_or(inputs);
    let mut padded = Vec::new();
    let ends: Vec<usize> = inputs
        .iter()
        .map(|[first, second]| {
            padded.extend_from_slice(first);
            padded.extend_from_slice(second);
            padded.push(SUFFIX);
            padded.resize(padded.len().next_multiple_of(RATE), 0);
            if let Some(last) = padded.last_mut() {
                *last |= 0x80;
            }
            padded.len()
        })
        .collect();
    let (mut start, mut lanes) = (0, [[].as_slice(); LANES]);
    for (lane, end) in lanes.iter_mut().zip(ends) {
        *lane = padded.get(start..end).unwrap_or_default();
        start = end;
    }
    let mut out = [[0; N]; LANES];
    let mut state = [[0; LANES]; WORDS];
    while lanes.iter().any(|lane| !lane.is_empty()) {
        for (at, lane) in lanes.iter().enumerate() {
            absorb(&mut state, at, lane);
        }
        Arch::new().dispatch(Permute(&mut state));
        for ((at, lane), out) in lanes.iter_mut().enumerate().zip(&mut out) {
            if lane.len() == RATE {
                squeeze(&state, at, out);
            }
            *lane = lane.get(RATE..).unwrap_or_default();
        }
    }
    out
}

/// Takes the next block of one lane's input.
fn absorb(state: &mut [Row; WORDS], at: usize, input: &[u8]) {
    for (row, word) in state.iter_mut().take(RATE / 8).zip(input.as_chunks::<8>().0) {
        if let Some(place) = row.get_mut(at) {
            *place ^= u64::from_le_bytes(*word);
        }
    }
}

/// Gives the first bytes of one lane's state.
fn squeeze(state: &[Row; WORDS], at: usize, out: &mut [u8]) {
    for (bytes, row) in out.chunks_mut(8).zip(state) {
        let word = row.get(at).copied().unwrap_or_default().to_le_bytes();
        for (byte, value) in bytes.iter_mut().zip(word) {
            *byte = value;
        }
    }
}

/// Keccak-p[1600, 24] of every lane (FIPS 202, section 3.3).
struct Permute<'a>(&'a mut [Row; WORDS]);

impl WithSimd for Permute<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for constant in ROUNDS {
            round(self.0, constant);
        }
    }
}

#[inline(always)]
fn xor(a: &Row, b: &Row) -> Row {
    let mut out = [0; LANES];
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        *out = a ^ b;
    }
    out
}

#[inline(always)]
fn turned(a: &Row, bits: u32) -> Row {
    let mut out = [0; LANES];
    for (out, a) in out.iter_mut().zip(a) {
        *out = a.rotate_left(bits);
    }
    out
}

/// `a ^ (!b & c)`.
#[inline(always)]
fn chi(a: &Row, b: &Row, c: &Row) -> Row {
    let mut out = [0; LANES];
    for (((out, a), b), c) in out.iter_mut().zip(a).zip(b).zip(c) {
        *out = a ^ (!b & c);
    }
    out
}

/// Word number `from` as theta leaves it, turned by so many bits.
#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "called with numbers below 25")]
fn moved(a: &[Row; WORDS], mixed: &[Row; 5], from: usize, bits: u32) -> Row {
    turned(&xor(&a[from], &mixed[from % 5]), bits)
}

/// A plane after chi.
#[inline(always)]
fn plane([a, b, c, d, e]: &[Row; 5]) -> [Row; 5] {
    [chi(a, b, c), chi(b, c, d), chi(c, d, e), chi(d, e, a), chi(e, a, b)]
}

/// What theta adds to the words of a column, from those of its neighbours.
#[inline(always)]
fn column(a: &[Row; WORDS], x: usize) -> Row {
    let word = |y: usize| a.get(x + 5 * y).unwrap_or(&a[0]);
    xor(&xor(&xor(word(0), word(1)), &xor(word(2), word(3))), word(4))
}

/// The five steps of a round; the word of column `x` in plane `y` is number `x + 5 y`. Written out: a loop over what differs by the
/// number of bits alone would not stay in the processor's registers.
#[inline(always)]
fn round(a: &mut [Row; WORDS], constant: u64) {
    let parity = [column(a, 0), column(a, 1), column(a, 2), column(a, 3), column(a, 4)];
    let [p0, p1, p2, p3, p4] = &parity;
    let mixed = [
        xor(p4, &turned(p1, 1)),
        xor(p0, &turned(p2, 1)),
        xor(p1, &turned(p3, 1)),
        xor(p2, &turned(p4, 1)),
        xor(p3, &turned(p0, 1)),
    ];
    // From which word, and turned by how many bits (FIPS 202, sections 3.2.2 and 3.2.3).
    let b = [
        moved(a, &mixed, 0, 0),
        moved(a, &mixed, 6, 44),
        moved(a, &mixed, 12, 43),
        moved(a, &mixed, 18, 21),
        moved(a, &mixed, 24, 14),
        moved(a, &mixed, 3, 28),
        moved(a, &mixed, 9, 20),
        moved(a, &mixed, 10, 3),
        moved(a, &mixed, 16, 45),
        moved(a, &mixed, 22, 61),
        moved(a, &mixed, 1, 1),
        moved(a, &mixed, 7, 6),
        moved(a, &mixed, 13, 25),
        moved(a, &mixed, 19, 8),
        moved(a, &mixed, 20, 18),
        moved(a, &mixed, 4, 27),
        moved(a, &mixed, 5, 36),
        moved(a, &mixed, 11, 10),
        moved(a, &mixed, 17, 15),
        moved(a, &mixed, 23, 56),
        moved(a, &mixed, 2, 62),
        moved(a, &mixed, 8, 55),
        moved(a, &mixed, 14, 39),
        moved(a, &mixed, 15, 41),
        moved(a, &mixed, 21, 2),
    ];
    for (a, b) in a.as_chunks_mut::<5>().0.iter_mut().zip(b.as_chunks::<5>().0) {
        *a = plane(b);
    }
    for word in &mut a[0] {
        *word ^= constant;
    }
}

#[cfg(test)]
mod tests {
    use pulp::Scalar;
    use shake::{ExtendableOutput as _, Shake256, Update as _, XofReader as _};

    use super::*;

    fn alone<const N: usize>(parts: &[&[u8]; 2]) -> [u8; N] {
        let mut hasher = Shake256::default();
        parts.iter().for_each(|part| hasher.update(part));
        let mut out = [0; N];
        hasher.finalize_xof().read(&mut out);
        out
    }

    #[test]
    fn inputs_hashed_together_are_what_each_gives_alone() {
        let bytes: Vec<u8> = (0..700u32).map(|at| (at.wrapping_mul(31) >> 3) as u8).collect();
        let lengths = [0, 1, 8, 31, 32, 135, 136, 137, 271, 272, 273, 400, 640];
        for count in 0..=LANES {
            for (shift, split) in lengths.iter().enumerate() {
                let inputs: Vec<[&[u8]; 2]> = (0..count)
                    .map(|lane| {
                        let length = lengths[(lane + shift) % lengths.len()];
                        let all = &bytes[lane..lane + length];
                        all.split_at((*split).min(length)).into()
                    })
                    .collect();
                let (short, full) = (hashed_together::<48>(&inputs), hashed_together::<RATE>(&inputs));
                for (lane, input) in inputs.iter().enumerate() {
                    assert_eq!(short[lane], alone::<48>(input), "{count} inputs, {lane}");
                    assert_eq!(full[lane], alone::<RATE>(input), "{count} inputs, {lane}");
                }
                assert!(short[count..].iter().all(|out| *out == [0; 48]));
            }
        }
    }

    #[test]
    fn vectors_of_any_width_give_the_same() {
        let mut state = [[0; LANES]; WORDS];
        for (at, word) in state.as_flattened_mut().iter_mut().enumerate() {
            *word = (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        let mut scalar = state;
        Arch::new().dispatch(Permute(&mut state));
        Permute(&mut scalar).with_simd(Scalar::new());
        assert_eq!(state, scalar);
    }
}
