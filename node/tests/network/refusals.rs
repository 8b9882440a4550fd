//! What a client can get wrong: each fault has an error of its own, and none does any harm.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cairn_crypto::KeyPair;
use cairn_testnet::anchoring::{Wait, random_proof, request};
use cairn_testnet::{CallFault, NodeApi};
use cairn_types::transaction::{Proofs, TRANSACTION_VERSION};
use cairn_types::{
    ChainId, Hash, KeyRef, Payload, Scheme, Signature, SignedTransaction, Transaction, encode,
};
use serde_json::{Value, json};

use crate::cluster::Cluster;

/// A quarter of the window in which a transaction may expire.
const QUARTER_MS: u64 = 30_000;

pub(crate) struct Case {
    pub(crate) key: KeyPair,
    chain: ChainId,
    api: NodeApi,
    pub(crate) now_ms: u64,
}

impl Case {
    pub(crate) async fn new(cluster: &Cluster, node: u16) -> Self {
        let api = cluster.api(node);
        let now_ms = chain_time(&api).await;
        Self { key: KeyPair::generate(Scheme::Dilithium3), chain: cluster.anchorer.chain(), api, now_ms }
    }

    /// A transaction like any other, changed before it is signed.
    pub(crate) fn signed(&self, change: impl FnOnce(&mut Transaction)) -> SignedTransaction {
        let mut transaction = Transaction {
            version: TRANSACTION_VERSION,
            chain: self.chain,
            sender: self.key.address(),
            nonce: 7,
            expires_ms: self.now_ms + QUARTER_MS,
            keys: vec![KeyRef::Inline(self.key.public().clone())],
            payload: Payload::Proofs(Proofs(vec![random_proof(0)])),
        };
        change(&mut transaction);
        let signatures = vec![self.key.sign(&transaction.preimage())];
        SignedTransaction::new(transaction, signatures)
    }

    pub(crate) async fn post(&self, signed: &SignedTransaction) -> Result<Value, CallFault> {
        self.api.post(request(signed, Wait::Accepted)).await
    }

    async fn refused(&self, what: &str, signed: &SignedTransaction, code: i64) {
        expect(what, self.post(signed).await, code);
    }
}

fn expect(what: &str, got: Result<Value, CallFault>, code: i64) {
    match got {
        Err(CallFault::Refused { code: got, message, data, .. }) => {
            assert_eq!(got, code, "{what}: {message}");
            assert!(message.len() > 10, "{what}: `{message}` says too little");
            assert!(data.is_null() || data["kind"].is_string(), "{what}: {data}");
        }
        other => panic!("{what}: expected error {code}, got {other:?}"),
    }
}

async fn chain_time(api: &NodeApi) -> u64 {
    api.call("chain_header", json!({ "at": "latest" })).await.unwrap()["time_ms"].as_u64().unwrap()
}

#[tokio::test]
async fn bad_transactions_each_get_their_own_error() {
    let mut cluster = Cluster::start(4).await;
    cluster.anchor(0).await;
    let case = Case::new(&cluster, 2).await;
    let now_ms = case.now_ms;

    let other_chain = case.signed(|tx| tx.chain = ChainId::new(Hash([7; 32])));
    case.refused("wrong chain", &other_chain, -32_035).await;
    let expired = case.signed(|tx| tx.expires_ms = now_ms - 1_000);
    case.refused("expired", &expired, -32_031).await;
    let too_late = case.signed(|tx| tx.expires_ms = now_ms + 3_600_000);
    case.refused("expires too late", &too_late, -32_036).await;

    let mut forged = case.signed(|_| {});
    let mut bytes = forged.signatures[0].as_bytes().to_vec();
    bytes[100] ^= 1;
    forged.signatures[0] = Signature::new(&bytes).unwrap();
    case.refused("bad signature", &forged, -32_030).await;
    let mut altered = case.signed(|_| {});
    altered.transaction.nonce ^= 1;
    case.refused("changed after signing", &altered, -32_030).await;

    let unregistered = case.signed(|tx| tx.keys = vec![KeyRef::Registered(0)]);
    case.refused("unknown key", &unregistered, -32_032).await;
    let stranger = case.signed(|tx| tx.sender = cairn_types::Address::new(Hash([9; 32])));
    expect_one_of("a key that is not the sender's", case.post(&stranger).await, &[-32_030, -32_032]);

    let empty = case.signed(|tx| tx.keys.clear());
    assert!(case.post(&empty).await.is_err(), "no keys");
    let mut unsigned = case.signed(|_| {});
    unsigned.signatures.clear();
    expect_one_of("no signatures", case.post(&unsigned).await, &[-32_030, -32_034, -32_602]);
    cluster.check().await;
}

fn expect_one_of(what: &str, got: Result<Value, CallFault>, codes: &[i64]) {
    match got {
        Err(CallFault::Refused { code, .. }) if codes.contains(&code) => {}
        other => panic!("{what}: expected one of {codes:?}, got {other:?}"),
    }
}

#[tokio::test]
async fn a_replay_gives_what_is_there_and_adds_nothing() {
    let mut cluster = Cluster::start(4).await;
    let signed = cluster.anchorer.transaction().unwrap();
    let body = || request(&signed, Wait::Final(std::time::Duration::from_secs(20)));
    let first = cluster.api(0).post(body()).await.unwrap();
    assert_eq!(first["duplicate"], false, "{first}");
    for node in [0, 3] {
        cluster.reaches(node, first["height"].as_u64().unwrap()).await;
        let again = cluster.api(node).post(body()).await.unwrap();
        assert_eq!(again["duplicate"], true, "{again}");
        for field in ["proof_id", "tx_id", "height"] {
            assert_eq!(again[field], first[field], "{field}");
        }
    }
    let sender = cluster.anchorer.address().to_string();
    let listed = cluster.api(0).call("proof_list", json!({ "sender": sender })).await.unwrap();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    cluster.check().await;
}

#[tokio::test]
async fn bad_requests_each_get_their_own_error() {
    let mut cluster = Cluster::start(4).await;
    let api = cluster.api(1);
    expect("malformed JSON", api.post(b"{\"jsonrpc\":\"2.0\",".to_vec()).await, -32_700);
    expect("not a request", api.post(b"{\"hello\":1}".to_vec()).await, -32_600);
    expect("unknown method", api.call("proof_anchro", json!({})).await, -32_601);
    expect("unknown parameter", api.call("proof_anchor", json!({ "txx": "" })).await, -32_602);
    expect("missing parameter", api.call("proof_anchor", json!({})).await, -32_602);
    expect("not base64", api.call("proof_anchor", json!({ "tx": "***" })).await, -32_602);
    let cut = STANDARD.encode(&encode(&cluster.anchorer.transaction().unwrap())[..500]);
    expect("cut short", api.call("proof_anchor", json!({ "tx": cut })).await, -32_602);
    expect("no such proof", api.call("proof_get", json!({ "proof_id": "00".repeat(32) })).await, -32_040);
    expect("a block to come", api.call("chain_block", json!({ "at": 1_000_000 })).await, -32_042);

    // Above the transaction limit (64 KiB), and above the request limit (1 MiB).
    let proofs = (0..100).map(|_| random_proof(1_024)).collect();
    let large = Case::new(&cluster, 1).await.signed(|tx| tx.payload = Payload::Proofs(Proofs(proofs)));
    let fault = api.post(request(&large, Wait::Accepted)).await.unwrap_err();
    assert!(fault.code().is_some() && fault.to_string().contains("bytes"), "{fault}");
    let huge = api.post(vec![b' '; 2 << 20]).await.unwrap_err();
    assert!(huge.to_string().contains("1048576") || huge.to_string().contains("1 MiB"), "{huge}");
    cluster.check().await;
}

#[tokio::test]
async fn a_secret_key_in_the_signatures_place_is_rejected_and_never_logged() {
    let mut cluster = Cluster::start(1).await;
    for length in [4_000usize, 4_032] {
        let secret = "5e".repeat(length);
        let tx =
            json!({ "type": 7, "signature": secret, "nonce": 1, "timestamp": 1, "data": { "root": "00" } });
        let got = cluster.api(0).call("broadcast_tx_sync", json!({ "tx": tx })).await;
        expect(&format!("{length} secret bytes as hex"), got, -32_060);
    }
    cluster.check().await;
    for node in cluster.network.nodes() {
        let log = std::fs::read_to_string(cluster.network.layout().node(node).log).unwrap();
        assert!(!log.contains(&"5e".repeat(32)), "the secret is in the log");
    }
}

#[tokio::test]
async fn a_post_without_a_json_content_type_is_told_which_header_to_add() {
    let mut cluster = Cluster::start(1).await;
    let answer = reqwest::Client::new()
        .post(cluster.api(0).url())
        .body(r#"{"jsonrpc":"2.0","id":1,"method":"chain_status"}"#)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status().as_u16(), 415);
    let said = answer.text().await.unwrap().to_lowercase();
    assert!(said.contains("content-type: application/json"), "{said}");
    cluster.check().await;
}
