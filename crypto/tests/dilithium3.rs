//! Checking `dilithium3` against two other implementations of the same draft of FIPS 204. Each leaves out one check:
//! `pqcrypto-dilithium` 0.5, on processors with AVX2, the bound on `z`; `fips204` 0.1.2, as the draft did, the order of
//! the hints. A signature is good when it is to both.

use cairn_crypto::{KeyPair, verify};
use cairn_types::{PublicKey, Scheme, Signature};
use fips204::ml_dsa_65;
use fips204::traits::{SerDes, Verifier as _};
use pqcrypto_dilithium::dilithium3;
use pqcrypto_traits::sign::{DetachedSignature as _, PublicKey as _};
use serde_json::Value;

/// What both others find, which must be our verdict.
fn verdict(key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
    let theirs = ml_dsa_65::PublicKey::try_from_bytes(key.as_bytes().try_into().unwrap()).unwrap();
    let pure = theirs.try_verify_vt(message, signature.try_into().unwrap()).unwrap_or(false);
    let theirs = dilithium3::PublicKey::from_bytes(key.as_bytes()).unwrap();
    let detached = dilithium3::DetachedSignature::from_bytes(signature).unwrap();
    let native = dilithium3::verify_detached_signature(&detached, message, &theirs).is_ok();
    let ours = verify(key, message, &Signature::new(signature).unwrap()).is_ok();
    assert_eq!(ours, pure && native, "{} {}", hex::encode(message), hex::encode(signature));
    ours
}

#[test]
fn a_signer_that_leaves_out_the_bound_on_z_is_refused() {
    let vectors: Value = serde_json::from_str(include_str!("../../types/vectors/oversized.json")).unwrap();
    let bytes = |value: &Value| hex::decode(value.as_str().unwrap()).unwrap();
    let key = PublicKey::new(Scheme::Dilithium3, &bytes(&vectors["public_key"])).unwrap();
    let verdicts = vectors["signatures"].as_array().unwrap().iter().map(|case| {
        let good = verdict(&key, &bytes(&case["message"]), &bytes(&case["signature"]));
        assert_eq!(good, case["good"].as_bool().unwrap(), "{}", case["message"]);
        good
    });
    assert_eq!(verdicts.collect::<Vec<_>>(), [true, false, false]);
}

#[test]
fn honest_signatures_over_messages_of_every_length_around_a_block_are_good() {
    for length in [0, 1, 71, 72, 73, 135, 136, 137, 500, 5_000] {
        let key = KeyPair::generate(Scheme::Dilithium3);
        let message = vec![length as u8; length];
        let signature = key.sign(&message);
        assert!(verdict(key.public(), &message, signature.as_bytes()), "{length}");
        let other = KeyPair::generate(Scheme::Dilithium3);
        assert!(!verdict(other.public(), &message, signature.as_bytes()), "{length}");
    }
}

#[test]
fn a_signature_with_any_part_changed_is_refused() {
    const HASH: usize = 48;
    const HINTS: usize = 48 + 5 * 640;
    let key = KeyPair::generate(Scheme::Dilithium3);
    let good = key.sign(b"m").as_bytes().to_vec();
    assert!(verdict(key.public(), b"m", &good));
    // Single bits: of the hash, the half that gives no coefficients included; of z; of the hints and their ends.
    let bits =
        (0..8 * HASH).step_by(11).chain((8 * HASH..8 * HINTS).step_by(997)).chain(8 * HINTS..8 * good.len());
    for bit in bits {
        let mut changed = good.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(!verdict(key.public(), b"m", &changed), "bit {bit}");
    }
    // Coefficients of z at and beyond both ends of their range: 20 bits each, the first two bytes and a half.
    for packed in [0u32, 195, 196, 197, (1 << 20) - 197, (1 << 20) - 196, (1 << 20) - 195, (1 << 20) - 1] {
        let mut changed = good.clone();
        changed[HASH] = packed as u8;
        changed[HASH + 1] = (packed >> 8) as u8;
        changed[HASH + 2] = changed[HASH + 2] & 0xf0 | (packed >> 16) as u8;
        assert!(!verdict(key.public(), b"m", &changed), "{packed}");
    }
    // Other spellings of the hints: neighbours exchanged, one repeated, one more, one fewer.
    let ends = HINTS + 55;
    for at in HINTS..ends - 1 {
        let mut exchanged = good.clone();
        exchanged.swap(at, at + 1);
        let mut repeated = good.clone();
        repeated[at + 1] = repeated[at];
        for changed in [exchanged, repeated] {
            assert_eq!(verdict(key.public(), b"m", &changed), changed == good, "place {at}");
        }
    }
    for at in ends..good.len() {
        for step in [1, u8::MAX] {
            let mut changed = good.clone();
            changed[at] = changed[at].wrapping_add(step);
            assert!(!verdict(key.public(), b"m", &changed), "end {at}");
        }
    }
}
