//! Time stamps by authorities that OpenSSL runs: needs the program `openssl`, and each run makes other keys.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cairn_receipt::{
    AnchorReceipt, CheckName, Document, ReceiptVerifier, TimeAuthorities, attach_timestamp, to_json,
};
use cairn_types::receipt::{Finality, Receipt};
use cairn_types::{Scheme, TreeKind};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::fixture::authority::{Office, TIME_STAMPING, statement};
use crate::fixture::{Batch, World, receipt};

/// A receipt relative to a checkpoint, and the offices that stamp it.
struct Scene {
    world: World,
    office: Office,
    receipt: Receipt,
}

impl Scene {
    fn new() -> Self {
        let (world, office) = (World::new(Scheme::MlDsa65), Office::new());
        let mut receipt = receipt(&world, &Batch::new(TreeKind::CairnB3V1, 2, true), 1);
        receipt.finality = Finality::Checkpoint;
        office.root("stranger", "/CN=Stranger");
        office.root("namesake", "/CN=Test Root");
        office.issue("root", "tsa", "ec:prime256v1", TIME_STAMPING);
        office.issue("root", "none", "ec:prime256v1", "keyUsage=digitalSignature");
        office.issue("root", "loose", "ec:prime256v1", "extendedKeyUsage=timeStamping");
        office.issue("root", "more", "ec:prime256v1", "extendedKeyUsage=critical,timeStamping,serverAuth");
        office.issue("stranger", "elsewhere", "ec:prime256v1", TIME_STAMPING);
        office.intermediate("root", "between");
        office.issue("between", "deep", "rsa:2048", TIME_STAMPING);
        Self { world, office, receipt }
    }

    /// The token in an authority's answer about these bytes.
    fn token(&self, authority: &str, bytes: &[u8], hash: &str, chain: Option<&str>) -> Vec<u8> {
        let mut document = Document::Receipt(Box::new(self.receipt.clone()));
        let answer = self.office.answer(authority, &self.office.request(bytes, hash), chain);
        attach_timestamp(&mut document, &answer).expect("it is of this receipt");
        let Document::Receipt(stamped) = document else { unreachable!("a receipt stays one") };
        let item: Value = serde_json::from_str(&stamped.external[0]).expect("JSON");
        STANDARD.decode(item["token"].as_str().expect("a token")).expect("base64")
    }

    fn case(&self, name: &str, root: Option<&str>, items: &[String], fails: Option<CheckName>) -> Value {
        let receipt = Receipt { external: items.to_vec(), ..self.receipt.clone() };
        let block = AnchorReceipt::of(&receipt).header().expect("a header").id();
        let mut trusted = self.world.trusted();
        trusted.checkpoints = vec![block];
        let pem = root
            .map(|root| String::from_utf8(self.office.read(&format!("{root}.pem"))).expect("PEM is text"));
        if let Some(pem) = &pem {
            trusted.authorities = TimeAuthorities::read(pem.as_bytes()).expect("a certificate");
        }
        let verdict = ReceiptVerifier::new(trusted).verify(&receipt);
        assert_eq!(verdict.failed().map(|check| check.name), fails, "{name}: {:?}", verdict.failed());
        let times: Vec<Value> = verdict
            .times
            .iter()
            .map(|it| json!({ "part": it.part.to_string(), "time_ms": it.time_ms, "accuracy_ms": it.accuracy_ms }))
            .collect();
        json!({ "name": name, "receipt": to_json(&receipt), "checkpoints": [block.to_string()], "authorities": pem,
                "valid": fails.is_none(), "fails": fails.map(CheckName::name), "times": times })
    }
}

fn item(token: &[u8]) -> String {
    json!({ "kind": "rfc3161", "token": STANDARD.encode(token) }).to_string()
}

/// Receipts with time stamps, and what comes of each under a given authority.
pub(crate) fn time_stamps() -> Value {
    let scene = Scene::new();
    let (record, header) = (scene.receipt.record_bytes.clone(), scene.receipt.header_bytes.clone());
    let hash: [u8; 32] = Sha256::digest(&record).into();
    let mut other_hash = hash;
    other_hash[31] ^= 1;
    let sign = |by: &str, hash: &[u8; 32], time: &str| item(&scene.office.sign(by, &statement(hash, time)));
    let (soon, _) = scene.office.soon();
    let own = scene.token("tsa", &record, "sha256", None);
    let mut flipped = own.clone();
    *flipped.last_mut().expect("not empty") ^= 1;
    let good = item(&own);
    let strange = item(&scene.token("elsewhere", &record, "sha256", None));
    let deep = item(&scene.token("deep", &header, "sha512", Some("between")));
    let pathless = item(&scene.token("deep", &header, "sha512", None));
    let (root, time) = (Some("root"), Some(CheckName::Time));
    let cases = vec![
        scene.case("the record, by an authority under the root", root, std::slice::from_ref(&good), None),
        scene.case("the header, through a certificate in the token", root, &[deep], None),
        scene.case("half a second, within the certificate", root, &[sign("tsa", &hash, &soon)], None),
        scene.case("a stranger's beside one that counts", root, &[strange.clone(), good.clone()], None),
        scene.case("nobody is trusted", None, &[good.clone(), item(b"junk")], None),
        scene.case("no time stamp", root, &[], time),
        scene.case("only a stranger's", root, &[strange], time),
        scene.case("no path to the root", root, &[pathless], time),
        scene.case(
            "under another root of the same name",
            Some("namesake"),
            std::slice::from_ref(&good),
            time,
        ),
        scene.case("a false one beside one that counts", root, &[good.clone(), item(&flipped)], time),
        scene.case("another hash", root, &[sign("tsa", &other_hash, &soon)], time),
        scene.case("a certificate without extended key usage", root, &[sign("none", &hash, &soon)], time),
        scene.case("a usage that is not critical", root, &[sign("loose", &hash, &soon)], time),
        scene.case("a usage beside timeStamping", root, &[sign("more", &hash, &soon)], time),
        scene.case("after the certificate", root, &[sign("tsa", &hash, "20990101000000Z")], time),
        scene.case("before the certificate", root, &[sign("tsa", &hash, "20010101000000Z")], time),
        scene.case("a fraction that ends in zero", root, &[sign("tsa", &hash, "20261121070000.50Z")], time),
        scene.case("no token", root, &[item(b"junk")], time),
        scene.case("a field too many", root, &[good.replacen('{', "{\"more\":1,", 1)], time),
    ];
    json!({ "genesis": cairn_genesis::to_json(&scene.world.genesis), "cases": cases })
}
