//! Identities on a network of real processes, through the command line, the client and the interfaces.

use std::path::{Path, PathBuf};
use std::process::Command;

use cairn_client::{Client, StateFinding, StateSubject};
use cairn_types::identity::{KeyStanding, Purpose};
use cairn_types::{Address, Height, ProofId};
use serde_json::{Value, json};

use crate::cluster::{Cluster, binary};

/// A network, and a directory of keys.
pub(crate) struct Scene {
    pub(crate) cluster: Cluster,
    url: String,
    keys: tempfile::TempDir,
}

impl Scene {
    pub(crate) async fn start() -> Self {
        let cluster = Cluster::start(4).await;
        let url = cluster.api(0).url().to_owned();
        Self { cluster, url, keys: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.keys.path().join(name)
    }

    fn genesis(&self) -> PathBuf {
        self.cluster.network.layout().genesis()
    }

    /// Runs `cairn ... --json`; gives the exit code and the answer.
    pub(crate) fn cairn(&self, args: &[&str]) -> (i32, Value) {
        let mut command = Command::new(binary());
        command
            .args(args)
            .arg("--json")
            .env("HOME", self.keys.path())
            .env("XDG_CONFIG_HOME", self.keys.path());
        command.env_remove("CAIRN_HOME").env("CAIRN_URL", &self.url).env("CAIRN_GENESIS", self.genesis());
        command.current_dir(self.keys.path());
        let output = command.output().expect("the program runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let value = serde_json::from_str(&said)
            .unwrap_or_else(|_| panic!("{args:?}: {said}{}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code().unwrap_or(-1), value)
    }

    pub(crate) fn ok(&self, args: &[&str]) -> Value {
        let (code, value) = self.cairn(args);
        assert_eq!(code, 0, "{args:?}: {value}");
        value
    }

    pub(crate) fn refused(&self, args: &[&str], words: &str) {
        let (code, value) = self.cairn(args);
        assert_eq!(code, 1, "{args:?}: {value}");
        assert!(value["error"]["message"].as_str().unwrap().contains(words), "{value}");
    }

    /// Makes a key; gives its DID.
    pub(crate) fn key(&self, name: &str) -> String {
        self.ok(&["keys", "new", "--out", name, "--no-passphrase"])["did"].as_str().unwrap().to_owned()
    }
}

fn address(did: &str) -> Address {
    Address::from_hex(did.trim_start_matches("did:cairn:")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_come_and_go_and_the_newest_state_remembers_them() {
    let mut scene = Scene::start().await;
    let me = scene.key("me.json");
    scene.key("second.json");
    scene.key("paper.json");
    scene.key("fresh.json");
    let registered = scene.ok(&["identity", "new", "--key", "me.json"]);
    assert_eq!(registered["did"], json!(me));
    scene.refused(&["identity", "new", "--key", "me.json"], "already registered");
    scene.ok(&[
        "identity",
        "add-key",
        "second.json",
        "--purpose",
        "assertion",
        "--expires-in",
        "1d",
        "--key",
        "me.json",
    ]);
    scene.refused(
        &["identity", "threshold", "2", "--as", &me, "--key", "second.json"],
        "expected a key for control",
    );
    scene.ok(&["identity", "recovery", "paper.json", "--key", "me.json"]);
    let recovered = scene.ok(&["identity", "recover", "fresh.json", "--as", &me, "--key", "paper.json"]);
    let lost_at = recovered["height"].as_u64().unwrap();
    scene.refused(&["identity", "threshold", "1", "--key", "me.json"], "was retired at height");
    let shown = scene.ok(&["identity", "show", &me]);
    assert_eq!(shown["document"]["capabilityInvocation"], json!([format!("{me}#key-3")]));
    let before = (lost_at - 1).to_string();
    let then = scene.ok(&["identity", "show", &me, "--at", &before]);
    assert_eq!(then["document"]["verificationMethod"][0]["until_height"], Value::Null);
    let history = scene.ok(&["identity", "history", &me]);
    let events: Vec<_> =
        history["items"].as_array().unwrap().iter().map(|item| item["event"].clone()).collect();
    assert_eq!(events, ["registered", "key_added", "key_added", "recovered"]);

    // The newest state, fetched from another node and checked offline, tells of the key that is gone.
    let genesis = cairn_genesis::load(&scene.genesis()).unwrap();
    let client = Client::connect(scene.cluster.api(2).url()).unwrap().with_genesis(genesis).unwrap();
    scene.cluster.reaches(2, lost_at).await;
    let proven = client.state_proof(StateSubject::Identity(address(&me))).await.unwrap();
    let StateFinding::Identity(entry) = &proven.finding else { panic!("{:?}", proven.finding) };
    let standing =
        |height| entry.standing(address(&me), address(&me), Purpose::Control, Height::new(height), 0);
    assert!(matches!(standing(lost_at), KeyStanding::Valid { index: Some(0), retired: Some(_) }));
    assert!(matches!(standing(lost_at + 1), KeyStanding::Retired { .. }));
    scene.ok(&["identity", "proof", &me, "--out", "me.state"]);
    scene.ok(&["identity", "check", "me.state"]);
    spoil(&scene.path("me.state"), "\"proof\":\"", &scene.path("bad.state"));
    let (code, verdict) = scene.cairn(&["identity", "check", "bad.state"]);
    assert_eq!((code, &verdict["valid"]), (1, &json!(false)), "{verdict}");
    // A receipt that carries the states it rests on says more, and still verifies with the network gone.
    let stranger = scene.key("stranger.json");
    std::fs::write(scene.path("model.bin"), b"model").unwrap();
    scene.ok(&["stamp", "model.bin", "--key", "stranger.json"]);
    let attached = scene.ok(&["identity", "attach", "model.bin.cairn"]);
    assert_eq!(attached["checks"][0]["name"], "signer", "{attached}");
    scene.ok(&["verify", "model.bin"]);
    let absent = client.state_proof(StateSubject::Identity(address(&stranger))).await.unwrap();
    assert_eq!(absent.finding, StateFinding::Absent);
    scene.cluster.check().await;
}

/// Copies a document with one digit changed, behind the words `after`.
pub(crate) fn spoil(from: &Path, after: &str, to: &Path) {
    let text = std::fs::read_to_string(from).unwrap();
    let at = text.find(after).unwrap() + 60;
    let other = if text.as_bytes()[at] == b'A' { "B" } else { "A" };
    std::fs::write(to, format!("{}{other}{}", &text[..at], &text[at + 1..])).unwrap();
}

/// Anchors one proof with `--json` through the API; gives the answer.
fn proof_json(root: &str, more: &[(&str, Value)]) -> Value {
    let mut proof = json!({ "root": root, "leaves": 1 });
    more.iter().for_each(|(name, value)| proof[*name] = value.clone());
    json!({ "proofs": [proof] })
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_three_decide_delegate_and_an_agent_acts() {
    let mut scene = Scene::start().await;
    let firm = scene.key("a.json");
    scene.key("b.json");
    scene.key("c.json");
    let bot = scene.key("bot.json");
    scene.ok(&["identity", "new", "--key", "a.json"]);
    scene.ok(&["identity", "add-key", "b.json", "--key", "a.json"]);
    scene.ok(&["identity", "add-key", "c.json", "--key", "a.json"]);
    scene.ok(&["identity", "threshold", "2", "--key", "a.json"]);
    scene.refused(&["identity", "revoke", "0", "--key", "a.json"], "requires");
    scene.ok(&["identity", "agent", "register", "--owner", &firm, "--key", "bot.json"]);

    let proposed =
        scene.ok(&["identity", "agent", "allow", &bot, "--kind", "work", "--propose", "--key", "a.json"]);
    let proposal = proposed["proposal"].as_str().unwrap().to_owned();
    assert_eq!(scene.ok(&["multisig", "pending", &firm])["items"][0]["approvals"], json!([0]));
    let approved = scene.ok(&["multisig", "approve", &proposal, "--as", &firm, "--key", "c.json"]);
    assert_eq!(approved["proposal"]["state"], "executed");
    // Or both sign one transaction.
    let both = ["--as", &firm, "--key", "a.json", "--key", "b.json"];
    scene.ok(&[
        &["identity", "delegate", &bot, "--kind", "work", "--proofs", "1", "--expires-in", "1h"][..],
        &both,
    ]
    .concat());

    let root = "5a".repeat(32);
    let payload = proof_json(&root, &[("kind", json!("work")), ("on_behalf_of", json!(firm))]);
    let signed = sign(&scene, "bot.json", &bot, payload.clone()).await;
    let anchored = scene.cluster.api(1).call("proof_anchor", json!({ "tx": signed })).await.unwrap();
    let record = scene.cluster.api(3).call("proof_get", json!({ "proof_id": anchored["proof_id"] })).await;
    scene.cluster.reaches(3, anchored["height"].as_u64().unwrap()).await;
    let record = match record {
        Ok(record) => record,
        Err(_) => {
            scene.cluster.api(3).call("proof_get", json!({ "proof_id": anchored["proof_id"] })).await.unwrap()
        }
    };
    assert_eq!((&record["sender"], &record["on_behalf_of"]), (&json!(&bot[10..]), &json!(&firm[10..])));
    let again = proof_json(&"5b".repeat(32), &[("kind", json!("work")), ("on_behalf_of", json!(firm))]);
    let signed = sign(&scene, "bot.json", &bot, again).await;
    let refused = scene.cluster.api(1).call("proof_anchor", json!({ "tx": signed })).await.unwrap_err();
    assert!(refused.to_string().contains("have been used"), "{refused}");

    scene.ok(&[&["identity", "undelegate", &bot][..], &both].concat());
    let receipt = anchored["receipt"].clone();
    scene.cluster.anchorer.verify(&receipt.to_string()).unwrap();
    scene.ok(&["identity", "proof", &firm, "--delegate", &bot, "--out", "grant.state"]);
    scene.ok(&["identity", "check", "grant.state"]);
    scene.cluster.check().await;
}

/// A payload in its JSON form, signed by a keystore as the registered identity `did`; base64 for `tx`.
async fn sign(scene: &Scene, keystore: &str, did: &str, payload: Value) -> String {
    use base64::Engine;
    let store = cairn_crypto::Keystore::load(&scene.path(keystore)).unwrap();
    let key = store.open(&cairn_crypto::Passphrase::none()).unwrap();
    let client = Client::connect(&scene.url).unwrap();
    let reference = client.key_reference(address(did), key.public()).await.unwrap().unwrap();
    let sender = cairn_client::Sender::with_keys(address(did), [(reference, key)]);
    let status = client.status().await.unwrap();
    let payload = cairn_rpc::read_payload(&payload.to_string()).unwrap();
    let expires_ms = status.time_ms + status.final_age_ms + 30_000;
    let signed = sender.sign(status.chain, expires_ms, payload).unwrap();
    base64::engine::general_purpose::STANDARD.encode(cairn_types::encode(&signed))
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_chains_and_statements() {
    let mut scene = Scene::start().await;
    let me = scene.key("me.json");
    scene.ok(&["identity", "new", "--key", "me.json"]);
    let service = "https://example.org";
    let answer = scene.ok(&["identity", "login", service, "--key", "me.json"]);
    let response = answer["response_b64"].as_str().unwrap();
    scene.ok(&["identity", "proof", &me, "--out", "me.state"]);
    let offline = ["identity", "login-check", response, "--audience", service, "--document", "me.state"];
    assert_eq!(scene.ok(&offline)["valid"], true);
    let check = |audience: &str| scene.cairn(&["identity", "login-check", response, "--audience", audience]);
    assert_eq!(check("https://evil.example").0, 1);
    assert_eq!(check(service), (0, json!({ "valid": true, "did": me, "reason": null })));
    let replayed = check(service);
    assert!(replayed.0 == 1 && replayed.1["reason"].as_str().unwrap().contains("once"), "{replayed:?}");

    let api = scene.cluster.api(0);
    let anchor = async |payload: Value| {
        let signed = sign(&scene, "me.json", &me, payload).await;
        let answer = scene.cluster.api(0).call("proof_anchor", json!({ "tx": signed })).await.unwrap();
        answer["proof_id"].clone()
    };
    let first = anchor(proof_json(&"01".repeat(32), &[])).await;
    let second = anchor(proof_json(&"02".repeat(32), &[("previous", first.clone())])).await;
    let orphan =
        anchor(proof_json(&"03".repeat(32), &[("previous", json!(ProofId::ZERO.to_string()))])).await;
    let revocation =
        anchor(proof_json(&"04".repeat(32), &[("subject", first.clone()), ("kind", json!("revocation"))]))
            .await;
    let chain = api.call("proof_chain", json!({ "proof_id": second })).await.unwrap();
    assert_eq!((&chain["valid"], &chain["revoked"]), (&json!(true), &json!([first])), "{chain}");
    let broken = api.call("proof_chain", json!({ "proof_id": orphan })).await.unwrap();
    assert_eq!((&broken["valid"], &broken["links"][0]["ok"]), (&json!(false), &json!(false)), "{broken}");
    let named = format!("proof {} is not anchored", ProofId::ZERO);
    assert_eq!((&broken["links"][0]["problem"], &broken["complete"]), (&json!(named), &json!(false)));
    let (code, whole) = scene.cairn(&["receipt", "chain", second.as_str().unwrap()]);
    assert_eq!((code, &whole["whole"]), (0, &json!(true)), "{whole}");
    let ids: Vec<_> = whole["items"].as_array().unwrap().iter().map(|item| &item["proof_id"]).collect();
    assert_eq!(ids, [&second, &first]);
    let (code, torn) = scene.cairn(&["receipt", "chain", orphan.as_str().unwrap()]);
    let named = format!("proof {} is continued, but is not anchored", ProofId::ZERO);
    assert_eq!((code, &torn["broken"], &torn["complete"]), (1, &json!(named), &json!(false)), "{torn}");
    let got = api.call("proof_get", json!({ "proof_id": first })).await.unwrap();
    assert_eq!((&got["revoked"], &got["statements"][0]["proof_id"]), (&json!(true), &revocation));
    let height = got["height"].as_u64().unwrap();
    let then = api.call("proof_get", json!({ "proof_id": first, "at": height })).await.unwrap();
    assert_eq!((&then["revoked"], &then["statements"]), (&json!(false), &json!([])), "as of its own block");
    let before = api.call("proof_get", json!({ "proof_id": first, "at": height - 1 })).await.unwrap_err();
    assert!(before.to_string().contains("anchored later"), "{before}");
    scene.cluster.check().await;
}
