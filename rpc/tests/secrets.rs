//! A client in the field sends its secret key where its signature belongs. The key must be refused, and
//! must appear in no log at any level. In a file of its own: the log is the process's.

mod support;

use std::io::Write;
use std::sync::{Arc, Mutex};

use base64::Engine;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use support::{ADDRESS, ROOT, run};
use tokio_tungstenite::tungstenite::Message;
use tracing_subscriber::fmt::MakeWriter;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("lock").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn type_7(signature: &str) -> Value {
    json!({ "tx": { "type": 7, "nonce": 1, "timestamp": 1, "signature": signature, "data": {
        "sender": ADDRESS, "expires_ms": 9, "key": 0, "root": ROOT,
    } } })
}

#[tokio::test]
async fn secret_keys_are_refused_everywhere_and_never_logged() {
    let log = Log::default();
    // Everything at the finest level, but for the test's own client.
    let filter = tracing_subscriber::EnvFilter::new("trace,tungstenite=off,tokio_tungstenite=off");
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(log.clone()).init();
    let node = run(1).await;
    let mut refused = 0;
    for length in [4_000, 4_032] {
        let digits = "d00dfeed".repeat(length / 4);
        let escaped = digits.replacen('d', "\\u0064", 1);
        let in_base64 = base64::engine::general_purpose::STANDARD.encode(vec![0xd0; length]);
        let json_form = json!({ "tx": { "sender": ADDRESS, "nonce": 1, "expires_ms": 9, "keys": [{ "index": 0 }],
            "proofs": [{ "root": ROOT }], "signatures_b64": [in_base64] } });
        for (method, params) in [
            ("broadcast_tx_sync", type_7(&digits)),
            ("broadcast_tx_commit", type_7(&format!("0x{digits}"))),
            ("proof_anchor", json_form.clone()),
            ("no_such_method", json!({ "whatever": digits.clone() })),
        ] {
            let error = node.err(method, params).await;
            assert_eq!(
                (&error["code"], &error["data"]["kind"]),
                (&json!(-32060), &json!("secret_material_rejected"))
            );
            assert!(error["message"].as_str().expect("text").contains("rotate it"));
            refused += 1;
        }
        // The JSON-RPC library logs whole bodies at its finest level: an escape must not get one there.
        let body =
            json!({ "jsonrpc": "2.0", "id": 1, "method": "broadcast_tx_sync", "params": type_7("SIG") });
        let hidden = node.post(body.to_string().replace("SIG", &escaped)).await;
        assert_eq!(hidden["error"]["code"], -32060, "{hidden}");
        refused += 1;

        let (mut socket, _) =
            tokio_tungstenite::connect_async(format!("ws://{}/", node.http)).await.expect("a WebSocket");
        for params in [type_7(&digits), json_form] {
            let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "broadcast_tx_sync", "params": params });
            socket.send(Message::text(call.to_string())).await.expect("sent");
            let answer = loop {
                match socket.next().await.expect("an answer").expect("an answer") {
                    Message::Text(text) => break text.to_string(),
                    _ => continue,
                }
            };
            assert!(answer.contains("-32060"), "{answer}");
            refused += 1;
        }
    }
    assert!(node.fake.submissions().is_empty());
    let log = String::from_utf8_lossy(&log.0.lock().expect("lock")).into_owned();
    assert!(log.contains("jsonrpsee") || log.contains("hyper"), "the log was really on");
    for trace in ["d00dfeedd00dfeed", "0NDQ0NDQ0NDQ"] {
        let told = log
            .lines()
            .find(|line| line.contains(trace))
            .map(|line| line.chars().take(200).collect::<String>());
        assert_eq!(told, None, "a part of a secret is in the log");
    }
    let metrics = reqwest::get(format!("http://{}/metrics", node.metrics)).await.expect("an answer");
    let metrics = metrics.text().await.expect("text");
    assert!(metrics.contains(&format!("cairn_rpc_secrets_refused_total {refused}")), "{refused}\n{metrics}");
}

#[tokio::test]
async fn a_real_signature_is_not_mistaken_for_a_secret() {
    let node = run(1).await;
    node.ok("broadcast_tx_sync", type_7(&"ab".repeat(3_309))).await;
    assert_eq!(node.fake.submissions().len(), 1);
}
