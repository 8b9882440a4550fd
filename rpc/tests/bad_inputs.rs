//! `docs/bad-inputs/interfaces.md`: what every wrong request gets, as the real servers answer it. Run with
//! `CAIRN_WRITE_DOCS=1` to write it again.

mod support;

use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cairn_rpc::proto::cairn_client::CairnClient;
use cairn_rpc::proto::*;
use cairn_types::encode;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use support::{ABSENT, ADDRESS, Running, TX, local, login_b64, run, run_with, signed, signed_b64};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

const HEAD: &str = "\
# Wrong requests, and what they get

<!-- Made by `rpc/tests/bad_inputs.rs` from the servers' own answers; the test fails when they differ. -->

The servers are the real ones, over a chain of four blocks in memory. An answer is the JSON-RPC code and kind (the gRPC code,
the HTTP status) and the message; every JSON-RPC error also says `retryable` and gives a `hint`, unless the answer begins with *bare*.
What a transaction gets for what it says, rather than how it is written, is in [commands.md](commands.md).
";

/// How long an answer on a WebSocket is awaited.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(3);

type Row = (String, String);

fn cell(words: &str) -> String {
    words.trim().replace('|', "\\|").replace('\n', " ").replace(ABSENT, "…00aa")
}

fn table(page: &mut String, title: &str, rows: &[Row]) {
    let _ = write!(page, "\n## {title}\n\n| tried | answer |\n|---|---|\n");
    for (tried, answer) in rows {
        let _ = writeln!(page, "| {} | {} |", cell(tried), cell(answer));
    }
}

/// A JSON-RPC answer as the page shows it; it must be an error.
fn said(tried: &str, answer: &Value) -> String {
    let error = &answer["error"];
    assert!(error["code"].is_i64(), "{tried} is accepted: {answer}");
    let (code, message) = (&error["code"], error["message"].as_str().unwrap_or_default());
    match error["data"]["kind"].as_str() {
        Some(kind) => {
            assert!(error["data"]["hint"].is_string() && error["data"]["retryable"].is_boolean(), "{answer}");
            format!("{code} {kind}: {message}")
        }
        None => format!("*bare* {code}: {message}"),
    }
}

/// Bodies of a POST that are no call of a method.
async fn envelopes(node: &Running) -> Vec<Row> {
    let call = |more: &str| format!("{{\"jsonrpc\":\"2.0\",\"id\":1,{more}}}");
    let many = format!("[{}]", vec![call("\"method\":\"health\""); 21].join(","));
    let bodies = [
        ("an empty body", String::new()),
        ("text", "hello".into()),
        ("JSON that breaks off", "{\"jsonrpc\":\"2.0\",".into()),
        ("a number", "42".into()),
        ("an empty object", "{}".into()),
        ("another version", "{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"health\"}".into()),
        ("no method", call("\"params\":{}")),
        ("a method that is a number", call("\"method\":7")),
        ("an unknown method", call("\"method\":\"prof_anchor\"")),
        ("a subscription over POST", call("\"method\":\"proof_subscribe\"")),
        ("an empty batch", "[]".into()),
        ("a batch of 21", many),
        ("a batch that is cut short", "[{}".into()),
        ("parameters that are text", call("\"method\":\"proof_get\",\"params\":\"x\"")),
        ("a signature as long as a secret key", secret_key()),
    ];
    let mut rows = Vec::new();
    for (tried, body) in bodies {
        rows.push((tried.to_owned(), said(tried, &node.post(body).await)));
    }
    let item = node.post("[{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":[]}]").await;
    rows.push(("a batch with an item that is no request".into(), said("an item", &item[0])));
    rows
}

fn secret_key() -> String {
    let tx = json!({ "signatures_b64": [STANDARD.encode([7u8; 4_000])] });
    json!({ "jsonrpc": "2.0", "id": 1, "method": "tx_submit", "params": { "tx": tx } }).to_string()
}

/// Calls of methods with wrong parameters.
fn calls() -> Vec<(&'static str, &'static str, Value)> {
    let cut = &signed_b64(1)[..400];
    let longer = STANDARD.encode([encode(&signed(1)), vec![0]].concat());
    let log = |first: u64, second: u64| json!({ "first": first, "second": second });
    vec![
        ("no parameter at all", "proof_get", json!({})),
        ("an unknown parameter", "proof_get", json!({ "prof_id": TX })),
        ("two names for one proof", "proof_get", json!({ "proof_id": TX, "tx_id": TX })),
        ("an id of 63 digits", "proof_get", json!({ "proof_id": &TX[1..] })),
        ("an id that is a number", "proof_get", json!({ "proof_id": 7 })),
        ("a proof that is not there", "proof_get", json!({ "proof_id": ABSENT })),
        ("a page of none", "proof_list", json!({ "limit": 0 })),
        ("a page of 101", "proof_list", json!({ "limit": 101 })),
        ("a cursor of nowhere", "proof_list", json!({ "cursor": "x" })),
        ("an unknown kind", "proof_list", json!({ "kind": "batsh" })),
        ("a block in the future", "chain_header", json!({ "at": 99 })),
        ("a block below zero", "chain_header", json!({ "at": -1 })),
        ("a block by a wrong name", "chain_header", json!({ "at": "newest" })),
        ("a transaction that is no base64", "tx_submit", json!({ "tx": "!" })),
        ("a transaction of three bytes", "tx_submit", json!({ "tx": "AQID" })),
        ("a transaction that breaks off", "tx_submit", json!({ "tx": cut })),
        ("a transaction with a byte more", "tx_submit", json!({ "tx": longer })),
        ("a transaction as an empty object", "tx_submit", json!({ "tx": {} })),
        ("a wait that is unknown", "proof_anchor", json!({ "tx": signed_b64(1), "wait": "soon" })),
        ("a wait beyond 30 s", "proof_anchor", json!({ "tx": signed_b64(1), "timeout_ms": 30_001 })),
        ("101 transactions", "proof_anchor_many", json!({ "txs": vec!["AQID"; 101] })),
        ("a receipt in an unknown form", "receipt_get", json!({ "proof_id": TX, "form": "short" })),
        ("a receipt that is a number", "receipt_verify", json!({ "receipt": 1 })),
        ("a longer log against a shorter", "log_consistency", log(3, 2)),
        ("a log beyond its end", "log_consistency", log(1, 99)),
        ("a DID of another method", "identity_get", json!({ "did": "did:web:example.org" })),
        ("an identity that is not registered", "identity_get", json!({ "did": ABSENT })),
        (
            "an identity by height and by time",
            "identity_get",
            json!({ "did": ADDRESS, "at": 1, "at_time": 5 }),
        ),
        ("a time before the chain", "identity_get", json!({ "did": ADDRESS, "at_time": 5 })),
        ("a time that is none", "identity_get", json!({ "did": ADDRESS, "at_time": "yesterday" })),
        ("a delegation never granted", "delegation_get", json!({ "principal": ABSENT, "delegate": ADDRESS })),
        ("an unknown side", "delegation_list", json!({ "did": ADDRESS, "side": "both" })),
        ("no proposal named", "multisig_get", json!({})),
        ("a proposal that is not there", "multisig_get", json!({ "id": ABSENT })),
        ("a chain from nowhere", "proof_chain", json!({ "proof_id": ABSENT })),
        ("a login for nobody in particular", "login_challenge", json!({ "did": ADDRESS, "audience": "" })),
        ("a login answer of three bytes", "login_verify", json!({ "response_b64": "AQID", "audience": "x" })),
        (
            "a login answer with a bit more",
            "login_verify",
            json!({ "response_b64": login_b64() + "AA", "audience": "x" }),
        ),
    ]
}

async fn parameters(node: &Running) -> Vec<Row> {
    let mut rows = Vec::new();
    for (tried, method, params) in calls() {
        let answer = node.call(method, params).await;
        rows.push((format!("`{method}`: {tried}"), said(tried, &answer)));
    }
    rows
}

async fn http(node: &Running) -> Vec<Row> {
    let client = reqwest::Client::new();
    let post = |kind: Option<&'static str>, body: String| {
        let request = client.post(node.url("/")).body(body);
        kind.map_or(request.try_clone().expect("text"), |kind| request.header("content-type", kind))
    };
    let get = |path: &str| client.get(node.url(path));
    let health = || "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"health\"}".to_owned();
    let requests = [
        ("POST without a content type", post(None, health())),
        ("POST of a form", post(Some("application/x-www-form-urlencoded"), health())),
        ("POST of more than 1 MiB", post(Some("application/json"), " ".repeat((1 << 20) + 1))),
        ("PUT", client.put(node.url("/")).body(health())),
        ("GET of an unknown path", get("/nowhere")),
        ("GET /websocket without an upgrade", get("/websocket")),
        ("GET of a receipt by a wrong id", get("/v1/receipts/zz")),
        ("GET of a receipt that is not there", get(&format!("/v1/receipts/{ABSENT}"))),
        ("GET of a receipt in a wrong form", get(&format!("/v1/receipts/{ABSENT}?form=short"))),
        ("GET of a header by a word", get("/v1/headers/x")),
        ("GET of a header in the future", get("/v1/headers/99")),
        ("GET of events of an unknown stream", get("/v1/events?stream=votes")),
        ("GET of events from a wrong cursor", get("/v1/events?from_cursor=x")),
        ("GET of events of an unknown kind", get("/v1/events?stream=proofs&kind=batsh")),
    ];
    let mut rows = Vec::new();
    for (tried, request) in requests {
        let response = request.send().await.expect("an answer");
        let status = response.status();
        assert!(!status.is_success(), "{tried}: {status}");
        let text = response.text().await.expect("text");
        // Errors of documents are JSON-RPC error objects; the rest is a sentence.
        let text = match serde_json::from_str::<Value>(&text) {
            Ok(value) => said(tried, &json!({ "error": value.get("error").unwrap_or(&value) })),
            Err(_) => text,
        };
        rows.push((tried.to_owned(), format!("{}: {text}", status.as_u16())));
    }
    rows
}

/// What a WebSocket answers to one message on a connection of its own.
async fn ask(node: &Running, messages: &[Message]) -> String {
    let (mut socket, _) = connect_async(format!("ws://{}/websocket", node.http)).await.expect("a WebSocket");
    let mut answer = "the connection is closed".to_owned();
    for message in messages {
        socket.send(message.clone()).await.expect("open");
        // Notifications of earlier subscriptions are none of the answer.
        loop {
            let Ok(next) = tokio::time::timeout(PATIENCE, socket.next()).await else {
                return "nothing comes back".to_owned();
            };
            match next {
                Some(Ok(Message::Text(text))) => {
                    let value: Value = serde_json::from_str(&text).expect("JSON");
                    if value.get("method").is_none() {
                        answer = value.to_string();
                        break;
                    }
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return "the connection is closed".to_owned(),
            }
        }
    }
    answer
}

async fn websocket(node: &Running) -> Vec<Row> {
    let call = |method: &str, params: Value| {
        Message::text(json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string())
    };
    let text = |text: &str| Message::text(text.to_owned());
    let nine = vec![call("chain_subscribe", json!({})); 9];
    let cases = [
        ("text", vec![text("hello")]),
        ("JSON that breaks off", vec![text("{\"jsonrpc\":")]),
        ("an empty object", vec![text("{}")]),
        ("an empty batch", vec![text("[]")]),
        (
            "a batch with an item that is no request",
            vec![text("[{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":[]}]")],
        ),
        ("an unknown method", vec![call("chain_subscribed", json!({}))]),
        ("an unknown filter", vec![call("proof_subscribe", json!({ "sendr": ADDRESS }))]),
        ("a sender that is none", vec![call("proof_subscribe", json!({ "sender": "me" }))]),
        ("a cursor that is none", vec![call("chain_subscribe", json!({ "from_cursor": true }))]),
        ("a cursor in the future", vec![call("chain_subscribe", json!({ "from_cursor": 99 }))]),
        ("a ninth subscription", nine),
        ("ending a subscription by a word", vec![call("chain_unsubscribe", json!(["x"]))]),
        ("a message of more than 1 MiB", vec![text(&" ".repeat((1 << 20) + 1))]),
    ];
    let mut rows = Vec::new();
    for (tried, messages) in cases {
        let answer = ask(node, &messages).await;
        let answer = match serde_json::from_str::<Value>(&answer) {
            Ok(value) => said(tried, value.get(0).unwrap_or(&value)),
            Err(_) => answer,
        };
        rows.push((tried.to_owned(), answer));
    }
    rows
}

async fn grpc(node: &Running) -> Vec<Row> {
    let client = CairnClient::connect(format!("http://{}", node.grpc)).await.expect("a channel");
    let mut rows = Vec::new();
    let mut row = |tried: &str, status: Option<tonic::Status>| {
        let status = status.unwrap_or_else(|| panic!("{tried} is accepted"));
        rows.push((tried.to_owned(), format!("{:?}: {}", status.code(), status.message())));
    };
    macro_rules! call {
        ($tried:literal, $method:ident, $request:expr) => {
            row(
                concat!("`", stringify!($method), "`: ", $tried),
                client.clone().$method($request).await.err(),
            )
        };
    }
    let submit = |bytes: Vec<u8>| SubmitRequest { transaction_bytes: bytes, ..SubmitRequest::default() };
    let absent = vec![0; 32];
    let height = |height| Some(BlockReference { block: Some(block_reference::Block::Height(height)) });
    call!("nothing", submit, submit(Vec::new()));
    call!("three bytes", submit, submit(vec![1, 2, 3]));
    call!("a byte more", submit, submit([encode(&signed(1)), vec![0]].concat()));
    call!("as long as a secret key", submit, submit(vec![7; 4_000]));
    call!("no key", get_proof, GetProofRequest { key: None });
    let key = Some(get_proof_request::Key::ProofId(vec![1; 31]));
    call!("an id of 31 bytes", get_proof, GetProofRequest { key });
    call!("beyond the log", get_proof, GetProofRequest { key: Some(get_proof_request::Key::Seq(99)) });
    call!("absent", get_receipt, GetReceiptRequest { proof_id: absent.clone(), checkpoint: false });
    call!("no records", get_bundle, GetBundleRequest { seqs: vec![], checkpoint: false, at: None });
    call!(
        "records out of order",
        get_bundle,
        GetBundleRequest { seqs: vec![2, 1], checkpoint: false, at: None }
    );
    call!(
        "a longer log against a shorter",
        get_consistency,
        GetConsistencyRequest { first: 3, second: 2, sha256: false }
    );
    call!("no identity", get_state_proof, GetStateProofRequest::default());
    let short = GetStateProofRequest { identity: absent.clone(), delegate: vec![1; 31], checkpoint: false };
    call!("a delegate of 31 bytes", get_state_proof, short);
    call!("in the future", get_header, GetHeaderRequest { at: height(99) });
    call!(
        "an id of 3 bytes",
        get_block,
        GetBlockRequest { at: Some(BlockReference { block: Some(block_reference::Block::Id(vec![1; 3])) }) }
    );
    let wrong = |cursor: &str, kind: &str, sender: Vec<u8>| SubscribeProofsRequest {
        from_cursor: cursor.into(),
        sender,
        kind: kind.into(),
    };
    call!("an unknown kind", subscribe_proofs, wrong("", "batsh", vec![]));
    call!("a sender of 2 bytes", subscribe_proofs, wrong("", "", vec![1, 2]));
    call!("a wrong cursor", subscribe_proofs, wrong("x", "", vec![]));
    call!("a wrong cursor", subscribe_blocks, SubscribeBlocksRequest { from_cursor: "x".into() });
    rows
}

/// What an address that asks too much gets; the wait it is told depends on the clock.
async fn too_much() -> Vec<Row> {
    let config =
        cairn_rpc::RpcConfig { calls_per_second: 1, calls_burst: 20, loopback_unlimited: false, ..local() };
    let node = run_with(1, config).await;
    let batch = |count: usize| {
        let item = json!({ "jsonrpc": "2.0", "id": 1, "method": "health" });
        json!(vec![item; count]).to_string()
    };
    node.post(batch(20)).await;
    let answer = said("a call too many", &node.post(batch(10)).await);
    let (before, _) = answer.split_once("again in ").expect("the wait");
    vec![("more calls than an address may make".into(), format!("{before}again in … ms"))]
}

#[tokio::test]
async fn the_page_of_wrong_requests_is_what_the_servers_answer() {
    let node = run(4).await;
    let mut page = HEAD.to_owned();
    table(&mut page, "JSON-RPC: what is no call", &envelopes(&node).await);
    table(&mut page, "JSON-RPC: wrong parameters", &parameters(&node).await);
    table(&mut page, "HTTP", &http(&node).await);
    table(&mut page, "WebSocket", &websocket(&node).await);
    table(&mut page, "gRPC", &grpc(&node).await);
    table(&mut page, "Limits", &too_much().await);
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/bad-inputs/interfaces.md");
    if std::env::var_os("CAIRN_WRITE_DOCS").is_some() {
        std::fs::write(&path, &page).expect("docs/ is writable");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/bad-inputs/interfaces.md is not what the servers answer; run this test with CAIRN_WRITE_DOCS=1"
    );
}
