//! The packed parts of keys and signatures (FIPS 204, section 7.1), and rounding with hints (section 7.4).

use super::ring::{Poly, Q};
use super::{GAMMA_1, ROWS};

/// Bytes of one polynomial of `z`, 20 bits a coefficient.
pub(super) const Z_BYTES: usize = 640;
/// Bytes of one polynomial of `t1`, 10 bits a coefficient.
pub(super) const T1_BYTES: usize = 320;
/// Bytes of one polynomial of `w1`, 4 bits a coefficient.
pub(super) const W1_BYTES: usize = 128;
/// The largest number of hints in a signature.
const OMEGA: usize = 55;
/// How much of `GAMMA_1` a coefficient of `z` must stay away from: 49 signs times secrets of at most 4.
const BETA: u32 = 196;
/// Half the width of what has the same high bits.
const GAMMA_2: u32 = (Q - 1) / 32;
/// Bits that a key leaves away from the bottom of each coefficient of `t`.
const DROPPED: u32 = 13;

/// A polynomial of `z`, coefficients plus `q`; `None` when one of them is `GAMMA_1 - BETA` or more in absolute value,
/// which a signer never lets out (FIPS 204, algorithm 3, line 13 of the draft).
#[inline(always)]
pub(super) fn unpack_z(bytes: &[u8]) -> Option<Poly> {
    let mut poly = Poly::ZERO;
    let pairs = poly.coefficients_mut().as_chunks_mut::<2>().0;
    for (pair, bytes) in pairs.iter_mut().zip(bytes.as_chunks::<5>().0) {
        let [a, b, c, d, e] = *bytes;
        let low = u32::from_le_bytes([a, b, c, d]);
        *pair = [low & 0xf_ffff, low >> 20 | u32::from(e) << 12];
    }
    // Packed is GAMMA_1 - z: good from BETA + 1 to 2 GAMMA_1 - BETA - 1.
    let mut largest = 0;
    for value in poly.coefficients_mut() {
        largest = value.wrapping_sub(BETA + 1).max(largest);
        *value = (Q + GAMMA_1).wrapping_sub(*value);
    }
    (largest <= 2 * (GAMMA_1 - BETA - 1)).then_some(poly)
}

/// A polynomial of `t1`, put back to where its bits belong in `t`.
pub(super) fn unpack_t1(bytes: &[u8]) -> Poly {
    let mut poly = Poly::ZERO;
    let fours = poly.coefficients_mut().as_chunks_mut::<4>().0;
    for (four, bytes) in fours.iter_mut().zip(bytes.as_chunks::<5>().0) {
        let [a, b, c, d, e] = bytes.map(u32::from);
        let values = [a | (b & 0x3) << 8, b >> 2 | (c & 0xf) << 6, c >> 4 | (d & 0x3f) << 4, d >> 6 | e << 2];
        *four = values.map(|value| value << DROPPED);
    }
    poly
}

/// The places of the hints in each polynomial; `None` for any but the one spelling there is of a set of hints: ends
/// that do not fall, rising places, zeros for the rest (FIPS 204, algorithm 21).
pub(super) fn unpack_hints(bytes: &[u8]) -> Option<[&[u8]; ROWS]> {
    let (places, ends) = bytes.split_at_checked(OMEGA)?;
    let mut all = [[].as_slice(); ROWS];
    let mut start = 0;
    for (hints, end) in all.iter_mut().zip(ends) {
        let end = usize::from(*end);
        *hints = places.get(start..end)?;
        if !hints.is_sorted_by(|a, b| a < b) {
            return None;
        }
        start = end;
    }
    places.get(start..)?.iter().all(|place| *place == 0).then_some(all)
}

/// The packed high bits of `w`, whose coefficients are below `q`, corrected where `hints` says (FIPS 204,
/// algorithms 36, 37, 40 and 28).
#[inline(always)]
pub(super) fn use_hints(w: &Poly, hints: &[u8]) -> [u8; W1_BYTES] {
    let mut high = [0; 256];
    for (high, w) in high.iter_mut().zip(w.coefficients()) {
        *high = high_bits(*w) as u8;
    }
    for place in hints {
        let place = usize::from(*place);
        if let (Some(high), Some(w)) = (high.get_mut(place), w.coefficients().get(place)) {
            *high = corrected(*w) as u8;
        }
    }
    let mut packed = [0; W1_BYTES];
    for (packed, [low, high]) in packed.iter_mut().zip(high.as_chunks::<2>().0) {
        *packed = low | high << 4;
    }
    packed
}

/// The nearest multiple of `2 GAMMA_2`, as a number from 0 to 15: `q - 1` is the same as 0. The factor 1025 divides
/// exactly for every value below `q` (a test goes through all of them).
#[inline(always)]
fn high_bits(value: u32) -> u32 {
    (value.wrapping_add(127) >> 7).wrapping_mul(1025).wrapping_add(1 << 21) >> 22 & 15
}

/// The next multiple on the side where `value` lies; below when it lies on the multiple itself.
fn corrected(value: u32) -> u32 {
    let high = high_bits(value);
    // Just below q, where the multiple is q - 1 but counts as 0, this is far above GAMMA_2: the value lies below.
    let above = value.wrapping_sub(high.wrapping_mul(2 * GAMMA_2));
    let step = if (1..=GAMMA_2).contains(&above) { 1 } else { 15 };
    high.wrapping_add(step) & 15
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 204, algorithms 36 and 40, word by word.
    fn by_definition(value: u32) -> (u32, u32) {
        let (q, alpha, value) = (i64::from(Q), i64::from(2 * GAMMA_2), i64::from(value));
        let mut low = value % alpha;
        if low > alpha / 2 {
            low -= alpha;
        }
        let (high, low) = if value - low == q - 1 { (0, low - 1) } else { ((value - low) / alpha, low) };
        let corrected = if low > 0 { (high + 1) % 16 } else { (high - 1).rem_euclid(16) };
        (u32::try_from(high).unwrap(), u32::try_from(corrected).unwrap())
    }

    #[test]
    fn every_value_is_rounded_as_the_standard_says() {
        for value in 0..Q {
            assert_eq!((high_bits(value), corrected(value)), by_definition(value), "{value}");
        }
    }

    #[test]
    fn z_is_taken_up_to_its_bound_and_no_further() {
        let packed = |at: usize, value: u32| {
            let mut bytes = [0; Z_BYTES];
            for place in 0..256 {
                let value = if place == at { value } else { GAMMA_1 };
                for bit in 0..20 {
                    let to = 20 * place + bit;
                    bytes[to / 8] |= ((value >> bit & 1) as u8) << (to % 8);
                }
            }
            bytes
        };
        let bound = GAMMA_1 - BETA;
        for at in [0, 1, 2, 128, 255] {
            for (value, good) in [
                (GAMMA_1 - (bound - 1), true),
                (GAMMA_1 + (bound - 1), true),
                (GAMMA_1 - bound, false),
                (GAMMA_1 + bound, false),
                (0, false),
                (2 * GAMMA_1 - 1, false),
            ] {
                let poly = unpack_z(&packed(at, value));
                assert_eq!(poly.is_some(), good, "{value} at {at}");
                if let Some(poly) = poly {
                    let expected = |place| if place == at { Q + GAMMA_1 - value } else { Q };
                    assert_eq!(poly.coefficients(), (0..256).map(expected).collect::<Vec<_>>());
                }
            }
        }
    }

    #[test]
    fn hints_have_one_spelling() {
        let spelled = |places: &[u8], ends: [u8; ROWS]| {
            let mut bytes = [0; OMEGA + ROWS];
            bytes[..places.len()].copy_from_slice(places);
            bytes[OMEGA..].copy_from_slice(&ends);
            unpack_hints(&bytes).map(|all| all.map(<[u8]>::to_vec))
        };
        let hints = spelled(&[3, 200, 0, 255], [2, 2, 3, 3, 3, 4]).unwrap();
        assert_eq!(hints, [vec![3, 200], vec![], vec![0], vec![], vec![], vec![255]]);
        let full: Vec<u8> = (0..OMEGA as u8).collect();
        assert!(spelled(&full, [55; ROWS]).is_some());
        assert!(spelled(&[], [0; ROWS]).is_some());
        for (places, ends, what) in [
            (vec![3, 3], [2; ROWS], "a place twice"),
            (vec![4, 3], [2; ROWS], "falling places"),
            (vec![3, 4], [2, 1, 2, 2, 2, 2], "a falling end"),
            (vec![3, 4], [1; ROWS], "a place after the last end"),
            (full, [56; ROWS], "more ends than places"),
            (vec![], [0, 0, 0, 0, 0, 255], "an end far out"),
        ] {
            assert_eq!(spelled(&places, ends), None, "{what}");
        }
    }
}
