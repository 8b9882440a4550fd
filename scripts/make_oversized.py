#!/usr/bin/env python3
"""Writes `types/vectors/oversized.json`: signatures whose signer left out the bound on `z`, and one that kept it.

Scheme `dilithium3` is the August 2023 draft of FIPS 204; `dilithium-py` 1.5.1 has the final standard, so the two
differences are put back: the challenge comes from the first 32 bytes of its hash, and nothing stands before a message.
    pip install dilithium-py==1.5.1 && scripts/make_oversized.py > types/vectors/oversized.json
"""

import json

from dilithium_py.ml_dsa import ML_DSA_65 as S


def sign(sk: bytes, message: bytes, bounded: bool) -> bytes:
    """Algorithm 2 of the draft; without `bounded`, only a `z` that breaks the bound is taken."""
    rho, k, tr, s1, s2, t0 = S._unpack_sk(sk)
    s1, s2, t0 = s1.to_ntt(), s2.to_ntt(), t0.to_ntt()
    matrix = S._expand_matrix_from_seed(rho)
    mu = S._h(tr + message, 64)
    seed = S._h(k + bytes(32) + mu, 64)
    kappa, alpha = 0, 2 * S.gamma_2
    while True:
        y = S._expand_mask_vector(seed, kappa)
        kappa += S.l
        w = (matrix @ y.to_ntt()).from_ntt()
        hashed = S._h(mu + w.high_bits(alpha).bit_pack_w(S.gamma_2), S.c_tilde_bytes)
        c = S.R.sample_in_ball(hashed[:32], S.tau).to_ntt()
        z = y + s1.scale(c).from_ntt()
        # What does not fit 20 bits cannot be packed at all.
        if z.check_norm_bound(S.gamma_1 - S.beta) == bounded or z.check_norm_bound(S.gamma_1):
            continue
        c_s2, c_t0 = s2.scale(c).from_ntt(), t0.scale(c).from_ntt()
        low = (w - c_s2).low_bits(alpha)
        if low.check_norm_bound(S.gamma_2 - S.beta) or c_t0.check_norm_bound(S.gamma_2):
            continue
        hints = (-c_t0).make_hint(w - c_s2 + c_t0, alpha)
        if hints.sum_hint() <= S.omega:
            return S._pack_sig(hashed, z, hints)


def main() -> None:
    """Prints the vectors."""
    key, secret = S._keygen_internal(bytes(range(32)))
    cases = [(b"kept the bound", True), (b"left it out", False), (b"left it out again", False)]
    rows = [{"message": m.hex(), "good": good, "signature": sign(secret, m, good).hex()} for m, good in cases]
    print(json.dumps({"public_key": key.hex(), "signatures": rows}, indent=1))


if __name__ == "__main__":
    main()
