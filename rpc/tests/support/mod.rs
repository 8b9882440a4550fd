//! A node that is not there: a small chain in memory behind the real servers.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cairn_rpc::*;
use cairn_types::event::IdentityStep;
use cairn_types::receipt::EpochHandover;
use cairn_types::record::Landing;
use cairn_types::transaction::Proofs;
use cairn_types::*;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub mod identities;

/// The ids that the table's examples name.
pub const PROOF: &str = "5f1d0e3c9b7a48d2a6c4f8e01b2d3c4e5f60718293a4b5c6d7e8f90a1b2c3d4e";
pub const TX: &str = "a3b1c2d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90";
pub const ROOT: &str = "0c1d2e3f405162738495a6b7c8d9eafb0c1d2e3f405162738495a6b7c8d9eafb";
pub const ADDRESS: &str = "7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d";
pub const BLOCK: &str = "94a5b6c7d8e9fa0b1c2d3e4f5061728394a5b6c7d8e9fa0b1c2d3e4f50617283";
pub const ABSENT: &str = "00000000000000000000000000000000000000000000000000000000000000aa";

/// The time of the block at this height.
pub fn chain_time(height: u64) -> u64 {
    1_700_000_000_000 + height * 1_000
}

/// An answer to a challenge, base64.
pub fn login_b64() -> String {
    let challenge = cairn_types::login::LoginChallenge {
        audience: "https://example.org".into(),
        address: identities::who(),
        nonce: [7; 32],
        issued_ms: 1,
        expires_ms: 2,
    };
    let signature = Signature::new(&[1]).expect("short");
    let response = cairn_types::login::LoginResponse { challenge, key: KeyRef::Registered(1), signature };
    STANDARD.encode(encode(&response))
}

pub fn chain() -> ChainId {
    ChainId::new(Hash([7; 32]))
}

pub fn key(seed: u8) -> PublicKey {
    PublicKey::new(Scheme::Dilithium3, &[seed; 1_952]).expect("a key's length")
}

pub fn signed(nonce: u64) -> SignedTransaction {
    let proof = Proof {
        reference: "invoice 7".into(),
        metadata: b"meta".to_vec(),
        ..Proof::batch(TreeKind::CairnB3V1, Hash::from_hex(ROOT).expect("hex"), 3)
    };
    SignedTransaction::new(
        Transaction {
            version: 1,
            chain: chain(),
            sender: key(1).address(),
            nonce,
            expires_ms: 1_790_000_000_000,
            keys: vec![KeyRef::Inline(key(1))],
            payload: Payload::Proofs(Proofs(vec![proof])),
        },
        vec![Signature::new(&[9; 3_309]).expect("a signature's length")],
    )
}

pub fn signed_b64(nonce: u64) -> String {
    STANDARD.encode(encode(&signed(nonce)))
}

fn header(height: u64, size: u64) -> Header {
    Header {
        version: 1,
        chain: chain(),
        epoch: Epoch::ZERO,
        view: View::new(height),
        height: Height::new(height),
        parent: BlockId::new(Hash([height as u8; 32])),
        parent_view: View::new(height.saturating_sub(1)),
        time_ms: 1_700_000_000_000 + height * 1_000,
        proposer: ValidatorIndex(0),
        tx_root: Hash([1; 32]),
        tx_count: 1,
        state_root: Hash([2; 32]),
        anchors_root: Hash([3; 32]),
        anchors_size: size,
        anchors_sha256: Hash([4; 32]),
        history_root: Hash([5; 32]),
        validators: Hash([6; 32]),
        next_validators: Hash([6; 32]),
    }
}

/// A chain of `height` blocks; each holds two records.
#[derive(Default)]
struct Chain {
    blocks: Vec<FinalBlock>,
    submitted: Vec<SignedTransaction>,
}

pub struct Fake {
    about: NodeAbout,
    heights: watch::Sender<Height>,
    chain: Mutex<Chain>,
    /// What `submit` answers instead of accepting.
    pub refuse: Mutex<Option<Fault>>,
    /// Whether a submission becomes final.
    pub finalises: AtomicBool,
    /// Whether the next submissions are repeats of a final proof.
    pub repeats: AtomicBool,
    pub ready: AtomicBool,
    pub earliest: Mutex<u64>,
    /// How long `status` takes.
    pub status_takes: Mutex<Duration>,
}

pub fn record(seq: u64, height: u64) -> Record {
    let signed = signed(seq);
    let tx = &signed.transaction;
    let id =
        if seq == 0 { ProofId::from_hex(PROOF).expect("hex") } else { ProofId::new(Hash([seq as u8; 32])) };
    let mut record = Record::new(
        &tx.proofs()[0],
        Landing {
            seq,
            proof_id: id,
            sender: Address::from_hex(ADDRESS).expect("hex"),
            key_address: tx.sender,
            tx_id: TxId::from_hex(TX).expect("hex"),
            height: Height::new(height),
            time_ms: 1_700_000_000_000 + height * 1_000,
        },
    );
    // Records 0 <- 2 <- 4 continue each other; odd ones are claims.
    record.previous = match seq {
        2 => Some(ProofId::from_hex(PROOF).expect("hex")),
        4 => Some(ProofId::new(Hash([2; 32]))),
        _ => None,
    };
    if seq % 2 == 1 {
        record.kind = ProofKind::Claim;
    }
    record
}

impl Fake {
    pub fn new(height: u64) -> Arc<Self> {
        let fake = Self {
            about: NodeAbout {
                chain: chain(),
                chain_name: "fake".into(),
                moniker: "node0".into(),
                version: "0.1.0".into(),
                validator: Some(key(1).address()),
                admission: Admission::Open,
            },
            heights: watch::channel(Height::ZERO).0,
            chain: Mutex::new(Chain::default()),
            refuse: Mutex::new(None),
            finalises: AtomicBool::new(true),
            repeats: AtomicBool::new(false),
            ready: AtomicBool::new(true),
            earliest: Mutex::new(0),
            status_takes: Mutex::new(Duration::ZERO),
        };
        let genesis = header(0, 0);
        let id = genesis.id();
        let block = FinalBlock { header: genesis, id, transactions: vec![], records: vec![], events: vec![] };
        fake.chain.lock().expect("lock").blocks.push(block);
        for _ in 0..height {
            fake.grow();
        }
        Arc::new(fake)
    }

    /// Adds a final block with two records.
    pub fn grow(&self) {
        let mut chain = self.chain.lock().expect("lock");
        let height = chain.blocks.len() as u64;
        let first = (height - 1) * 2;
        let header = header(height, first + 2);
        let id = if height == 1 { BlockId::from_hex(BLOCK).expect("hex") } else { header.id() };
        chain.blocks.push(FinalBlock {
            id,
            header,
            transactions: vec![TxId::from_hex(TX).expect("hex")],
            records: vec![record(first, height), record(first + 1, height)],
            events: vec![identities::event(height, IdentityStep::ThresholdSet { threshold: 1 })],
        });
        drop(chain);
        self.heights.send_replace(Height::new(height));
    }

    pub fn submissions(&self) -> Vec<SignedTransaction> {
        self.chain.lock().expect("lock").submitted.clone()
    }

    fn find(&self, at: At) -> Option<FinalBlock> {
        let chain = self.chain.lock().expect("lock");
        chain
            .blocks
            .iter()
            .find(|block| match at {
                At::Height(height) => block.header.height == height,
                At::Id(id) => block.id == id,
            })
            .cloned()
    }

    fn all_records(&self) -> Vec<Record> {
        let chain = self.chain.lock().expect("lock");
        chain.blocks.iter().flat_map(|block| block.records.clone()).collect()
    }

    fn landed(&self) -> FinalTx {
        FinalTx {
            height: Height::new(1),
            block: BlockId::from_hex(BLOCK).expect("hex"),
            time_ms: 1_700_000_001_000,
            index: 0,
            records: vec![record(0, 1)],
        }
    }
}

pub fn answer<'a, T: Send + 'a>(value: T) -> Answer<'a, T> {
    Box::pin(async move { Ok(value) })
}

fn set() -> ValidatorSet {
    let mut validators: Vec<_> =
        (1..=4).map(|seed| Validator { address: key(seed).address(), key: key(seed), power: 10 }).collect();
    validators[3].address = Address::from_hex(ADDRESS).expect("hex");
    validators.sort_by_key(|validator| validator.address);
    ValidatorSet::new(Epoch::ZERO, validators).expect("a set")
}

impl Backend for Fake {
    fn about(&self) -> &NodeAbout {
        &self.about
    }

    fn final_height(&self) -> watch::Receiver<Height> {
        self.heights.subscribe()
    }

    fn earliest(&self) -> Height {
        Height::new(*self.earliest.lock().expect("lock"))
    }

    fn status(&self) -> Answer<'_, NodeStatus> {
        let tip = self.find(At::Height(*self.heights.borrow())).expect("the tip").header;
        let takes = *self.status_takes.lock().expect("lock");
        Box::pin(async move {
            tokio::time::sleep(takes).await;
            Ok(NodeStatus {
                tip,
                epoch: Epoch::ZERO,
                view: View::new(9),
                final_age_ms: 40,
                peers: 3,
                validators: 4,
                pending: 1,
                syncing: false,
                best_known: Height::new(2),
                uptime_ms: 1_000,
            })
        })
    }

    fn readiness(&self) -> Answer<'_, Vec<ReadyCheck>> {
        let ok = self.ready.load(Ordering::SeqCst);
        answer(vec![
            ReadyCheck { name: "database", ok: true, detail: "open".into() },
            ReadyCheck { name: "peers", ok, detail: "0 of 2 peers".into() },
        ])
    }

    fn submit(&self, transaction: SignedTransaction) -> Answer<'_, Submitted> {
        let refuse = self.refuse.lock().expect("lock").clone();
        self.chain.lock().expect("lock").submitted.push(transaction.clone());
        let repeats = self.repeats.load(Ordering::SeqCst);
        Box::pin(async move {
            if let Some(fault) = refuse {
                return Err(fault);
            }
            let tx = &transaction.transaction;
            let proof_ids = tx.proofs().iter().map(|proof| proof.id(tx.chain, tx.sender)).collect();
            let state = if repeats { SubmitState::Final(vec![record(0, 1)]) } else { SubmitState::New };
            Ok(Submitted { tx_id: tx.id(), proof_ids, state })
        })
    }

    fn check(&self, transaction: SignedTransaction) -> Answer<'_, Submitted> {
        self.submit(transaction)
    }

    fn wait_final(&self, _: TxId, timeout: Duration) -> Answer<'_, Option<FinalTx>> {
        Box::pin(async move {
            if self.finalises.load(Ordering::SeqCst) {
                return Ok(Some(self.landed()));
            }
            tokio::time::sleep(timeout).await;
            Ok(None)
        })
    }

    fn transaction(&self, tx: TxId) -> Answer<'_, Option<TxLookup>> {
        let known = tx == TxId::from_hex(TX).expect("hex");
        answer(known.then(|| TxLookup { signed: Some(Arc::new(signed(1))), landed: Some(self.landed()) }))
    }

    fn pending_proof(&self, proof: ProofId) -> Answer<'_, Option<TxId>> {
        answer((proof == ProofId::new(Hash([0xbb; 32]))).then(|| TxId::from_hex(TX).expect("hex")))
    }

    fn header(&self, at: At) -> Answer<'_, Option<Header>> {
        answer(self.find(at).map(|block| block.header))
    }

    fn block(&self, at: At) -> Answer<'_, Option<Arc<Block>>> {
        let found = self.find(at);
        answer(found.map(|block| Arc::new(Block::new(block.header, vec![Arc::new(signed(1))]))))
    }

    fn certificate(&self, at: At) -> Answer<'_, Option<CommitCert>> {
        let found = self.find(at);
        answer(found.map(|block| {
            let votes =
                (0..3).map(|i| (ValidatorIndex(i), Signature::new(&[8; 3_309]).expect("length"))).collect();
            CommitCert::new(Epoch::ZERO, block.header.view, block.id, 4, votes)
        }))
    }

    fn final_block(&self, height: Height) -> Answer<'_, Option<FinalBlock>> {
        answer(self.find(At::Height(height)))
    }

    fn records(&self, key: RecordKey) -> Answer<'_, Vec<Record>> {
        let found = self.all_records().into_iter().filter(|record| match &key {
            RecordKey::Seq(seq) => record.seq == *seq,
            RecordKey::Proof(id) => record.proof_id == *id,
            RecordKey::Root(root) => record.root == *root,
            RecordKey::Tx(id) => record.tx_id == *id,
            RecordKey::Reference { sender, reference } => {
                record.sender == *sender && record.reference == *reference
            }
        });
        answer(found.collect())
    }

    fn list(&self, filter: RecordFilter) -> Answer<'_, RecordPage> {
        let wanted: Vec<_> = self
            .all_records()
            .into_iter()
            .filter(|record| record.seq >= filter.start)
            .filter(|record| filter.sender.is_none_or(|sender| sender == record.sender))
            .filter(|record| filter.kind.is_none_or(|kind| kind == record.kind))
            .filter(|record| filter.from.is_none_or(|from| record.height >= from))
            .filter(|record| filter.to.is_none_or(|to| record.height <= to))
            .collect();
        let next = wanted.get(filter.limit).map(|record| record.seq);
        answer(RecordPage { records: wanted.into_iter().take(filter.limit).collect(), next })
    }

    fn receipt(&self, seq: u64, form: ReceiptForm) -> Answer<'_, Option<String>> {
        let finality = match form {
            ReceiptForm::Standalone => json!({ "certificate": "AAAA" }),
            ReceiptForm::Checkpoint => json!({ "checkpoint": true }),
        };
        answer(Some(json!({ "version": 1, "seq_for_test": seq, "finality": finality }).to_string()))
    }

    fn receipts(&self, seqs: Vec<u64>, form: ReceiptForm, at: Option<At>) -> Answer<'_, Option<String>> {
        let size = self.all_records().len() as u64;
        let all = seqs.iter().all(|seq| *seq < size);
        let text = json!({ "version": 1, "seqs_for_test": seqs, "short": form == ReceiptForm::Checkpoint,
            "at": at.is_some() });
        answer(all.then(|| text.to_string()))
    }

    fn consistency(&self, log: AnchorLog, first: u64, second: u64) -> Answer<'_, Option<Vec<Hash>>> {
        let known = second <= self.all_records().len() as u64;
        let path = vec![Hash([first as u8; 32]), Hash([if log == AnchorLog::Sha256 { 0xff } else { 0 }; 32])];
        answer(known.then_some(path))
    }

    fn log_path(&self, _: AnchorLog, seq: u64, size: u64) -> Answer<'_, Option<Vec<Hash>>> {
        let known = size <= self.all_records().len() as u64;
        answer(known.then(|| vec![Hash([seq as u8; 32])]))
    }

    fn log_checkpoint(&self, at: At) -> Answer<'_, Option<LogCheckpoint>> {
        answer(self.find(at).map(|block| LogCheckpoint {
            header: block.header,
            note: "cairn/00\n2\nAA==\n\n— x AAAAAAA=\n".into(),
            verifier_key: "x+00000000+AQ==".into(),
            cosigner_key: "x+00000000+BA==".into(),
            note_key: [3; 32],
            cose_signature: vec![4; 64],
            binding: Some((key(1).address(), vec![5; 100])),
        }))
    }

    fn blocks(&self, from: Height, limit: usize, _: usize) -> Answer<'_, Vec<StoredBlock>> {
        let chain = self.chain.lock().expect("lock");
        let first = chain.blocks.iter().skip_while(|block| block.header.height < from).take(limit);
        let stored = first.map(|block| StoredBlock {
            block: Arc::new(Block::new(block.header.clone(), Vec::new())),
            certificate: None,
        });
        answer(stored.collect())
    }

    fn verify_receipt(&self, receipt: String) -> Answer<'_, Verdict> {
        let valid = receipt.contains("\"version\":1");
        let record = valid.then(|| self.all_records().into_iter().next()).flatten().map(Box::new);
        let check = VerdictCheck { name: "version".into(), ok: valid, detail: "the only version".into() };
        answer(Verdict { valid, checks: vec![check], record })
    }

    fn validators(&self, at: At) -> Answer<'_, Option<ValidatorsAt>> {
        let activity = vec![Activity { proposed: 5, missed: 1 }; 4];
        answer(self.find(at).map(|_| ValidatorsAt { set: set(), activity }))
    }

    fn params(&self, at: At) -> Answer<'_, Option<ParamsAt>> {
        answer(self.find(at).map(|block| ParamsAt { height: block.header.height, params: Params::default() }))
    }

    fn motions(&self) -> Answer<'_, Motions> {
        let (change, approvals) =
            (Change::Leave(Address::from_hex(ADDRESS).expect("hex")), vec![set().validators()[0].address]);
        let motion = Motion {
            id: TxId::new(Hash([7; 32])),
            proposer: set().validators()[0].address,
            changes: Changes(vec![change]),
            height: Height::new(3),
            expires_ms: 1_700_000_000_000,
            approvals,
        };
        answer(Motions { open: vec![motion], set: set(), protocol: 1 })
    }

    fn genesis(&self) -> Answer<'_, Arc<str>> {
        answer(r#"{"name":"fake"}"#.into())
    }

    fn trust(&self, from: Epoch) -> Answer<'_, Trust> {
        if from != Epoch::ZERO {
            return answer(Trust::default());
        }
        let step = EpochHandover { headers: vec![vec![1]], certificate: vec![2], validators: vec![3] };
        answer(Trust { sets: vec![set()], handovers: vec![step] })
    }

    fn mempool(&self) -> Answer<'_, MempoolInfo> {
        answer(MempoolInfo { count: 1, bytes: 5_500, count_max: 20_000, bytes_max: 128 << 20, senders: 1 })
    }

    fn pending(&self, limit: usize) -> Answer<'_, Vec<Arc<SignedTransaction>>> {
        answer((0..1.min(limit)).map(|_| Arc::new(signed(5))).collect())
    }

    fn net(&self) -> Answer<'_, NetInfo> {
        answer(NetInfo {
            peer_id: "12D3".into(),
            listen: vec!["/ip4/127.0.0.1/tcp/1".into()],
            peers: vec![PeerInfo {
                peer_id: "12D4".into(),
                plane: "mesh",
                address: "/ip4/127.0.0.1/tcp/2".into(),
                outbound: Some(true),
                validator: Some(key(2).address()),
                rtt_ms: Some(1),
            }],
        })
    }
}

/// The real servers over a fake node.
pub struct Running {
    pub fake: Arc<Fake>,
    pub http: SocketAddr,
    pub grpc: SocketAddr,
    pub metrics: SocketAddr,
    pub shutdown: CancellationToken,
    pub bound: Bound,
}

pub fn local() -> RpcConfig {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    RpcConfig { listen: any, grpc_listen: Some(any), metrics_listen: Some(any), ..RpcConfig::default() }
}

pub async fn run_with(height: u64, config: RpcConfig) -> Running {
    let fake = Fake::new(height);
    let mut registry = Registry::default();
    let metrics = RpcMetrics::register(&mut registry);
    let shutdown = CancellationToken::new();
    let bound =
        serve(config, fake.clone(), metrics, Arc::new(registry), shutdown.clone()).await.expect("ports");
    let (http, grpc, metrics) = (bound.http, bound.grpc.expect("grpc"), bound.metrics.expect("metrics"));
    Running { fake, http, grpc, metrics, shutdown, bound }
}

pub async fn run(height: u64) -> Running {
    run_with(height, local()).await
}

impl Running {
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    /// A JSON-RPC call; the whole answer.
    pub async fn call(&self, method: &str, params: Value) -> Value {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        self.post(body.to_string()).await
    }

    /// The result of a call that must succeed.
    pub async fn ok(&self, method: &str, params: Value) -> Value {
        let answer = self.call(method, params).await;
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// The error of a call that must fail.
    pub async fn err(&self, method: &str, params: Value) -> Value {
        let answer = self.call(method, params).await;
        assert!(answer.get("result").is_none(), "{method}: {answer}");
        answer["error"].clone()
    }

    /// Posts a body as JSON; the status must be 200.
    pub async fn post(&self, body: impl Into<reqwest::Body>) -> Value {
        let response = reqwest::Client::new()
            .post(self.url("/"))
            .header("content-type", "application/json")
            .body(body)
            .send()
            .await
            .expect("an answer");
        assert_eq!(response.status(), 200);
        response.json().await.expect("JSON")
    }
}
