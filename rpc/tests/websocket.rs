//! A WebSocket's messages pass the same door as the body of a POST.

mod support;

use std::time::Duration;

use cairn_rpc::RpcConfig;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use support::{Running, local, run, run_with, signed_b64};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// How long something is waited for that must come.
const PATIENCE: Duration = Duration::from_secs(10);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn open(node: &Running) -> Socket {
    connect_async(format!("ws://{}/", node.http)).await.expect("a WebSocket").0
}

/// The next text; `None` once the connection is over.
async fn next(socket: &mut Socket) -> Option<Value> {
    loop {
        match tokio::time::timeout(PATIENCE, socket.next()).await.expect("something in time")? {
            Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).expect("JSON")),
            Ok(Message::Close(_)) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

async fn ask(socket: &mut Socket, message: Message) -> Value {
    socket.send(message).await.expect("sent");
    next(socket).await.expect("an answer")
}

fn status(id: u64) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": "health", "params": {} })
}

#[tokio::test]
async fn what_is_no_json_rpc_is_told_as_over_post_and_the_connection_goes_on() {
    let node = run(2).await;
    let mut socket = open(&node).await;
    let far = format!("{}x", " ".repeat(300));
    for text in [
        "hello",
        "",
        "{",
        "{}",
        "[",
        "[]",
        "7",
        "null",
        "{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"health\"}",
        "{\"jsonrpc\":\"2.0\",\"id\":\"mine\",\"method\":5}",
        "{\"jsonrpc\":\"2.0\",\"id\":8}",
        &far,
    ] {
        let client = reqwest::Client::new();
        let request = client.post(node.url("/")).header("content-type", "application/json");
        let posted =
            request.body(text.to_owned()).send().await.expect("an answer").text().await.expect("a text");
        let posted: Value = serde_json::from_str(&posted).expect("JSON");
        let told = ask(&mut socket, Message::text(text)).await;
        assert_eq!(told, posted, "{text:?}");
        let data = &told["error"]["data"];
        assert!(data["kind"].is_string() && data["hint"].is_string(), "{text:?}: {told}");
        let bytes = ask(&mut socket, Message::binary(text.as_bytes().to_vec())).await;
        assert_eq!(bytes, told, "a binary message says the same");
    }
    let many: Vec<Value> = (0..21).map(status).collect();
    let many = ask(&mut socket, Message::text(json!(many).to_string())).await;
    assert_eq!(many["error"]["data"]["kind"], "invalid_request", "{many}");

    // Calls, alone and in batches; what wants no answer gets none.
    let note = json!({ "jsonrpc": "2.0", "method": "health", "params": {} });
    socket.send(Message::text(note.to_string())).await.expect("sent");
    socket.send(Message::text(json!([note, note]).to_string())).await.expect("sent");
    let answer = ask(&mut socket, Message::text(status(3).to_string())).await;
    assert_eq!((&answer["id"], answer.get("error")), (&json!(3), None));
    let batch = json!([status(4), 1, note, { "jsonrpc": "2.0", "id": 6, "method": "helth", "params": {} }]);
    let answers = ask(&mut socket, Message::text(batch.to_string())).await;
    assert_eq!(answers.as_array().map(Vec::len), Some(3), "{answers}");
    assert!(answers[0].get("result").is_some(), "{answers}");
    assert_eq!(
        (&answers[1]["error"]["code"], &answers[2]["error"]["code"]),
        (&json!(-32600), &json!(-32601))
    );
}

#[tokio::test]
async fn a_message_too_long_is_answered_and_one_far_too_long_ends_the_connection() {
    let node = run(1).await;
    let mut socket = open(&node).await;
    let told = ask(&mut socket, Message::text(" ".repeat((1 << 20) + 1))).await;
    assert!(told["error"]["message"].as_str().expect("text").contains("at most 1048576"), "{told}");
    assert!(ask(&mut socket, Message::text(status(1).to_string())).await.get("result").is_some());
    // The rest of it may not be taken any more, which is as good.
    let _ = socket.send(Message::text(" ".repeat(5 << 20))).await;
    assert_eq!(next(&mut socket).await, None);
    assert!(ask(&mut open(&node).await, Message::text(status(1).to_string())).await.get("result").is_some());
}

#[tokio::test]
async fn a_subscription_in_a_batch_is_answered_once() {
    let node = run(1).await;
    let mut socket = open(&node).await;
    let subscribe = json!({ "jsonrpc": "2.0", "id": 7, "method": "chain_subscribe", "params": {} });
    let first = ask(&mut socket, Message::text(json!([subscribe, status(8)]).to_string())).await;
    let second = next(&mut socket).await.expect("the other answer");
    let answers = [first, second].map(|answer| answer.to_string());
    assert_eq!(answers.iter().filter(|it| it.contains("\"id\":7")).count(), 1, "{answers:?}");
    assert_eq!(answers.iter().filter(|it| it.contains("\"id\":8")).count(), 1, "{answers:?}");
}

#[tokio::test]
async fn garbage_costs_its_sender_as_calls_do() {
    let slow = RpcConfig { calls_per_second: 1, calls_burst: 20, loopback_unlimited: false, ..local() };
    let node = run_with(1, slow).await;
    let mut socket = open(&node).await;
    let mut kinds = Vec::new();
    for _ in 0..24 {
        kinds.push(ask(&mut socket, Message::text("garbage")).await["error"]["data"]["kind"].clone());
    }
    assert_eq!(kinds.first(), Some(&json!("parse_error")));
    assert_eq!(kinds.last(), Some(&json!("rate_limited")), "{kinds:?}");
}

#[tokio::test]
async fn a_stop_answers_what_was_asked_and_then_ends_every_connection() {
    let node = run(1).await;
    node.fake.finalises.store(false, std::sync::atomic::Ordering::SeqCst);
    let (mut waiting, mut idle) = (open(&node).await, open(&node).await);
    let params = json!({ "tx": signed_b64(77), "wait": "final", "timeout_ms": 700 });
    let call = json!({ "jsonrpc": "2.0", "id": 5, "method": "proof_anchor", "params": params });
    waiting.send(Message::text(call.to_string())).await.expect("sent");
    while node.fake.submissions().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    node.shutdown.cancel();
    let answer = next(&mut waiting).await.expect("the answer it owes");
    assert_eq!(answer["id"], 5, "{answer}");
    assert_eq!((next(&mut waiting).await, next(&mut idle).await), (None, None));
    tokio::time::timeout(Duration::from_secs(8), node.bound.finished()).await.expect("all connections end");
}
