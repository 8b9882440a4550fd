//! Experiments with real processes behind links that fail.

use std::path::Path;

use cairn_testnet::experiment::{ExperimentArgs, run};
use clap::Parser;

#[derive(Parser)]
struct Experiment {
    #[command(flatten)]
    args: ExperimentArgs,
}

async fn experiment(manifest: &str, dir: &Path) -> anyhow::Result<bool> {
    let file = dir.join("manifest.toml");
    std::fs::write(&file, manifest).unwrap();
    let (file, out) = (file.display().to_string(), dir.join("out").display().to_string());
    let parsed = Experiment::parse_from(["run", &file, "--out", &out]);
    run(&parsed.args, Path::new(env!("CARGO_BIN_EXE_cairn")), true).await
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_off_killed_and_slow_validators_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = r#"
        duration = "8s"
        [net]
        latency = "2ms..6ms"
        [load]
        rate = 10
        retry = "2s"
        [[perturb]]
        kind = "isolate"
        nodes = [3]
        at = "1s"
        for = "3s"
        [[perturb]]
        kind = "crash"
        nodes = [1]
        at = "5s"
        for = "1s"
        [[perturb]]
        kind = "slow"
        nodes = [0]
        by = "60ms"
        at = "6s"
        [assert]
        blocks_min = 5
    "#;
    assert!(experiment(manifest, dir.path()).await.unwrap());
    let out = dir.path().join("out");
    let summary: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(out.join("summary.json")).unwrap()).unwrap();
    assert_eq!(summary["transactions"], summary["submitted"], "{summary}");
    assert!(summary["submitted"].as_u64().unwrap() >= 70, "{summary}");
    // The three views that the cut-off validator could have led are not free.
    assert!(summary["finality_ms"]["p50"].as_f64().unwrap() >= 6.0, "links add nothing: {summary}");
    for file in ["tx.csv", "blocks.csv", "views.csv", "messages.csv", "report.html", "rerun.txt"] {
        assert!(std::fs::metadata(out.join(file)).unwrap().len() > 20, "{file}");
    }
    assert!(!out.join("network").exists(), "a good run leaves no processes' files");
}

#[tokio::test]
async fn what_only_a_simulator_can_do_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    for (manifest, why) in [
        ("[net]\nloss = 0.1\n", "net.loss"),
        ("[net]\nclock_skew = \"1s\"\n", "net.clock_skew"),
        ("[byzantine]\nsilent = 1\n", "byzantine"),
        ("[[perturb]]\nkind = \"crash\"\nunsynced = \"lost\"\nat = \"1s\"\n", "perturb 0"),
        ("[[perturb]]\nkind = \"disk_full\"\nat = \"1s\"\n", "perturb 0"),
    ] {
        let refused = experiment(manifest, dir.path()).await.unwrap_err().to_string();
        assert!(refused.contains(why) && refused.contains("cairn sim run"), "{refused}");
    }
}
