//! Receipts with one bit changed.

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// A place in a receipt where a bit is changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// What it is, for people.
    pub(super) name: &'static str,
    pointer: &'static str,
    encoding: Encoding,
}

#[derive(Clone, Copy, Debug)]
enum Encoding {
    Hex,
    Base64,
}

/// One place for each thing a receipt claims: what was anchored, where, and by whose word.
pub(super) const PLACES: [Place; 4] = [
    Place { name: "the digest", pointer: "/subject/digest", encoding: Encoding::Hex },
    Place { name: "the record", pointer: "/record", encoding: Encoding::Base64 },
    Place { name: "the header", pointer: "/header", encoding: Encoding::Base64 },
    Place { name: "the certificate", pointer: "/finality/certificate", encoding: Encoding::Base64 },
];

/// The receipt with one bit changed in the middle of `place`.
pub(super) fn flip(receipt: &str, place: Place) -> Result<String> {
    let mut receipt: Value = serde_json::from_str(receipt).context("the receipt is no JSON")?;
    let field = receipt
        .pointer_mut(place.pointer)
        .with_context(|| format!("the receipt has no {}", place.pointer))?;
    let Some(text) = field.as_str() else { bail!("{} is no text", place.pointer) };
    let mut bytes = match place.encoding {
        Encoding::Hex => hex::decode(text)?,
        Encoding::Base64 => STANDARD.decode(text)?,
    };
    let middle = bytes.len() / 2;
    let byte = bytes.get_mut(middle).with_context(|| format!("{} is empty", place.pointer))?;
    *byte ^= 1;
    *field = match place.encoding {
        Encoding::Hex => hex::encode(bytes),
        Encoding::Base64 => STANDARD.encode(bytes),
    }
    .into();
    Ok(receipt.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_bit_changes() {
        let receipt = r#"{"subject":{"digest":"0000ff"},"record":"AAAA"}"#;
        let flipped = |place| serde_json::from_str::<Value>(&flip(receipt, place).unwrap()).unwrap();
        let with = |digest: &str, record: &str| serde_json::json!({ "subject": { "digest": digest }, "record": record });
        assert_eq!(flipped(PLACES[0]), with("0001ff", "AAAA"));
        assert_eq!(flipped(PLACES[1]), with("0000ff", "AAEA"));
        assert!(flip(receipt, PLACES[2]).unwrap_err().to_string().contains("/header"));
    }
}
