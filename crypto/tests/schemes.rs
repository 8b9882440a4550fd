//! Both schemes end to end, and against independent implementations.

use std::sync::Arc;

use cairn_crypto::{
    KeyFault, KeyPair, Resolved, SignatureFault, TransactionFault, Verifier, verify, verify_transaction,
};
use cairn_types::identity::IdentityOp;
use cairn_types::signing::Tag;
use cairn_types::{
    ChainId, Hash, KeyRef, Payload, PublicKey, Scheme, Signature, SignedTransaction, Transaction, TxFault,
    encode,
};
use fips204::ml_dsa_65;
use fips204::traits::{KeyGen, SerDes, Signer, Verifier as _};
use zeroize::Zeroizing;

const CHAIN: ChainId = ChainId::new(Hash([7; 32]));

fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes
}

#[test]
fn a_signature_is_good_for_its_own_key_and_bytes_only() {
    for scheme in Scheme::ALL {
        let (key, other) = (KeyPair::generate(scheme), KeyPair::generate(scheme));
        let preimage = Tag::Vote.preimage(CHAIN, b"body");
        let signature = key.sign(&preimage);
        assert_eq!(signature.as_bytes().len(), scheme.signature_bytes());
        assert_eq!(verify(key.public(), &preimage, &signature), Ok(()));
        let repeats = key.sign(&preimage) == signature;
        assert_eq!(repeats, scheme == Scheme::Dilithium3, "only ML-DSA is hedged");
        let refused = Err(SignatureFault::Refused { scheme });
        assert_eq!(verify(other.public(), &preimage, &signature), refused);
        for bit in (0..preimage.len() * 8).step_by(7) {
            assert_eq!(verify(key.public(), &flipped(&preimage, bit), &signature), refused, "bit {bit}");
        }
        for bit in (0..signature.as_bytes().len() * 8).step_by(97) {
            let changed = Signature::new(&flipped(signature.as_bytes(), bit)).unwrap();
            assert_eq!(verify(key.public(), &preimage, &changed), refused, "signature bit {bit}");
        }
        for bit in (0..key.public().as_bytes().len() * 8).step_by(499) {
            let changed = PublicKey::new(scheme, &flipped(key.public().as_bytes(), bit)).unwrap();
            assert_eq!(verify(&changed, &preimage, &signature), refused, "key bit {bit}");
        }
        for length in [0, 1, 3_308] {
            let short = Signature::new(&signature.as_bytes()[..length]).unwrap();
            let fault = SignatureFault::Length { scheme, got: length, expected: 3_309 };
            assert_eq!(verify(key.public(), &preimage, &short), Err(fault));
        }
    }
}

#[test]
fn one_scheme_does_not_accept_the_others_signature() {
    let key = KeyPair::generate(Scheme::Dilithium3);
    let as_standard = PublicKey::new(Scheme::MlDsa65, key.public().as_bytes()).unwrap();
    assert!(verify(&as_standard, b"m", &key.sign(b"m")).is_err());
    let key = KeyPair::generate(Scheme::MlDsa65);
    let as_draft = PublicKey::new(Scheme::Dilithium3, key.public().as_bytes()).unwrap();
    assert!(verify(&as_draft, b"m", &key.sign(b"m")).is_err());
}

/// `fips204` 0.1.2 is a pure-Rust implementation of the same August 2023 draft.
#[test]
fn an_independent_implementation_agrees_on_dilithium3() {
    let key = KeyPair::generate(Scheme::Dilithium3);
    let theirs = ml_dsa_65::PublicKey::try_from_bytes(key.public().as_bytes().try_into().unwrap()).unwrap();
    let signature = key.sign(b"from us");
    let raw = signature.as_bytes().try_into().unwrap();
    assert_eq!(theirs.try_verify_vt(b"from us", &raw), Ok(true));
    assert_eq!(theirs.try_verify_vt(b"from them", &raw), Ok(false));

    let mut rng = Stream(blake3::Hasher::new().finalize_xof());
    let (public, secret) = ml_dsa_65::KG::try_keygen_with_rng_vt(&mut rng).unwrap();
    let signature = secret.try_sign_with_rng_ct(&mut rng, b"from them").unwrap();
    let public = PublicKey::new(Scheme::Dilithium3, &public.into_bytes()).unwrap();
    assert_eq!(verify(&public, b"from them", &Signature::new(&signature).unwrap()), Ok(()));
    let ours = KeyPair::from_secret(public, Zeroizing::new(secret.into_bytes().to_vec())).unwrap();
    assert_eq!(verify(ours.public(), b"m", &ours.sign(b"m")), Ok(()));
}

/// A fixed stream of bytes behind the traits that `fips204` 0.1.2 asks for.
struct Stream(blake3::OutputReader);

impl rand_core_06::RngCore for Stream {
    fn next_u32(&mut self) -> u32 {
        rand_core_06::impls::next_u32_via_fill(self)
    }
    fn next_u64(&mut self) -> u64 {
        rand_core_06::impls::next_u64_via_fill(self)
    }
    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.0.fill(bytes);
    }
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core_06::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}
impl rand_core_06::CryptoRng for Stream {}

#[test]
fn a_seed_gives_one_ml_dsa_key() {
    let pair = KeyPair::from_seed(&[9; 32]).unwrap();
    assert_eq!(pair.public(), KeyPair::from_seed(&[9; 32]).unwrap().public());
    assert_ne!(pair.public(), KeyPair::from_seed(&[8; 32]).unwrap().public());
    let again = KeyPair::from_secret(pair.public().clone(), pair.secret_bytes().clone()).unwrap();
    assert_eq!(verify(pair.public(), b"m", &again.sign(b"m")), Ok(()));
}

#[test]
fn a_secret_of_another_key_or_length_is_refused() {
    for scheme in Scheme::ALL {
        let (key, other) = (KeyPair::generate(scheme), KeyPair::generate(scheme));
        let address = key.address();
        let wrong = KeyPair::from_secret(key.public().clone(), other.secret_bytes().clone());
        assert_eq!(wrong.err(), Some(KeyFault::Mismatch { address }));
        let got = KeyPair::from_secret(key.public().clone(), Zeroizing::new(vec![1; 31])).err();
        assert!(matches!(got, Some(KeyFault::Length { got: 31, .. })), "{got:?}");
    }
}

#[test]
fn debug_output_holds_no_secret() {
    for scheme in Scheme::ALL {
        let key = KeyPair::generate(scheme);
        let shown = format!("{key:?}");
        assert!(shown.contains("hidden") && shown.len() < 200, "{shown}");
    }
}

fn signed(
    keys: &[&KeyPair],
    references: Vec<KeyRef>,
    change: impl Fn(&mut Transaction),
) -> SignedTransaction {
    let mut transaction = Transaction {
        version: 1,
        chain: CHAIN,
        sender: keys[0].address(),
        nonce: 5,
        expires_ms: 9,
        keys: references,
        payload: Payload::Identity(IdentityOp::Register),
    };
    change(&mut transaction);
    let preimage = transaction.preimage();
    let signatures = keys.iter().map(|key| key.sign(&preimage)).collect();
    SignedTransaction::new(transaction, signatures)
}

fn check(signed: &SignedTransaction, keys: &[&KeyPair]) -> Result<(), TransactionFault> {
    let (bytes, keys) =
        (encode(signed).len(), keys.iter().map(|key| key.public().clone()).collect::<Vec<_>>());
    let signed = Arc::new(signed.clone());
    let free = verify_transaction(Arc::clone(&signed), bytes, keys.clone());
    let verifier = Verifier::new(CHAIN);
    let first = verifier.transaction(Arc::clone(&signed), bytes, keys.clone());
    let second = verifier.transaction(signed, bytes, keys);
    assert_eq!(first, second, "a remembered verdict is the same verdict");
    if let Ok(good) = &first {
        assert_eq!(free.as_ref(), Ok(good));
        assert_eq!(good.id, good.signed.transaction.id());
    }
    first.map(drop)
}

#[test]
fn transactions_verify_under_inline_and_registered_keys() {
    for scheme in Scheme::ALL {
        let (a, b) = (KeyPair::generate(scheme), KeyPair::generate(Scheme::Dilithium3));
        let inline = signed(&[&a], vec![KeyRef::Inline(a.public().clone())], |_| ());
        assert_eq!(check(&inline, &[&a]), Ok(()));
        let two = signed(&[&a, &b], vec![KeyRef::Registered(0), KeyRef::Registered(3)], |_| ());
        assert_eq!(check(&two, &[&a, &b]), Ok(()));

        let position = 0;
        assert_eq!(check(&inline, &[&b]), Err(TransactionFault::KeyMismatch { position }));
        assert!(matches!(check(&two, &[&b, &a]), Err(TransactionFault::Signature { position: 0, .. })));
        assert_eq!(check(&two, &[&a]), Err(TransactionFault::KeyCount { got: 1, expected: 2 }));
        assert_eq!(check(&two, &[&a, &a]), Err(TransactionFault::KeyRepeated { position: 1 }));
    }
}

#[test]
fn transactions_checked_together_get_the_verdicts_they_get_alone() {
    let keys: Vec<_> = (0..3).map(|_| KeyPair::generate(Scheme::Dilithium3)).collect();
    let list: Vec<(SignedTransaction, Vec<&KeyPair>)> = (0..40usize)
        .map(|n| {
            let (a, b) = (&keys[n % 3], &keys[(n + 1) % 3]);
            let registered = vec![KeyRef::Registered(0), KeyRef::Registered(3)];
            let mut one = match n % 4 {
                0 => (signed(&[a, b], registered, |tx| tx.nonce = n as u64), vec![a, b]),
                _ => (signed(&[a], vec![KeyRef::Registered(0)], |tx| tx.nonce = n as u64), vec![a]),
            };
            match n % 10 {
                3 => one.0.transaction.nonce = 1_000,
                5 => one.1 = vec![b],
                6 => one.0.transaction.chain = ChainId::ZERO,
                8 => one.1.clear(),
                _ => {}
            }
            one
        })
        .collect();
    let alone: Vec<_> = list.iter().map(|(signed, keys)| check(signed, keys)).collect();
    assert!(alone.iter().filter(|it| it.is_ok()).count() > 20);
    let resolved = |(signed, keys): &(SignedTransaction, Vec<&KeyPair>)| Resolved {
        signed: Arc::new(signed.clone()),
        bytes: encode(signed).len(),
        keys: keys.iter().map(|key| key.public().clone()).collect(),
    };
    let verifier = Verifier::new(CHAIN);
    for again in 0..2 {
        for part in [0..40, 0..0, 3..4, 1..9, 8..17] {
            let judged = verifier.transactions(list[part.clone()].iter().map(resolved).collect());
            let verdicts: Vec<_> =
                judged.iter().map(|it| it.as_ref().map(drop).map_err(Clone::clone)).collect();
            assert_eq!(verdicts, alone[part.clone()], "{part:?} {again}");
            for (good, (signed, _)) in judged.iter().zip(&list[part]) {
                assert!(good.as_ref().map_or(true, |good| *good.signed == *signed));
            }
        }
    }
}

#[test]
fn each_fault_of_a_transaction_has_its_own_error() {
    let (a, b) = (KeyPair::generate(Scheme::MlDsa65), KeyPair::generate(Scheme::MlDsa65));
    let inline = || vec![KeyRef::Inline(a.public().clone())];
    let elsewhere = signed(&[&a], inline(), |tx| tx.chain = ChainId::ZERO);
    assert!(matches!(check(&elsewhere, &[&a]), Err(TransactionFault::Shape(TxFault::WrongChain { .. }))));
    let stolen = signed(&[&a], inline(), |tx| tx.sender = b.address());
    assert!(matches!(check(&stolen, &[&a]), Err(TransactionFault::InlineNotSender { position: 0, .. })));
    let version = signed(&[&a], inline(), |tx| tx.version = 2);
    assert_eq!(check(&version, &[&a]), Err(TxFault::Version { got: 2 }.into()));
    let mut good = signed(&[&a], inline(), |_| ());
    let surplus = good.signatures[0].clone();
    good.signatures.push(surplus);
    assert_eq!(check(&good, &[&a]), Err(TxFault::SignatureCount { got: 2, expected: 1 }.into()));
    good.signatures.pop();
    good.transaction.nonce += 1;
    assert!(matches!(check(&good, &[&a]), Err(TransactionFault::Signature { position: 0, .. })));
    good.transaction.nonce -= 1;
    let keys = vec![a.public().clone()];
    let wrong = verify_transaction(Arc::new(good), 12, keys).err();
    assert!(matches!(wrong, Some(TransactionFault::Bytes { got: 12, .. })));
}
