//! The verbs about receipts, on a real network: stamped, bundled, refreshed, split, pinned, exported.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cairn_testnet::process;
use serde_json::Value;

use crate::cluster::{Cluster, binary};

/// A user with a directory of its own, a node and a genesis.
struct User {
    directory: tempfile::TempDir,
    url: String,
    genesis: PathBuf,
}

impl User {
    fn new(cluster: &Cluster) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::write(directory.path().join("pass"), "correct horse\n").expect("writable");
        let urls: Vec<String> =
            cluster.network.nodes().map(|node| cluster.api(node).url().to_owned()).collect();
        Self { directory, url: urls.join(","), genesis: cluster.network.layout().genesis() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().expect("a folder")).expect("writable");
        fs::write(self.path(name), text).expect("writable");
    }

    fn command(&self, line: &str) -> Command {
        let mut command = process::cairn(binary());
        command.args(line.split_whitespace()).current_dir(self.directory.path());
        command.env("HOME", self.directory.path()).env_remove("XDG_CONFIG_HOME");
        command.env("CAIRN_HOME", self.path("none")).env("CAIRN_URL", &self.url);
        command.env("CAIRN_GENESIS", &self.genesis).env("CAIRN_PASSPHRASE_FILE", self.path("pass"));
        command
    }

    /// Runs a line of `cairn ... --json` off the async threads; gives its answer.
    async fn run(&self, code: i32, line: &str) -> Value {
        let mut command = self.command(&format!("{line} --json"));
        let output = tokio::task::spawn_blocking(move || command.output());
        let output = output.await.expect("it ran").expect("it runs");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "cairn {line}\n{out}{err}");
        serde_json::from_str(&out).unwrap_or_else(|_| panic!("cairn {line}: {out}{err}"))
    }
}

fn bytes(path: &Path) -> u64 {
    fs::metadata(path).expect("it is there").len()
}

#[tokio::test]
async fn receipts_are_bundled_refreshed_split_and_verified() {
    let mut cluster = Cluster::start(1).await;
    let user = User::new(&cluster);
    for name in ["data/a", "data/b", "data/deep/c"] {
        user.write(name, name);
    }
    let stamped = user.run(0, "stamp data").await;
    assert_eq!(stamped["batches"][0]["leaves"], 3);
    cluster.anchor(0).await;
    user.write("later", "later");
    user.run(0, "stamp later").await;

    // Under different headers: a node is asked for one that covers both.
    let line = "receipt bundle data/a.cairn data/deep/c.cairn later.cairn --out all.cairn";
    user.run(1, &format!("{line} --offline")).await;
    let made = user.run(0, line).await;
    assert_eq!((&made["receipts"], &made["batches"]), (&3.into(), &2.into()));
    let singles = bytes(&user.path("data/a.cairn")) + bytes(&user.path("later.cairn"));
    assert!(bytes(&user.path("all.cairn")) < singles);
    for file in ["data/a", "data/deep/c", "later"] {
        let verdict = user.run(0, &format!("verify {file} --receipt all.cairn")).await;
        assert_eq!(verdict["valid"], true, "{verdict}");
    }
    assert_eq!(user.run(1, "verify data/b --receipt all.cairn").await["failed"], "file");
    assert_eq!(user.run(0, "info all.cairn").await["batches"].as_array().map(Vec::len), Some(2));
    user.run(0, "receipt split all.cairn --file later --out cut.cairn").await;
    assert_eq!(user.run(0, "verify later --receipt cut.cairn").await["valid"], true);
    assert_eq!(
        user.run(0, "receipt split all.cairn --all --out apart").await["receipts"].as_array().map(Vec::len),
        Some(3)
    );

    cluster.anchor(0).await;
    let old = user.run(0, "info data/b.cairn").await["header"]["height"].as_u64();
    let fresh = user.run(0, "receipt refresh data/b.cairn all.cairn").await;
    assert!(fresh["refreshed"][0]["height"].as_u64() > old, "{fresh}");
    assert_eq!(user.run(0, "verify data/b").await["valid"], true);
    assert_eq!(user.run(0, "verify later --receipt all.cairn").await["valid"], true);

    // Relative to a block: trust is missing until it is pinned.
    let short = user.run(0, "receipt refresh data/b.cairn --short --out short.cairn").await;
    assert!(short["refreshed"][0]["bytes"].as_u64() < Some(4_000), "{short}");
    assert_eq!(user.run(4, "verify data/b --receipt short.cairn").await["failed"], "checkpoint");
    let pinned = user.run(0, "trust pin data/b.cairn").await;
    assert_eq!(pinned["pinned"], true, "{pinned}");
    let at = pinned["pin"]["height"].as_u64().expect("a height");
    user.run(0, &format!("receipt refresh data/b.cairn --short --at {at} --out short.cairn")).await;
    let verdict = user.run(0, "verify data/b --receipt short.cairn").await;
    assert_eq!(verdict["trust"]["kind"], "checkpoint", "{verdict}");

    let mut broken = fs::read_to_string(user.path("data/b.cairn")).expect("readable");
    let digit = broken.find("\"digest\": \"").expect("it holds a digest") + 11;
    let other = if &broken[digit..=digit] == "0" { "1" } else { "0" };
    broken.replace_range(digit..=digit, other);
    fs::write(user.path("broken.cairn"), &broken).expect("writable");
    user.run(1, "receipt refresh broken.cairn").await;
    assert_eq!(fs::read_to_string(user.path("broken.cairn")).expect("readable"), broken, "left as it was");
    cluster.check().await;
}

#[tokio::test]
async fn trust_moves_forward_and_growth_is_proven() {
    let mut cluster = Cluster::start(1).await;
    let user = User::new(&cluster);
    user.write("first", "first");
    user.run(0, "stamp first").await;
    assert_eq!(user.run(0, "trust show").await["pins"].as_array().map(Vec::len), Some(0));
    user.run(4, "trust export").await;
    let one = user.run(0, "trust fetch").await;
    for _ in 0..3 {
        cluster.anchor(0).await;
    }
    let two = user.run(0, "trust fetch").await;
    assert!(two["pin"]["height"].as_u64() > one["pin"]["height"].as_u64(), "{one} {two}");
    user.run(0, "trust export --out checkpoint.json").await;
    assert_eq!(user.run(1, "verify first --receipt checkpoint.json").await["failed"], "file");
    let growth = user.run(0, "receipt consistency first.cairn --out growth.cairn").await;
    assert!(growth["second"].as_u64() > growth["first"].as_u64(), "{growth}");
    assert_eq!(user.run(0, "verify growth.cairn").await["valid"], true);
    user.run(0, "receipt consistency first.cairn --log anchors_sha256 --out sha.cairn").await;
    assert_eq!(user.run(0, "info sha.cairn").await["log"], "anchors_sha256");

    // Another's checkpoint is pinned once it verifies; a changed one is not.
    let other = User { directory: tempfile::tempdir().expect("a directory"), ..User::new(&cluster) };
    let text = fs::read_to_string(user.path("checkpoint.json")).expect("readable");
    fs::write(other.path("checkpoint.json"), &text).expect("writable");
    assert_eq!(other.run(0, "trust pin checkpoint.json").await["pinned"], true);
    let changed = text.replacen("\"header\":\"A", "\"header\":\"B", 1);
    assert_ne!(changed, text);
    fs::write(other.path("changed.json"), changed).expect("writable");
    other.run(1, "trust pin changed.json").await;
    assert_eq!(other.run(0, "trust show").await["pins"].as_array().map(Vec::len), Some(1));
    cluster.check().await;
}

#[tokio::test]
async fn any_number_of_digests_and_standard_input_are_stamped() {
    let mut cluster = Cluster::start(1).await;
    let user = User::new(&cluster);
    let digests: Vec<String> = (0..70_000u32).map(|at| format!("{:064x}  name {at}", at + 1)).collect();
    user.write("list", &digests.join("\n"));
    let stamped = user.run(0, "stamp --digests list --sha256 --out batch").await;
    assert_eq!(stamped["leaves"], 70_000, "{stamped}");
    let again = user.run(0, "stamp --leaves batch.leaves --force").await;
    assert_eq!((&again["duplicate"], &again["seq"]), (&true.into(), &stamped["seq"]), "{again}");
    let cut =
        user.run(0, &format!("receipt cut batch.leaves --digest {:064x} --out one.cairn", 66_000)).await;
    assert_eq!(cut["index"], 65_999, "{cut}");
    assert_eq!(user.run(0, "verify one.cairn").await["valid"], true);
    user.run(1, &format!("receipt cut batch.leaves --digest {:064x} --out none.cairn", 70_001)).await;
    user.write("bad", "zz\n");
    user.run(1, "stamp --digests bad --out other").await;

    let mut command = user.command("stamp - --out piped.cairn --json");
    let output = tokio::task::spawn_blocking(move || {
        let mut child =
            command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn()?;
        std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), b"piped")?;
        child.wait_with_output()
    });
    let output = output.await.expect("it ran").expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    user.write("piped", "piped");
    assert_eq!(user.run(0, "verify piped").await["valid"], true);
    for name in ["d/x", "d/y"] {
        user.write(name, name);
    }
    user.run(0, "stamp d --bundle d.cairn").await;
    assert_eq!(user.run(0, "verify d/y --receipt d.cairn").await["valid"], true);
    user.run(1, "stamp d --bundle d.cairn").await;
    cluster.check().await;
}

#[tokio::test]
async fn a_receipt_is_written_for_other_tools_and_cosigned_by_every_node() {
    let mut cluster = Cluster::start(4).await;
    let user = User::new(&cluster);
    user.write("paper", "paper");
    user.write("other", "other");
    user.run(0, "stamp paper other --sha256 --tree rfc9162-sha256").await;
    // Every node must have the block before it can sign for it.
    let height = user.run(0, "info paper.cairn").await["header"]["height"].as_u64().expect("a height");
    for node in cluster.network.nodes() {
        cluster.reaches(node, height).await;
    }
    let proof = user.run(0, "receipt export paper.cairn --format tlog-proof").await;
    assert_eq!(proof["verifier_keys"].as_array().map(Vec::len), Some(4), "{proof}");
    let text = fs::read_to_string(user.path("paper.cairn.tlog-proof")).expect("readable");
    let read = cairn_receipt::export::TlogProof::parse(&text).expect("a tlog-proof");
    let genesis = cairn_genesis::load(&user.genesis).expect("the genesis");
    let keys: Vec<_> = proof["verifier_keys"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|key| cairn_receipt::export::parse_verifier_key(key.as_str().expect("text")).expect("a key"))
        .collect();
    let record = fs::read(user.path("paper.cairn.tlog-proof.record")).expect("readable");
    assert_eq!(read.verify(genesis.chain(), &record, &keys, 4).expect("it verifies").len(), 4);

    user.run(0, "receipt export paper.cairn --format checkpoint").await;
    user.run(0, "receipt export paper.cairn --format cose").await;
    let cose = fs::read(user.path("paper.cairn.cose")).expect("readable");
    let cose = cairn_receipt::export::parse_cose(&cose).expect("a COSE receipt");
    assert!(cairn_receipt::export::verify_cose(&cose, &record, &keys[0].1).is_ok());
    user.run(0, "receipt export paper.cairn --format ots").await;
    user.write("plain", "plain");
    user.run(0, "stamp plain").await;
    let refused = user.run(1, "receipt export plain.cairn --format ots").await;
    assert!(
        refused["error"]["message"].as_str().is_some_and(|it| it.contains("--tree rfc9162-sha256")),
        "{refused}"
    );
    cluster.check().await;
}

/// Runs the program openssl, which shares nothing with what is tested.
fn openssl(user: &User, line: &str) {
    let output = Command::new("openssl")
        .args(line.split_whitespace())
        .current_dir(user.directory.path())
        .output()
        .expect("this test needs the program openssl (Debian: apt-get install openssl)");
    assert!(output.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A certificate authority NAME.pem, and a time authority NAME-tsa.pem under it.
fn time_authority(user: &User, name: &str) {
    user.write("req.cnf", "[req]\ndistinguished_name=dn\nprompt=no\n[dn]\nCN=unused\n");
    user.write("tsa.ext", "extendedKeyUsage=critical,timeStamping");
    let serial = user.path("serial").display().to_string();
    user.write(
        "tsa.cnf",
        &format!("[tsa]\nserial={serial}\nsigner_digest=sha256\ndefault_policy=1.2.3\ndigests=sha256\n"),
    );
    openssl(
        user,
        &format!(
            "req -x509 -config req.cnf -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.pem \
             -subj /CN={name} -days 30 -addext basicConstraints=critical,CA:TRUE"
        ),
    );
    openssl(user, &format!("genrsa -out {name}-tsa.key 2048"));
    openssl(user, &format!("req -new -config req.cnf -key {name}-tsa.key -subj /CN={name}-tsa -out tsa.csr"));
    openssl(
        user,
        &format!(
            "x509 -req -in tsa.csr -CA {name}.pem -CAkey {name}.key -set_serial 7 -days 30 -extfile tsa.ext \
             -out {name}-tsa.pem"
        ),
    );
}

#[tokio::test]
async fn a_receipt_carries_the_time_of_an_authority_outside_the_chain() {
    let mut cluster = Cluster::start(1).await;
    let user = User::new(&cluster);
    time_authority(&user, "office");
    time_authority(&user, "stranger");
    let ask = |request: &str, answer: &str| {
        let line = format!(
            "ts -reply -config tsa.cnf -section tsa -queryfile {request} -signer office-tsa.pem \
             -inkey office-tsa.key -out {answer}"
        );
        openssl(&user, &line);
    };
    user.write("data", "data");
    user.run(0, "stamp data").await;
    assert_eq!(user.run(1, "verify data --tsa-ca office.pem").await["failed"], "time");
    let asked = user.run(0, "receipt timestamp data.cairn").await;
    assert_eq!(asked["part"], "record 0", "{asked}");
    ask("data.cairn.tsq", "data.tsr");
    let taken = user.run(0, "receipt timestamp data.cairn --answer data.tsr").await;
    assert_eq!(taken["authority"], "CN=office-tsa", "{taken}");
    assert_eq!(user.run(0, "info data.cairn").await["claimed_times"][0]["time_ms"], taken["time_ms"]);

    // The record's time stays through a refresh; a checkpoint has a time of its own.
    cluster.anchor(0).await;
    let fresh = user.run(0, "receipt refresh data.cairn").await;
    assert_eq!(fresh["refreshed"][0]["time_stamps_left_out"], 0, "{fresh}");
    user.run(0, "trust pin data.cairn").await;
    user.run(0, "trust export --out point.cairn").await;
    user.run(0, "receipt timestamp point.cairn --out point.tsq").await;
    ask("point.tsq", "point.tsr");
    user.run(0, "receipt timestamp point.cairn --answer point.tsr").await;
    user.write("other", "other");
    user.run(0, "stamp other").await;
    let wrong = user.command("receipt timestamp other.cairn --answer data.tsr").output().expect("it runs");
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("neither a record nor the header"), "{wrong:?}");
    for line in ["verify data", "verify point.cairn"] {
        let verdict = user.run(0, &format!("{line} --tsa-ca office.pem")).await;
        assert_eq!(verdict["times"][0]["root"], "CN=office", "{verdict}");
        let both = user.run(0, &format!("{line} --tsa-ca stranger.pem --tsa-ca office.pem")).await;
        assert_eq!(both["times"].as_array().map(Vec::len), Some(1), "{both}");
        assert_eq!(user.run(1, &format!("{line} --tsa-ca stranger.pem")).await["failed"], "time");
        let unasked = user.run(0, line).await;
        assert_eq!(unasked["times"].as_array().map(Vec::len), Some(0), "{unasked}");
    }
    let no_certificate = user.command("verify data --tsa-ca data").output().expect("it runs");
    assert_eq!(no_certificate.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&no_certificate.stderr).contains("--tsa-ca data"), "{no_certificate:?}");
    cluster.check().await;
}
