//! `cairn audit` against a real node, and against one that lies about one thing at a time.

use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cairn_testnet::process;
use cairn_types::{Block, CommitCert, Hash, Signature, SignedTransaction, decode, encode};
use serde_json::{Value, json};

use crate::cluster::{Cluster, binary};
use crate::epochs::{address_of, enact, epoch_reaches};

/// Changes the result of one method.
type Lie = Arc<dyn Fn(&str, &mut Value) + Send + Sync>;

/// Passes calls on to a node and lies about the answers. Gives its address.
async fn liar(node: String, lie: Lie) -> String {
    let http = reqwest::Client::new();
    let answer = move |State((node, lie)): State<(String, Lie)>, Json(call): Json<Value>| {
        let http = http.clone();
        async move {
            let asked = http.post(&node).json(&call).send().await.expect("the node answers");
            let mut answer: Value = asked.json().await.expect("in JSON");
            if let Some(result) = answer.get_mut("result") {
                lie(call["method"].as_str().unwrap_or_default(), result);
            }
            Json(answer)
        }
    };
    serve(Router::new().route("/", post(answer)).with_state((node, lie))).await
}

async fn serve(app: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}")
}

/// Runs an audit; gives exit code and answer.
async fn audit(url: &str, genesis: &Path, data: &Path, more: &[&str]) -> (i32, Value) {
    let mut command = process::cairn(binary());
    command
        .args(["audit", "--json", "--url", url, "--genesis"])
        .arg(genesis)
        .arg("--data")
        .arg(data)
        .args(more);
    let output =
        tokio::task::spawn_blocking(move || command.output()).await.expect("it ran").expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let value = serde_json::from_str(&text)
        .unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().expect("it ended by itself"), value)
}

fn bytes(value: &Value) -> Vec<u8> {
    STANDARD.decode(value.as_str().expect("base64")).expect("base64")
}

/// Changes the block at `height` in a `chain_blocks` answer.
fn change_block(height: u64, change: impl Fn(Block) -> Block + Send + Sync + 'static) -> Lie {
    Arc::new(move |method, result| {
        let items = result["items"].as_array_mut().filter(|_| method == "chain_blocks");
        for item in items.into_iter().flatten().filter(|item| item["height"] == height) {
            let block: Block = decode(&bytes(&item["block_b64"])).expect("a block");
            item["block_b64"] = STANDARD.encode(encode(&change(block))).into();
        }
    })
}

fn change_header(height: u64, change: fn(&mut cairn_types::Header)) -> Lie {
    change_block(height, move |block| {
        let mut header = block.header().clone();
        change(&mut header);
        Block::new(header, block.transactions().to_vec())
    })
}

fn change_certificate(height: u64, change: fn(&mut CommitCert)) -> Lie {
    Arc::new(move |method, result| {
        let items = result["items"].as_array_mut().filter(|_| method == "chain_blocks");
        for item in items.into_iter().flatten().filter(|item| item["height"] == height) {
            let mut certificate: CommitCert =
                decode(&bytes(&item["certificate_b64"])).expect("a certificate");
            change(&mut certificate);
            item["certificate_b64"] = STANDARD.encode(encode(&certificate)).into();
        }
    })
}

fn flip_hex(value: &mut Value) {
    let text = value.as_str().expect("hex");
    let flipped = if text.starts_with('0') { '1' } else { '0' };
    *value = format!("{flipped}{}", &text[1..]).into();
}

fn on(method: &'static str, change: fn(&mut Value)) -> Lie {
    Arc::new(move |asked, result| {
        if asked == method {
            change(result);
        }
    })
}

fn forged_signature(block: Block) -> Block {
    let mut transactions = block.transactions().to_vec();
    let mut signed: SignedTransaction = (*transactions[0]).clone();
    let mut signature = signed.signatures[0].as_bytes().to_vec();
    signature[100] ^= 1;
    signed.signatures[0] = Signature::new(&signature).expect("the same length");
    transactions[0] = Arc::new(signed);
    Block::new(block.header().clone(), transactions)
}

/// Every lie, the check that finds it, and the height that is named.
fn lies(at: u64) -> Vec<(&'static str, Lie, &'static str, Option<u64>)> {
    vec![
        ("a signature", change_block(at, forged_signature), "transaction", Some(0)),
        ("a root", change_header(at, |it| it.anchors_root.0[0] ^= 1), "block", None),
        ("the SHA-256 root", change_header(at, |it| it.anchors_sha256.0[0] ^= 1), "block", None),
        ("the state root", change_header(at, |it| it.state_root.0[0] ^= 1), "block", None),
        ("the history root", change_header(at, |it| it.history_root.0[0] ^= 1), "block", None),
        ("a proposer", change_header(at, |it| it.parent_view = it.view), "block", None),
        ("a time", change_header(at, |it| it.time_ms += 1), "block", None),
        ("a view", change_header(at, |it| it.view = it.view.next()), "certificate", None),
        (
            "no transactions",
            change_block(at, |it| Block::new(it.header().clone(), Vec::new())),
            "block",
            None,
        ),
        ("a certificate's view", change_certificate(at, |it| it.view = it.view.next()), "certificate", None),
        (
            "a certificate's block",
            change_certificate(at, |it| it.block = Default::default()),
            "certificate",
            None,
        ),
        (
            "a certificate's signature",
            change_certificate(at, |it| {
                let mut bytes = it.signatures[0].as_bytes().to_vec();
                bytes[9] ^= 4;
                it.signatures[0] = Signature::new(&bytes).expect("the same length");
            }),
            "certificate",
            None,
        ),
    ]
}

/// Lies about what was executed honestly; `at` is the last block.
fn lies_about_proofs() -> Vec<(&'static str, Lie, &'static str)> {
    vec![
        (
            "a consistency proof",
            on("log_consistency", |result| flip_hex(&mut result["path"].as_array_mut().expect("a path")[0])),
            "consistency",
        ),
        (
            "a hash too many",
            on("log_consistency", |result| {
                let hash = json!(Hash([1; 32]).to_string());
                result["path"].as_array_mut().expect("a path").push(hash);
            }),
            "consistency",
        ),
        (
            "a receipt's path",
            on("receipt_bundle", |result| {
                flip_hex(&mut result["anchor"]["path"].as_array_mut().expect("a path")[0])
            }),
            "receipt",
        ),
        (
            "a record",
            on("receipt_bundle", |result| {
                let mut record = bytes(&result["records"][0]);
                record[60] ^= 1;
                result["records"][0] = STANDARD.encode(record).into();
            }),
            "receipt",
        ),
        (
            "another history",
            on("chain_header", |result| {
                let mut header: cairn_types::Header =
                    decode(&bytes(&result["header_b64"])).expect("a header");
                header.time_ms += 1;
                result["header_b64"] = STANDARD.encode(encode(&header)).into();
            }),
            "history",
        ),
    ]
}

#[tokio::test]
async fn an_audit_executes_everything_again_and_finds_every_lie() {
    let mut cluster = Cluster::start(1).await;
    let genesis = cluster.network.layout().genesis();
    let node = cluster.api(0).url().to_owned();
    for _ in 0..3 {
        cluster.anchor(0).await;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let kept = dir.path().join("kept");
    let (code, first) = audit(&node, &genesis, &kept, &[]).await;
    assert_eq!((code, &first["valid"], &first["proofs"]), (0, &json!(true), &json!(3)), "{first}");
    let audited = first["height"].as_u64().expect("a height");
    for _ in 0..2 {
        cluster.anchor(0).await;
    }
    let alerts = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&alerts);
    let hook =
        post(move |Json(alert): Json<Value>| async move { seen.lock().expect("unpoisoned").push(alert) });
    let webhook = serve(Router::new().route("/", hook)).await;

    let at = 2;
    for (what, lie, check, index) in lies(at) {
        let url = liar(node.clone(), lie).await;
        let fresh = dir.path().join(what.replace(' ', "-"));
        let (code, answer) = audit(&url, &genesis, &fresh, &["--memory", "--webhook", &webhook]).await;
        assert_eq!(code, 1, "{what}: {answer}");
        assert_eq!(
            (&answer["finding"]["check"], &answer["finding"]["height"]),
            (&json!(check), &json!(at)),
            "{what}: {answer}"
        );
        assert_eq!(answer["finding"]["index"], json!(index), "{what}: {answer}");
        let journal = std::fs::read_to_string(fresh.join("audit.jsonl")).expect("a journal");
        assert!(journal.lines().last().is_some_and(|line| line.contains("finding")), "{what}: {journal}");
    }
    assert_eq!(alerts.lock().expect("unpoisoned").len(), lies(at).len());

    for (what, lie, check) in lies_about_proofs() {
        let url = liar(node.clone(), lie).await;
        let (code, answer) = audit(&url, &genesis, &kept, &[]).await;
        assert_eq!((code, &answer["finding"]["check"]), (1, &json!(check)), "{what}: {answer}");
    }
    let (code, rest) = audit(&node, &genesis, &kept, &[]).await;
    assert_eq!((code, &rest["valid"], &rest["proofs"]), (0, &json!(true), &json!(2)), "{rest}");
    assert!(rest["height"].as_u64() > Some(audited), "{rest}");
    cluster.check().await;
    let (code, answer) = audit("http://127.0.0.1:9", &genesis, &kept, &[]).await;
    assert_eq!(code, 3, "a node that does not answer says nothing about the chain: {answer}");
}

#[tokio::test]
async fn an_audit_follows_the_chain_over_the_ends_of_epochs_and_finds_lies_beyond_them() {
    let mut cluster = Cluster::start(4).await;
    cluster.anchor(0).await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (genesis, kept) = (cluster.network.layout().genesis(), dir.path().join("kept"));
    let node = cluster.api(1).url().to_owned();
    let (code, first) = audit(&node, &genesis, &kept, &[]).await;
    assert_eq!((code, &first["valid"]), (0, &json!(true)), "{first}");

    // The powers become 2, 1, 1, 1 and then 2, 2, 1, 1: other quorums sign from there on.
    for (epoch, by) in [(1, 0), (2, 1)] {
        let key = cluster.network.layout().node(by).home.join("keys/validator.json");
        let power = format!("{}=2", address_of(&key));
        enact(&cluster.network, &[(0, None), (1, None), (2, None)], &["--power", &power]);
        epoch_reaches(&cluster, &[0, 1, 2, 3], epoch).await;
        cluster.anchor(by).await;
    }
    let at = cluster.height(1).await;
    cluster.anchor(2).await;
    let header = cluster.api(1).call("chain_header", json!({ "at": at })).await.expect("a header");
    assert_eq!(header["epoch"], json!(2), "{header}");

    // Once on top of an audit that ended in epoch 0, once from the genesis.
    for data in [kept, dir.path().join("fresh")] {
        let (code, rest) = audit(&node, &genesis, &data, &[]).await;
        assert_eq!((code, &rest["valid"]), (0, &json!(true)), "{rest}");
        assert!(rest["height"].as_u64() > Some(at), "{rest}");
    }
    for (what, lie, check, _) in lies(at) {
        let url = liar(node.clone(), lie).await;
        let fresh = dir.path().join(what.replace(' ', "-"));
        let (code, answer) = audit(&url, &genesis, &fresh, &["--memory"]).await;
        let finding = &answer["finding"];
        assert_eq!(
            (code, &finding["check"], &finding["height"]),
            (1, &json!(check), &json!(at)),
            "{what}: {answer}"
        );
    }
    cluster.check().await;
}
