//! Polynomials modulo `X^256 + 1` over the integers modulo `q`, and their number-theoretic transform
//! (NTT; FIPS 204, sections 2.5 and 7.5).
//!
//! The 256 coefficients stand in 16 rows of 16. A transform has eight levels, each of which pairs coefficients that
//! are 128, 64, ... 1 apart. The first four pair whole rows; then rows and columns change places, and the last four
//! pair whole rows again. So vector instructions do all of it, and transforms stay in that other order: whatever
//! multiplies them has it too.
//!
//! Products leave a factor of `2^-32` behind and stay below `2 q` (Montgomery's reduction). The comments say how large
//! values may become: nothing here may reach `2^32`.

use std::array;

use pulp::Simd;

/// The modulus, `2^23 - 2^13 + 1`.
pub(super) const Q: u32 = 8_380_417;
/// `q^-1` modulo `2^32`.
const Q_INVERSE: u32 = 58_728_449;
/// A primitive 512th root of unity modulo `q`.
const ROOT: u64 = 1_753;
/// `2^64 / 256` modulo `q`: ends the inverse transform, and puts back what the products before it took.
const LAST: u32 = 41_978;

type Row = [u32; 16];

/// A polynomial: coefficient `16 r + c` in row `r` and column `c`; its transform: in row `c` and column `r`.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Poly([Row; 16]);

/// Factors, column by column: each with the same times `q^-1`, modulo `2^32`.
type Factors = [Row; 2];

/// The factors of four levels: of each of 1, 2, 4 and 8 blocks of rows one after the other.
type Zetas = [Factors; 15];

/// Those of the first four levels, of the last four, and of the way back.
const EARLY: Zetas = zetas(false, false);
const LATE: Zetas = zetas(true, false);
const BACK_LATE: Zetas = zetas(true, true);
const BACK_EARLY: Zetas = zetas(false, true);

/// `ROOT^(bits of k reversed) 2^32` modulo `q`.
const fn power(k: usize) -> u32 {
    let q = Q as u64;
    let mut power = (1 << 32) % q;
    let mut left = (k as u8).reverse_bits();
    while left > 0 {
        power = power * ROOT % q;
        left -= 1;
    }
    power as u32
}

#[expect(clippy::indexing_slicing, reason = "worked out by the compiler")]
const fn zetas(late: bool, back: bool) -> Zetas {
    let mut all = [[[0; 16]; 2]; 15];
    let mut blocks = 1;
    while blocks <= 8 {
        let mut block = 0;
        while block < blocks {
            let mut column = 0;
            while column < 16 {
                let (count, index) =
                    if late { (16 * blocks, column * blocks + block) } else { (blocks, block) };
                let zeta = if back { Q - power(2 * count - 1 - index) } else { power(count + index) };
                all[blocks - 1 + block][0][column] = zeta;
                all[blocks - 1 + block][1][column] = zeta.wrapping_mul(Q_INVERSE);
                column += 1;
            }
            block += 1;
        }
        blocks *= 2;
    }
    all
}

/// `a b 2^-32` modulo `q`, below `2 q`, for `a b` below `2^32 q`.
#[inline(always)]
fn product<S: Simd>(simd: S, values: &mut Row, [factors, inverse]: &Factors) {
    let mut multiples = [0; 16];
    for ((multiple, value), inverse) in multiples.iter_mut().zip(values.iter()).zip(inverse) {
        *multiple = value.wrapping_mul(*inverse);
    }
    let values = S::as_mut_simd_u32s(values).0.iter_mut();
    let rest = S::as_simd_u32s(factors).0.iter().zip(S::as_simd_u32s(&multiples).0);
    for (value, (factor, multiple)) in values.zip(rest) {
        let (_, high) = simd.widening_mul_u32s(*value, *factor);
        let (_, less) = simd.widening_mul_u32s(*multiple, simd.splat_u32s(Q));
        *value = simd.sub_u32s(simd.add_u32s(high, simd.splat_u32s(Q)), less);
    }
}

/// Four levels: values grow by `2 q` on each.
#[inline(always)]
fn forth<S: Simd>(simd: S, rows: &mut [Row; 16], zetas: &Zetas) {
    for blocks in [1, 2, 4, 8] {
        for (block, zetas) in rows.chunks_exact_mut(16 / blocks).zip(zetas.iter().skip(blocks - 1)) {
            let (low, high) = block.split_at_mut(8 / blocks);
            for (low, high) in low.iter_mut().zip(high) {
                butterfly(simd, low, high, zetas);
            }
        }
    }
}

/// The same backwards, for values below `bound`, which doubles on each level.
#[inline(always)]
fn back<S: Simd>(simd: S, rows: &mut [Row; 16], zetas: &Zetas, mut bound: u32) {
    for blocks in [8, 4, 2, 1] {
        for (block, zetas) in rows.chunks_exact_mut(16 / blocks).zip(zetas.iter().skip(blocks - 1)) {
            let (low, high) = block.split_at_mut(8 / blocks);
            for (low, high) in low.iter_mut().zip(high) {
                butterfly_back(simd, low, high, zetas, bound);
            }
        }
        bound = bound.wrapping_mul(2);
    }
}

// No closures here: what is not a function of its own that says so may be left outside the vector instructions.
#[inline(always)]
fn butterfly<S: Simd>(simd: S, low: &mut Row, high: &mut Row, zetas: &Factors) {
    product(simd, high, zetas);
    for (low, high) in S::as_mut_simd_u32s(low).0.iter_mut().zip(S::as_mut_simd_u32s(high).0) {
        let turned = *high;
        *high = simd.sub_u32s(simd.add_u32s(*low, simd.splat_u32s(2 * Q)), turned);
        *low = simd.add_u32s(*low, turned);
    }
}

#[inline(always)]
fn butterfly_back<S: Simd>(simd: S, low: &mut Row, high: &mut Row, zetas: &Factors, bound: u32) {
    for (low, high) in S::as_mut_simd_u32s(low).0.iter_mut().zip(S::as_mut_simd_u32s(high).0) {
        let difference = simd.sub_u32s(simd.add_u32s(*low, simd.splat_u32s(bound)), *high);
        *low = simd.add_u32s(*low, *high);
        *high = difference;
    }
    product(simd, high, zetas);
}

#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "both indexes run over 16 places")]
fn transposed(rows: &[Row; 16]) -> [Row; 16] {
    array::from_fn(|column| array::from_fn(|row| rows[row][column]))
}

impl Poly {
    pub(super) const ZERO: Self = Self([[0; 16]; 16]);

    /// The polynomial with these coefficients.
    #[inline(always)]
    pub(super) fn coefficients(&self) -> &[u32] {
        self.0.as_flattened()
    }

    /// The same, to be changed.
    #[inline(always)]
    pub(super) fn coefficients_mut(&mut self) -> &mut [u32] {
        self.0.as_flattened_mut()
    }

    /// The transform of coefficients below `2 q`: values below `18 q`.
    #[inline(always)]
    pub(super) fn transform<S: Simd>(mut self, simd: S) -> Self {
        forth(simd, &mut self.0, &EARLY);
        let mut rows = transposed(&self.0);
        forth(simd, &mut rows, &LATE);
        Self(rows)
    }

    /// The coefficients, below `q`, of a transform whose values are below `2 q`, times `2^32`.
    #[inline(always)]
    pub(super) fn inverse<S: Simd>(mut self, simd: S) -> Self {
        back(simd, &mut self.0, &BACK_LATE, 2 * Q);
        let mut rows = transposed(&self.0);
        // Up to 512 q in the end, the largest multiple of q that 32 bits hold.
        back(simd, &mut rows, &BACK_EARLY, 32 * Q);
        for values in &mut rows {
            product(simd, values, &[[LAST; 16], [LAST.wrapping_mul(Q_INVERSE); 16]]);
        }
        for value in rows.as_flattened_mut() {
            *value = (*value).min(value.wrapping_sub(Q));
        }
        Self(rows)
    }

    /// Takes a transform from the order of FIPS 204 into this module's.
    pub(super) fn transpose(&self) -> Self {
        Self(transposed(&self.0))
    }

    /// The same values modulo `q`, below `q`.
    pub(super) fn modulo_q(mut self) -> Self {
        for value in self.coefficients_mut() {
            *value %= Q;
        }
        self
    }
}

/// `(sum of a b - c d) 2^-32` value by value, below `2 q`; `a` and `c` are below `q`, `b` and `d` below `18 q`.
#[inline(always)]
pub(super) fn inner_product<const N: usize>(a: &[Poly; N], b: &[Poly; N], c: &Poly, d: &Poly) -> Poly {
    // At most 90 q² + 18 q² for five pairs, far from the 512 q² that may be reduced.
    let mut sums = [18 * u64::from(Q) * u64::from(Q); 256];
    for ((sum, c), d) in sums.iter_mut().zip(c.coefficients()).zip(d.coefficients()) {
        *sum = sum.wrapping_sub(u64::from(*c).wrapping_mul(u64::from(*d)));
    }
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a.coefficients()).zip(b.coefficients()) {
            *sum = sum.wrapping_add(u64::from(*a).wrapping_mul(u64::from(*b)));
        }
    }
    let mut out = Poly::ZERO;
    for (out, sum) in out.coefficients_mut().iter_mut().zip(sums) {
        let factor = (sum as u32).wrapping_mul(Q_INVERSE.wrapping_neg());
        *out = (sum.wrapping_add(u64::from(factor).wrapping_mul(u64::from(Q))) >> 32) as u32;
    }
    out
}

#[cfg(test)]
mod tests {
    use pulp::{Arch, Scalar, WithSimd};

    use super::*;

    /// `a b` through transforms, the way back included.
    struct Product<'a>(&'a Poly, &'a Poly);

    impl WithSimd for Product<'_> {
        type Output = Poly;

        fn with_simd<S: Simd>(self, simd: S) -> Poly {
            let (a, b) = (self.0.transform(simd).modulo_q(), self.1.transform(simd));
            inner_product(&[a], &[b], &Poly::ZERO, &Poly::ZERO).inverse(simd)
        }
    }

    /// `a b` as the definition has it: `X^256 = -1`.
    fn by_definition(a: &Poly, b: &Poly) -> Vec<u32> {
        let mut sums = [0i64; 256];
        for (i, a) in a.coefficients().iter().enumerate() {
            for (j, b) in b.coefficients().iter().enumerate() {
                let term = i64::from(*a) * i64::from(*b) % i64::from(Q);
                sums[(i + j) % 256] += if i + j < 256 { term } else { -term };
            }
        }
        sums.iter().map(|sum| u32::try_from(sum.rem_euclid(i64::from(Q))).unwrap()).collect()
    }

    fn filled(seed: &[u8], of: impl Fn(u32) -> u32) -> Poly {
        let mut poly = Poly::ZERO;
        let mut bytes = blake3::Hasher::new().update(seed).finalize_xof();
        for value in poly.coefficients_mut() {
            let mut four = [0; 4];
            bytes.fill(&mut four);
            *value = of(u32::from_le_bytes(four));
        }
        poly
    }

    #[test]
    fn products_are_those_of_the_definition() {
        let largest = filled(b"", |_| Q - 1);
        let sparse = filled(b"sparse", |it| if it % 7 == 0 { 1 } else { 0 });
        let random: Vec<_> = (0..8u8).map(|seed| filled(&[seed], |it| it % Q)).collect();
        for a in random.iter().chain([&largest, &sparse, &Poly::ZERO]) {
            for b in [&random[0], &largest, &sparse] {
                let expected = by_definition(a, b);
                assert_eq!(Arch::new().dispatch(Product(a, b)).coefficients(), expected);
                assert_eq!(Product(a, b).with_simd(Scalar::new()).coefficients(), expected);
            }
        }
    }

    #[test]
    fn the_largest_values_stay_within_their_bounds() {
        struct Bounds;
        impl WithSimd for Bounds {
            type Output = (u32, u32);
            fn with_simd<S: Simd>(self, simd: S) -> (u32, u32) {
                let top = |poly: &Poly| poly.coefficients().iter().copied().max().unwrap();
                let there = filled(b"", |_| 2 * Q - 1).transform(simd);
                let back = filled(b"", |_| 2 * Q - 1).inverse(simd);
                (top(&there), top(&back))
            }
        }
        let (there, back) = Bounds.with_simd(Scalar::new());
        assert!(there < 18 * Q && back < Q, "{there} {back}");
        assert_eq!(Arch::new().dispatch(Bounds), (there, back));
    }
}
