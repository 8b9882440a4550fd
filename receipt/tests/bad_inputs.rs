//! `docs/bad-inputs/documents.md`: what comes of every bad document, as verifying it says. Run with
//! `CAIRN_WRITE_DOCS=1` to write it again.

mod fixture;

use std::fmt::Write as _;

use cairn_crypto::NoteKey;
use cairn_receipt::ReceiptVerifier;
use cairn_receipt::export::{TlogProof, note_verifier_key, parse_cose, parse_verifier_key, verify_ots};
use cairn_types::Scheme;
use fixture::documents::Log;
use fixture::{Group, World, cases, documents, states};

const HEAD: &str = "\
# Bad documents, and what verifying them says

<!-- Made by `receipt/tests/bad_inputs.rs` from the verifier's own answers; the test fails when they differ. -->

Each document was made from a valid one by a single change, as named, and signed again where the change
is under a signature. The answer is the check that failed and its words; the checks after it are not run. `…` stands for hex digits.
";

/// Words with everything long and hexadecimal left out, fit for a cell of a table.
fn cell(words: &str) -> String {
    let mut out = String::new();
    for word in words.split_inclusive(|it: char| !it.is_ascii_alphanumeric()) {
        let hex = word.trim_end_matches(|it: char| !it.is_ascii_alphanumeric());
        if hex.len() >= 16 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            out.push('…');
            out.push_str(&word[hex.len()..]);
        } else {
            out.push_str(word);
        }
    }
    out.replace('|', "\\|").replace('\n', " ")
}

fn table(page: &mut String, title: &str, rows: &[(String, String, String)]) {
    assert!(!rows.is_empty(), "{title}");
    let _ = write!(page, "\n## {title}\n\n| tried | check | answer |\n|---|---|---|\n");
    for (tried, check, answer) in rows {
        let _ = writeln!(page, "| {} | `{check}` | {} |", cell(tried), cell(answer));
    }
}

/// The failures of every bad case of a group, under any document's verification.
fn failures(group: &Group) -> Vec<(String, String, String)> {
    let bad = group.cases.iter().filter(|case| case.fails.is_some());
    bad.map(|case| {
        let mut trusted = group.world.trusted();
        trusted.checkpoints.clone_from(&case.checkpoints);
        let (_, verdict) = ReceiptVerifier::new(trusted).verify_any(&case.text);
        let check = verdict.failed().unwrap_or_else(|| panic!("{} is accepted", case.name));
        (case.name.to_owned(), check.name.name().to_owned(), check.detail.clone())
    })
    .collect()
}

fn state_failures(group: &Group) -> Vec<(String, String, String)> {
    let bad = group.cases.iter().filter(|case| case.fails.is_some());
    bad.map(|case| {
        let mut trusted = group.world.trusted();
        trusted.checkpoints.clone_from(&case.checkpoints);
        let outcome = ReceiptVerifier::new(trusted).verify_state_json(&case.text);
        let check = outcome.verdict.failed().unwrap_or_else(|| panic!("{} is accepted", case.name));
        (case.name.to_owned(), check.name.name().to_owned(), check.detail.clone())
    })
    .collect()
}

/// Files of other worlds that are none.
fn exports() -> Vec<(String, String, String)> {
    let key = NoteKey::from_seed(&[1; 32]).expect("any seed");
    let tlog = |text: &str| TlogProof::parse(text).map(|_| ()).expect_err("no tlog-proof").to_string();
    let cose = |bytes: &[u8]| parse_cose(bytes).map(|_| ()).expect_err("no COSE receipt").to_string();
    let name = |text: &str| parse_verifier_key(text).map(|_| ()).expect_err("no key").to_string();
    let world = World::new(Scheme::MlDsa65);
    let header = cairn_types::encode(&Log::new(&world).header);
    let ots = |bytes: &[u8]| verify_ots(bytes, &header).expect_err("no proof").to_string();
    let key_line = note_verifier_key(world.chain, key.public(), false);
    [
        ("a tlog-proof: empty", "tlog-proof", tlog("")),
        ("a tlog-proof of another version", "tlog-proof", tlog("c2sp.org/tlog-proof@v9\nindex 0\n\n")),
        ("a tlog-proof without a checkpoint", "tlog-proof", tlog("c2sp.org/tlog-proof@v1\nindex 0\n")),
        ("a tlog-proof whose index is a word", "tlog-proof", tlog("c2sp.org/tlog-proof@v1\nindex one\n\n")),
        ("a verifier key that is no line of one", "key", name("key")),
        ("a verifier key under a changed name", "key", name(&key_line.replacen("cairn", "cairm", 1))),
        ("a COSE receipt: empty", "cose", cose(&[])),
        ("a COSE receipt: an integer", "cose", cose(&[1])),
        ("a COSE receipt: an array that breaks off", "cose", cose(&[0xd2, 0x84, 0x40])),
        ("an OpenTimestamps proof: empty", "ots", ots(&[])),
        ("an OpenTimestamps proof: other bytes", "ots", ots(b"\x00OpenTimestamps")),
    ]
    .map(|(tried, check, answer)| (tried.to_owned(), check.to_owned(), answer))
    .into()
}

#[test]
fn the_page_of_bad_documents_is_what_verifying_says() {
    let scheme = Scheme::MlDsa65;
    let mut page = HEAD.to_owned();
    let receipts: Vec<_> = cases::all(scheme).iter().flat_map(failures).collect();
    table(&mut page, "Receipts", &receipts);
    let others = failures(&documents::all(scheme));
    table(&mut page, "Bundles, consistency proofs and checkpoints", &others);
    table(&mut page, "State documents", &state_failures(&states::documents(scheme)));
    table(&mut page, "State documents within a receipt", &failures(&states::receipts(scheme)));
    table(&mut page, "Exports", &exports());
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/bad-inputs/documents.md");
    if std::env::var_os("CAIRN_WRITE_DOCS").is_some() {
        std::fs::write(&path, &page).expect("docs/ is writable");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/bad-inputs/documents.md is not what verifying says; run this test with CAIRN_WRITE_DOCS=1"
    );
}
