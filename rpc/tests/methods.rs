//! Every method of the table, its example and its faults, against the real server.

mod support;

use std::sync::atomic::Ordering;

use cairn_rpc::{Fault, docs, fault::FAULT_KINDS};
use cairn_types::{Address, Hash, ProofId, TxId, encode};
use serde_json::{Value, json};
use support::{
    ABSENT, ADDRESS, BLOCK, PROOF, ROOT, TX, chain, chain_time, key, login_b64, record, run, signed,
    signed_b64,
};

/// Checks a value against the part of JSON Schema that the table uses.
fn conforms(value: &Value, schema: &Value, place: &str) {
    if let Some(options) = schema["oneOf"].as_array() {
        let fits = |option: &Value| {
            (option["type"] == "string" && value.is_string())
                || (option["type"] == "integer" && value.is_u64())
        };
        assert!(options.iter().any(fits), "{place}: {value}");
        return;
    }
    match schema["type"].as_str() {
        Some("string") => assert!(value.is_string(), "{place}: {value}"),
        Some("integer") => assert!(value.is_u64(), "{place}: {value}"),
        Some("boolean") => assert!(value.is_boolean(), "{place}: {value}"),
        Some("array") => {
            let items = value.as_array().unwrap_or_else(|| panic!("{place}: {value}"));
            items.iter().for_each(|item| conforms(item, &schema["items"], place));
        }
        Some("object") => {
            let members = value.as_object().unwrap_or_else(|| panic!("{place}: {value}"));
            for name in schema["required"].as_array().into_iter().flatten() {
                assert!(
                    members.contains_key(name.as_str().expect("a name")),
                    "{place} lacks {name}: {value}"
                );
            }
            if let Some(properties) = schema["properties"].as_object() {
                for (name, member) in members {
                    let known = properties.get(name);
                    let known =
                        known.unwrap_or_else(|| panic!("{place}.{name} is not in the table: {value}"));
                    conforms(member, known, &format!("{place}.{name}"));
                }
            }
        }
        _ => {}
    }
    if let Some(names) = schema["enum"].as_array() {
        assert!(names.contains(value), "{place}: {value}");
    }
    if let Some("^(0x)?[0-9a-fA-F]{64}$") = schema["pattern"].as_str() {
        let text = value.as_str().expect("checked above");
        assert!(
            text.len() == 64 && text.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f')),
            "{place}: {text}"
        );
    }
}

#[tokio::test]
async fn every_example_is_answered_in_the_shape_the_table_says() {
    let node = run(3).await;
    let table = docs::openrpc("0.1.0");
    let mut answered = 0;
    for method in table["methods"].as_array().expect("methods") {
        if method.get("x-notification").is_some() {
            continue; // subscriptions are tried in `streams`
        }
        let name = method["name"].as_str().expect("a name");
        let mut params = serde_json::Map::new();
        for param in method["examples"][0]["params"].as_array().expect("params") {
            let value =
                param["value"].to_string().replace("<tx>", &signed_b64(1)).replace("<login>", &login_b64());
            params.insert(param["name"].as_str().expect("a name").into(), value.parse().expect("JSON"));
        }
        let by_name = node.ok(name, Value::Object(params.clone())).await;
        conforms(&by_name, &method["result"]["schema"], name);
        // The same by position: the example's values in the table's order, null where it gives none.
        let order = method["params"].as_array().expect("params");
        let by_position: Vec<_> = order
            .iter()
            .map(|param| params.get(param["name"].as_str().expect("a name")).cloned().unwrap_or(Value::Null))
            .collect();
        assert_eq!(node.ok(name, Value::Array(by_position)).await, by_name, "{name}");
        answered += 1;
    }
    assert!(answered >= 38, "{answered}");
}

#[tokio::test]
async fn discovery_is_the_same_over_both_ways() {
    let node = run(1).await;
    let over_get: Value =
        reqwest::get(node.url("/openrpc.json")).await.expect("an answer").json().await.expect("JSON");
    assert_eq!(node.ok("rpc.discover", json!({})).await, over_get);
    assert_eq!(over_get, docs::openrpc("0.1.0"));
}

#[tokio::test]
async fn every_fault_keeps_its_code_kind_and_facts() {
    let node = run(1).await;
    let address = Address::from_hex(ADDRESS).expect("hex");
    let faults = [
        (Fault::NotReady { reason: "syncing".into(), retry_after_ms: 700 }, -32020, "not_ready"),
        (Fault::MempoolFull { reason: "20000 pending".into(), retry_after_ms: 900 }, -32021, "mempool_full"),
        (Fault::RateLimited { retry_after_ms: 5 }, -32022, "rate_limited"),
        (Fault::Unauthorized { reason: "no".into() }, -32023, "unauthorized"),
        (Fault::InvalidSignature { reason: "signature 0".into() }, -32030, "invalid_signature"),
        (Fault::AlreadyExpired { expires_ms: 1, now_ms: 2 }, -32031, "already_expired"),
        (Fault::UnknownIdentity { address, reason: "not admitted".into() }, -32032, "unknown_identity"),
        (Fault::KeyRevoked { address, index: 3, reason: "retired at 9".into() }, -32033, "key_revoked"),
        (Fault::ThresholdNotMet { have: 1, need: 2 }, -32034, "threshold_not_met"),
        (Fault::WrongChain { got: chain(), expected: chain() }, -32035, "wrong_chain"),
        (Fault::ExpiresTooLate { expires_ms: 9, latest_ms: 8 }, -32036, "expires_too_late"),
        (Fault::Conflict { reason: "key exists".into() }, -32037, "conflict"),
        (
            Fault::DelegationMissing { sender: address, principal: address, reason: "expired".into() },
            -32038,
            "delegation_missing",
        ),
        (Fault::SecretMaterial, -32060, "secret_material_rejected"),
        (Fault::internal("a secret path"), -32603, "internal"),
    ];
    for (fault, code, kind) in faults {
        *node.fake.refuse.lock().expect("lock") = Some(fault.clone());
        let error = node.err("proof_anchor", json!({ "tx": signed_b64(1) })).await;
        assert_eq!(error["code"], code);
        assert_eq!(error["data"]["kind"], kind);
        assert_eq!(error["message"], fault.to_string());
        assert!(!error["data"]["hint"].as_str().expect("a hint").is_empty());
        let retryable = FAULT_KINDS.iter().find(|known| known.code == code).expect("known").retryable;
        assert_eq!(error["data"]["retryable"], retryable, "{kind}");
        assert!(!error.to_string().contains("a secret path"), "internal reasons stay inside");
    }
    *node.fake.refuse.lock().expect("lock") = Some(Fault::ThresholdNotMet { have: 1, need: 2 });
    let error = node.err("tx_submit", json!({ "tx": signed_b64(1) })).await;
    assert_eq!((&error["data"]["have"], &error["data"]["need"]), (&json!(1), &json!(2)));
}

#[tokio::test]
async fn blocks_outside_the_chain_have_errors_of_their_own() {
    let node = run(3).await;
    *node.fake.earliest.lock().expect("lock") = 2;
    let future = node.err("chain_header", json!({ "at": 9 })).await;
    assert_eq!((&future["code"], &future["data"]["latest"]), (&json!(-32042), &json!(3)));
    let pruned = node.err("chain_block", json!({ "at": "1" })).await;
    assert_eq!((&pruned["code"], &pruned["data"]["earliest"]), (&json!(-32041), &json!(2)));
    assert_eq!(node.err("chain_certificate", json!({ "at": ABSENT })).await["code"], -32040);
    for at in [json!("latest"), json!(3), json!("3"), Value::Null] {
        assert_eq!(node.ok("chain_header", json!({ "at": at })).await["height"], 3);
    }
    assert_eq!(node.ok("chain_header", json!({ "at": "earliest" })).await["height"], 2);
    let by_id = node.ok("chain_header", json!({ "at": format!("0x{}", BLOCK.to_uppercase()) })).await;
    assert_eq!(by_id["height"], 1);
    let odd = node.err("chain_header", json!({ "at": "newest" })).await;
    assert!(odd["message"].as_str().expect("text").contains("\"latest\""), "{odd}");
}

#[tokio::test]
async fn anchoring_waits_for_the_receipt_and_repeats_are_no_error() {
    let node = run(1).await;
    let first = node.ok("proof_anchor", json!({ "tx": signed_b64(1) })).await;
    assert_eq!(
        (&first["state"], &first["duplicate"], &first["height"]),
        (&json!("final"), &json!(false), &json!(1))
    );
    assert_eq!(first["receipt"]["version"], 1);
    assert_eq!(first["tx_id"], signed(1).transaction.id().to_string());
    let accepted = node.ok("proof_anchor", json!({ "tx": signed_b64(2), "wait": "accepted" })).await;
    assert_eq!((&accepted["state"], accepted.get("receipt")), (&json!("pending"), None));
    node.fake.repeats.store(true, Ordering::SeqCst);
    let again = node.ok("proof_anchor", json!({ "tx": signed_b64(3), "wait": "accepted" })).await;
    assert_eq!((&again["state"], &again["duplicate"]), (&json!("final"), &json!(true)));
    assert_eq!(again["receipt"]["version"], 1);
}

#[tokio::test]
async fn a_wait_that_ends_early_gives_the_ids() {
    let node = run(1).await;
    node.fake.finalises.store(false, Ordering::SeqCst);
    let error = node.err("proof_anchor", json!({ "tx": signed_b64(1), "timeout_ms": 20 })).await;
    assert_eq!((&error["code"], &error["data"]["waited_ms"]), (&json!(-32024), &json!(20)));
    let tx = signed(1).into_parts().transaction;
    assert_eq!(error["data"]["tx_id"], tx.id().to_string());
    assert_eq!(error["data"]["proof_id"], tx.proofs()[0].id(tx.chain, tx.sender).to_string());
    assert_eq!(error["data"]["retryable"], true);
    let long = node.err("proof_anchor", json!({ "tx": signed_b64(1), "timeout_ms": 30_001 })).await;
    assert!(long["message"].as_str().expect("text").contains("at most 30000"), "{long}");
}

#[tokio::test]
async fn many_at_once_keep_their_order_and_fail_one_by_one() {
    let node = run(1).await;
    let answer = node.ok("proof_anchor_many", json!({ "txs": [signed_b64(1), "???", signed_b64(2)] })).await;
    let items = answer["items"].as_array().expect("items");
    assert_eq!(items[0]["result"]["tx_id"], signed(1).transaction.id().to_string());
    assert_eq!(items[1]["error"]["code"], -32602);
    assert_eq!(items[2]["result"]["tx_id"], signed(2).transaction.id().to_string());
    let empty = node.err("proof_anchor_many", json!({ "txs": [] })).await;
    assert!(empty["message"].as_str().expect("text").contains("1 to 100"), "{empty}");
    let full = vec![Value::String(signed_b64(1)); 101];
    assert!(
        node.err("proof_anchor_many", json!({ "txs": full })).await["message"]
            .as_str()
            .expect("text")
            .contains("101")
    );
}

#[tokio::test]
async fn a_proof_is_found_by_each_of_its_keys() {
    let node = run(2).await;
    for params in [
        json!({ "proof_id": PROOF }),
        json!({ "root": ROOT }),
        json!({ "tx_id": format!("0x{TX}") }),
        json!({ "sender": format!("did:cairn:{ADDRESS}"), "reference": "invoice 7" }),
    ] {
        let found = node.ok("proof_get", params.clone()).await;
        assert_eq!((&found["seq"], &found["state"]), (&json!(0), &json!("final")), "{params}");
    }
    let shared = node.ok("proof_get", json!({ "root": ROOT })).await;
    let others: Vec<_> =
        shared["others"].as_array().expect("others").iter().map(|r| r["seq"].clone()).collect();
    assert_eq!(others, [1, 2, 3]);
    let pending = node.ok("proof_get", json!({ "proof_id": Hash([0xbb; 32]).to_string() })).await;
    assert_eq!(pending, json!({ "state": "pending", "proof_id": Hash([0xbb; 32]).to_string(), "tx_id": TX }));
    assert_eq!(node.err("proof_get", json!({ "proof_id": ABSENT })).await["code"], -32040);
    for wrong in [json!({}), json!({ "proof_id": PROOF, "root": ROOT }), json!({ "sender": ADDRESS })] {
        assert_eq!(node.err("proof_get", wrong).await["code"], -32602);
    }
}

#[tokio::test]
async fn pages_follow_each_other_to_the_end() {
    let node = run(3).await;
    let mut cursor = Value::Null;
    let mut seen = Vec::new();
    loop {
        let page = node.ok("proof_list", json!({ "limit": 4, "cursor": cursor })).await;
        seen.extend(
            page["items"].as_array().expect("items").iter().map(|item| item["seq"].as_u64().expect("seq")),
        );
        cursor = page["next_cursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    assert_eq!(seen, [0, 1, 2, 3, 4, 5]);
    let claims = node.ok("proof_list", json!({ "kind": "claim", "from": 2 })).await;
    assert_eq!(claims["items"].as_array().expect("items").len(), 2);
    let typo = node.err("proof_list", json!({ "kind": "clam" })).await;
    assert_eq!(typo["data"]["hint"], "did you mean `claim`?");
    assert_eq!(node.err("proof_list", json!({ "limit": 101 })).await["code"], -32602);
    assert_eq!(node.err("proof_list", json!({ "limit": 0 })).await["code"], -32602);
}

#[tokio::test]
async fn a_chain_of_proofs_is_walked_to_its_start() {
    let node = run(3).await;
    let answer = node.ok("proof_chain", json!({ "proof_id": ProofId::new(Hash([4; 32])).to_string() })).await;
    let seqs: Vec<_> =
        answer["items"].as_array().expect("items").iter().map(|item| item["seq"].clone()).collect();
    assert_eq!(seqs, [4, 2, 0]);
    assert_eq!((&answer["complete"], &answer["missing"]), (&json!(true), &Value::Null));
}

#[tokio::test]
async fn a_path_is_checked_against_the_record() {
    let node = run(1).await;
    let valid = node.ok("proof_verify", json!({ "root": ROOT, "leaves": 3 })).await;
    assert_eq!((&valid["valid"], &valid["height"]), (&json!(true), &json!(1)));
    // The record has three leaves: index 0 needs two siblings.
    let short = node.ok("proof_verify", json!({ "root": ROOT, "digest": PROOF, "path": [PROOF] })).await;
    assert_eq!(short["valid"], false);
    assert!(short["checks"][1]["detail"].as_str().expect("text").contains("1 hashes"), "{short}");
    let other =
        node.ok("proof_verify", json!({ "root": ROOT, "digest": PROOF, "path": [PROOF, PROOF] })).await;
    assert_eq!(other["checks"][1]["detail"], "the path leads to another root");
    let unknown = node.ok("proof_verify", json!({ "root": ABSENT })).await;
    assert_eq!((&unknown["valid"], &unknown["checks"][0]["name"]), (&json!(false), &json!("anchored")));
    assert_eq!(
        node.err("proof_verify", json!({ "root": ROOT, "digest": PROOF, "salt": "00" })).await["code"],
        -32602
    );
}

#[tokio::test]
async fn the_proof_servers_client_gets_what_it_expects() {
    let node = run(2).await;
    let status = node.ok("status", json!({})).await;
    assert!(status["chain_id"].is_string() && status["block_hash"].is_string());
    for name in ["height", "timestamp", "validators", "pending_txs"] {
        assert!(status[name].is_u64(), "{name}: {status}");
    }
    assert_eq!(status["sync_info"]["latest_block_height"], "2");
    assert_eq!(status["node_info"]["network"], "fake");
    assert_eq!(node.ok("block", json!({ "height": 1 })).await["height"], 1);
    assert_eq!(node.ok("block", json!({ "height": "latest" })).await["height"], 2);
    assert!(node.ok("account", json!({ "address": format!("did:cairn:{ADDRESS}") })).await["nonce"].is_u64());
    let proof = node.ok("proof", json!({ "id": PROOF })).await;
    assert_eq!(
        (&proof["proof_id"], &proof["proof_hash"], &proof["tx_hash"]),
        (&json!(PROOF), &json!(ROOT), &json!(TX))
    );
    assert_eq!(node.ok("proof", json!({ "id": format!("proof:{ROOT}") })).await["proof_id"], PROOF);
    assert_eq!(node.err("proof", json!({ "id": ABSENT })).await["code"], -32040);
    assert_eq!(node.ok("net_info", json!({})).await["peers"][0]["remote_ip"], "127.0.0.1");
    assert_eq!(node.err("tx", json!({ "hash": ABSENT })).await["code"], -32040);
    let validators = node.ok("validators", json!({})).await;
    let first = &validators["validators"][0];
    assert_eq!((first["stake"].clone(), first["active"].clone()), (json!(10), json!(true)));
    assert_eq!(node.ok("validator", json!({ "address": ADDRESS })).await["stake"], 10);
}

#[tokio::test]
async fn a_type_7_object_is_rebuilt_to_the_canonical_bytes() {
    let node = run(1).await;
    let expected = signed(42);
    let tx = &expected.transaction;
    let key_b64 = {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(key(1).as_bytes())
    };
    let sent = json!({ "tx": {
        "type": 7, "nonce": 42, "timestamp": 1_700_000_000, "signature": "09".repeat(3_309),
        "data": {
            "sender": tx.sender.to_string(), "expires_ms": tx.expires_ms,
            "key": { "scheme": "dilithium3", "key_b64": key_b64 },
            "kind": "batch", "root": ROOT, "leaves": 3, "reference": "invoice 7", "metadata_b64": "bWV0YQ==",
        },
    } });
    let answer = node.ok("broadcast_tx_sync", sent.clone()).await;
    assert_eq!(answer["hash"], tx.id().to_string());
    assert_eq!(
        (&answer["status"], &answer["gas_used"], &answer["height"]),
        (&json!("pending"), &json!(0), &json!(0))
    );
    let got = node.fake.submissions().pop().expect("submitted");
    assert_eq!(encode(&got), encode(&expected));
    let mut wrong = sent;
    wrong["tx"]["type"] = json!(3);
    assert!(
        node.err("broadcast_tx_sync", wrong).await["message"].as_str().expect("text").contains("expected 7")
    );
}

#[tokio::test]
async fn records_carry_their_canonical_bytes() {
    use base64::Engine;
    let node = run(1).await;
    let got = node.ok("proof_get", json!({ "proof_id": PROOF })).await;
    let bytes = base64::engine::general_purpose::STANDARD.decode(got["record_b64"].as_str().expect("text"));
    assert_eq!(bytes.expect("base64"), record(0, 1).to_bytes());
    assert_eq!(got["tx_id"], TxId::from_hex(TX).expect("hex").to_string());
    assert_eq!(got["time"], "2023-11-14T22:13:21.000Z");
}

#[tokio::test]
async fn a_verified_receipt_says_what_it_proves() {
    let node = run(1).await;
    let of_root = node.ok("receipt_get", json!({ "proof_id": PROOF })).await;
    let verdict = node.ok("receipt_verify", json!({ "receipt": of_root })).await;
    assert_eq!((&verdict["valid"], &verdict["covers"]), (&json!(true), &json!("root")));
    assert_eq!(verdict["record"]["proof_id"], PROOF);
    let of_leaf = json!({ "version": 1, "subject": {} });
    assert_eq!(node.ok("receipt_verify", json!({ "receipt": of_leaf })).await["covers"], "leaf");
    let refused = node.ok("receipt_verify", json!({ "receipt": { "version": 2 } })).await;
    assert_eq!((&refused["valid"], &refused["record"]), (&json!(false), &json!(null)));
}

#[tokio::test]
async fn bundles_consistency_and_paths_are_asked_for_by_place() {
    let node = run(3).await;
    let core = node.ok("receipt_bundle", json!({ "seqs": [0, 2, 5] })).await;
    assert_eq!(
        (&core["seqs_for_test"], &core["short"], &core["at"]),
        (&json!([0, 2, 5]), &json!(false), &json!(false))
    );
    let core = node.ok("receipt_bundle", json!({ "seqs": [1], "form": "checkpoint", "at": 2 })).await;
    assert_eq!((&core["short"], &core["at"]), (&json!(true), &json!(true)));
    for bad in
        [json!([]), json!([1, 1]), json!([2, 1]), json!(["x"]), json!((0..1_001).collect::<Vec<u64>>())]
    {
        assert_eq!(node.err("receipt_bundle", json!({ "seqs": bad })).await["code"], -32602, "{bad}");
    }
    assert_eq!(node.err("receipt_bundle", json!({ "seqs": [6] })).await["code"], -32040);
    assert_eq!(node.err("receipt_bundle", json!({ "seqs": [0], "at": 9 })).await["code"], -32042);

    let proof = node.ok("log_consistency", json!({ "first": 3, "second": 6 })).await;
    assert_eq!((&proof["log"], &proof["path"][0]), (&json!("anchors"), &json!("03".repeat(32))));
    let proof = node.ok("log_consistency", json!({ "first": 0, "second": 6, "log": "anchors_sha256" })).await;
    assert_eq!(proof["path"][1], "ff".repeat(32));
    assert_eq!(node.err("log_consistency", json!({ "first": 4, "second": 3 })).await["code"], -32602);
    assert_eq!(node.err("log_consistency", json!({ "first": 4, "second": 7 })).await["code"], -32040);
    let typo = node.err("log_consistency", json!({ "first": 0, "second": 1, "log": "anchor" })).await;
    assert_eq!(typo["data"]["hint"], "did you mean `anchors`?");
    assert_eq!(node.ok("log_proof", json!({ "seq": 4, "size": 6 })).await["path"][0], "04".repeat(32));
    assert_eq!(node.err("log_proof", json!({ "seq": 6, "size": 6 })).await["code"], -32602);
}

#[tokio::test]
async fn blocks_come_in_bulk_as_their_canonical_bytes() {
    let node = run(3).await;
    let page = node.ok("chain_blocks", json!({ "from": 2, "limit": 5 })).await;
    let items = page["items"].as_array().expect("items");
    assert_eq!((items.len(), &page["latest"], &items[0]["height"]), (2, &json!(3), &json!(2)));
    assert!(items[0]["block_b64"].is_string() && items[0]["certificate_b64"].is_null());
    assert_eq!(node.err("chain_blocks", json!({ "from": 4 })).await["code"], -32042);
    assert_eq!(node.err("chain_blocks", json!({ "from": 1, "limit": 1_001 })).await["code"], -32602);
    let checkpoint = node.ok("log_checkpoint", json!({ "at": 2 })).await;
    assert_eq!((&checkpoint["size"], &checkpoint["height"]), (&json!(4), &json!(2)));
    assert_eq!(node.err("log_checkpoint", json!({ "at": 9 })).await["code"], -32042);
}

#[tokio::test]
async fn validators_are_told_as_of_a_block_or_a_time() {
    let node = run(3).await;
    let latest = node.ok("chain_status", json!({})).await["height"].as_u64().unwrap();
    let now = node.ok("validator_list", json!({})).await;
    assert_eq!(now["height"], json!(latest + 1), "the block to come");
    let then = node.ok("validator_list", json!({ "at": 2 })).await;
    let by_time = node.ok("validator_list", json!({ "at_time": chain_time(3) - 1 })).await;
    assert_eq!((&then["height"], &by_time["height"]), (&json!(2), &json!(2)));
    assert_eq!(then["digest"], by_time["digest"]);
    for (params, code) in [
        (json!({ "at": latest + 90 }), -32042),
        (json!({ "at_time": 5 }), -32040),
        (json!({ "at_time": "yesterday" }), -32602),
        (json!({ "at": 1, "at_time": chain_time(2) }), -32602),
    ] {
        assert_eq!(node.err("validator_list", params.clone()).await["code"], code, "{params}");
    }
}
