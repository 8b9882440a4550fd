//! An agent that acts for a firm, and what remains of it: through the command line, on a network of processes.

use std::fs;

use serde_json::{Value, json};

use crate::identities::{Scene, spoil};

/// `cairn stamp` of a file for a principal.
fn stamp<'a>(file: &'a str, key: &'a str, principal: &'a str) -> Vec<&'a str> {
    vec!["stamp", file, "--kind", "work", "--on-behalf-of", principal, "--key", key]
}

/// What `cairn verify` said of a check, which must be there and passed.
fn said<'a>(verdict: &'a Value, name: &str) -> &'a str {
    let checks = verdict["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["name"] == name);
    let check = check.unwrap_or_else(|| panic!("no check {name}: {verdict}"));
    assert_eq!(check["passed"], true, "{verdict}");
    check["detail"].as_str().unwrap()
}

/// The heights named in a check's words, in order.
fn heights(words: &str) -> Vec<u64> {
    words
        .split("height ")
        .skip(1)
        .map(|rest| rest.split(|it: char| !it.is_ascii_digit()).next().unwrap().parse().unwrap())
        .collect()
}

/// A firm and its agent, which is registered, allowed and delegated to; gives their DIDs.
fn firm_and_agent(scene: &Scene) -> (String, String) {
    let (firm, bot) = (scene.key("firm.json"), scene.key("bot.json"));
    scene.key("bot2.json");
    for name in ["model", "late", "later"] {
        fs::write(scene.path(name), name).unwrap();
    }
    scene.ok(&["identity", "new", "--key", "firm.json"]);
    scene.ok(&["identity", "agent", "register", "--owner", &firm, "--key", "bot.json"]);
    scene.ok(&["identity", "agent", "allow", &bot, "--kind", "work", "--key", "firm.json"]);
    scene.refused(&stamp("model", "bot.json", &firm), "delegat");
    let grant = ["identity", "delegate", &bot, "--kind", "work", "--proofs", "5", "--key", "firm.json"];
    scene.ok(&grant);
    (firm, bot)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_proved_outlives_its_key_and_its_delegation() {
    let mut scene = Scene::start().await;
    let (firm, bot) = firm_and_agent(&scene);
    let batch = scene.ok(&stamp("model", "bot.json", &firm))["batches"][0].clone();
    assert_eq!((&batch["sender"], &batch["on_behalf_of"]), (&json!(&bot[10..]), &json!(&firm[10..])));
    let anchored = batch["height"].as_u64().unwrap();
    scene.ok(&["identity", "attach", "model.cairn"]);
    let young = scene.ok(&["verify", "model"]);
    assert!(heights(said(&young, "signer")).contains(&anchored), "{young}");
    fs::copy(scene.path("model.cairn"), scene.path("young.cairn")).unwrap();

    let rotated = scene.ok(&["identity", "rotate", "0", "bot2.json", "--key", "bot.json"]);
    scene.refused(&stamp("late", "bot.json", &firm), "was retired at height");
    let mut with_successor = stamp("late", "bot2.json", &firm);
    scene.refused(&with_successor, "delegat");
    with_successor.extend(["--as", &bot]);
    assert_eq!(scene.ok(&with_successor)["batches"][0]["sender"], json!(&bot[10..]));
    let ended = scene.ok(&["identity", "undelegate", &bot, "--key", "firm.json"]);
    let mut after_the_end = stamp("later", "bot2.json", &firm);
    after_the_end.extend(["--as", &bot]);
    scene.refused(&after_the_end, "the grant ended at height");

    // The newest states say when each ended, and that neither had when the proof was made.
    scene.ok(&["identity", "attach", "model.cairn"]);
    scene.cluster.check().await;
    scene.cluster.network.stop_all().unwrap();
    let old = scene.ok(&["verify", "model"]);
    let signer = heights(said(&old, "signer"));
    assert!(signer.contains(&anchored) && signer.contains(&rotated["height"].as_u64().unwrap()), "{old}");
    let grant = heights(said(&old, "delegation"));
    assert!(grant.contains(&anchored) && grant.contains(&ended["height"].as_u64().unwrap()), "{old}");
    assert_eq!(scene.ok(&["verify", "model", "--receipt", "young.cairn"])["valid"], true);
    spoil(&scene.path("model.cairn"), "\"proof\":\"", &scene.path("bad.cairn"));
    let (code, verdict) = scene.cairn(&["verify", "model", "--receipt", "bad.cairn"]);
    assert_eq!((code, &verdict["failed"]), (1, &json!("signer")), "{verdict}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_of_shared_control_is_an_event() {
    let mut scene = Scene::start().await;
    let firm = scene.key("a.json");
    for key in ["b.json", "c.json", "d.json"] {
        scene.key(key);
    }
    scene.ok(&["identity", "new", "--key", "a.json"]);
    scene.ok(&["identity", "add-key", "b.json", "--key", "a.json"]);
    scene.ok(&["identity", "add-key", "c.json", "--key", "a.json"]);
    scene.ok(&["identity", "threshold", "2", "--key", "a.json"]);
    let propose = ["identity", "rotate", "2", "d.json", "--propose", "--as", &firm, "--key", "a.json"];
    let proposal = |answer: &Value| answer["proposal"].as_str().unwrap().to_owned();
    let step = |verb, id: &str, key| scene.ok(&["multisig", verb, id, "--as", &firm, "--key", key]);

    let withdrawn = proposal(&scene.ok(&propose));
    assert_eq!(step("cancel", &withdrawn, "a.json")["proposal"]["state"], "cancelled");
    let voted_down = proposal(&scene.ok(&propose));
    assert_eq!(step("cancel", &voted_down, "b.json")["proposal"]["state"], "open");
    assert_eq!(step("cancel", &voted_down, "c.json")["proposal"]["state"], "cancelled");
    let carried = proposal(&scene.ok(&propose));
    assert_eq!(step("approve", &carried, "b.json")["proposal"]["state"], "executed");
    scene.refused(
        &["multisig", "approve", &carried, "--as", &firm, "--key", "c.json"],
        "was retired at height",
    );

    let history = scene.ok(&["identity", "history", &firm]);
    let steps: Vec<_> = history["items"].as_array().unwrap().iter().skip(4).collect();
    let names: Vec<_> = steps.iter().map(|item| item["event"].as_str().unwrap()).collect();
    let expected = [
        &["proposed", "rejected", "cancelled"][..],
        &["proposed", "rejected", "rejected", "cancelled"],
        &["proposed", "key_rotated", "approved", "executed"],
    ];
    assert_eq!(names, expected.concat(), "{history}");
    assert_eq!(scene.ok(&["multisig", "pending", &firm])["items"], json!([]));
    scene.cluster.check().await;
}
