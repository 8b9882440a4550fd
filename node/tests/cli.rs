//! The command line as its users meet it: the built binary, its exit codes and what it says.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use cairn_client::{Algorithm, Batch, Item, Salting, hash_file};
use cairn_crypto::KeyPair;
use cairn_receipt::AnchorReceipt;
use cairn_types::log::TreeHash;
use cairn_types::receipt::AnchorProof;
use cairn_types::record::Landing;
use cairn_types::{
    Admission, CommitCert, Epoch, Genesis, Hash, Height, Params, ProofKind, Record, Scheme, TreeKind, TxId,
    ValidatorIndex, View,
};
use serde_json::Value;

/// A directory of its own for each test, which is the user's home as well.
struct Desk {
    directory: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let desk = Self { directory: tempfile::tempdir().unwrap() };
        desk.write("pass", "correct horse\n");
        fs::set_permissions(desk.path("pass"), PermissionsExt::from_mode(0o600)).unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
        command.args(line.split_whitespace()).current_dir(self.directory.path()).stdin(Stdio::null());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CAIRN_")) {
            command.env_remove(name);
        }
        command.env("HOME", self.directory.path()).env_remove("XDG_CONFIG_HOME");
        command
    }

    /// Runs a command line and gives what it said, after checking its exit code.
    fn run(&self, code: i32, line: &str) -> Said {
        Said::of(code, line, self.command(line).output().unwrap())
    }

    /// A validator's key, a genesis with it, and a home.
    fn with_home(self) -> Self {
        self.run(0, "keys new --out v.json --scheme ml-dsa-65 --passphrase-file pass");
        self.run(0, "genesis new --name desk --validator v.json");
        self.run(0, "init --home home --genesis genesis.json --validator-key v.json --passphrase-file pass");
        self
    }
}

struct Said {
    out: String,
    err: String,
}

impl Said {
    fn of(code: i32, line: &str, output: Output) -> Self {
        let out = String::from_utf8(output.stdout).unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "cairn {line}\nstdout: {out}\nstderr: {err}");
        Self { out, err }
    }

    #[track_caller]
    fn out_has(&self, parts: &[&str]) -> &Self {
        for part in parts {
            assert!(self.out.contains(part), "expected {part:?} in stdout:\n{}", self.out);
        }
        self
    }

    #[track_caller]
    fn err_has(&self, parts: &[&str]) -> &Self {
        for part in parts {
            assert!(self.err.contains(part), "expected {part:?} in stderr:\n{}", self.err);
        }
        self
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in {}", self.out))
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// A chain of one validator whose only block anchors one batch: `model.bin`, `model.bin.cairn` and
/// `genesis.json` on the desk, without a node.
fn stamped(desk: &Desk, scheme: Scheme) -> KeyPair {
    desk.write("model.bin", "weights");
    let digest = hash_file(Algorithm::Blake3, &desk.path("model.bin")).unwrap();
    let items = [digest, Hash([1; 32]), Hash([2; 32])];
    let items = items.map(|digest| Item { digest, algorithm: "blake3".into() }).to_vec();
    let batch = Batch::new(items, TreeKind::CairnB3V1, Salting::Random).unwrap();

    let key = KeyPair::generate(scheme);
    let validators = vec![(key.public().clone(), 1)];
    let genesis =
        cairn_genesis::assemble("desk", 1_700_000_000_000, Params::default(), Admission::Open, validators)
            .unwrap();
    desk.write("genesis.json", cairn_genesis::to_json(&genesis));

    let proof = anchor(&genesis, &key, &batch);
    let receipt = batch.receipt(&AnchorReceipt::new(&proof, Vec::new()), 0).unwrap();
    desk.write("model.bin.cairn", cairn_receipt::to_json(&receipt));
    key
}

fn anchor(genesis: &Genesis, key: &KeyPair, batch: &Batch) -> AnchorProof {
    let proof = batch.proof(ProofKind::Batch, "order 7".into());
    let landing = Landing {
        seq: 0,
        proof_id: proof.id(genesis.chain(), key.address()),
        sender: key.address(),
        key_address: key.address(),
        tx_id: TxId::new(Hash([9; 32])),
        height: Height::new(1),
        time_ms: 1_700_000_060_000,
    };
    let record = Record::new(&proof, landing);
    let mut header = genesis.header(Hash([5; 32])).unwrap();
    header.parent = header.id();
    header.view = View::new(1);
    header.height = Height::new(1);
    header.time_ms = landing.time_ms;
    header.tx_count = 1;
    header.anchors_size = 1;
    header.anchors_root = TreeHash::Anchors.leaf(&record.to_bytes());
    let set = genesis.validator_set().unwrap();
    let draft = CommitCert::new(Epoch::ZERO, header.view, header.id(), set.count(), Vec::new());
    let signature = key.sign(&draft.preimage(genesis.chain()));
    let votes = vec![(ValidatorIndex(0), signature)];
    let certificate = CommitCert::new(Epoch::ZERO, header.view, header.id(), set.count(), votes);
    AnchorProof { record, path: Vec::new(), header, certificate, validators: set }
}

#[test]
fn help_names_every_verb_and_the_exit_codes() {
    let desk = Desk::new();
    let verbs = [
        "init",
        "start",
        "status",
        "keys",
        "genesis",
        "stamp",
        "verify",
        "info",
        "receipt",
        "rpc",
        "config",
        "signer",
        "load",
        "testnet",
        "completions",
        "Examples:",
        "Exit codes:",
    ];
    desk.run(0, "--help").out_has(&verbs);
    for verb in &verbs[..15] {
        desk.run(0, &format!("{verb} --help")).out_has(&["Usage: cairn", "--json"]);
    }
    desk.run(0, "--version").out_has(&[env!("CARGO_PKG_VERSION")]);
    desk.run(2, "stmap x").err_has(&["stmap", "stamp"]);
    desk.run(2, "");
    desk.run(0, "completions bash").out_has(&["_cairn"]);
}

#[test]
fn a_key_is_made_shown_listed_exported_and_imported() {
    let desk = Desk::new();
    for scheme in ["dilithium3", "ml-dsa-65"] {
        let made = desk
            .run(0, &format!("keys new --out {scheme}.json --scheme {scheme} --passphrase-file pass --json"));
        let address = made.json()["address"].as_str().unwrap().to_owned();
        assert_eq!(address.len(), 64);
        assert_eq!(mode(&desk.path(&format!("{scheme}.json"))), 0o600);
        desk.run(0, &format!("keys show {scheme}.json")).out_has(&[&address, scheme, "did:cairn:"]);
        desk.run(0, "keys list --dir .").out_has(&[&address]);
        let taken = desk.run(1, &format!("keys new --out {scheme}.json --passphrase-file pass"));
        taken.err_has(&["exists already", "never overwritten"]);

        desk.run(0, &format!("keys export {scheme}.json --public --out {scheme}.pub.json"))
            .out_has(&[&address]);
        let public = fs::read_to_string(desk.path(&format!("{scheme}.pub.json"))).unwrap();
        assert!(!public.contains("ciphertext"), "the public half holds no secret");

        desk.write("other", "another phrase");
        let copy = format!(
            "keys export {scheme}.json --out {scheme}.copy.json --passphrase-file pass --new-passphrase-file other"
        );
        desk.run(0, &copy);
        let import = format!("keys import {scheme}.copy.json --out {scheme}.back.json --passphrase-file");
        desk.run(1, &format!("{import} pass")).err_has(&["wrong passphrase"]);
        let imported = desk.run(0, &format!("{import} other --new-passphrase-file pass --json"));
        assert_eq!(imported.json()["address"], address.as_str());
        imported.err_has(&["warning: the passphrase file other may be read by others", "chmod 600"]);
    }
}

#[test]
fn no_passphrase_is_taken_from_anywhere_but_a_file_or_a_terminal() {
    let desk = Desk::new();
    desk.run(1, "keys new --out k.json").err_has(&["no terminal to ask on", "--passphrase-file"]);
    desk.run(2, "keys new --out k.json --passphrase secret").err_has(&["--passphrase"]);
    desk.write("empty", "\n");
    desk.run(1, "keys new --out k.json --passphrase-file empty").err_has(&["is empty"]);
    assert!(!desk.path("k.json").exists());
    desk.run(2, "keys new --scheme rsa").err_has(&["dilithium3 or ml-dsa-65"]);
    desk.run(0, "keys new --out open.json --no-passphrase");
}

#[test]
fn a_genesis_is_made_extended_checked_and_hashed() {
    let desk = Desk::new();
    for name in ["a", "b", "c"] {
        desk.run(0, &format!("keys new --out {name}.json --passphrase-file pass --scheme ml-dsa-65"));
    }
    desk.run(0, "keys export b.json --public --out b.pub.json");
    let made = desk.run(
        0,
        "genesis new --name my-chain --validator a.json=3 --validator b.pub.json --time 2026-12-01T12:00:00Z --param timeout_base_ms=600 --json",
    );
    assert_eq!(made.json()["total_power"], 4);
    let before = desk.run(0, "genesis hash genesis.json").out;
    assert_eq!(made.json()["hash"], before.trim());
    desk.run(1, "genesis new --name my-chain --validator a.json").err_has(&["never overwritten"]);
    desk.run(1, "genesis add genesis.json --validator a.json").err_has(&["already"]);
    desk.run(0, "genesis add genesis.json --validator c.json=2").out_has(&["3, total power 6"]);
    assert_ne!(desk.run(0, "genesis hash genesis.json").out, before, "other validators are another chain");
    desk.run(0, "genesis check genesis.json").out_has(&["my-chain", "2026-12-01T12:00:00.000Z", "open"]);

    let text = fs::read_to_string(desk.path("genesis.json")).unwrap();
    desk.write("changed.json", text.replace("\"timeout_base_ms\": 600", "\"timeout_base_ms\": 700"));
    desk.run(1, "genesis check changed.json").err_has(&["changed.json", "hash"]);
    desk.run(2, "genesis new --name x --out x.json --validator a.json --param timeout_bas_ms=1")
        .err_has(&["did you mean `timeout_base_ms`?"]);
    desk.run(1, "genesis new --name x --out x.json --validator a.json --param drift_ms=5000")
        .err_has(&["drift_ms"]);
    desk.run(1, "genesis new --name x --out x.json --validator gone.json").err_has(&["gone.json"]);
}

#[test]
fn init_makes_a_home_once_and_a_journal_for_a_validator_only() {
    let desk = Desk::new().with_home();
    for (name, expected) in [("home", 0o700), ("home/keys", 0o700), ("home/keys/validator.json", 0o600)] {
        assert_eq!(mode(&desk.path(name)), expected, "{name}");
    }
    assert!(desk.path("home/sign/safety").exists());
    desk.run(78, "init --home home --genesis genesis.json")
        .err_has(&["already a Cairn home", "nothing was changed"]);
    let follower = desk.run(0, "init --home f --genesis genesis.json --json").json();
    assert_eq!(follower["role"], "follower");
    assert!(!desk.path("f/sign").exists());
    desk.write("wrong", "not it");
    desk.run(1, "init --home w --genesis genesis.json --validator-key v.json --passphrase-file wrong")
        .err_has(&["wrong passphrase"]);
    assert!(!desk.path("w").exists(), "a refused init leaves nothing behind");
    desk.write("bad.json", "{}");
    desk.run(78, "init --home b --genesis bad.json").err_has(&["bad.json is refused"]);
    desk.run(78, "start --home nowhere").err_has(&["no Cairn home", "cairn init"]);
}

#[test]
fn configuration_faults_stop_the_start_with_78() {
    let desk = Desk::new().with_home();
    let original = fs::read_to_string(desk.path("home/config.toml")).unwrap();
    desk.run(0, "config check --home home").out_has(&["is fine"]);
    desk.run(0, "config show --home home").out_has(&["rpc.listen", "127.0.0.1:26657"]);
    desk.write("home/config.toml", format!("{original}\n[rcp]\nlisten = \"127.0.0.1:1\"\n"));
    for verb in ["start", "config check", "config show"] {
        desk.run(78, &format!("{verb} --home home"))
            .err_has(&["unknown key `rcp.listen`", "did you mean `rpc.listen`?"]);
    }
    desk.write("home/config.toml", &original);
    let mut command = desk.command("config show --home home --origin --json");
    let said = Said::of(0, "config show", command.env("CAIRN_LOG__LEVEL", "debug").output().unwrap()).json();
    let setting = |key: &str| {
        let settings = said["settings"].as_array().unwrap();
        settings.iter().find(|setting| setting["key"] == key).unwrap().clone()
    };
    assert_eq!(setting("log.level")["origin"], "$CAIRN_LOG__LEVEL");
    assert_eq!(setting("log.level")["value"], "debug");
    assert!(setting("rpc.listen")["origin"].as_str().unwrap().ends_with("home/config.toml"));
    desk.run(78, "start --home home --rpc-listen nowhere").err_has(&["`rpc.listen`", "--rpc-listen"]);
    let json = desk.run(78, "start --home home --rpc-listen nowhere --json").json();
    assert_eq!(json["error"]["exit_code"], 78);
}

#[test]
fn a_missing_or_foreign_journal_refuses_to_sign_with_90() {
    let desk = Desk::new().with_home();
    desk.run(0, "signer show --home home").out_has(&["voted", "never"]);
    desk.run(0, "signer export --home home --out watermark");
    assert_eq!(mode(&desk.path("watermark")), 0o600);
    fs::rename(desk.path("home/sign"), desk.path("sign-away")).unwrap();
    desk.run(90, "start --home home --passphrase-file pass")
        .err_has(&["no safety journal", "refusing to sign"]);
    desk.run(90, "signer show --home home").err_has(&["refusing to sign"]);
    desk.run(0, "signer import watermark --home home").out_has(&["watermark"]);
    let mut bytes = fs::read(desk.path("watermark")).unwrap();
    bytes[20] ^= 1;
    desk.write("torn", bytes);
    desk.run(90, "signer import torn --home home").err_has(&["checksum"]);
}

#[test]
fn a_wrong_passphrase_stops_the_start_with_78() {
    let desk = Desk::new().with_home();
    desk.write("wrong", "not it");
    desk.run(78, "start --home home --passphrase-file wrong").err_has(&["wrong passphrase"]);
}

#[test]
fn a_stamped_file_verifies_offline_with_the_genesis_alone() {
    for scheme in Scheme::ALL {
        let desk = Desk::new();
        stamped(&desk, scheme);
        let said = desk.run(0, "verify model.bin --genesis genesis.json");
        said.out_has(&[
            "VALID: model.bin",
            "block 1",
            "2023-11-14T22:14:20",
            "trust: genesis.json",
            "certificate",
        ]);
        let json = desk.run(0, "verify model.bin --genesis genesis.json --json").json();
        assert_eq!((&json["valid"], &json["failed"]), (&Value::Bool(true), &Value::Null));
        assert_eq!(json["checks"][0]["name"], "file");
        assert_eq!(json["trust"]["kind"], "genesis");
        let mut command = desk.command("verify model.bin");
        Said::of(
            0,
            "by $CAIRN_GENESIS",
            command.env("CAIRN_GENESIS", desk.path("genesis.json")).output().unwrap(),
        );
        fs::rename(desk.path("model.bin.cairn"), desk.path("moved.cairn")).unwrap();
        desk.run(0, "verify model.bin --receipt moved.cairn --genesis genesis.json");
        desk.run(0, "verify moved.cairn --genesis genesis.json").out_has(&["VALID", "no file was compared"]);
    }
}

#[test]
fn the_failed_check_of_a_refused_receipt_is_named() {
    let desk = Desk::new();
    stamped(&desk, Scheme::MlDsa65);
    let line = "verify model.bin --genesis genesis.json";
    desk.write("model.bin", "other weights");
    desk.run(1, line).out_has(&["INVALID", "`file` failed", "the receipt is for"]);
    desk.write("model.bin", "weights");
    let text = fs::read_to_string(desk.path("model.bin.cairn")).unwrap();
    let mut receipt: Value = serde_json::from_str(&text).unwrap();
    receipt["batch"]["index"] = 1.into();
    desk.write("model.bin.cairn", receipt.to_string());
    desk.run(1, line).out_has(&["INVALID", "`batch` failed"]);
    desk.write("model.bin.cairn", "{");
    desk.run(1, line).out_has(&["INVALID", "`format` failed"]);
    fs::remove_file(desk.path("model.bin.cairn")).unwrap();
    desk.run(1, line).err_has(&["no receipt model.bin.cairn", "cairn stamp model.bin"]);
}

#[test]
fn every_changed_bit_of_a_certificate_is_refused() {
    let desk = Desk::new();
    stamped(&desk, Scheme::MlDsa65);
    let text = fs::read_to_string(desk.path("model.bin.cairn")).unwrap();
    let receipt: Value = serde_json::from_str(&text).unwrap();
    let certificate = receipt["finality"]["certificate"].as_str().unwrap();
    for at in [0, 40, 100, 1_000, certificate.len() - 8] {
        let mut letters = certificate.to_owned().into_bytes();
        letters[at] = if letters[at] == b'A' { b'B' } else { b'A' };
        let mut changed = receipt.clone();
        changed["finality"]["certificate"] = String::from_utf8(letters).unwrap().into();
        desk.write("changed.cairn", changed.to_string());
        desk.run(1, "verify model.bin --receipt changed.cairn --genesis genesis.json").out_has(&["INVALID"]);
    }
}

#[test]
fn without_trust_a_verification_ends_with_4() {
    let desk = Desk::new();
    stamped(&desk, Scheme::MlDsa65);
    desk.run(4, "verify model.bin").err_has(&["no genesis to verify by", "--genesis"]);
    desk.run(4, "verify model.bin --genesis gone.json").err_has(&["gone.json"]);
    desk.run(0, "keys new --out k.json --no-passphrase");
    desk.run(0, "genesis new --name other --validator k.json --out other.json");
    desk.run(1, "verify model.bin --genesis other.json").out_has(&["INVALID", "`chain` failed"]);

    let text = fs::read_to_string(desk.path("model.bin.cairn")).unwrap();
    let mut receipt: Value = serde_json::from_str(&text).unwrap();
    receipt["finality"] = serde_json::json!({ "checkpoint": true });
    desk.write("short.cairn", receipt.to_string());
    desk.run(4, "verify model.bin --receipt short.cairn --genesis genesis.json")
        .out_has(&["`checkpoint` failed"]);
    let info = desk.run(0, "info model.bin.cairn --json").json();
    let block = info["header"]["block"].as_str().unwrap();
    let pinned =
        format!("verify model.bin --receipt short.cairn --genesis genesis.json --checkpoint {block}");
    desk.run(0, &pinned).out_has(&["VALID", "the checkpoint", "that you pinned"]);
}

#[test]
fn an_earlier_receipt_is_not_replaced_unasked() {
    let desk = Desk::new();
    stamped(&desk, Scheme::MlDsa65);
    let line = "stamp model.bin --no-passphrase --url http://127.0.0.1:9";
    desk.run(1, line).err_has(&["for this very file already", "2023-11-14T22:14:20", "--force"]);
    desk.run(1, &format!("{line} --sha256")).err_has(&["with the blake3 of a file", "--force"]);
    desk.write("model.bin", "other weights");
    desk.run(1, line).err_has(&["receipt for other content", "--force"]);
    desk.write("model.bin.cairn", "my notes");
    desk.run(1, line).err_has(&["is no receipt", "--force"]);
    desk.run(1, &format!("{line} --force")).err_has(&["does not answer"]);
}

#[test]
fn a_receipt_of_a_root_vouches_for_no_file() {
    let desk = Desk::new();
    stamped(&desk, Scheme::MlDsa65);
    let text = fs::read_to_string(desk.path("model.bin.cairn")).unwrap();
    let of_root = AnchorReceipt::of(&cairn_receipt::parse(&text).unwrap());
    desk.write("root.cairn", of_root.to_json());
    desk.run(0, "verify root.cairn --genesis genesis.json").out_has(&["VALID", "no file was compared"]);
    let line = "verify model.bin --receipt root.cairn --genesis genesis.json";
    desk.run(1, line).out_has(&["`file` failed", "speaks of no file", "cairn stamp"]);
}

#[test]
fn methods_are_listed_and_described_without_a_node() {
    let desk = Desk::new();
    desk.run(0, "rpc").out_has(&["proof_anchor", "chain_status", "--describe"]);
    desk.run(0, "rpc proof_get --describe").out_has(&[
        "proof_id",
        "not_found",
        "Example: cairn rpc proof_get",
    ]);
    desk.run(2, "rpc prof_get --describe").err_has(&["did you mean `proof_get`"]);
}

#[test]
fn info_draws_a_receipt_as_a_tree() {
    let desk = Desk::new();
    stamped(&desk, Scheme::Dilithium3);
    desk.run(0, "info model.bin.cairn").out_has(&[
        "├─ subject",
        "leaf 0, 2 steps",
        "cairn-b3-v1, 3 leaves",
        "\"order 7\"",
        "height 1, epoch 0, view 1",
        "1 signature, 3.4 kB",
        "nothing was checked",
    ]);
    let json = desk.run(0, "info model.bin.cairn --json").json();
    assert_eq!((&json["record"]["seq"], &json["record"]["leaves"]), (&0.into(), &3.into()));
    assert_eq!(json["finality"]["signers"], serde_json::json!([0]));
    desk.write("bad.cairn", "[]");
    desk.run(1, "info bad.cairn").err_has(&["bad.cairn is no receipt"]);
}

#[test]
fn a_node_that_does_not_answer_is_named() {
    let desk = Desk::new();
    for verb in ["status", "rpc chain_status"] {
        desk.run(1, &format!("{verb} --url http://127.0.0.1:9")).err_has(&["http://127.0.0.1:9"]);
    }
    desk.run(2, "rpc chain_block latest --url http://127.0.0.1:9").err_has(&["NAME=VALUE"]);
    desk.write("model.bin", "weights");
    desk.run(1, "stamp model.bin --url http://127.0.0.1:9 --no-passphrase").err_has(&["http://127.0.0.1:9"]);
    assert!(!desk.path("model.bin.cairn").exists());
    desk.run(1, "status --url http://127.0.0.1:9").err_has(&["hint: ", "--url", "cairn start"]);
    desk.run(1, "stamp gone.bin --url http://127.0.0.1:9 --no-passphrase").err_has(&["gone.bin"]);
}
