//! Anchoring through nodes that work, fail and lie.

mod fake_node;

use std::path::PathBuf;

use cairn_client::{
    Algorithm, AnchorOptions, BlockRef, Client, ClientFault, Item, Pending, ProofQuery, ProofState, Salting,
    Sender, Wait, When,
};
use cairn_crypto::KeyPair;
use cairn_receipt::{ReceiptVerifier, Trusted, parse};
use cairn_types::identity::IdentityOp;
use cairn_types::receipt::Receipt;
use cairn_types::{Address, Hash, Height, Payload, ProofId, ProofKind, Scheme, TreeKind};
use fake_node::{Act, Chain, FakeNode, NOW_MS};

fn now_ms() -> u64 {
    NOW_MS
}

fn client(chain: &Chain, nodes: &[&FakeNode]) -> Client {
    let urls: Vec<&str> = nodes.iter().map(|node| node.url()).collect();
    Client::connect(&urls.join(","))
        .unwrap()
        .with_genesis(chain.genesis.clone())
        .unwrap()
        .with_key(KeyPair::generate(Scheme::MlDsa65))
        .with_clock(now_ms)
        .with_tries(4)
}

fn digests(count: u8) -> Vec<Hash> {
    (0..count).map(|at| Hash([at; 32])).collect()
}

fn assert_verifies(chain: &Chain, receipt: &Receipt, digest: Hash) {
    let verdict = ReceiptVerifier::new(Trusted::genesis(&chain.genesis).unwrap()).verify(receipt);
    assert!(verdict.valid, "{:?}", verdict.failed());
    assert_eq!(receipt.subject.digest, digest);
}

#[tokio::test]
async fn digests_become_receipts_that_verify_against_the_genesis_alone() {
    let chain = Chain::new();
    let node = FakeNode::start(&chain, []).await;
    let client = client(&chain, &[&node]);
    for count in [1, 2, 7] {
        let receipts = client.anchor(digests(count)).await.unwrap();
        assert_eq!(receipts.len(), usize::from(count));
        for (receipt, digest) in receipts.iter().zip(digests(count)) {
            assert_verifies(&chain, receipt, digest);
            assert_eq!(receipt.subject.salt.len(), 16, "salts are on by default");
        }
    }
}

#[tokio::test]
async fn a_file_is_stamped_with_either_hash_and_tree() {
    let chain = Chain::new();
    let node = FakeNode::start(&chain, []).await;
    let client = client(&chain, &[&node]);
    let directory = tempfile::tempdir().unwrap();
    let files: Vec<PathBuf> = ["a.bin", "b.bin", "c.bin"].map(|name| directory.path().join(name)).into();
    for file in &files {
        std::fs::write(file, file.to_string_lossy().as_bytes()).unwrap();
    }
    for (algorithm, tree) in
        [(Algorithm::Blake3, TreeKind::CairnB3V1), (Algorithm::Sha256, TreeKind::Rfc9162Sha256)]
    {
        let pending = directory.path().join("pending");
        let options = AnchorOptions { algorithm, tree, pending: Some(pending.clone()), ..Default::default() };
        let (anchored, paths) = client.stamp_files(&files, &options).await.unwrap();
        assert_eq!(anchored.record().leaves, 3);
        assert!(Pending::list(&pending).unwrap().is_empty(), "nothing is pending once receipts are written");
        for (file, path) in files.iter().zip(&paths) {
            assert_eq!(*path, PathBuf::from(format!("{}.cairn", file.display())));
            let receipt = parse(&std::fs::read_to_string(path).unwrap()).unwrap();
            assert_verifies(&chain, &receipt, cairn_client::hash_file(algorithm, file).unwrap());
            assert_eq!(receipt.subject.algorithm, algorithm.name());
        }
    }
    let receipt = client.anchor_file(&files[0]).await.unwrap();
    assert_verifies(&chain, &receipt.0, cairn_client::hash_file(Algorithm::Blake3, &files[0]).unwrap());
}

#[tokio::test]
async fn every_lie_is_refused_with_the_check_that_failed() {
    let chain = Chain::new();
    let lies = [
        (Act::OtherProof, "record"),
        (Act::OtherRecordOfProof, "record"),
        (Act::ForgedSignatures, "certificate"),
        (Act::TooFewSigners, "certificate"),
        (Act::CertificateOfOtherBlock, "certificate"),
        (Act::OtherChain, "chain"),
        (Act::OtherValidators, "validators"),
        (Act::NotInLog, "anchor"),
        (Act::NoReceiptShape, "format"),
    ];
    for (lie, check) in lies {
        let node = FakeNode::start(&chain, [lie]).await;
        let fault = client(&chain, &[&node]).anchor(digests(3)).await.unwrap_err();
        match fault {
            ClientFault::ReceiptRefused { url, check: failed, .. } => {
                assert_eq!((url.as_str(), failed.as_str()), (node.url(), check), "{lie:?}");
            }
            other => panic!("{lie:?}: {other}"),
        }
        assert_eq!(node.calls("proof_anchor").len(), 1, "{lie:?}: a lie is not asked for again");
    }
}

#[tokio::test]
async fn a_liar_is_left_for_an_honest_node() {
    let chain = Chain::new();
    let liar = FakeNode::start(&chain, [Act::ForgedSignatures]).await;
    let honest = FakeNode::start(&chain, []).await;
    let receipts = client(&chain, &[&liar, &honest]).anchor(digests(2)).await.unwrap();
    assert_verifies(&chain, &receipts[1], digests(2)[1]);
    assert_eq!(honest.calls("proof_anchor").len(), 1);
}

#[tokio::test]
async fn what_may_pass_is_tried_again_with_the_same_transaction() {
    let chain = Chain::new();
    let trouble = [
        Act::Http(503),
        Act::NotJson,
        Act::Error { code: -32021, kind: "mempool_full", retryable: true },
        Act::TimeoutNotFinal,
    ];
    for act in trouble {
        let node = FakeNode::start(&chain, [act, act]).await;
        let receipts = client(&chain, &[&node]).anchor(digests(2)).await.unwrap();
        assert_verifies(&chain, &receipts[0], digests(2)[0]);
        let sent = node.calls("proof_anchor");
        assert_eq!(sent.len(), 3, "{act:?}");
        assert!(sent.iter().all(|params| params["tx"] == sent[0]["tx"]), "{act:?}: signed once");
    }
}

#[tokio::test]
async fn what_cannot_pass_is_told_at_once_with_the_nodes_words() {
    let chain = Chain::new();
    let act = Act::Error { code: -32033, kind: "key_revoked", retryable: false };
    let node = FakeNode::start(&chain, [act]).await;
    let fault = client(&chain, &[&node]).anchor(digests(1)).await.unwrap_err();
    assert!(fault.is_kind("key_revoked") && !fault.is_retryable());
    let error = fault.rpc().unwrap();
    assert_eq!((error.code, error.hint.as_str(), error.url.as_str()), (-32033, "a hint", node.url()));
    assert_eq!(node.calls("proof_anchor").len(), 1);
}

#[tokio::test]
async fn trouble_that_stays_ends_after_the_tries_given() {
    let chain = Chain::new();
    let node = FakeNode::start(&chain, [Act::TimeoutNotFinal; 9]).await;
    let fault = client(&chain, &[&node]).anchor(digests(1)).await.unwrap_err();
    assert!(matches!(fault, ClientFault::NotFinal { waited_ms: 40_000, .. }), "{fault}");
    assert_eq!(node.calls("proof_anchor").len(), 4);
    let gone = FakeNode::start(&chain, [Act::Http(500); 9]).await;
    let fault = client(&chain, &[&gone]).status().await.unwrap_err();
    assert!(matches!(fault, ClientFault::Unreachable { .. }), "{fault}");
    assert_eq!(gone.calls("chain_status").len(), 4);
}

#[tokio::test]
async fn a_dead_node_is_left_for_the_next_and_not_asked_first_again() {
    let chain = Chain::new();
    let dead = FakeNode::start(&chain, [Act::Http(500); 99]).await;
    let alive = FakeNode::start(&chain, []).await;
    let client = client(&chain, &[&dead, &alive]);
    for _ in 0..3 {
        assert_eq!(client.status().await.unwrap().chain, chain.genesis.chain());
    }
    assert_eq!((dead.calls("chain_status").len(), alive.calls("chain_status").len()), (1, 3));
}

#[tokio::test]
async fn a_clock_that_is_off_is_corrected_once() {
    let chain = Chain::new();
    for (act, off) in [(Act::Expired, 3_600_000), (Act::TooLate, 0)] {
        let node = FakeNode::start(&chain, [act]).await;
        let receipts = client(&chain, &[&node]).anchor(digests(1)).await.unwrap();
        assert_verifies(&chain, &receipts[0], digests(1)[0]);
        let expiries: Vec<u64> = node.transactions().iter().map(|tx| tx.transaction.expires_ms).collect();
        assert_eq!(expiries.len(), 2, "{act:?}");
        let window = chain.genesis.params.replay_window_ms;
        let chain_ms = if off > 0 { NOW_MS + off } else { NOW_MS - 3_600_000 };
        assert!(expiries[1] > chain_ms && expiries[1] <= chain_ms + window, "{act:?}: {expiries:?}");
    }
    let node = FakeNode::start(&chain, [Act::Expired, Act::Expired]).await;
    let fault = client(&chain, &[&node]).anchor(digests(1)).await.unwrap_err();
    assert!(fault.is_kind("already_expired"), "{fault}");
}

#[tokio::test]
async fn an_interrupted_batch_is_resumed_under_the_same_proof() {
    let chain = Chain::new();
    let node = FakeNode::start(&chain, [Act::SwallowAnswer]).await;
    let client = client(&chain, &[&node]).with_tries(1);
    let directory = tempfile::tempdir().unwrap();
    let (pending, file) = (directory.path().join("pending"), directory.path().join("x"));
    std::fs::write(&file, b"content").unwrap();
    let options =
        AnchorOptions { pending: Some(pending.clone()), reference: "r".into(), ..Default::default() };
    // The node takes the root; its answer never arrives.
    client.stamp_files(std::slice::from_ref(&file), &options).await.unwrap_err();
    let left = Pending::list(&pending).unwrap();
    assert_eq!(left.len(), 1);
    let other = self::client(&chain, &[&node]);
    assert!(matches!(other.resume(&left[0]).await, Err(ClientFault::OtherSender { .. })));
    let (anchored, paths) = client.resume(&left[0]).await.unwrap();
    assert!(anchored.duplicate, "the root was on the chain already");
    let receipt = parse(&std::fs::read_to_string(&paths[0]).unwrap()).unwrap();
    assert_verifies(&chain, &receipt, cairn_client::hash_file(Algorithm::Blake3, &file).unwrap());
    assert!(Pending::list(&pending).unwrap().is_empty());
    let foreign = Client::connect(node.url()).unwrap().with_genesis(Chain::new().genesis).unwrap();
    let foreign = foreign.with_key(KeyPair::generate(Scheme::MlDsa65));
    let path = foreign.prepare(vec![item()], Vec::new(), &options).unwrap().path(&pending);
    assert!(matches!(client.resume(&path).await, Err(ClientFault::OtherChain { .. })));
}

fn item() -> Item {
    Item { digest: Hash([1; 32]), algorithm: "blake3".into() }
}

/// What the chain refuses for good: nothing that comes later makes it acceptable.
const REFUSAL: Act = Act::Error { code: -32_038, kind: "delegation_missing", retryable: false };
const FULL: Act = Act::Error { code: -32_021, kind: "mempool_full", retryable: true };

#[tokio::test]
async fn what_is_refused_for_good_leaves_nothing_to_resume() {
    let chain = Chain::new();
    let directory = tempfile::tempdir().unwrap();
    let (pending, file) = (directory.path().join("pending"), directory.path().join("x"));
    std::fs::write(&file, b"content").unwrap();
    let files = std::slice::from_ref(&file);
    let options = AnchorOptions { pending: Some(pending.clone()), ..Default::default() };
    let left = || std::fs::read_dir(&pending).unwrap().count();

    for acts in [vec![REFUSAL], vec![FULL, REFUSAL]] {
        let node = FakeNode::start(&chain, acts).await;
        let fault = client(&chain, &[&node]).stamp_files(files, &options).await.unwrap_err();
        assert!(matches!(fault, ClientFault::Refused(_)) && !fault.is_retryable(), "{fault}");
        assert!(
            fault.is_kind("delegation_missing") && fault.to_string().contains("nothing of it was anchored")
        );
        assert_eq!(left(), 0, "salts of a root that is nowhere are of no use");
    }

    // A full node is no refusal: the batch waits for better times.
    let node = FakeNode::start(&chain, [FULL]).await;
    let fault = client(&chain, &[&node]).with_tries(1).stamp_files(files, &options).await.unwrap_err();
    assert!(fault.is_kind("mempool_full"), "{fault}");
    let kept = Pending::list(&pending).unwrap().remove(0);
    std::fs::remove_file(kept).unwrap();

    // After a sending that nobody answered for, a refusal proves nothing.
    let node = FakeNode::start(&chain, [Act::SwallowAnswer, REFUSAL]).await;
    let fault = client(&chain, &[&node]).stamp_files(files, &options).await.unwrap_err();
    assert!(matches!(&fault, ClientFault::Rpc(_)) && fault.is_kind("delegation_missing"), "{fault}");
    assert_eq!(Pending::list(&pending).unwrap().len(), 1);
}

#[tokio::test]
async fn a_batch_that_is_refused_when_resumed_is_set_aside_with_its_salts() {
    let chain = Chain::new();
    let node = FakeNode::start(&chain, [Act::SwallowAnswer, REFUSAL]).await;
    let client = client(&chain, &[&node]).with_tries(1);
    let directory = tempfile::tempdir().unwrap();
    let options = AnchorOptions { pending: Some(directory.path().to_owned()), ..Default::default() };
    client.anchor_items(vec![item()], &options).await.unwrap_err();
    let left = Pending::list(directory.path()).unwrap().remove(0);
    let before = Pending::load(&left).unwrap();
    let fault = client.resume(&left).await.unwrap_err();
    assert!(fault.is_kind("delegation_missing") && fault.to_string().contains("set aside"), "{fault}");
    let ClientFault::SetAside { path, .. } = fault else { panic!("{fault}") };
    assert!(Pending::list(directory.path()).unwrap().is_empty(), "it is not offered again");
    let after = Pending::load(&path).unwrap();
    assert_eq!((after.proof, after.batch.salts()), (before.proof, before.batch.salts()));
    assert!(!left.exists());
}

#[tokio::test]
async fn without_genesis_or_key_nothing_is_sent() {
    let chain = Chain::new();
    let node = FakeNode::start(&chain, []).await;
    let bare = Client::connect(node.url()).unwrap();
    assert!(matches!(bare.anchor(digests(1)).await, Err(ClientFault::NoGenesis)));
    let keyless = bare.with_genesis(chain.genesis.clone()).unwrap();
    assert!(matches!(keyless.anchor(digests(1)).await, Err(ClientFault::NoKey)));
    let keyed = keyless.with_key(KeyPair::generate(Scheme::MlDsa65));
    assert!(matches!(keyed.anchor(Vec::new()).await, Err(ClientFault::EmptyBatch)));
    assert!(node.calls("proof_anchor").is_empty());
}

#[tokio::test]
async fn a_receipt_is_never_given_for_another_batch() {
    let chain = Chain::new();
    let node = FakeNode::start(&chain, []).await;
    let client = client(&chain, &[&node]);
    let options = AnchorOptions { salting: Salting::None, ..Default::default() };
    let pending = client.prepare(vec![item(), item()], Vec::new(), &options).unwrap();
    let anchored = client.anchor_batch(&pending.proof).await.unwrap();
    let other = client.prepare(vec![item()], Vec::new(), &options).unwrap();
    assert!(matches!(anchored.receipt(&other.batch, 0), Err(ClientFault::OtherBatch { .. })));
    assert!(matches!(anchored.receipt(&pending.batch, 2), Err(ClientFault::NoLeaf { .. })));
}

#[tokio::test]
async fn typed_methods_read_the_canonical_bytes() {
    let chain = Chain::new();
    let node = FakeNode::start(&chain, []).await;
    let client = client(&chain, &[&node]);
    client.anchor(digests(2)).await.unwrap();
    let signed = node.transactions().remove(0);
    let proof_id = signed.transaction.proofs()[0].id(chain.genesis.chain(), signed.transaction.sender);
    let ProofState::Final { record, others } = client.proof_get(&ProofQuery::Proof(proof_id)).await.unwrap()
    else {
        panic!("it is final")
    };
    assert_eq!((record.proof_id, record.leaves, others.len()), (proof_id, 2, 0));
    assert_eq!(client.receipt_get(proof_id).await.unwrap().record().unwrap(), *record);
    assert_eq!(client.proof_list(&Default::default()).await.unwrap().items, [*record.clone()]);
    let unknown = client.proof_get(&ProofQuery::Root(Hash([0; 32]))).await.unwrap_err();
    assert!(unknown.is_kind("not_found"));
    let state = client.tx_get(signed.transaction.id()).await.unwrap();
    assert_eq!((state.records, state.signed), (vec![*record], Some(signed.clone())));
    assert_eq!(client.chain_genesis().await.unwrap(), chain.genesis);
    let header = client.chain_header(BlockRef::Latest).await.unwrap();
    assert_eq!(client.chain_certificate(BlockRef::Latest).await.unwrap().block, header.id());
    let key = KeyPair::generate(Scheme::MlDsa65);
    let register = Sender::inline(key);
    let signed = register
        .sign(chain.genesis.chain(), NOW_MS + 1_000, Payload::Identity(IdentityOp::Register))
        .unwrap();
    let submitted = client.tx_submit(&signed, Wait::Final).await.unwrap();
    assert_eq!((submitted.tx_id, submitted.duplicate), (signed.transaction.id(), false));
    let identity = client.identity_get(register.address()).await.unwrap();
    assert_eq!((identity.address, identity.entry.threshold, identity.keys.len()), (register.address(), 1, 1));
    assert_eq!(identity.keys[0].address(), register.address());
}

#[tokio::test]
async fn validators_are_those_that_the_genesis_leads_to_at_any_height_and_time() {
    let chain = Chain::new();
    let node = FakeNode::start(&chain, []).await;
    let client = client(&chain, &[&node]);
    for (height, epoch) in [(0, 0), (1, 0), (3, 0), (4, 1), (6, 1), (7, 2), (9_999, 2)] {
        let by_height = client.validators(BlockRef::Height(Height::new(height))).await.unwrap();
        assert_eq!((by_height.height.get(), by_height.set.epoch().get()), (height, epoch));
        assert_eq!(client.validators(When::Time(height * 1_000 + 999)).await.unwrap(), by_height);
    }
    assert_eq!(client.validators(When::default()).await.unwrap().set.epoch().get(), 2);
    assert!(node.calls("chain_trust").len() > 2, "a page holds one hand-over");

    let at = |height| BlockRef::Height(Height::new(height));
    for (orders, check) in [
        (vec![Act::OtherValidators], "validators"),
        (vec![Act::NotInLog], "validators"),
        (vec![Act::TooLate, Act::ForgedSignatures], "epochs"),
    ] {
        for height in [2, 5] {
            let liar = FakeNode::start(&chain, orders.clone()).await;
            let fault = self::client(&chain, &[&liar]).validators(at(height)).await.unwrap_err();
            let named = matches!(&fault, ClientFault::ReceiptRefused { check: got, .. } if got == check);
            assert!(named, "{orders:?} at {height}: {fault}");
        }
    }
    let stranger = self::client(&Chain::new(), &[&node]);
    assert!(matches!(stranger.validators(at(5)).await, Err(ClientFault::ReceiptRefused { .. })));
}

#[tokio::test]
async fn anchoring_runs_in_parallel_on_any_thread() {
    let chain = Chain::new();
    let node = FakeNode::start(&chain, []).await;
    let client = client(&chain, &[&node]);
    let tasks: Vec<_> = (1..6u8)
        .map(|count| {
            let client = client.clone();
            tokio::spawn(async move { client.anchor(digests(count)).await })
        })
        .collect();
    for (count, task) in (1..6).zip(tasks) {
        assert_eq!(task.await.unwrap().unwrap().len(), count);
    }
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let chain = Chain::new();
    let node = FakeNode::start(&chain, [Act::Huge]).await;
    let fault = client(&chain, &[&node]).with_tries(1).status().await.unwrap_err();
    assert!(fault.to_string().contains("more than 8388608 bytes"), "{fault}");
}

#[tokio::test]
async fn a_proof_names_its_principal_and_its_neighbours() {
    let chain = Chain::new();
    let node = FakeNode::start(&chain, []).await;
    let client = client(&chain, &[&node]);
    let options = AnchorOptions {
        kind: ProofKind::Attestation,
        previous: Some(ProofId::new(Hash([1; 32]))),
        subject: Some(ProofId::new(Hash([2; 32]))),
        on_behalf_of: Some(Address::new(Hash([3; 32]))),
        ..AnchorOptions::default()
    };
    let item = Item { digest: Hash([9; 32]), algorithm: "blake3".into() };
    let receipts = client.anchor_items(vec![item], &options).await.unwrap();
    assert_verifies(&chain, &receipts[0].0, Hash([9; 32]));
    let sent = node.transactions();
    let Payload::Proofs(proofs) = &sent[0].transaction.payload else { panic!("{sent:?}") };
    let proof = &proofs.0[0];
    assert_eq!(
        (proof.kind, proof.previous, proof.subject),
        (options.kind, options.previous, options.subject)
    );
    assert_eq!(proof.on_behalf_of, options.on_behalf_of);
}
