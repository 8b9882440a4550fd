//! The published vectors that need signatures, genesis files or receipts. (`types/tests/vectors.rs` reads the rest.)

use std::sync::Arc;

use cairn_crypto::{KeyPair, Verifier, verify};
use cairn_receipt::{LOG_NAMES, ReceiptVerifier, TimeAuthorities, Trusted};
use cairn_types::consistency::verify_consistency;
use cairn_types::multiproof::root_from_multiproof;
use cairn_types::{
    BlockCert, BlockId, ChainId, CommitCert, EpochProof, Hash, KeyRef, Payload, PublicKey, QuorumCert,
    Scheme, Signature, SignedTransaction, TimeoutCert, ValidatorSet, decode, encode,
};
use serde_json::Value;

fn vectors(name: &str) -> Value {
    let path = format!("{}/../types/vectors/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} is a string"))
}

fn bytes(value: &Value, name: &str) -> Vec<u8> {
    hex::decode(text(value, name)).unwrap()
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    let list = value[name].as_array().unwrap();
    assert!(!list.is_empty(), "{name} holds vectors");
    list
}

#[test]
fn signatures() {
    for key in list(&vectors("signatures"), "keys") {
        let scheme = Scheme::from_name(text(key, "scheme")).unwrap();
        let public = PublicKey::new(scheme, &bytes(key, "public_key")).unwrap();
        assert_eq!(u64::from(scheme.id()), key["scheme_id"].as_u64().unwrap());
        assert_eq!(public.address().to_string(), text(key, "address"));
        if let Some(seed) = key["seed"].as_str() {
            let seed: [u8; 32] = hex::decode(seed).unwrap().try_into().unwrap();
            assert_eq!(KeyPair::from_seed(&seed).unwrap().public(), &public);
        }
        for case in list(key, "signatures") {
            let signature = Signature::new(&bytes(case, "signature")).unwrap();
            let good = verify(&public, &bytes(case, "preimage"), &signature).is_ok();
            assert_eq!(good, case["valid"].as_bool().unwrap(), "{scheme}: {}", case["name"]);
        }
    }
}

#[test]
fn transactions() {
    let all = vectors("transactions");
    let keys = |signed: &SignedTransaction| -> Vec<PublicKey> {
        let registered = [(0, Scheme::MlDsa65), (3, Scheme::Dilithium3)];
        let signers = vectors("signatures");
        let resolve = |reference: &KeyRef| match reference {
            KeyRef::Inline(key) => key.clone(),
            KeyRef::Registered(index) => {
                let (_, scheme) = registered.iter().find(|(known, _)| known == index).unwrap();
                let key = &signers["keys"].as_array().unwrap()[usize::from(scheme.id()) - 1];
                PublicKey::new(*scheme, &bytes(key, "public_key")).unwrap()
            }
        };
        let mut keys: Vec<_> = signed.transaction.keys.iter().map(resolve).collect();
        if matches!(signed.transaction.payload, Payload::Evidence(_)) {
            keys.push(keys[0].clone()); // the accused of the vector is the published key
        }
        keys
    };
    for case in list(&all, "valid") {
        let raw = bytes(case, "bytes");
        let signed: SignedTransaction = decode(&raw).unwrap();
        let verifier = Verifier::new(ChainId::from_hex(text(case, "chain")).unwrap());
        if signed.transaction.keys.len() > 1 {
            continue; // Its second key is not among the published ones; its bytes are checked with the types.
        }
        let keys = keys(&signed);
        verifier.transaction(Arc::new(signed), raw.len(), keys).unwrap();
    }
    let chain = ChainId::from_hex(text(&list(&all, "valid")[0], "chain")).unwrap();
    for case in list(&all, "invalid").iter().filter(|case| text(case, "fails") == "signatures") {
        let raw = bytes(case, "bytes");
        let signed: SignedTransaction = decode(&raw).unwrap();
        let keys = keys(&signed);
        let refused = Verifier::new(chain).transaction(Arc::new(signed), raw.len(), keys);
        assert!(refused.is_err(), "{}", case["name"]);
    }
}

#[test]
fn certificates() {
    let all = vectors("blocks");
    let chain = ChainId::from_hex(text(&all, "chain")).unwrap();
    let set: ValidatorSet = decode(&bytes(&all["validator_set"], "bytes")).unwrap();
    let (verifier, root) = (Verifier::new(chain), BlockId::ZERO);
    let of = |name: &str| bytes(&all["certificates"], name);
    let quorum: QuorumCert = decode(&of("quorum")).unwrap();
    verifier.block_cert(&set, root, BlockCert::Quorum(Arc::new(quorum))).unwrap();
    let commit: CommitCert = decode(&of("commit")).unwrap();
    verifier.commit_cert(&set, Arc::new(commit)).unwrap();
    let timeout: TimeoutCert = decode(&of("timeout")).unwrap();
    verifier.timeout_cert(&set, root, Arc::new(timeout)).unwrap();
    let mixed: CommitCert = decode(&of("quorum")).unwrap();
    assert!(verifier.commit_cert(&set, Arc::new(mixed)).is_err());
}

#[test]
fn epoch_proofs() {
    let all = vectors("epochs");
    let verifier = Verifier::new(ChainId::from_hex(text(&all, "chain")).unwrap());
    let set: ValidatorSet = decode(&bytes(&all, "validator_set")).unwrap();
    for case in list(&all, "valid") {
        let proof: EpochProof = decode(&bytes(case, "bytes")).unwrap();
        verifier.epoch_proof(&set, Arc::new(proof)).unwrap();
    }
    for case in list(&all, "invalid").iter().filter(|case| text(case, "fails") != "decode") {
        let proof: EpochProof = decode(&bytes(case, "bytes")).unwrap();
        assert!(verifier.epoch_proof(&set, Arc::new(proof)).is_err(), "{}", case["name"]);
    }
}

#[test]
fn genesis() {
    let all = vectors("genesis");
    for case in list(&all, "valid") {
        let genesis = cairn_genesis::parse(text(case, "file")).unwrap();
        assert_eq!(encode(&genesis), bytes(case, "canonical"));
        assert_eq!(genesis.chain().to_string(), text(case, "hash"));
    }
    for case in list(&all, "invalid") {
        let fault = cairn_genesis::parse(text(case, "file")).expect_err(text(case, "name")).to_string();
        assert!(fault.contains(text(case, "field")), "{}: {fault}", case["name"]);
    }
}

#[test]
fn receipts() {
    let mut seen = std::collections::BTreeSet::new();
    for group in list(&vectors("receipts"), "groups") {
        let genesis = cairn_genesis::parse(text(group, "genesis")).unwrap();
        for case in list(group, "cases") {
            let mut trusted = Trusted::genesis(&genesis).unwrap();
            let pinned = case["checkpoints"].as_array().unwrap();
            trusted.checkpoints =
                pinned.iter().map(|id| BlockId::from_hex(id.as_str().unwrap()).unwrap()).collect();
            let verdict = ReceiptVerifier::new(trusted).verify_json(text(case, "receipt"));
            let failed = verdict.failed().map(|check| check.name.name());
            assert_eq!(verdict.valid, case["valid"].as_bool().unwrap(), "{}", case["name"]);
            assert_eq!(failed, case["fails"].as_str(), "{}", case["name"]);
            seen.extend(failed);
        }
    }
    // `consistency` is a check of the documents below alone; `state`, `signer` and `delegation` of states; `time`
    // asks for an authority.
    assert_eq!(seen.len() + 5, cairn_receipt::CheckName::ALL.len(), "every check fails somewhere: {seen:?}");
}

#[test]
fn timestamps() {
    let all = vectors("timestamps");
    let genesis = cairn_genesis::parse(text(&all, "genesis")).unwrap();
    for case in list(&all, "cases") {
        let mut trusted = Trusted::genesis(&genesis).unwrap();
        let pinned = list(case, "checkpoints");
        trusted.checkpoints =
            pinned.iter().map(|id| BlockId::from_hex(id.as_str().unwrap()).unwrap()).collect();
        if let Some(pem) = case["authorities"].as_str() {
            trusted.authorities = TimeAuthorities::read(pem.as_bytes()).unwrap();
        }
        let verdict = ReceiptVerifier::new(trusted).verify_json(text(case, "receipt"));
        let failed = verdict.failed().map(|check| check.name.name());
        assert_eq!(
            verdict.valid,
            case["valid"].as_bool().unwrap(),
            "{}: {:?}",
            case["name"],
            verdict.failed()
        );
        assert_eq!(failed, case["fails"].as_str(), "{}", case["name"]);
        let times = case["times"].as_array().unwrap();
        assert_eq!(verdict.times.len(), times.len(), "{}", case["name"]);
        for (got, expected) in verdict.times.iter().zip(times) {
            assert_eq!(got.part.to_string(), text(expected, "part"));
            assert_eq!(Some(got.time_ms), expected["time_ms"].as_u64());
            assert_eq!(got.accuracy_ms, expected["accuracy_ms"].as_u64());
        }
    }
}

#[test]
fn states() {
    let mut seen = std::collections::BTreeSet::new();
    for group in list(&vectors("state"), "groups") {
        let genesis = cairn_genesis::parse(text(group, "genesis")).unwrap();
        for case in list(group, "cases") {
            let mut trusted = Trusted::genesis(&genesis).unwrap();
            let pinned = case["checkpoints"].as_array().unwrap();
            trusted.checkpoints =
                pinned.iter().map(|id| BlockId::from_hex(id.as_str().unwrap()).unwrap()).collect();
            let verifier = ReceiptVerifier::new(trusted);
            let verdict = match case["receipt"].as_str() {
                Some(receipt) => verifier.verify_json(receipt),
                None => verifier.verify_state_json(text(case, "document")).verdict,
            };
            let failed = verdict.failed().map(|check| check.name.name());
            assert_eq!(verdict.valid, case["valid"].as_bool().unwrap(), "{}", case["name"]);
            assert_eq!(failed, case["fails"].as_str(), "{}", case["name"]);
            seen.extend(failed);
        }
    }
    for check in ["format", "header", "state", "certificate", "checkpoint", "signer", "delegation"] {
        assert!(seen.contains(check), "{check} fails somewhere: {seen:?}");
    }
}

#[test]
fn documents() {
    let mut seen = std::collections::BTreeSet::new();
    for group in list(&vectors("documents"), "groups") {
        let genesis = cairn_genesis::parse(text(group, "genesis")).unwrap();
        for case in list(group, "cases") {
            let mut trusted = Trusted::genesis(&genesis).unwrap();
            let pinned = case["checkpoints"].as_array().unwrap();
            trusted.checkpoints =
                pinned.iter().map(|id| BlockId::from_hex(id.as_str().unwrap()).unwrap()).collect();
            let (_, verdict) = ReceiptVerifier::new(trusted).verify_any(text(case, "document"));
            let failed = verdict.failed().map(|check| check.name.name());
            assert_eq!(verdict.valid, case["valid"].as_bool().unwrap(), "{}", case["name"]);
            assert_eq!(failed, case["fails"].as_str(), "{}", case["name"]);
            seen.extend(failed);
        }
    }
    for check in ["format", "record", "header", "batch", "anchor", "consistency", "certificate", "checkpoint"]
    {
        assert!(seen.contains(check), "{check} fails somewhere: {seen:?}");
    }
}

#[test]
fn multiproofs_and_consistency_proofs() {
    let all = vectors("logproofs");
    let hash = |value: &Value, name: &str| Hash::from_hex(text(value, name)).unwrap();
    let hashes = |value: &Value, name: &str| -> Vec<Hash> {
        value[name]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| Hash::from_hex(it.as_str().unwrap()).unwrap())
            .collect()
    };
    let number = |value: &Value, name: &str| value[name].as_u64().unwrap();
    let family = |value: &Value| LOG_NAMES.iter().find(|(name, _)| *name == text(value, "log")).unwrap().1;
    for case in list(&all, "multiproofs") {
        let leaves: Vec<(u64, Hash)> =
            list(case, "leaves").iter().map(|leaf| (number(leaf, "index"), hash(leaf, "hash"))).collect();
        let root = root_from_multiproof(family(case), &leaves, number(case, "size"), &hashes(case, "path"));
        assert_eq!(root == Ok(hash(case, "root")), case["valid"].as_bool().unwrap(), "{}", case["name"]);
    }
    for case in list(&all, "consistency") {
        let (first, second) = (number(case, "first"), number(case, "second"));
        let (old, new) = (hash(case, "first_root"), hash(case, "second_root"));
        let verified = verify_consistency(family(case), first, second, &hashes(case, "path"), &old, &new);
        assert_eq!(verified.is_ok(), case["valid"].as_bool().unwrap(), "{}", case["name"]);
    }
}
