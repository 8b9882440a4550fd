use cairn_types::{Address, Hash, encode};
use serde_json::json;

use super::*;
use cairn_types::identity::{IdentityOp, NewKey, Purposes};

fn chain() -> ChainId {
    ChainId::new(Hash([3; 32]))
}

fn form() -> Value {
    json!({
        "sender": "11".repeat(32), "nonce": "18446744073709551615", "expires_ms": 5,
        "keys": [{ "scheme": "ml-dsa-65", "key_b64": STANDARD.encode([1; 1_952]) }, { "index": 2 }],
        "proofs": [{ "root": "22".repeat(32) }],
        "signatures_b64": [STANDARD.encode([4; 3_309]), STANDARD.encode([5; 3_309])],
    })
}

fn expected() -> SignedTransaction {
    SignedTransaction::new(
        Transaction {
            version: 1,
            chain: chain(),
            sender: Address::new(Hash([0x11; 32])),
            nonce: u64::MAX,
            expires_ms: 5,
            keys: vec![
                KeyRef::Inline(PublicKey::new(Scheme::MlDsa65, &[1; 1_952]).expect("length")),
                KeyRef::Registered(2),
            ],
            payload: Payload::Proofs(Proofs(vec![Proof::batch(TreeKind::CairnB3V1, Hash([0x22; 32]), 1)])),
        },
        vec![Signature::new(&[4; 3_309]).expect("length"), Signature::new(&[5; 3_309]).expect("length")],
    )
}

#[test]
fn both_forms_give_the_same_transaction() {
    assert_eq!(transaction(form(), chain()), Ok(expected()));
    let bytes = STANDARD.encode(encode(&expected()));
    assert_eq!(transaction(Value::String(bytes), ChainId::ZERO), Ok(expected()));
}

#[test]
fn each_broken_field_is_named() {
    let broken = |edit: fn(&mut Value)| {
        let mut form = form();
        edit(&mut form);
        transaction(form, chain()).expect_err("broken").to_string()
    };
    for (words, message) in [
        ("known: type, version, chain", broken(|form| form["extra"] = json!(1))),
        ("tx.sender is missing", broken(|form| form["sender"] = Value::Null)),
        ("tx.nonce is", broken(|form| form["nonce"] = json!(-1))),
        ("tx.keys[0].key_b64 has 3 bytes", broken(|form| form["keys"][0]["key_b64"] = json!("AAAA"))),
        ("tx.keys[1].index is 70000", broken(|form| form["keys"][1]["index"] = json!(70_000))),
        ("tx.proofs[0].root is missing", broken(|form| form["proofs"][0] = json!({}))),
        ("tx.proofs[0].tree is \"sha1\"", broken(|form| form["proofs"][0]["tree"] = json!("sha1"))),
        ("unknown field `rot` in tx.proofs[0]", broken(|form| form["proofs"][0]["rot"] = json!(1))),
        (
            "metadata has 1025 bytes",
            broken(|form| form["proofs"][0]["metadata_b64"] = json!(STANDARD.encode([0; 1_025]))),
        ),
        ("exactly one of", broken(|form| form["identity"] = json!({ "op": "register" }))),
        ("expected 1 to 256", broken(|form| form["proofs"] = json!([]))),
        ("tx.signatures_b64[1] is not padded base64", broken(|form| form["signatures_b64"][1] = json!("!"))),
        ("tx.keys has 17 items", broken(|form| form["keys"] = json!(vec![json!({ "index": 1 }); 17]))),
    ] {
        assert!(message.contains(words), "{words}: {message}");
    }
}

#[test]
fn identity_operations_take_exactly_their_fields() {
    let read = |identity: Value| {
        let mut form = form();
        form["proofs"] = Value::Null;
        form["identity"] = identity;
        transaction(form, chain()).map(|signed| signed.into_parts().transaction.payload)
    };
    let key = json!({ "scheme": "dilithium3", "key_b64": STANDARD.encode([6; 1_952]) });
    let public = PublicKey::new(Scheme::Dilithium3, &[6; 1_952]).expect("length");
    for (identity, op) in [
        (json!({ "op": "register" }), IdentityOp::Register),
        (
            json!({ "op": "add_key", "key": key }),
            IdentityOp::AddKey(NewKey {
                key: public.clone(),
                purposes: Purposes::ORDINARY,
                expires_ms: None,
            }),
        ),
        (
            json!({ "op": "rotate_key", "index": 1, "key": key }),
            IdentityOp::RotateKey { index: 1, key: public, expires_ms: None },
        ),
        (json!({ "op": "revoke_key", "index": 1 }), IdentityOp::RevokeKey(1)),
        (json!({ "op": "set_threshold", "threshold": 2 }), IdentityOp::SetThreshold(2)),
        (
            json!({ "op": "admit", "address": "33".repeat(32) }),
            IdentityOp::Admit(Address::new(Hash([0x33; 32]))),
        ),
    ] {
        assert_eq!(read(identity), Ok(Payload::Identity(op)));
    }
    assert!(read(json!({ "op": "register", "index": 1 })).is_err());
    assert!(read(json!({ "op": "revoke_key" })).is_err());
    assert!(
        read(json!({ "op": "regster" })).expect_err("typo").data()["hint"].to_string().contains("register")
    );
}

#[test]
fn secrets_in_place_of_signatures_and_keys_are_named() {
    for length in [4_000, 4_032] {
        let mut in_signature = form();
        in_signature["signatures_b64"][0] = json!(STANDARD.encode(vec![1; length]));
        assert_eq!(transaction(in_signature, chain()), Err(Fault::SecretMaterial));
        let mut in_key = form();
        in_key["keys"][0]["key_b64"] = json!(STANDARD.encode(vec![1; length]));
        assert_eq!(transaction(in_key, chain()), Err(Fault::SecretMaterial));
        // Even when everything else about the request is wrong.
        let type_7 = json!({ "signature": "ab".repeat(length) });
        assert_eq!(broadcast(type_7, chain()), Err(Fault::SecretMaterial));
    }
}
