//! `docs/bad-inputs/commands.md`: what wrong command lines, settings and transactions get from the program and a
//! node of a real network. Run with `CAIRN_WRITE_DOCS=1` to write it again.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use cairn_testnet::anchoring::random_proof;
use cairn_testnet::{CallFault, process};
use cairn_types::transaction::Proofs;
use cairn_types::{Address, ChainId, Hash, KeyRef, Payload, Proof, Signature, Transaction};
use serde_json::Value;

use crate::cluster::{Cluster, binary};
use crate::refusals::Case;

const HEAD: &str = "\
# Wrong command lines, settings and transactions, and what they get

<!-- Made by `node/tests/network/bad_inputs.rs` from the program's own answers; the test fails when they differ. -->

`cairn` was run in a directory with a key `me.json`, a file `a.bin` that is stamped, one `b.bin` that is not, and a node to ask. With
`--json` the same sentence stands in `error.message`. `…` stands for addresses, ids, times, heights and directories.
";

/// An address that nothing is known of; `@` in a command line.
const NOBODY: &str = "1111111111111111111111111111111111111111111111111111111111111111";

/// A command line's exit code and what it said; the last lines tell what to do.
type Row = (String, String);

/// What differs between two runs left out, and fit for a cell of a table.
fn cell(words: &str, directory: &Path) -> String {
    let words = words.replace(&format!("{}/", directory.display()), "");
    let moment = |word: &str| word.len() >= 20 && word.starts_with("20") && word.trim_end().ends_with("Z;");
    let words: String =
        words.split_inclusive(' ').map(|word| if moment(word) { "…; " } else { word }).collect();
    let mut out = String::new();
    let mut earlier = String::new();
    for part in words.split_inclusive(|it: char| !it.is_ascii_alphanumeric()) {
        let word = part.trim_end_matches(|it: char| !it.is_ascii_alphanumeric());
        let digits = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
        let code = out.ends_with('-') && word.len() == 5;
        let changes = digits && !code && (word.len() >= 5 || ["height", "block"].contains(&earlier.as_str()));
        let hex = word.len() >= 16 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        out.push_str(if changes || hex { "…" } else { word });
        out.push_str(&part[word.len()..]);
        earlier = word.to_owned();
    }
    out.trim().replace('|', "\\|").replace('\n', " ")
}

struct Desk {
    directory: tempfile::TempDir,
    url: String,
    genesis: std::path::PathBuf,
}

impl Desk {
    fn new(cluster: &Cluster) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = cluster.api(0).url().to_owned();
        let desk = Self { directory, url, genesis: cluster.network.layout().genesis() };
        for (name, text) in [
            ("a.bin", "a"),
            ("b.bin", "b"),
            ("list", "zz\n"),
            ("pass", "correct horse\n"),
            ("wrong", "another\n"),
            ("payload.json", "{\"proofs\":[]}"),
        ] {
            fs::write(desk.directory.path().join(name), text).unwrap();
        }
        for line in [
            "keys new --out me.json --no-passphrase",
            "keys new --out other.json --no-passphrase",
            "stamp a.bin --key me.json",
            "identity new --key other.json",
            "keys new --out v.json --scheme ml-dsa-65 --passphrase-file pass",
            "genesis new --name desk --validator v.json",
            "init --home home --genesis genesis.json --validator-key v.json --passphrase-file pass",
        ] {
            let (code, said) = desk.run(line);
            assert_eq!(code, 0, "cairn {line}: {said}");
        }
        desk
    }

    /// Runs `cairn <line>`; gives the exit code and the sentence of the error.
    fn run(&self, line: &str) -> (i32, String) {
        let mut command = process::cairn(binary());
        command.args(line.split_whitespace()).arg("--json").current_dir(self.directory.path());
        command.env("HOME", self.directory.path()).env_remove("XDG_CONFIG_HOME").env_remove("CAIRN_HOME");
        command.env("CAIRN_URL", &self.url).env("CAIRN_GENESIS", &self.genesis);
        let output = command.stdin(std::process::Stdio::null()).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let value: Value = serde_json::from_str(&out).unwrap_or_default();
        let mut checks = value["checks"].as_array().into_iter().flatten();
        let refusal = checks.find(|check| check["passed"] == false || check["ok"] == false);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let said = match refusal {
            Some(check) => format!("`{}`: {}", text(&check["name"]), text(&check["detail"])),
            None if value["reason"].is_string() => text(&value["reason"]),
            None if value["error"].is_object() => text(&value["error"]["message"]),
            None => err.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().to_owned(),
        };
        (output.status.code().unwrap_or(-1), said)
    }

    fn rows(&self, lines: &[&str]) -> Vec<Row> {
        let row = |line: &&str| {
            let (code, said) = self.run(&line.replace('@', NOBODY));
            assert!(code != 0 && said.len() > 10, "cairn {line} ends with {code}: {said}");
            (format!("`cairn {}`", line.replace('@', "11…11")), format!("exit {code}: {said}"))
        };
        lines.iter().map(row).collect()
    }

    /// What each of these lines in `config.toml` does to a start.
    fn settings(&self, lines: &[&str]) -> Vec<Row> {
        let path = self.directory.path().join("home/config.toml");
        let original = fs::read_to_string(&path).unwrap();
        let row = |line: &&str| {
            fs::write(&path, format!("{original}\n{line}\n")).unwrap();
            let (code, said) = self.run("start --home home");
            assert_eq!(code, 78, "{line}: {said}");
            (format!("`{}`", line.replace('\n', "` `")), format!("exit {code}: {said}"))
        };
        let rows = lines.iter().map(row).collect();
        fs::write(&path, original).unwrap();
        rows
    }
}

const STAMPS: &[&str] = &[
    "stamp",
    "stamp missing.bin --key me.json",
    "stamp a.bin --key me.json",
    "stamp a.bin a.bin --key me.json --force",
    "stamp b.bin --key missing.json",
    "stamp b.bin --key a.bin",
    "stamp b.bin --key me.json --kind batsh",
    "stamp b.bin --key me.json --tree merkle",
    "stamp b.bin --key me.json --previous 12",
    "stamp b.bin --key me.json --on-behalf-of did:web:example.org",
    "stamp b.bin --key me.json --on-behalf-of did:cairn:@",
    "stamp b.bin --key me.json --as did:cairn:@",
    "stamp b.bin --key me.json --out b.receipt",
    "stamp --digests list --out batch --key me.json",
    "stamp --leaves a.bin --key me.json",
    "stamp b.bin --key me.json --url http://127.0.0.1:1",
    "stamp b.bin --key me.json --url nowhere",
    "stamp b.bin --key v.json",
    "stamp b.bin --key v.json --passphrase-file wrong",
];

const DOCUMENTS: &[&str] = &[
    "verify missing.bin",
    "verify b.bin",
    "verify b.bin --receipt a.bin.cairn",
    "verify a.bin --receipt b.bin",
    "verify a.bin --genesis b.bin",
    "verify a.bin --genesis genesis.json",
    "verify a.bin --tsa-ca b.bin",
    "info b.bin",
    "receipt refresh b.bin",
    "receipt export a.bin.cairn --format ots",
    "receipt export a.bin.cairn --format pdf",
    "receipt timestamp b.bin",
    "receipt timestamp a.bin.cairn --answer b.bin",
    "receipt chain 12",
    "receipt chain @",
    "validator list --at-time yesterday",
    "receipt cut a.bin --digest 00 --out cut.cairn",
    "trust pin b.bin",
    "identity check b.bin",
    "identity attach b.bin",
    "identity login-check AQID --audience https://example.org",
    "genesis check b.bin",
    "keys show b.bin",
    "keys new --out me.json --no-passphrase",
];

const IDENTITIES: &[&str] = &[
    "identity new --key other.json",
    "identity show did:cairn:@",
    "identity show me",
    "identity add-key missing.json --key other.json",
    "identity add-key other.json --key other.json",
    "identity add-key me.json --purpose signing --key other.json",
    "identity rotate 7 me.json --key other.json",
    "identity revoke 0 --key other.json",
    "identity threshold 9 --key other.json",
    "identity threshold 1 --key me.json",
    "identity deactivate --key other.json",
    "identity delegate did:cairn:@ --rate 5 --key other.json",
    "identity delegate did:cairn:@ --expires-in 1y --key other.json",
    "identity undelegate did:cairn:@ --key other.json",
    "multisig propose payload.json --key other.json",
    "multisig approve @ --key other.json",
    "multisig show 12",
    "rpc prof_get",
    "rpc proof_get prof_id=1",
    "rpc proof_get proof_id=12",
];

const SETTINGS: &[&str] = &["[rcp]\nlisten = \"127.0.0.1:1\"", "colour = true", "[rpc\nlisten = 1"];

async fn transactions(cluster: &Cluster) -> Vec<Row> {
    let case = Case::new(cluster, 0).await;
    let now_ms = case.now_ms;
    let proofs = |change: fn(&mut Proof)| {
        let mut proof = random_proof(0);
        change(&mut proof);
        Payload::Proofs(Proofs(vec![proof]))
    };
    let tx = |change: &dyn Fn(&mut Transaction)| case.signed(|tx| change(tx));
    let mut forged = tx(&|_| {});
    let mut bytes = forged.signatures[0].as_bytes().to_vec();
    bytes[100] ^= 1;
    forged.signatures[0] = Signature::new(&bytes).unwrap();
    let mut altered = tx(&|_| {});
    altered.transaction.nonce ^= 1;
    let mut unsigned = tx(&|_| {});
    unsigned.signatures.clear();
    let many = (0..100).map(|_| random_proof(1_024)).collect::<Vec<_>>();
    let cases = [
        ("for another chain", tx(&|tx| tx.chain = ChainId::new(Hash([7; 32])))),
        ("of an unknown version", tx(&|tx| tx.version = 9)),
        ("expired", tx(&|tx| tx.expires_ms = now_ms - 1_000)),
        ("that expires in an hour", tx(&|tx| tx.expires_ms = now_ms + 3_600_000)),
        ("with one bit of its signature changed", forged),
        ("changed after it was signed", altered),
        ("without a signature", unsigned),
        ("without a key", tx(&|tx| tx.keys.clear())),
        ("by a registered key of nobody", tx(&|tx| tx.keys = vec![KeyRef::Registered(0)])),
        ("by a key that is not the sender's", tx(&|tx| tx.sender = Address::new(Hash([9; 32])))),
        ("of no proof", tx(&|tx| tx.payload = Payload::Proofs(Proofs(Vec::new())))),
        ("of a batch of no leaves", tx(&|tx| tx.payload = proofs(|it| it.leaves = 0))),
        ("with a reference of 129 bytes", tx(&|tx| tx.payload = proofs(|it| it.reference = "r".repeat(129)))),
        ("on behalf of nobody", {
            tx(&|tx| tx.payload = proofs(|it| it.on_behalf_of = Some(Address::new(Hash([0x11; 32])))))
        }),
        ("of more than 64 KiB", tx(&|tx| tx.payload = Payload::Proofs(Proofs(many.clone())))),
    ];
    let mut rows = Vec::new();
    for (tried, signed) in cases {
        match case.post(&signed).await {
            Err(CallFault::Refused { code, message, kind, .. }) => {
                rows.push((tried.to_owned(), format!("{code} {kind}: {message}")));
            }
            other => panic!("a transaction {tried}: {other:?}"),
        }
    }
    rows
}

fn table(page: &mut String, title: &str, head: &str, rows: &[Row], directory: &Path) {
    let _ = write!(page, "\n## {title}\n\n| {head} | answer |\n|---|---|\n");
    for (tried, answer) in rows {
        let tried = tried.replace('|', "\\|");
        let _ = writeln!(page, "| {tried} | {} |", cell(answer, directory));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_wrong_command_lines_is_what_the_program_says() {
    let mut cluster = Cluster::start(1).await;
    let desk = Desk::new(&cluster);
    let directory = desk.directory.path();
    let mut page = HEAD.to_owned();
    table(&mut page, "Stamping", "tried", &desk.rows(STAMPS), directory);
    table(&mut page, "Receipts, states, keys", "tried", &desk.rows(DOCUMENTS), directory);
    table(&mut page, "Identities and methods", "tried", &desk.rows(IDENTITIES), directory);
    table(&mut page, "Settings", "in `config.toml`", &desk.settings(SETTINGS), directory);
    table(&mut page, "Transactions", "a transaction", &transactions(&cluster).await, directory);
    cluster.check().await;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/bad-inputs/commands.md");
    if std::env::var_os("CAIRN_WRITE_DOCS").is_some() {
        fs::write(&path, &page).expect("docs/ is writable");
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/bad-inputs/commands.md is not what the program says; run this test with CAIRN_WRITE_DOCS=1\n{page}"
    );
}
