//! A node over HTTP with a chain of its own making, that does as it is told.

pub(crate) mod epochs;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cairn_crypto::{KeyPair, verify};
use cairn_genesis::{Admission, Params, assemble};
use cairn_receipt::AnchorReceipt;
use cairn_types::identity::{IdentityEntry, KeyEntry, Purposes};
use cairn_types::log::TreeHash;
use cairn_types::receipt::AnchorProof;
use cairn_types::record::Landing;
use cairn_types::{
    BlockId, ChainId, CommitCert, Epoch, Genesis, Hash, Header, Height, KeyRef, Record, Scheme,
    SignedTransaction, ValidatorIndex, ValidatorSet, View, decode, encode, tree,
};
use serde_json::{Value, json};

/// The clients' time.
pub(crate) const NOW_MS: u64 = 1_790_000_000_000;

/// What a node does with a call; without orders it is honest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Act {
    Http(u16),
    NotJson,
    Huge,
    Error {
        code: i64,
        kind: &'static str,
        retryable: bool,
    },
    TimeoutNotFinal,
    /// The chain's time is an hour ahead of the client's.
    Expired,
    /// The chain's time is an hour behind the client's.
    TooLate,
    /// Does its work, and fails to say so.
    SwallowAnswer,
    OtherProof,
    OtherRecordOfProof,
    ForgedSignatures,
    TooFewSigners,
    CertificateOfOtherBlock,
    OtherChain,
    OtherValidators,
    NotInLog,
    NoReceiptShape,
}

/// Validators with their keys, and the genesis they start from.
#[derive(Clone)]
pub(crate) struct Chain {
    pub genesis: Genesis,
    keys: Arc<Vec<KeyPair>>,
}

impl Chain {
    pub(crate) fn new() -> Self {
        let mut keys: Vec<KeyPair> = (0..4).map(|_| KeyPair::generate(Scheme::MlDsa65)).collect();
        keys.sort_by_key(KeyPair::address);
        let validators = keys.iter().map(|key| (key.public().clone(), 1)).collect();
        let genesis =
            assemble("fake", NOW_MS - 1_000_000, Params::default(), Admission::Open, validators).unwrap();
        Self { genesis, keys: Arc::new(keys) }
    }

    fn header(&self, records: &[Record]) -> Header {
        let leaves = leaves(records);
        Header {
            height: Height::new(5),
            view: View::new(5),
            time_ms: NOW_MS,
            anchors_root: tree::root(TreeHash::Anchors, &leaves),
            anchors_size: leaves.len() as u64,
            ..self.genesis.header(Hash([4; 32])).unwrap()
        }
    }

    fn certificate(&self, header: &Header, block: BlockId, keys: &[KeyPair], count: usize) -> CommitCert {
        let build = |votes| CommitCert::new(header.epoch, header.view, block, self.keys.len(), votes);
        let preimage = build(Vec::new()).preimage(header.chain);
        let votes = (0..).zip(keys).take(count);
        build(votes.map(|(index, key)| (ValidatorIndex(index), key.sign(&preimage))).collect())
    }

    fn proof(&self, records: &[Record], seq: usize, act: Option<Act>) -> AnchorReceipt {
        let mut header = self.header(records);
        let mut validators = ValidatorSet::new(Epoch::ZERO, self.genesis.validators.clone()).unwrap();
        match act {
            Some(Act::OtherChain) => header.chain = ChainId::new(Hash([1; 32])),
            Some(Act::OtherValidators) => {
                let foreign = Self::new();
                validators = foreign.genesis.validator_set().unwrap();
                (header.validators, header.next_validators) = (validators.digest(), validators.digest());
            }
            Some(Act::NotInLog) => header.anchors_root = Hash([2; 32]),
            _ => {}
        }
        let (block, forged) = (header.id(), Self::new());
        let certificate = match act {
            Some(Act::ForgedSignatures) => self.certificate(&header, block, &forged.keys, 4),
            Some(Act::TooFewSigners) => self.certificate(&header, block, &self.keys, 2),
            Some(Act::CertificateOfOtherBlock) => {
                self.certificate(&header, BlockId::new(Hash([6; 32])), &self.keys, 4)
            }
            _ => self.certificate(&header, block, &self.keys, 3),
        };
        let path = tree::path(TreeHash::Anchors, &leaves(records), seq).unwrap();
        AnchorReceipt::new(
            &AnchorProof { record: records[seq].clone(), path, header, certificate, validators },
            Vec::new(),
        )
    }
}

fn leaves(records: &[Record]) -> Vec<Hash> {
    records.iter().map(|record| TreeHash::Anchors.leaf(&record.to_bytes())).collect()
}

struct Inner {
    chain: Chain,
    epochs: epochs::Epochs,
    orders: VecDeque<Act>,
    calls: Vec<(String, Value)>,
    transactions: Vec<SignedTransaction>,
    records: Vec<Record>,
}

type Shared = Arc<Mutex<Inner>>;

/// A running node.
pub(crate) struct FakeNode {
    url: String,
    inner: Shared,
}

impl FakeNode {
    /// Starts one that carries out `orders`, one per call, and is honest from then on.
    pub(crate) async fn start(chain: &Chain, orders: impl IntoIterator<Item = Act>) -> Self {
        let inner = Inner {
            epochs: epochs::Epochs::of(chain),
            chain: chain.clone(),
            orders: orders.into_iter().collect(),
            calls: Vec::new(),
            transactions: Vec::new(),
            records: Vec::new(),
        };
        let inner = Arc::new(Mutex::new(inner));
        let app = Router::new().route("/", post(answer)).with_state(Arc::clone(&inner));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, inner }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The parameters of all calls of a method.
    pub(crate) fn calls(&self, method: &str) -> Vec<Value> {
        let inner = self.inner.lock().unwrap();
        inner.calls.iter().filter(|(name, _)| name == method).map(|(_, params)| params.clone()).collect()
    }

    /// Every transaction sent, in order.
    pub(crate) fn transactions(&self) -> Vec<SignedTransaction> {
        self.inner.lock().unwrap().transactions.clone()
    }
}

async fn answer(State(shared): State<Shared>, body: Bytes) -> Response {
    let request: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(request["jsonrpc"], "2.0");
    let (method, params) = (request["method"].as_str().unwrap(), &request["params"]);
    let mut inner = shared.lock().unwrap();
    inner.calls.push((method.to_owned(), params.clone()));
    let act = inner.orders.pop_front();
    match act {
        Some(Act::Http(status)) => return (StatusCode::from_u16(status).unwrap(), "down").into_response(),
        Some(Act::NotJson) => return "<html>a proxy</html>".into_response(),
        Some(Act::Huge) => return vec![b' '; 9 << 20].into_response(),
        _ => {}
    }
    let outcome = inner.call(method, params, act);
    if act == Some(Act::SwallowAnswer) {
        return (StatusCode::BAD_GATEWAY, "").into_response();
    }
    let mut answer = json!({ "jsonrpc": "2.0", "id": request["id"] });
    match outcome {
        Ok(result) => answer["result"] = result,
        Err(error) => answer["error"] = error,
    }
    axum::Json(answer).into_response()
}

fn error(code: i64, kind: &str, retryable: bool, mut data: Value) -> Value {
    data["kind"] = kind.into();
    data["retryable"] = retryable.into();
    data["hint"] = "a hint".into();
    json!({ "code": code, "message": format!("the fault {kind}"), "data": data })
}

fn record_json(record: &Record) -> Value {
    json!({ "state": "final", "proof_id": record.proof_id.to_string(), "record_b64": STANDARD.encode(record.to_bytes()) })
}

impl Inner {
    fn call(&mut self, method: &str, params: &Value, act: Option<Act>) -> Result<Value, Value> {
        let not_found = || error(-32040, "not_found", false, json!({}));
        match method {
            "proof_anchor" => self.anchor(params, act),
            "tx_submit" => {
                let signed = self.take(params);
                let id = signed.transaction.id().to_string();
                Ok(json!({ "tx_id": id, "state": "final", "duplicate": false, "proofs": [], "height": 5 }))
            }
            "chain_status" => Ok(json!({
                "chain": self.chain.genesis.chain().to_string(), "height": 5, "epoch": 0, "view": 6, "time_ms": NOW_MS,
                "final_age_ms": 10, "peers": 3, "version": "0.1.0", "moniker": "fake",
            })),
            "chain_genesis" => {
                Ok(serde_json::from_str(&cairn_genesis::to_json(&self.chain.genesis)).unwrap())
            }
            "chain_header" => {
                Ok(json!({ "header_b64": STANDARD.encode(encode(&self.chain.header(&self.records))) }))
            }
            "chain_certificate" => {
                let header = self.chain.header(&self.records);
                let certificate = self.chain.certificate(&header, header.id(), &self.chain.keys, 3);
                Ok(json!({ "certificate_b64": STANDARD.encode(encode(&certificate)) }))
            }
            "proof_get" => {
                let id = params["proof_id"].as_str().unwrap_or_default();
                let record = self.records.iter().find(|record| record.proof_id.to_string() == id);
                record.map(record_json).ok_or_else(not_found)
            }
            "proof_list" => {
                let items: Vec<Value> = self.records.iter().map(record_json).collect();
                Ok(json!({ "items": items, "next_cursor": null }))
            }
            "receipt_get" => {
                let id = params["proof_id"].as_str().unwrap();
                let seq = self.records.iter().position(|record| record.proof_id.to_string() == id);
                Ok(self.receipt(seq.ok_or_else(not_found)?, act))
            }
            "tx_get" => {
                let of_tx = |tx: &&SignedTransaction| {
                    tx.transaction.id().to_string() == params["tx_id"].as_str().unwrap()
                };
                let signed = self.transactions.iter().find(of_tx).ok_or_else(not_found)?;
                let proofs: Vec<Value> = self.records.iter().map(record_json).collect();
                Ok(
                    json!({ "state": "final", "height": 5, "proofs": proofs, "transaction": { "tx_b64": STANDARD.encode(encode(signed)) } }),
                )
            }
            "chain_trust" => Ok(self.epochs.trust(params, act)),
            "validator_list" => Ok(self.epochs.list(params, act)),
            "identity_get" => self.identity(params).ok_or_else(not_found),
            other => Err(error(-32601, "method_not_found", false, json!({ "method": other }))),
        }
    }

    fn take(&mut self, params: &Value) -> SignedTransaction {
        let bytes = STANDARD.decode(params["tx"].as_str().unwrap()).unwrap();
        let signed: SignedTransaction = decode(&bytes).unwrap();
        signed.transaction.check_shape(self.chain.genesis.chain()).unwrap();
        let [KeyRef::Inline(key)] = signed.transaction.keys.as_slice() else { panic!("one inline key") };
        assert_eq!(key.address(), signed.transaction.sender);
        verify(key, &signed.transaction.preimage(), &signed.signatures[0]).unwrap();
        self.transactions.push(signed.clone());
        signed
    }

    fn anchor(&mut self, params: &Value, act: Option<Act>) -> Result<Value, Value> {
        assert_eq!(params["wait"], "final");
        let signed = self.take(params);
        let transaction = &signed.transaction;
        match act {
            Some(Act::Error { code, kind, retryable }) => {
                return Err(error(code, kind, retryable, json!({})));
            }
            Some(Act::TimeoutNotFinal) => {
                return Err(error(-32024, "timeout_not_final", true, json!({ "retry_after_ms": 50 })));
            }
            Some(Act::Expired) => {
                let data = json!({ "expires_ms": transaction.expires_ms, "now_ms": NOW_MS + 3_600_000 });
                return Err(error(-32031, "already_expired", false, data));
            }
            Some(Act::TooLate) => {
                let latest = NOW_MS - 3_600_000 + self.chain.genesis.params.replay_window_ms;
                let data = json!({ "expires_ms": transaction.expires_ms, "latest_ms": latest });
                return Err(error(-32036, "expires_too_late", false, data));
            }
            _ => {}
        }
        let proof = &transaction.proofs()[0];
        let proof_id = proof.id(transaction.chain, transaction.sender);
        let known = self.records.iter().position(|record| record.proof_id == proof_id);
        let seq = known.unwrap_or(self.records.len());
        if known.is_none() {
            let landing = Landing {
                seq: seq as u64,
                proof_id,
                sender: transaction.sender,
                key_address: transaction.sender,
                tx_id: transaction.id(),
                height: Height::new(5),
                time_ms: NOW_MS,
            };
            let mut record = Record::new(proof, landing);
            match act {
                Some(Act::OtherProof) => record.proof_id = cairn_types::ProofId::new(Hash([3; 32])),
                Some(Act::OtherRecordOfProof) => record.root = Hash([3; 32]),
                _ => {}
            }
            self.records.push(record);
        }
        Ok(json!({
            "proof_id": proof_id.to_string(), "tx_id": transaction.id().to_string(), "state": "final",
            "duplicate": known.is_some(), "height": 5, "time_ms": NOW_MS, "receipt": self.receipt(seq, act),
        }))
    }

    fn receipt(&self, seq: usize, act: Option<Act>) -> Value {
        let text = self.chain.proof(&self.records, seq, act).to_json();
        let mut receipt: Value = serde_json::from_str(&text).unwrap();
        if act == Some(Act::NoReceiptShape) {
            receipt["valid"] = true.into();
        }
        receipt
    }

    fn identity(&self, params: &Value) -> Option<Value> {
        let did = params["did"].as_str()?;
        let of_sender = |tx: &&SignedTransaction| did == format!("did:cairn:{}", tx.transaction.sender);
        let transaction = &self.transactions.iter().find(of_sender)?.transaction;
        let KeyRef::Inline(key) = &transaction.keys[0] else { return None };
        let held = KeyEntry {
            address: key.address(),
            purposes: Purposes::ORDINARY,
            from: Height::new(5),
            until: None,
            expires_ms: None,
        };
        let entry = IdentityEntry {
            threshold: 1,
            admitted: true,
            deactivated: None,
            agent: None,
            proposals: Vec::new(),
            keys: vec![held],
        };
        Some(json!({
            "id": did, "address": transaction.sender.to_string(), "entry_b64": STANDARD.encode(encode(&entry)),
            "verificationMethod": [{
                "index": 0, "scheme": key.scheme().name(), "key_b64": STANDARD.encode(key.as_bytes()),
            }],
        }))
    }
}
