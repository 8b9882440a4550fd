//! What the port does with requests that are malformed, too large, too many, too slow, or from elsewhere.

mod support;

use std::time::{Duration, Instant};

use cairn_rpc::{RpcConfig, ServeError, serve};
use reqwest::StatusCode;
use serde_json::{Value, json};
use support::{PROOF, local, run, run_with};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn malformed_requests_are_told_what_is_wrong() {
    let node = run(1).await;
    for (body, code, words) in [
        ("{", -32700, "EOF"),
        ("", -32700, "empty"),
        ("not json", -32700, "line 1"),
        ("7", -32600, "object"),
        ("[]", -32600, "batch is empty"),
        (r#"{"id":1,"method":"health"}"#, -32600, "jsonrpc"),
        (r#"{"jsonrpc":"2.0","id":1}"#, -32600, "`method` is missing"),
        (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, -32600, "`method` must be a string"),
        (r#"{"jsonrpc":"2.0","id":1,"method":"proof_get","params":"x"}"#, -32602, "by name"),
    ] {
        let answer = node.post(body).await;
        assert_eq!(answer["error"]["code"], code, "{body}: {answer}");
        assert!(answer["error"]["message"].as_str().expect("text").contains(words), "{body}: {answer}");
        assert!(answer["error"]["data"]["kind"].is_string(), "{body}: {answer}");
    }
    let kept = node.post(r#"{"jsonrpc":"1.0","id":"abc","method":"health"}"#).await;
    assert_eq!(kept["id"], "abc", "the id comes back where it can be read");
}

#[tokio::test]
async fn unknown_names_come_with_a_suggestion() {
    let node = run(1).await;
    let method = node.err("prof_get", json!({})).await;
    assert_eq!(
        (&method["code"], &method["data"]["hint"]),
        (&json!(-32601), &json!("did you mean `proof_get`?"))
    );
    let field = node.err("proof_get", json!({ "prof_id": PROOF })).await;
    assert_eq!(
        (&field["code"], &field["data"]["hint"]),
        (&json!(-32602), &json!("did you mean `proof_id`?"))
    );
    assert!(
        field["message"].as_str().expect("text").contains("known: proof_id, root, tx_id, sender, reference")
    );
    let none = node.err("chain_status", json!({ "x": 1 })).await;
    assert!(none["message"].as_str().expect("text").contains("there are none"));
    assert!(
        node.err("proof_anchor", json!({})).await["message"]
            .as_str()
            .expect("text")
            .contains("tx is missing")
    );
    let many = node.err("chain_header", json!([1, 2])).await;
    assert!(many["message"].as_str().expect("text").contains("at most 1: at"), "{many}");
}

#[tokio::test]
async fn a_post_without_json_is_told_which_header_to_add() {
    let node = run(1).await;
    let client = reqwest::Client::new();
    for kind in ["text/plain", "application/x-www-form-urlencoded", ""] {
        let request = client.post(node.url("/")).header("content-type", kind).body(r#"{"jsonrpc":"2.0"}"#);
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE, "{kind}");
        assert!(response.text().await.expect("text").contains("-H 'content-type: application/json'"));
    }
    let charset = client.post(node.url("/")).header("content-type", "application/json; charset=UTF-8");
    let good = charset.body(r#"{"jsonrpc":"2.0","id":1,"method":"health"}"#).send().await.expect("an answer");
    assert_eq!(good.json::<Value>().await.expect("JSON")["result"], json!({}));
}

#[tokio::test]
async fn bodies_stop_at_one_mebibyte() {
    let node = run(1).await;
    let fits = json!({ "jsonrpc": "2.0", "id": 1, "method": "tx_check", "params": { "tx": "A".repeat((1 << 20) - 200) } });
    assert_eq!(node.post(fits.to_string()).await["error"]["code"], -32602);
    let client = reqwest::Client::new();
    let request =
        client.post(node.url("/")).header("content-type", "application/json").body(vec![b' '; (1 << 20) + 1]);
    let response = request.send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert!(response.text().await.expect("text").contains("1048576"));
}

fn batch(count: usize) -> String {
    let calls: Vec<_> =
        (0..count).map(|id| json!({ "jsonrpc": "2.0", "id": id, "method": "health" })).collect();
    Value::Array(calls).to_string()
}

#[tokio::test]
async fn batches_keep_their_ids_and_stop_at_twenty() {
    let node = run(1).await;
    let full = node.post(batch(20)).await;
    let ids: Vec<_> = full.as_array().expect("answers").iter().map(|answer| answer["id"].clone()).collect();
    assert_eq!(ids, (0..20).map(Value::from).collect::<Vec<_>>());
    let over = node.post(batch(21)).await;
    assert!(over["error"]["message"].as_str().expect("text").contains("at most 20"), "{over}");
    let mixed = json!([
        { "jsonrpc": "2.0", "id": 1, "method": "health" },
        { "jsonrpc": "2.0", "id": 2, "method": "no_such" },
        { "jsonrpc": "2.0", "method": "health" },
        7,
    ]);
    let answers = node.post(mixed.to_string()).await;
    let answers = answers.as_array().expect("answers");
    assert_eq!(answers.len(), 3, "a notification is not answered: {answers:?}");
    assert_eq!(answers[1]["error"]["code"], -32601);
    assert_eq!(answers[2]["error"]["code"], -32600);
}

#[tokio::test]
async fn a_call_without_an_id_gets_no_body() {
    let node = run(1).await;
    let answer = reqwest::Client::new()
        .post(node.url("/"))
        .header("content-type", "application/json")
        .body(json!({ "jsonrpc": "2.0", "method": "health" }).to_string())
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status(), 204);
    assert!(answer.bytes().await.expect("a body").is_empty());
}

#[tokio::test]
async fn items_of_a_batch_wait_together() {
    let node = run(1).await;
    *node.fake.status_takes.lock().expect("lock") = Duration::from_millis(150);
    let calls: Vec<_> = (0..10)
        .map(|id| json!({ "jsonrpc": "2.0", "id": id, "method": "chain_status", "params": {} }))
        .collect();
    let started = Instant::now();
    node.post(Value::Array(calls).to_string()).await;
    assert!(started.elapsed() < Duration::from_millis(900), "{:?}", started.elapsed());
}

#[tokio::test]
async fn each_item_of_a_batch_is_charged_all_or_none() {
    let slow = RpcConfig { calls_per_second: 1, calls_burst: 30, loopback_unlimited: false, ..local() };
    let node = run_with(1, slow).await;
    assert_eq!(node.post(batch(20)).await.as_array().expect("answers").len(), 20);
    let refused = node.post(batch(20)).await;
    assert_eq!(refused["error"]["code"], -32022, "{refused}");
    assert!(refused["error"]["data"]["retry_after_ms"].as_u64().expect("a time") > 1_000);
    assert_eq!(
        node.post(batch(10)).await.as_array().expect("answers").len(),
        10,
        "nothing was taken for the refused batch"
    );
    assert_eq!(node.err("health", json!({})).await["data"]["kind"], "rate_limited");
    let over_get = reqwest::get(node.url("/livez")).await.expect("an answer");
    assert_eq!(over_get.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(over_get.headers().contains_key("retry-after"));
}

#[tokio::test]
async fn garbage_costs_its_sender_as_calls_do() {
    let slow = RpcConfig { calls_per_second: 1, calls_burst: 20, loopback_unlimited: false, ..local() };
    let node = run_with(1, slow).await;
    let mut kinds = Vec::new();
    for _ in 0..24 {
        kinds.push(node.post("garbage").await["error"]["data"]["kind"].clone());
    }
    assert_eq!(kinds.first(), Some(&json!("parse_error")));
    assert_eq!(kinds.last(), Some(&json!("rate_limited")), "{kinds:?}");
}

#[tokio::test]
async fn many_in_one_call_are_charged_as_many() {
    let slow = RpcConfig { calls_per_second: 1, calls_burst: 30, loopback_unlimited: false, ..local() };
    let node = run_with(1, slow).await;
    let error = node.err("proof_anchor_many", json!({ "txs": vec![support::signed_b64(1); 40] })).await;
    assert_eq!(error["data"]["kind"], "rate_limited");
    assert!(node.fake.submissions().is_empty());
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_given_up() {
    let node = run_with(1, RpcConfig { answer_timeout: Duration::from_millis(100), ..local() }).await;
    *node.fake.status_takes.lock().expect("lock") = Duration::from_secs(60);
    let error = node.err("chain_status", json!({})).await;
    assert_eq!((&error["code"], &error["data"]["waited_ms"]), (&json!(-32025), &json!(100)));
}

#[tokio::test]
async fn a_waiting_call_gets_its_own_time_on_top() {
    let node = run_with(1, RpcConfig { answer_timeout: Duration::from_millis(100), ..local() }).await;
    node.fake.finalises.store(false, std::sync::atomic::Ordering::SeqCst);
    let params = json!({ "tx": support::signed_b64(1), "timeout_ms": 300 });
    assert_eq!(node.err("proof_anchor", params).await["code"], -32024, "its own timeout, not the server's");
}

/// Sends raw bytes and reads until the server closes.
async fn raw(address: std::net::SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(text.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn slow_heads_and_bodies_are_cut_off() {
    let quick = RpcConfig {
        first_byte_timeout: Duration::from_millis(200),
        idle_timeout: Duration::from_millis(200),
        request_timeout: Duration::from_millis(200),
        ..local()
    };
    let node = run_with(1, quick).await;
    let started = Instant::now();
    raw(node.http, "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-").await;
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    let half = "POST / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{";
    let answer = raw(node.http, half).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    let silent = Instant::now();
    raw(node.http, "").await;
    assert!(silent.elapsed() < Duration::from_secs(2), "a connection that says nothing is closed");
}

#[tokio::test]
async fn a_kept_connection_outlasts_the_first_bytes_timeout() {
    let impatient = RpcConfig { first_byte_timeout: Duration::from_millis(100), ..local() };
    let node = run_with(1, impatient).await;
    let mut stream = TcpStream::connect(node.http).await.expect("a connection");
    for _ in 0..2 {
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("sent");
        let mut answer = [0; 1_024];
        let read = stream.read(&mut answer).await.expect("an answer");
        assert!(
            answer[..read].starts_with(b"HTTP/1.1 200"),
            "{:?}",
            String::from_utf8_lossy(&answer[..read])
        );
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
}

#[tokio::test]
async fn foreign_hosts_and_origins_are_refused() {
    let node = run(1).await;
    let client = reqwest::Client::new();
    let rebound =
        client.get(node.url("/livez")).header("host", "evil.example").send().await.expect("an answer");
    assert_eq!(rebound.status(), StatusCode::MISDIRECTED_REQUEST);
    assert!(rebound.text().await.expect("text").contains("rpc.allowed_hosts"));
    let post = |origin: &str| {
        let body = r#"{"jsonrpc":"2.0","id":1,"method":"health"}"#;
        client
            .post(node.url("/"))
            .header("content-type", "application/json")
            .header("origin", origin)
            .body(body)
    };
    let foreign = post("https://evil.example").send().await.expect("an answer");
    assert_eq!(foreign.status(), StatusCode::FORBIDDEN);
    let own = post(&format!("http://{}", node.http)).send().await.expect("an answer");
    assert_eq!(own.status(), StatusCode::OK);
    let read = client.get(node.url("/v1/headers/1")).header("origin", "https://any.example");
    let read = read.send().await.expect("an answer");
    assert_eq!(read.headers()["access-control-allow-origin"], "https://any.example");
    let preflight = client
        .request(reqwest::Method::OPTIONS, node.url("/"))
        .header("origin", "https://evil.example")
        .header("access-control-request-method", "POST");
    let preflight = preflight.send().await.expect("an answer");
    assert!(!preflight.headers().contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn connections_are_limited_and_places_come_back() {
    let node = run_with(1, RpcConfig { connections_per_loopback_ip_max: 2, ..local() }).await;
    let first = TcpStream::connect(node.http).await.expect("a connection");
    let _second = TcpStream::connect(node.http).await.expect("a connection");
    tokio::time::sleep(Duration::from_millis(100)).await;
    let third = raw(node.http, "").await;
    assert!(third.starts_with("HTTP/1.1 503") && third.contains("too many connections"), "{third}");
    drop(first);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let again = raw(node.http, "GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await;
    assert!(again.starts_with("HTTP/1.1 200"), "{again}");
}

#[tokio::test]
async fn get_endpoints_answer_with_the_right_headers() {
    let node = run(2).await;
    assert_eq!(
        reqwest::get(node.url("/livez")).await.expect("an answer").text().await.expect("text"),
        "ok\n"
    );
    assert_eq!(reqwest::get(node.url("/health")).await.expect("an answer").status(), StatusCode::OK);
    assert_eq!(reqwest::get(node.url("/readyz")).await.expect("an answer").status(), StatusCode::OK);
    node.fake.ready.store(false, std::sync::atomic::Ordering::SeqCst);
    let unready = reqwest::get(node.url("/readyz")).await.expect("an answer");
    assert_eq!(unready.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(unready.json::<Value>().await.expect("JSON")["checks"][1]["detail"], "0 of 2 peers");

    let receipt = reqwest::get(node.url(&format!("/v1/receipts/{PROOF}"))).await.expect("an answer");
    assert_eq!(receipt.headers()["content-type"], "application/vnd.cairn.receipt+json");
    assert!(receipt.headers()["cache-control"].to_str().expect("text").contains("immutable"));
    assert_eq!(receipt.json::<Value>().await.expect("JSON")["version"], 1);
    let checkpoint = reqwest::get(node.url(&format!("/v1/receipts/{PROOF}.cairn?form=checkpoint"))).await;
    let checkpoint = checkpoint.expect("an answer").json::<Value>().await.expect("JSON");
    assert_eq!(checkpoint["finality"]["checkpoint"], true);

    let header = reqwest::get(node.url("/v1/headers/1")).await.expect("an answer");
    assert!(header.headers()["cache-control"].to_str().expect("text").contains("immutable"));
    let latest = reqwest::get(node.url("/v1/headers/latest")).await.expect("an answer");
    assert_eq!(latest.headers()["cache-control"], "no-cache");
    for (path, status) in [
        ("/v1/headers/99", StatusCode::NOT_FOUND),
        ("/v1/headers/x", StatusCode::BAD_REQUEST),
        ("/v1/receipts/zz", StatusCode::BAD_REQUEST),
        (
            "/v1/receipts/00000000000000000000000000000000000000000000000000000000000000aa",
            StatusCode::NOT_FOUND,
        ),
        ("/nowhere", StatusCode::NOT_FOUND),
        ("/websocket", StatusCode::UPGRADE_REQUIRED),
    ] {
        assert_eq!(reqwest::get(node.url(path)).await.expect("an answer").status(), status, "{path}");
    }
}

#[tokio::test]
async fn the_page_asks_nobody_else() {
    let node = run(1).await;
    let page = reqwest::get(node.url("/")).await.expect("an answer");
    let policy = page.headers()["content-security-policy"].to_str().expect("text").to_owned();
    assert!(policy.contains("default-src 'none'") && policy.contains("connect-src 'self'"), "{policy}");
    let mut all = page.text().await.expect("text");
    assert!(all.contains("<html lang=\"en\">"));
    for path in ["/ui/app.js", "/ui/style.css"] {
        all.push_str(&reqwest::get(node.url(path)).await.expect("an answer").text().await.expect("text"));
    }
    let foreign = all.matches("http://").count() - all.matches("http://www.w3.org/2000/svg").count();
    assert_eq!((foreign, all.matches("https://").count(), all.matches("innerHTML").count()), (0, 0, 0));
}

#[tokio::test]
async fn metrics_count_calls_by_method_and_outcome() {
    let node = run(1).await;
    node.ok("chain_status", json!({})).await;
    node.err("proof_get", json!({ "proof_id": support::ABSENT })).await;
    node.err("x".repeat(500).as_str(), json!({})).await;
    let text = reqwest::get(format!("http://{}/metrics", node.metrics)).await.expect("an answer");
    let text = text.text().await.expect("text");
    for line in [
        r#"cairn_rpc_requests_total{method="chain_status",outcome="ok"} 1"#,
        r#"cairn_rpc_requests_total{method="proof_get",outcome="not_found"} 1"#,
        r#"cairn_rpc_requests_total{method="unknown",outcome="method_not_found"} 1"#,
        r#"cairn_rpc_duration_seconds_count{method="chain_status"} 1"#,
        r#"cairn_rpc_connections{port="http"}"#,
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[tokio::test]
async fn a_port_in_use_names_the_address_and_the_key() {
    let node = run(1).await;
    for (config, key) in [
        (RpcConfig { listen: node.http, ..local() }, "rpc.listen"),
        (RpcConfig { grpc_listen: Some(node.grpc), ..local() }, "rpc.grpc_listen"),
        (RpcConfig { metrics_listen: Some(node.metrics), ..local() }, "rpc.metrics_listen"),
    ] {
        let started =
            serve(config, node.fake.clone(), Default::default(), Default::default(), Default::default());
        let error = started.await.expect_err("the port is taken");
        assert!(matches!(error, ServeError::Bind { .. }));
        let sentence = error.to_string();
        assert!(
            sentence.contains(key) && sentence.contains("in use") && sentence.contains("127.0.0.1:"),
            "{sentence}"
        );
    }
    let small = RpcConfig { calls_burst: 5, ..local() };
    let error =
        serve(small, node.fake.clone(), Default::default(), Default::default(), Default::default()).await;
    assert!(error.expect_err("too small").to_string().contains("rpc.calls_burst"));
}

#[tokio::test]
async fn shutdown_closes_everything() {
    let node = run(1).await;
    let _idle = TcpStream::connect(node.http).await.expect("a connection");
    node.ok("health", json!({})).await;
    node.shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(8), node.bound.finished()).await.expect("all connections end");
    assert!(TcpStream::connect(node.http).await.is_err());
}
