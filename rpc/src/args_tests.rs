use super::*;
use crate::method::{Shape, opt, req};

const FIELDS: &[Field] =
    &[req("root", Shape::Id, ""), opt("limit", Shape::Int, ""), opt("at", Shape::At, "")];

fn reason(fault: Fault) -> String {
    fault.to_string()
}

#[test]
fn parameters_go_by_name_or_by_position() {
    let hash = "ab".repeat(32);
    let mut named = Args::read(Some(&format!(r#"{{"root":"0x{hash}","limit":"7"}}"#)), FIELDS).expect("good");
    let mut placed = Args::read(Some(&format!(r#"["{hash}",7]"#)), FIELDS).expect("good");
    for args in [&mut named, &mut placed] {
        assert_eq!(args.hash("root"), Ok(Hash::from_hex(&hash)));
        assert_eq!(args.int("limit"), Ok(Some(7)));
        assert_eq!(args.block_ref("at"), Ok(BlockRef::Latest));
    }
}

#[test]
fn complaints_name_the_field_its_value_and_what_was_expected() {
    let read = |text: &str| Args::read(Some(text), FIELDS);
    assert_eq!(reason(read("{}").expect_err("missing")), "root is missing");
    assert_eq!(reason(read(r#"{"root":null}"#).expect_err("null is absent")), "root is missing");
    assert!(reason(read("5").expect_err("a number")).contains("by name"));
    assert!(reason(read("[1,2,3,4]").expect_err("too many")).contains("at most 3: root, limit, at"));
    let mut args = read(r#"{"root":"xyz","limit":-1,"at":1.5}"#).expect("names are known");
    assert_eq!(reason(args.hash("root").expect_err("no hex")), "root is \"xyz\"; expected 64 hex digits");
    assert_eq!(
        reason(args.int("limit").expect_err("negative")),
        "limit is -1; expected an integer from 0 to 2^64 - 1"
    );
    assert!(
        reason(args.block_ref("at").expect_err("a fraction")).starts_with("at is 1.5; expected a height")
    );
}

#[test]
fn long_values_are_not_repeated() {
    let long = "q".repeat(9_000);
    let mut args = Args::read(Some(&format!(r#"{{"root":"{long}"}}"#)), FIELDS).expect("known");
    assert_eq!(
        reason(args.hash("root").expect_err("no hex")),
        "root is a string of 9000 characters; expected 64 hex digits"
    );
    let unknown = Args::read(Some(&format!(r#"{{"{long}":1}}"#)), FIELDS).expect_err("unknown");
    assert!(reason(unknown).len() < 120);
}

#[test]
fn block_references_have_four_forms() {
    let id = "cd".repeat(32);
    for (text, expected) in [
        ("12".to_owned(), BlockRef::Height(Height::new(12))),
        ("latest".to_owned(), BlockRef::Latest),
        ("earliest".to_owned(), BlockRef::Earliest),
        (id.clone(), BlockRef::Id(cairn_types::BlockId::from_hex(&id).expect("hex"))),
    ] {
        assert_eq!(parse_block_ref_text(&text), Some(expected));
        assert_eq!(parse_block_ref(&Value::String(text)), Some(expected));
    }
    assert_eq!(parse_block_ref(&Value::from(12)), Some(BlockRef::Height(Height::new(12))));
    assert_eq!(parse_block_ref(&Value::from(-1)), None);
    assert_eq!(parse_block_ref_text("newest"), None);
    assert_eq!(parse_block_ref_text("+1"), None);
    let digits = "0".repeat(64);
    let id = cairn_types::BlockId::from_hex(&digits).expect("hex");
    assert_eq!(parse_block_ref_text(&digits), Some(BlockRef::Id(id)), "an id may be all digits");
    assert_eq!(parse_block_ref_text(&u64::MAX.to_string()), Some(BlockRef::Height(Height::new(u64::MAX))));
}

#[test]
fn addresses_may_be_dids() {
    let hex = "ef".repeat(32);
    for text in [hex.clone(), format!("0x{hex}"), format!("did:cairn:{hex}")] {
        assert_eq!(parse_address(&text), Address::from_hex(&hex), "{text}");
    }
    assert_eq!(parse_address("did:pn:abc"), None);
}
