//! Identities, delegation, shared control, login, and proofs about proofs, over the interfaces.

mod support;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cairn_types::delegation::{DelegationOp, Kinds, Mandate, Rate, Scope, Terms};
use cairn_types::identity::{IdentityOp, NewKey, Purpose, Purposes, RecoveredKeys};
use cairn_types::login::{LoginChallenge, LoginResponse};
use cairn_types::multisig::{MultisigOp, Proposed};
use cairn_types::transaction::Proofs;
use cairn_types::*;
use serde_json::{Value, json};
use support::*;

#[tokio::test]
async fn identities_list_their_active_keys_at_a_height() {
    let node = run(3).await;
    let now = node.ok("identity_get", json!({ "did": format!("did:cairn:{ADDRESS}") })).await;
    let key_name = |index: usize| format!("did:cairn:{ADDRESS}#key-{index}");
    assert_eq!(now["authentication"], json!([key_name(1)]));
    assert_eq!(now["recovery"], json!([key_name(2)]));
    assert_eq!(now["capabilityInvocation"], json!([key_name(1)]));
    assert_eq!(now["verificationMethod"][0]["until_height"], 1);
    let then = node.ok("identity_get", json!({ "did": ADDRESS, "at": 1 })).await;
    assert_eq!(then["authentication"], json!([key_name(0)]));
    let by_time = node.ok("identity_get", json!({ "did": ADDRESS, "at_time": chain_time(2) - 1 })).await;
    assert_eq!((&by_time["authentication"], &by_time["as_of_height"]), (&json!([key_name(0)]), &json!(1)));
    for (params, code) in [
        (json!({ "did": ABSENT }), -32032),
        (json!({ "did": ADDRESS, "at": 0 }), -32032),
        (json!({ "did": ADDRESS, "at": 99 }), -32042),
        (json!({ "did": ADDRESS, "at_time": 5 }), -32040),
        (json!({ "did": ADDRESS, "at_time": "yesterday" }), -32602),
        (json!({ "did": ADDRESS, "at": 1, "at_time": 5 }), -32602),
    ] {
        assert_eq!(node.err("identity_get", params.clone()).await["code"], code, "{params}");
    }
}

#[tokio::test]
async fn history_pages_and_delegations_say_what_is_in_force() {
    let node = run(3).await;
    let first = node.ok("identity_history", json!({ "did": ADDRESS, "limit": 1 })).await;
    assert_eq!(first["items"][0]["event"], "registered");
    let more = json!({ "did": ADDRESS, "limit": 1, "cursor": first["next_cursor"] });
    let second = node.ok("identity_history", more).await;
    assert_eq!(
        (&second["items"][0]["event"], &second["items"][0]["index"]),
        (&json!("key_revoked"), &json!(0))
    );
    assert_eq!(second["next_cursor"], Value::Null);
    let bad = node.err("identity_history", json!({ "did": ADDRESS, "cursor": "x" })).await;
    assert_eq!(bad["code"], -32602);

    let found = node.ok("delegation_get", json!({ "principal": ADDRESS, "delegate": ABSENT })).await;
    assert_eq!((&found["in_force"], &found["used"]), (&json!(true), &json!(4)));
    assert_eq!(found["grants"][0]["terms"]["proofs_max"], 9);
    let none = node.err("delegation_get", json!({ "principal": ABSENT, "delegate": ADDRESS })).await;
    assert_eq!(none["code"], -32040);
    let received = node.ok("delegation_list", json!({ "did": ADDRESS, "side": "received" })).await;
    assert_eq!(received["items"][0]["delegate"], format!("did:cairn:{ADDRESS}"));
}

#[tokio::test]
async fn proposals_are_found_by_id_and_by_identity() {
    let node = run(3).await;
    let policy = node.ok("multisig_get", json!({ "address": ADDRESS })).await;
    assert_eq!((&policy["threshold"], &policy["open_proposals"]), (&json!(1), &json!([TX])));
    let one = node.ok("multisig_get", json!({ "address": ADDRESS, "id": TX })).await;
    assert_eq!((&one["state"], &one["payload"]["identity"]["op"]), (&json!("open"), &json!("revoke_key")));
    let pending = node.ok("multisig_pending", json!({ "address": ADDRESS })).await;
    assert_eq!(pending["items"][0]["approvals"][0]["key_index"], 1);
    assert_eq!(node.err("multisig_get", json!({})).await["code"], -32602);
    assert_eq!(node.err("multisig_get", json!({ "address": ABSENT })).await["code"], -32032);
    let unknown = json!({ "address": ADDRESS, "id": ABSENT });
    assert_eq!(node.err("multisig_get", unknown).await["code"], -32040);
}

#[tokio::test]
async fn a_login_is_asked_for_and_judged() {
    let node = run(1).await;
    let asked =
        node.ok("login_challenge", json!({ "did": ADDRESS, "audience": "https://example.org" })).await;
    let bytes = STANDARD.decode(asked["challenge_b64"].as_str().unwrap()).unwrap();
    let challenge: LoginChallenge = decode(&bytes).unwrap();
    assert_eq!((challenge.audience.as_str(), challenge.nonce), ("https://example.org", [7; 32]));
    let response =
        LoginResponse { challenge, key: KeyRef::Registered(1), signature: Signature::new(&[1]).unwrap() };
    let sent =
        |audience: &str| json!({ "response_b64": STANDARD.encode(encode(&response)), "audience": audience });
    assert_eq!(node.ok("login_verify", sent("https://example.org")).await["valid"], true);
    let other = node.ok("login_verify", sent("https://evil.example")).await;
    assert_eq!((&other["valid"], &other["reason"]), (&json!(false), &json!("another service")));
    for params in [
        json!({ "did": ADDRESS, "audience": "" }),
        json!({ "did": ADDRESS, "audience": "x".repeat(256) }),
        json!({ "did": ADDRESS }),
    ] {
        assert_eq!(node.err("login_challenge", params).await["code"], -32602);
    }
    let junk = json!({ "response_b64": STANDARD.encode([1, 2, 3]), "audience": "x" });
    assert_eq!(node.err("login_verify", junk).await["code"], -32602);
}

#[tokio::test]
async fn a_proof_lists_what_is_said_about_it_and_its_chain_names_what_is_broken() {
    let node = run(3).await;
    let proof = node.ok("proof_list", json!({ "limit": 1 })).await["items"][0]["proof_id"].clone();
    let said = node.ok("proof_statements", json!({ "proof_id": PROOF })).await;
    assert_eq!(
        (&said["items"][0]["kind"], &said["items"][0]["by_author"]),
        (&json!("dispute"), &json!(true))
    );
    let none = node.ok("proof_statements", json!({ "proof_id": PROOF, "kind": "attestation" })).await;
    assert_eq!(none["items"], json!([]));
    let chain = node.ok("proof_chain", json!({ "proof_id": proof })).await;
    assert_eq!(
        (&chain["valid"], &chain["complete"], &chain["links"]),
        (&json!(true), &json!(true), &json!([]))
    );
    assert_eq!(node.err("proof_chain", json!({ "proof_id": ABSENT })).await["code"], -32040);
    assert_eq!(node.err("proof_get", json!({ "proof_id": proof, "at": 0 })).await["code"], -32040);
}

fn key_json(seed: u8) -> Value {
    json!({ "scheme": "dilithium3", "key_b64": STANDARD.encode([seed; 1_952]) })
}

/// Sends one payload in its JSON form; gives the payload that the node was handed, and what it says of it.
async fn through(node: &Running, name: &str, payload: Value) -> Result<Payload, Value> {
    let mut tx = json!({
        "sender": ADDRESS, "nonce": 1, "expires_ms": 5, "keys": [{ "index": 0 }],
        "signatures_b64": [STANDARD.encode([1])],
    });
    tx[name] = payload;
    let answer = node.call("tx_submit", json!({ "tx": tx, "wait": "accepted" })).await;
    if answer["error"].is_object() {
        return Err(answer["error"].clone());
    }
    Ok(node.fake.submissions().pop().expect("submitted").into_parts().transaction.payload)
}

type Reading = (&'static str, Value, Payload);

fn who() -> Address {
    Address::from_hex(ADDRESS).unwrap()
}

fn identity_readings() -> Vec<Reading> {
    let assertion = Purposes::of([Purpose::Assertion]).unwrap();
    let new = NewKey { key: key(6), purposes: assertion, expires_ms: Some(9) };
    let mut listed = key_json(6);
    listed["purposes"] = json!(["assertion"]);
    listed["expires_ms"] = json!(9);
    let add = json!({ "op": "add_key", "key": key_json(6), "purposes": ["assertion"], "key_expires_ms": 9 });
    let recover = IdentityOp::Recover { keys: RecoveredKeys(vec![new.clone()]), threshold: 1 };
    [
        (add, IdentityOp::AddKey(new)),
        (json!({ "op": "recover", "keys": [listed], "threshold": 1 }), recover),
        (json!({ "op": "deactivate" }), IdentityOp::Deactivate),
        (json!({ "op": "register_agent", "owner": ADDRESS }), IdentityOp::RegisterAgent { owner: who() }),
    ]
    .into_iter()
    .map(|(sent, op)| ("identity", sent, Payload::Identity(op)))
    .collect()
}

/// A grant, in JSON and as it is read.
fn grant() -> (Value, DelegationOp) {
    let terms = json!({ "kinds": ["batch", "work"], "tree": "cairn-b3-v1", "metadata_bytes_max": 0,
                        "rate": { "count": 2, "period_ms": 60_000 }, "proofs_max": 3, "expires_ms": 4 });
    let terms_read = Terms { scope: scope(), proofs_max: Some(3), rate: rate(), expires_ms: Some(4) };
    let op = DelegationOp::Grant { delegate: who(), terms: terms_read };
    (json!({ "op": "grant", "delegate": ADDRESS, "terms": terms }), op)
}

fn scope() -> Scope {
    let kinds = Kinds::of([ProofKind::Batch, ProofKind::Work]).unwrap();
    Scope { kinds, tree: Some(TreeKind::CairnB3V1), metadata_bytes_max: 0 }
}

fn rate() -> Option<Rate> {
    Some(Rate { count: 2, period_ms: 60_000 })
}

fn delegation_readings() -> Vec<Reading> {
    let mandate = json!({ "kinds": ["batch", "work"], "tree": "cairn-b3-v1", "metadata_bytes_max": 0,
                          "rate": { "count": 2, "period_ms": 60_000 } });
    let open = Terms { scope: Scope::ALL, proofs_max: None, rate: None, expires_ms: None };
    let set = DelegationOp::SetAgent { agent: who(), mandate: Mandate { scope: scope(), rate: rate() } };
    [
        grant(),
        (json!({ "op": "grant", "delegate": ADDRESS }), DelegationOp::Grant { delegate: who(), terms: open }),
        (json!({ "op": "revoke", "delegate": ADDRESS }), DelegationOp::Revoke { delegate: who() }),
        (json!({ "op": "renounce", "principal": ADDRESS }), DelegationOp::Renounce { principal: who() }),
        (json!({ "op": "set_agent", "agent": ADDRESS, "mandate": mandate }), set),
        (json!({ "op": "retire_agent", "agent": ADDRESS }), DelegationOp::RetireAgent { agent: who() }),
    ]
    .into_iter()
    .map(|(sent, op)| ("delegation", sent, Payload::Delegation(op)))
    .collect()
}

fn multisig_readings() -> Vec<Reading> {
    let inner = signed(1).transaction.proofs().to_vec();
    let proof = json!({ "root": inner[0].root.to_string(), "leaves": 3, "reference": "invoice 7",
                        "metadata_b64": STANDARD.encode(b"meta") });
    let (grant_json, grant) = grant();
    let proposal = TxId::from_hex(TX).unwrap();
    let propose = |payload| MultisigOp::Propose { payload, expires_ms: 7 };
    [
        (
            json!({ "op": "propose", "expires_ms": 7, "delegation": grant_json }),
            propose(Proposed::Delegation(grant)),
        ),
        (
            json!({ "op": "propose", "expires_ms": 7, "proofs": [proof] }),
            propose(Proposed::Proofs(Proofs(inner))),
        ),
        (json!({ "op": "approve", "proposal": TX }), MultisigOp::Approve { proposal }),
        (json!({ "op": "cancel", "proposal": TX }), MultisigOp::Cancel { proposal }),
    ]
    .into_iter()
    .map(|(sent, op)| ("multisig", sent, Payload::Multisig(op)))
    .collect()
}

#[tokio::test]
async fn control_payloads_are_read_from_json() {
    let node = run(1).await;
    for (name, sent, expected) in
        [identity_readings(), delegation_readings(), multisig_readings()].into_iter().flatten()
    {
        assert_eq!(through(&node, name, sent.clone()).await, Ok(expected), "{sent}");
    }
}

#[tokio::test]
async fn control_payloads_that_are_wrong_are_named() {
    let node = run(1).await;
    for (name, sent, words) in [
        ("identity", json!({ "op": "deactivate", "index": 1 }), "takes no `index`"),
        ("identity", json!({ "op": "add_key", "key": key_json(1), "purposes": [] }), "purposes"),
        (
            "identity",
            json!({ "op": "add_key", "key": key_json(1), "purposes": ["recovery", "control"] }),
            "recovery stands alone",
        ),
        ("identity", json!({ "op": "recover", "keys": [], "threshold": 1 }), "1 to 16"),
        (
            "delegation",
            json!({ "op": "grant", "delegate": ADDRESS, "terms": { "kinds": ["batches"] } }),
            "kinds",
        ),
        (
            "delegation",
            json!({ "op": "grant", "delegate": ADDRESS, "terms": { "rate": { "count": 1 } } }),
            "period_ms is missing",
        ),
        (
            "delegation",
            json!({ "op": "grant", "delegate": ADDRESS, "terms": { "scope": 1 } }),
            "unknown field",
        ),
        ("delegation", json!({ "op": "revoke" }), "delegate is missing"),
        ("multisig", json!({ "op": "propose", "expires_ms": 1 }), "exactly one of"),
        ("multisig", json!({ "op": "propose", "expires_ms": 1, "multisig": {} }), "unknown field"),
        ("multisig", json!({ "op": "approve" }), "proposal is missing"),
    ] {
        let error = through(&node, name, sent.clone()).await.expect_err("refused");
        assert_eq!(error["code"], -32602, "{error}");
        assert!(error["message"].as_str().unwrap().contains(words), "{words}: {error}");
    }
}
