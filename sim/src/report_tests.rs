use super::*;

fn write_manifest(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("experiment.toml");
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn an_experiment_leaves_tables_plots_a_page_and_the_way_back() {
    let folder = tempfile::tempdir().unwrap();
    let text = "name = \"x\"\nduration = \"4s\"\n[load]\nrate = 20\n[[perturb]]\nkind = \"isolate\"\nnodes = [1]\nat = \"1s\"\nfor = \"1s\"";
    let path = write_manifest(folder.path(), text);
    let out = folder.path().join("out");
    assert!(experiment(&path, Some(5), false, Some(&out), true).unwrap());
    for (name, holds) in [
        ("manifest.toml", "seed = 5"),
        ("summary.json", "\"finality_ms\""),
        ("blocks.csv", "height,epoch,view"),
        ("views.csv", "view,leader"),
        ("tx.csv", "transaction,submitted_ms"),
        ("messages.csv", "v1,,vote,"),
        ("finality.svg", "</svg>"),
        ("views.svg", "leads view 2"),
        ("report.html", "No invariant was violated"),
        ("rerun.txt", "--seed 5"),
    ] {
        let text = fs::read_to_string(out.join(name)).unwrap();
        assert!(text.contains(holds), "{name} lacks {holds}");
    }
    let rows = fs::read_to_string(out.join("blocks.csv")).unwrap().lines().count();
    assert!(rows > 20, "{rows} rows of blocks");
    // The resolved manifest alone gives the same events.
    let again = Manifest::read(&out.join("manifest.toml")).unwrap();
    let outcome = crate::run::run(&again, false, &Transcript::default()).unwrap();
    let summary: Value =
        serde_json::from_str(&fs::read_to_string(out.join("summary.json")).unwrap()).unwrap();
    assert_eq!(summary["hash"], json!(outcome.hash.to_string()));
}

#[test]
fn a_sweep_runs_every_combination_and_an_assertion_that_is_missed_fails() {
    let folder = tempfile::tempdir().unwrap();
    let text = "duration = \"2s\"\n[sweep]\n\"net.n\" = [1, 4]\n\"net.latency\" = [\"5ms\", \"50ms\"]\n[assert]\nfinality_p50_max = \"60ms\"";
    let path = write_manifest(folder.path(), text);
    let out = folder.path().join("out");
    assert!(!experiment(&path, None, false, Some(&out), true).unwrap(), "50 ms links cannot keep it");
    let table = fs::read_to_string(out.join("sweep.csv")).unwrap();
    assert_eq!(table.lines().count(), 5, "{table}");
    assert!(out.join("net.latency-50ms_net.n-4").join("report.html").exists());
    for line in table.lines().skip(1) {
        let missed = line.starts_with("50ms,4");
        assert_eq!(line.contains(",no,"), missed, "{line}");
    }
    let bad = write_manifest(folder.path(), "[sweep]\n\"net.n\" = [4, \"many\"]");
    let why = experiment(&bad, None, false, Some(&out), true).unwrap_err().to_string();
    assert!(why.contains("many"), "{why}");
}
