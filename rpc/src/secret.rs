//! Noticing secret keys in requests. A client in the field is known to send its secret key where its
//! signature belongs; such a request must be refused before anything decodes, stores or logs it.

use zeroize::Zeroize;

/// Lengths of secret keys, bytes: round-3 Dilithium3, and ML-DSA-65 with the 2023 draft.
const SECRET_BYTES: [usize; 2] = [4_000, 4_032];
/// The same in padded base64.
const SECRET_B64_CHARS: [usize; 2] = [5_336, 5_376];

/// Whether raw bytes sent as a signature have the length of a secret key.
pub(crate) fn is_secret_length(bytes: usize) -> bool {
    SECRET_BYTES.contains(&bytes)
}

/// Whether JSON text holds a string that looks like a secret key: hex of exactly a secret key's length
/// anywhere (no legitimate value has it), or base64 of that length under a name with `signature` in it.
pub(crate) fn looks_secret(json: &[u8]) -> bool {
    if json.len() < SECRET_BYTES[0] {
        return false;
    }
    let mut under_signature = false;
    let mut rest = json;
    while let Some(open) = rest.iter().position(|byte| *byte == b'"') {
        rest = rest.get(open + 1..).unwrap_or_default();
        let close = string_end(rest);
        let text = rest.get(..close).unwrap_or_default();
        rest = rest.get(close + 1..).unwrap_or_default();
        if rest.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':') {
            under_signature = contains_signature(text);
        } else if is_secret_text(text, under_signature) {
            return true;
        }
    }
    false
}

/// Overwrites a request that held a secret.
pub(crate) fn wipe(mut body: Vec<u8>) {
    body.zeroize();
}

/// Bytes looked through at a time for anything that could end a string.
const STRIDE_BYTES: usize = 64;

/// The position of the closing quote of a JSON string, or the end.
fn string_end(text: &[u8]) -> usize {
    // Nearly all of a transaction is one long string without escapes.
    let plain = |stride: &&[u8]| !stride.contains(&b'"') && !stride.contains(&b'\\');
    let passed = text.chunks(STRIDE_BYTES).take_while(plain).map(<[u8]>::len).sum();
    let mut escaped = false;
    for (at, byte) in text.iter().enumerate().skip(passed) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at,
            _ => {}
        }
    }
    text.len()
}

fn contains_signature(name: &[u8]) -> bool {
    name.windows(9).any(|part| part.eq_ignore_ascii_case(b"signature"))
}

/// Whether a JSON string, as it stands between its quotes, is a secret key. Escapes are resolved first: some
/// encoders write every `/` of base64 as `\/`.
fn is_secret_text(text: &[u8], under_signature: bool) -> bool {
    let secret =
        |text: &[u8]| is_secret_hex(text) || (under_signature && SECRET_B64_CHARS.contains(&text.len()));
    if !text.contains(&b'\\') {
        return secret(text);
    }
    let mut quoted = Vec::with_capacity(text.len() + 2);
    quoted.push(b'"');
    quoted.extend_from_slice(text);
    quoted.push(b'"');
    let resolved = serde_json::from_slice::<String>(&quoted);
    quoted.zeroize();
    resolved.is_ok_and(|mut text| {
        let found = secret(text.as_bytes());
        text.zeroize();
        found
    })
}

fn is_secret_hex(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"0x").unwrap_or(text);
    digits.len().is_multiple_of(2)
        && is_secret_length(digits.len() / 2)
        && digits.iter().all(u8::is_ascii_hexdigit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_lengths_are_noticed_in_hex_and_base64() {
        for length in SECRET_BYTES {
            let digits = "ab".repeat(length);
            assert!(looks_secret(format!(r#"{{"signature":"{digits}"}}"#).as_bytes()));
            assert!(looks_secret(format!(r#"{{"anything" : ["x", "0x{digits}"]}}"#).as_bytes()));
        }
        for length in SECRET_B64_CHARS {
            let text = "A".repeat(length);
            assert!(looks_secret(format!(r#"{{"signatures_b64":["{text}"]}}"#).as_bytes()));
            assert!(
                !looks_secret(format!(r#"{{"tx":"{text}"}}"#).as_bytes()),
                "a transaction may be so long"
            );
        }
    }

    #[test]
    fn a_string_ends_where_a_byte_by_byte_reader_says() {
        let slow = |text: &[u8]| {
            let mut escaped = false;
            text.iter().position(|byte| {
                let ends = *byte == b'"' && !escaped;
                escaped = *byte == b'\\' && !escaped;
                ends
            })
        };
        for at in 0..200 {
            let mut text = vec![b'a'; 200];
            text[at] = b'"';
            assert_eq!(string_end(&text), at);
            for backslash in [at.saturating_sub(1), at.saturating_sub(65), at / 2] {
                let mut escaped = text.clone();
                escaped[backslash] = b'\\';
                escaped.push(b'"');
                assert_eq!(string_end(&escaped), slow(&escaped).unwrap_or(escaped.len()), "{at} {backslash}");
            }
        }
        assert_eq!(string_end(&[b'a'; 130]), 130);
    }

    #[test]
    fn escapes_do_not_hide_a_secret() {
        let digits = "ab".repeat(4_000).replacen('a', "\\u0061", 3);
        assert!(looks_secret(format!(r#"{{"signature":"{digits}"}}"#).as_bytes()));
        let slashes = "\\/".repeat(5_376);
        assert!(looks_secret(format!(r#"{{"signature_b64":"{slashes}"}}"#).as_bytes()));
        assert!(!looks_secret(format!(r#"{{"tx":"{slashes}"}}"#).as_bytes()));
    }

    #[test]
    fn real_signatures_and_keys_pass() {
        for length in [3_309usize, 1_952, 32, 3_999, 4_001] {
            assert!(!looks_secret(format!(r#"{{"signature":"{}"}}"#, "ab".repeat(length)).as_bytes()));
        }
        assert!(!looks_secret(b"{}"));
        assert!(!looks_secret(&[b'"'; 9_000]));
    }
}
