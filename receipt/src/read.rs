//! Text to receipt, strictly.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cairn_types::Hash;
use cairn_types::receipt::{BatchPath, EpochHandover, Finality, Receipt, Subject};
use thiserror::Error;

use crate::RECEIPT_VERSION;
use crate::anchor::AnchorReceipt;
use crate::strict_json::Json;

/// Bytes of a receipt's text, at most: a certificate of 1,024 validators has 3 MB in base64, and each
/// hand-over between such sets adds 6 MB. Longer histories start from a checkpoint.
pub const RECEIPT_BYTES_MAX: usize = 32 << 20;
/// Hashes in one path, at most: no tree has more than 2^64 leaves.
const PATH_MAX: usize = 64;
/// Characters in the name of a hash algorithm, at most.
const ALGORITHM_CHARS_MAX: usize = 32;
/// Items of external evidence, at most.
pub(crate) const EXTERNAL_MAX: usize = 64;

/// Why a text is no receipt. Every message names the field.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum FormatFault {
    #[error("{got} bytes; a receipt has at most {RECEIPT_BYTES_MAX}")]
    TooLarge { got: usize },
    #[error("not JSON as receipts have it: {why}")]
    Json { why: String },
    #[error("`{field}` is missing")]
    Missing { field: String },
    #[error("`{field}` is no field of a receipt")]
    Unknown { field: String },
    #[error("`{field}` is {got}; expected {expected}")]
    Field { field: String, got: String, expected: String },
}

/// Reads a receipt. Says nothing about whether it is true: see [`crate::verify`].
///
/// # Errors
/// The first thing that is not exactly as specified.
pub fn parse(text: &str) -> Result<Receipt, FormatFault> {
    let mut fields = Fields::of_text(text)?;
    fields.version()?;
    let subject = subject(fields.required("subject")?)?;
    let batch = fields.optional("batch").map(batch).transpose()?;
    let AnchorReceipt { record_bytes, anchor_path, header_bytes, finality, epochs } = core(&mut fields)?;
    let external = fields.optional("external").map(external).transpose()?.unwrap_or_default();
    fields.finish()?;
    Ok(Receipt { subject, batch, record_bytes, anchor_path, header_bytes, finality, epochs, external })
}

/// Reads the part of a receipt that a node hands out.
pub(crate) fn parse_anchor(text: &str) -> Result<AnchorReceipt, FormatFault> {
    let mut fields = Fields::of_text(text)?;
    fields.version()?;
    let receipt = core(&mut fields)?;
    fields.finish()?;
    Ok(receipt)
}

fn core(fields: &mut Fields) -> Result<AnchorReceipt, FormatFault> {
    let record_bytes = base64(fields.required("record")?)?;
    let anchor_path = anchor_path(fields, PATH_MAX)?;
    let FinalFields { header_bytes, finality, epochs } = final_fields(fields)?;
    Ok(AnchorReceipt { record_bytes, anchor_path, header_bytes, finality, epochs })
}

/// The path under `anchor`, of at most `hashes_max`.
pub(crate) fn anchor_path(fields: &mut Fields, hashes_max: usize) -> Result<Vec<Hash>, FormatFault> {
    let mut anchor = Fields::of(fields.required("anchor")?)?;
    let path = path_of(anchor.required("path")?, hashes_max)?;
    anchor.finish()?;
    Ok(path)
}

/// A header with what makes it final: the end of every document.
pub(crate) struct FinalFields {
    pub(crate) header_bytes: Vec<u8>,
    pub(crate) finality: Finality,
    pub(crate) epochs: Vec<EpochHandover>,
}

pub(crate) fn final_fields(fields: &mut Fields) -> Result<FinalFields, FormatFault> {
    let header_bytes = base64(fields.required("header")?)?;
    let finality = finality(fields.required("finality")?)?;
    let epochs = fields.optional("epochs").map(epochs).transpose()?.unwrap_or_default();
    Ok(FinalFields { header_bytes, finality, epochs })
}

/// A value with its place in the text, `epochs[0].headers` for instance.
pub(crate) struct At {
    place: String,
    value: Json,
}

impl At {
    pub(crate) fn wrong(&self, expected: impl Into<String>) -> FormatFault {
        let got = match &self.value {
            Json::Text(text) => format!("{:?}", text.chars().take(80).collect::<String>()),
            Json::Number(number) => number.to_string(),
            other => other.kind().into(),
        };
        FormatFault::Field { field: self.place.clone(), got, expected: expected.into() }
    }

    pub(crate) fn text(&self) -> Result<&str, FormatFault> {
        match &self.value {
            Json::Text(text) => Ok(text),
            _ => Err(self.wrong("a string")),
        }
    }

    pub(crate) fn integer(&self) -> Result<u64, FormatFault> {
        match &self.value {
            Json::Number(number) => number.as_u64(),
            _ => None,
        }
        .ok_or_else(|| self.wrong("an integer from 0 to 2^64 - 1"))
    }

    /// The items of a list of `1..=count_max` (or 0, where `empty` is allowed).
    pub(crate) fn list(self, empty: bool, count_max: usize) -> Result<Vec<Self>, FormatFault> {
        match self.value {
            Json::List(items) if items.len() <= count_max && (empty || !items.is_empty()) => Ok(items
                .into_iter()
                .enumerate()
                .map(|(index, value)| Self { place: format!("{}[{index}]", self.place), value })
                .collect()),
            _ => {
                let least = u8::from(!empty);
                Err(self.wrong(format!("a list of {least} to {count_max}")))
            }
        }
    }
}

/// The fields of one object that have not been read yet.
pub(crate) struct Fields {
    place: String,
    fields: Vec<(String, Json)>,
}

impl Fields {
    pub(crate) fn of_text(text: &str) -> Result<Self, FormatFault> {
        if text.len() > RECEIPT_BYTES_MAX {
            return Err(FormatFault::TooLarge { got: text.len() });
        }
        let value =
            serde_json::from_str(text).map_err(|error| FormatFault::Json { why: error.to_string() })?;
        match value {
            Json::Object(fields) => Ok(Self { place: String::new(), fields }),
            other => Err(FormatFault::Json { why: format!("{} where an object belongs", other.kind()) }),
        }
    }

    pub(crate) fn of(at: At) -> Result<Self, FormatFault> {
        match at.value {
            Json::Object(fields) => Ok(Self { place: format!("{}.", at.place), fields }),
            _ => Err(at.wrong("an object")),
        }
    }

    pub(crate) fn optional(&mut self, name: &str) -> Option<At> {
        let at = self.fields.iter().position(|(key, _)| key == name)?;
        let (_, value) = self.fields.remove(at);
        Some(At { place: format!("{}{name}", self.place), value })
    }

    pub(crate) fn required(&mut self, name: &str) -> Result<At, FormatFault> {
        let missing = FormatFault::Missing { field: format!("{}{name}", self.place) };
        self.optional(name).ok_or(missing)
    }

    pub(crate) fn version(&mut self) -> Result<(), FormatFault> {
        let version = self.required("version")?;
        if version.integer()? == RECEIPT_VERSION {
            return Ok(());
        }
        Err(version.wrong(RECEIPT_VERSION.to_string()))
    }

    /// Whether a field of this name has not been read yet.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(key, _)| key == name)
    }

    pub(crate) fn finish(self) -> Result<(), FormatFault> {
        match self.fields.first() {
            None => Ok(()),
            Some((name, _)) => Err(FormatFault::Unknown { field: format!("{}{name}", self.place) }),
        }
    }
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

pub(crate) fn hash(at: &At) -> Result<Hash, FormatFault> {
    let text = at.text()?;
    let expected = "64 lower-case hex digits";
    if text.len() != 64 || !is_lower_hex(text) {
        return Err(at.wrong(expected));
    }
    Hash::from_hex(text).ok_or_else(|| at.wrong(expected))
}

fn path(at: At) -> Result<Vec<Hash>, FormatFault> {
    path_of(at, PATH_MAX)
}

/// A list of at most `hashes_max` hashes.
pub(crate) fn path_of(at: At, hashes_max: usize) -> Result<Vec<Hash>, FormatFault> {
    at.list(true, hashes_max)?.iter().map(hash).collect()
}

pub(crate) fn base64(at: At) -> Result<Vec<u8>, FormatFault> {
    // This engine refuses missing padding and non-zero trailing bits: one text for each value.
    STANDARD.decode(at.text()?).map_err(|error| at.wrong(format!("canonical base64 ({error})")))
}

fn subject(at: At) -> Result<Subject, FormatFault> {
    let mut fields = Fields::of(at)?;
    let subject = subject_fields(&mut fields)?;
    fields.finish()?;
    Ok(subject)
}

/// Digest, algorithm and salt.
pub(crate) fn subject_fields(fields: &mut Fields) -> Result<Subject, FormatFault> {
    let digest = hash(&fields.required("digest")?)?;
    let name = fields.required("algorithm")?;
    let algorithm = name.text()?.to_owned();
    let fits = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    if !(1..=ALGORITHM_CHARS_MAX).contains(&algorithm.len()) || !algorithm.bytes().all(fits) {
        return Err(name.wrong(format!("1 to {ALGORITHM_CHARS_MAX} characters of a-z, 0-9 and -")));
    }
    let salt = fields.optional("salt").map(|at| salt(&at)).transpose()?.unwrap_or_default();
    Ok(Subject { digest, algorithm, salt })
}

fn salt(at: &At) -> Result<Vec<u8>, FormatFault> {
    let text = at.text()?;
    let expected = "32 lower-case hex digits, or no such field";
    if text.len() != 32 || !is_lower_hex(text) {
        return Err(at.wrong(expected));
    }
    hex::decode(text).map_err(|_| at.wrong(expected))
}

fn batch(at: At) -> Result<BatchPath, FormatFault> {
    let mut fields = Fields::of(at)?;
    let index = fields.required("index")?.integer()?;
    let path = path(fields.required("path")?)?;
    fields.finish()?;
    Ok(BatchPath { index, path })
}

fn finality(at: At) -> Result<Finality, FormatFault> {
    let place = at.place.clone();
    let mut fields = Fields::of(at)?;
    let certificate = fields.optional("certificate").map(base64).transpose()?;
    let checkpoint = fields.optional("checkpoint");
    fields.finish()?;
    match (certificate, checkpoint) {
        (Some(certificate), None) => Ok(Finality::Certificate(certificate)),
        (None, Some(At { value: Json::Bool(true), .. })) => Ok(Finality::Checkpoint),
        (None, Some(at)) => Err(at.wrong("true")),
        (Some(_), Some(_)) => Err(FormatFault::Field {
            field: place,
            got: "a certificate and a checkpoint".into(),
            expected: "exactly one of them".into(),
        }),
        (None, None) => Err(FormatFault::Missing { field: format!("{place}.certificate") }),
    }
}

fn epochs(at: At) -> Result<Vec<EpochHandover>, FormatFault> {
    at.list(false, RECEIPT_BYTES_MAX)?
        .into_iter()
        .map(|at| {
            let mut fields = Fields::of(at)?;
            let headers = fields.required("headers")?.list(false, RECEIPT_BYTES_MAX)?;
            let handover = EpochHandover {
                headers: headers.into_iter().map(base64).collect::<Result<_, _>>()?,
                certificate: base64(fields.required("certificate")?)?,
                validators: base64(fields.required("validators")?)?,
            };
            fields.finish()?;
            Ok(handover)
        })
        .collect()
}

pub(crate) fn external(at: At) -> Result<Vec<String>, FormatFault> {
    Ok(at.list(false, EXTERNAL_MAX)?.iter().map(|at| at.value.to_text()).collect())
}
