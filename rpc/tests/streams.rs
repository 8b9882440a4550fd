//! Subscriptions over WebSocket, server-sent events and gRPC: from now on, and resumed.

mod support;

use std::time::Duration;

use cairn_rpc::RpcConfig;
use cairn_rpc::proto::cairn_client::CairnClient;
use cairn_rpc::proto::{
    BlockReference, GetBlockRequest, GetHeaderRequest, GetProofRequest, GetReceiptRequest,
    GetStateProofRequest, StatusRequest, SubmitRequest, SubscribeBlocksRequest, SubscribeProofsRequest,
    block_reference, get_proof_request,
};
use cairn_types::{Block, CommitCert, Hash, Header, Record, decode, encode};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use support::{PROOF, ROOT, Running, identities, local, record, run, run_with, signed};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use tonic::Code;

struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    async fn open(node: &Running) -> Self {
        Self(connect_async(format!("ws://{}/websocket", node.http)).await.expect("a WebSocket").0)
    }

    async fn send(&mut self, id: u64, method: &str, params: Value) {
        let text = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string();
        self.0.send(Message::text(text)).await.expect("sent");
    }

    async fn next(&mut self) -> Value {
        loop {
            let message = tokio::time::timeout(Duration::from_secs(10), self.0.next()).await;
            match message.expect("a message in time").expect("an open socket").expect("a message") {
                Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
                _ => continue,
            }
        }
    }

    async fn subscribe(&mut self, method: &str, params: Value) -> Value {
        self.send(1, method, params).await;
        let answer = self.next().await;
        assert!(answer.get("error").is_none(), "{answer}");
        answer["result"].clone()
    }
}

#[tokio::test]
async fn blocks_come_as_they_are_final_and_calls_work_beside() {
    let node = run(2).await;
    let mut socket = Socket::open(&node).await;
    let subscription = socket.subscribe("chain_subscribe", json!({})).await;
    node.fake.grow();
    let event = socket.next().await;
    assert_eq!(event["method"], "chain_event");
    assert_eq!(event["params"]["subscription"], subscription);
    let result = &event["params"]["result"];
    assert_eq!(
        (&result["kind"], &result["cursor"], &result["block"]["height"]),
        (&json!("block"), &json!("3"), &json!(3))
    );
    socket.send(2, "chain_header", json!({ "at": 1 })).await;
    assert_eq!(socket.next().await["result"]["height"], 1);
    socket.send(3, "chain_unsubscribe", json!([subscription])).await;
    assert_eq!(socket.next().await["result"], true);
    node.fake.grow();
    socket.send(4, "health", json!({})).await;
    assert_eq!(socket.next().await["id"], 4, "no event after the end");
    socket.send(5, "chain_unsubscribe", json!({ "signature": "x" })).await;
    assert_eq!(socket.next().await["error"]["code"], -32602);
}

#[tokio::test]
async fn proofs_resume_after_a_cursor_without_gap_or_repeat() {
    let node = run(3).await;
    let mut socket = Socket::open(&node).await;
    socket.subscribe("proof_subscribe", json!({ "from_cursor": "1.0" })).await;
    let mut seen = Vec::new();
    for _ in 0..5 {
        let event = socket.next().await["params"]["result"].clone();
        seen.push((
            event["cursor"].as_str().expect("a cursor").to_owned(),
            event["proof"]["seq"].as_u64().expect("seq"),
        ));
    }
    let expected = [("1.1", 1), ("2.0", 2), ("2.1", 3), ("3.0", 4), ("3.1", 5)];
    assert_eq!(seen, expected.map(|(cursor, seq)| (cursor.to_owned(), seq)));
    let mut claims = Socket::open(&node).await;
    claims.subscribe("proof_subscribe", json!({ "from_cursor": 0, "kind": "claim" })).await;
    assert_eq!(claims.next().await["params"]["result"]["cursor"], "1.1");
    assert_eq!(claims.next().await["params"]["result"]["cursor"], "2.1");
}

#[tokio::test]
async fn cursors_outside_the_chain_are_refused() {
    let node = run(3).await;
    *node.fake.earliest.lock().expect("lock") = 2;
    let mut socket = Socket::open(&node).await;
    for (cursor, code) in [("9", -32042), ("0", -32041), ("x.y", -32602)] {
        socket.send(1, "chain_subscribe", json!({ "from_cursor": cursor })).await;
        assert_eq!(socket.next().await["error"]["code"], code, "{cursor}");
    }
    let over_post = node.err("chain_subscribe", json!({})).await;
    assert!(over_post["message"].as_str().expect("text").contains("WebSocket"), "{over_post}");
    assert!(over_post["data"]["hint"].as_str().expect("text").contains("/v1/events"), "{over_post}");
}

#[tokio::test]
async fn a_connection_has_eight_subscriptions() {
    let node = run(1).await;
    let mut socket = Socket::open(&node).await;
    for _ in 0..8 {
        socket.subscribe("chain_subscribe", json!({})).await;
    }
    socket.send(9, "chain_subscribe", json!({})).await;
    let refused = socket.next().await["error"].clone();
    assert_eq!(
        (&refused["code"], &refused["data"]["kind"]),
        (&json!(-32026), &json!("too_many_subscriptions"))
    );
}

#[tokio::test]
async fn a_slow_websocket_reader_is_told_where_to_resume_and_dropped() {
    let config = RpcConfig { slow_consumer_after: Duration::from_millis(100), ..local() };
    let node = run_with(1, config).await;
    let mut socket = Socket::open(&node).await;
    socket.subscribe("proof_subscribe", json!({ "from_cursor": "0" })).await;
    // Far more than the kernel's and our buffers hold, none of it read.
    for _ in 0..12_000 {
        node.fake.grow();
    }
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let mut last = Value::Null;
    let resume = loop {
        let event = socket.next().await["params"]["result"].clone();
        if event["kind"] == "lagged" {
            break event["resume_from"].clone();
        }
        last = event["cursor"].clone();
    };
    assert_eq!(resume, last, "exactly after the last event delivered");
    socket.subscribe("proof_subscribe", json!({ "from_cursor": resume })).await;
    let next = socket.next().await["params"]["result"]["proof"]["seq"].as_u64().expect("seq");
    let (height, index) = last.as_str().and_then(|text| text.split_once('.')).expect("a cursor");
    let seq: u64 = (height.parse::<u64>().expect("height") - 1) * 2 + index.parse::<u64>().expect("index");
    assert_eq!(next, seq + 1);
    let text = reqwest::get(format!("http://{}/metrics", node.metrics)).await.expect("an answer");
    assert!(text.text().await.expect("text").contains("cairn_rpc_subscribers_lagged_total 1"));
}

/// Reads server-sent events until `count` are whole.
async fn sse(node: &Running, path: &str, last_id: Option<&str>, count: usize) -> Vec<String> {
    let mut request = reqwest::Client::new().get(node.url(path));
    if let Some(id) = last_id {
        request = request.header("last-event-id", id);
    }
    let mut response = request.send().await.expect("an answer");
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut text = String::new();
    while text.matches("\n\n").count() < count {
        let chunk = tokio::time::timeout(Duration::from_secs(10), response.chunk()).await.expect("in time");
        text.push_str(std::str::from_utf8(&chunk.expect("a chunk").expect("an open stream")).expect("UTF-8"));
    }
    text.split("\n\n").take(count).map(str::to_owned).collect()
}

#[tokio::test]
async fn server_sent_events_resume_by_their_last_id() {
    let node = run(3).await;
    let blocks = sse(&node, "/v1/events?from_cursor=1", None, 2).await;
    assert!(blocks[0].contains("id: 2") && blocks[0].contains("event: block"), "{blocks:?}");
    let proofs = sse(&node, "/v1/events?stream=proofs&from_cursor=0", Some("2.0"), 3).await;
    assert!(proofs[0].contains("id: 2.1") && proofs[1].contains("id: 3.0"), "{proofs:?}");
    for bad in ["/v1/events?strem=proofs", "/v1/events?kind=claim", "/v1/events?from_cursor=z"] {
        assert_eq!(reqwest::get(node.url(bad)).await.expect("an answer").status(), 400, "{bad}");
    }
}

async fn grpc(node: &Running) -> CairnClient<tonic::transport::Channel> {
    CairnClient::connect(format!("http://{}", node.grpc)).await.expect("a channel")
}

#[tokio::test]
async fn grpc_answers_with_canonical_bytes() {
    let node = run(2).await;
    let mut client = grpc(&node).await;
    let status = client.status(StatusRequest {}).await.expect("status").into_inner();
    assert_eq!((status.height, status.chain_name.as_str()), (2, "fake"));
    let root = Hash::from_hex(ROOT).expect("hex").0.to_vec();
    let key = Some(get_proof_request::Key::Root(root));
    let proof = client.get_proof(GetProofRequest { key }).await.expect("proof").into_inner();
    assert_eq!(decode::<Record>(&proof.record_bytes[0]), Ok(record(0, 1)));
    assert_eq!(proof.record_bytes.len(), 4);
    let proof_id = Hash::from_hex(PROOF).expect("hex").0.to_vec();
    let receipt =
        client.get_receipt(GetReceiptRequest { proof_id, checkpoint: false }).await.expect("receipt");
    assert!(receipt.into_inner().receipt_json.contains("\"version\":1"));
    let identity = identities::who().hash().0.to_vec();
    let asked = GetStateProofRequest { identity: identity.clone(), ..GetStateProofRequest::default() };
    let state = client.get_state_proof(asked).await.expect("a state").into_inner();
    assert!(state.document_json.contains(&format!("Identity({:?})", identities::who())), "{state:?}");
    let short = GetStateProofRequest { identity, delegate: vec![1; 31], checkpoint: false };
    let refused = client.get_state_proof(short).await.expect_err("no address");
    assert!(refused.message().contains("delegate has 31 bytes; expected 32"), "{refused}");
    let header = client.get_header(GetHeaderRequest { at: None }).await.expect("header").into_inner();
    assert_eq!(decode::<Header>(&header.header_bytes).expect("canonical").height.get(), 2);
    decode::<CommitCert>(&header.certificate_bytes).expect("canonical");
    let at = Some(BlockReference { block: Some(block_reference::Block::Height(0)) });
    assert!(
        client
            .get_header(GetHeaderRequest { at })
            .await
            .expect("header")
            .into_inner()
            .certificate_bytes
            .is_empty()
    );
    let block = client.get_block(GetBlockRequest { at: None }).await.expect("block").into_inner();
    decode::<Block>(&block.block_bytes).expect("canonical");
    let submit = SubmitRequest { transaction_bytes: encode(&signed(1)), ..SubmitRequest::default() };
    let submitted = client.submit(submit).await.expect("submitted").into_inner();
    assert!(submitted.r#final && submitted.height == 1 && submitted.record_bytes.len() == 1);
    let broken = SubmitRequest { transaction_bytes: vec![1, 2, 3], ..SubmitRequest::default() };
    assert_eq!(client.submit(broken).await.expect_err("no transaction").code(), Code::InvalidArgument);
    let key = Some(get_proof_request::Key::Seq(99));
    assert_eq!(client.get_proof(GetProofRequest { key }).await.expect_err("absent").code(), Code::NotFound);
    let at = Some(BlockReference { block: Some(block_reference::Block::Height(99)) });
    assert_eq!(client.get_block(GetBlockRequest { at }).await.expect_err("future").code(), Code::OutOfRange);
}

#[tokio::test]
async fn grpc_streams_resume_and_follow() {
    let node = run(2).await;
    let mut client = grpc(&node).await;
    let request = SubscribeBlocksRequest { from_cursor: "1".into() };
    let mut blocks = client.subscribe_blocks(request).await.expect("a stream").into_inner();
    assert_eq!(blocks.message().await.expect("an event").expect("an event").height, 2);
    node.fake.grow();
    let third = blocks.message().await.expect("an event").expect("an event");
    assert_eq!((third.height, third.cursor.as_str(), third.record_bytes.len()), (3, "3", 2));
    let request = SubscribeProofsRequest { from_cursor: "2.0".into(), ..SubscribeProofsRequest::default() };
    let mut proofs = client.subscribe_proofs(request).await.expect("a stream").into_inner();
    assert_eq!(proofs.message().await.expect("an event").expect("an event").seq, 3);
    let request = SubscribeBlocksRequest { from_cursor: "77".into() };
    assert_eq!(client.subscribe_blocks(request).await.expect_err("future").code(), Code::OutOfRange);
}

#[tokio::test]
async fn grpc_has_health_and_reflection() {
    let node = run(1).await;
    let channel = tonic::transport::Channel::from_shared(format!("http://{}", node.grpc)).expect("a URL");
    let channel = channel.connect().await.expect("a channel");
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
    let request = tonic_health::pb::HealthCheckRequest { service: "cairn.v1.Cairn".into() };
    assert_eq!(health.check(request).await.expect("health").into_inner().status, 1);
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    let ask = tonic_reflection::pb::v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::FileContainingSymbol("cairn.v1.Cairn".into())),
    };
    let mut reflection = ServerReflectionClient::new(channel.clone());
    let answers = reflection.server_reflection_info(tokio_stream::iter([ask])).await.expect("reflection");
    let first = answers.into_inner().message().await.expect("an answer").expect("an answer");
    assert!(format!("{first:?}").contains("FileDescriptorResponse"), "{first:?}");

    use tonic_reflection::pb::v1alpha;
    let ask = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(
            v1alpha::server_reflection_request::MessageRequest::ListServices(String::new()),
        ),
    };
    let mut older = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
    let answers = older.server_reflection_info(tokio_stream::iter([ask])).await.expect("reflection");
    let first = answers.into_inner().message().await.expect("an answer").expect("an answer");
    assert!(format!("{first:?}").contains("cairn.v1.Cairn"), "{first:?}");
}
