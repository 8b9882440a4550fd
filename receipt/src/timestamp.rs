//! Time from outside the chain: RFC 3161 time-stamp tokens among a document's external evidence.
//!
//! A token says that a hash existed at a time. What it is of, it says itself: the hash is that of the record's or
//! of the header's bytes, as they stand in the document. Whom to believe is never in the document: a verifier
//! gives [`TimeAuthorities`], and without any no token counts.

mod authority;
mod token;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cairn_types::receipt::{Bundle, Receipt};
use cairn_types::{Header, Height, Record, decode};
use der::DateTime;
use serde_json::json;
use sha2::{Digest, Sha256};
use thiserror::Error;

pub use authority::TimeAuthorities;
use authority::{Doubt, check_signature};
use token::{HashName, Token, token_of_answer};

use crate::document::Document;
use crate::read::{self, Fields, FormatFault};
use crate::verdict::CheckName;
use crate::verify::{Passed, ReceiptVerifier, Run, Stop};

/// The `kind` of a time stamp among external evidence.
const KIND: &str = "rfc3161";

/// What a time stamp is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimedPart {
    /// The record with this place in the log. Such a token outlives a refresh of the receipt.
    Record(u64),
    /// The header of the block at this height.
    Header(Height),
}

impl fmt::Display for TimedPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record(seq) => write!(f, "record {seq}"),
            Self::Header(height) => write!(f, "the header of block {height}"),
        }
    }
}

/// That something existed no later than a time, by the word of an authority from outside the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalTime {
    /// What existed.
    pub part: TimedPart,
    /// When, Unix milliseconds.
    pub time_ms: u64,
    /// How far off that may be, milliseconds, where the authority says so.
    pub accuracy_ms: Option<u64>,
    /// The subject of the certificate that signed.
    pub authority: String,
    /// The subject of the given certificate that it leads to; empty of a time that is only claimed.
    pub root: String,
    /// The policy it was stamped under, an object identifier.
    pub policy: String,
    /// The token's serial number, lower-case hex.
    pub serial: String,
}

impl ExternalTime {
    fn new(part: TimedPart, token: &Token<'_>, authority: String, root: String) -> Self {
        let said = &token.statement;
        Self {
            part,
            time_ms: said.time_ms,
            accuracy_ms: said.accuracy_ms,
            authority,
            root,
            policy: said.policy.to_string(),
            serial: said.serial.clone(),
        }
    }

    fn sentence(&self) -> String {
        let time = date_ms(self.time_ms);
        let about = self.accuracy_ms.map_or_else(String::new, |ms| format!(" (give or take {ms} ms)"));
        format!("{} existed at {time}{about}, by {}, under {}", self.part, self.authority, self.root)
    }
}

/// Why no time stamp could be asked for or taken in.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum TimestampFault {
    #[error("a {kind} carries no external evidence; take a receipt, a bundle or a checkpoint")]
    Kind { kind: &'static str },
    #[error("malformed: {why}")]
    Document { why: String },
    #[error("no time stamp as RFC 3161 has it: {why}")]
    Token { why: String },
    #[error("the time stamp is of the {hash} {imprint}, which is neither a record nor the header in here")]
    OtherImprint { hash: &'static str, imprint: String },
    #[error("the time stamp does not hold: {why}")]
    False { why: String },
    #[error("it has {got} items of external evidence already, the most there may be")]
    Full { got: usize },
    #[error("it carries this very time stamp already")]
    Twice,
}

/// What in a document may be stamped, with the bytes whose hash a token is of.
pub(crate) struct Stamped<'a> {
    parts: Vec<(TimedPart, &'a [u8])>,
}

impl<'a> Stamped<'a> {
    pub(crate) fn receipt(receipt: &'a Receipt, passed: &Passed) -> Self {
        let mut stamped = Self::header(&receipt.header_bytes, passed);
        stamped.parts.extend(
            passed.records.iter().map(|it| (TimedPart::Record(it.seq), receipt.record_bytes.as_slice())),
        );
        stamped
    }

    pub(crate) fn bundle(bundle: &'a Bundle, passed: &Passed) -> Self {
        let mut stamped = Self::header(&bundle.header_bytes, passed);
        let records = passed.records.iter().zip(&bundle.batches);
        stamped.parts.extend(
            records.map(|(record, batch)| (TimedPart::Record(record.seq), batch.record_bytes.as_slice())),
        );
        stamped
    }

    pub(crate) fn header(bytes: &'a [u8], passed: &Passed) -> Self {
        Self { parts: vec![(TimedPart::Header(passed.header.height), bytes)] }
    }

    /// The same of a document that was not verified.
    fn unverified(records: &[&'a [u8]], header: &'a [u8]) -> Result<Self, String> {
        let height = decode::<Header>(header).map_err(|error| format!("the header: {error}"))?.height;
        let mut parts = vec![(TimedPart::Header(height), header)];
        for bytes in records {
            let record: Record = decode(bytes).map_err(|error| format!("a record: {error}"))?;
            parts.push((TimedPart::Record(record.seq), bytes));
        }
        Ok(Self { parts })
    }

    fn of(document: &'a Document) -> Result<Self, TimestampFault> {
        let stamped = match document {
            Document::Receipt(it) => Self::unverified(&[&it.record_bytes], &it.header_bytes),
            Document::Bundle(it) => {
                let records: Vec<&[u8]> =
                    it.batches.iter().map(|batch| batch.record_bytes.as_slice()).collect();
                Self::unverified(&records, &it.header_bytes)
            }
            Document::Checkpoint(it) => Self::unverified(&[], &it.header_bytes),
            other => return Err(TimestampFault::Kind { kind: other.kind() }),
        };
        stamped.map_err(|why| TimestampFault::Document { why })
    }

    /// The parts by their hashes.
    fn imprints(&self, hash: HashName) -> BTreeMap<Vec<u8>, TimedPart> {
        self.parts.iter().map(|(part, bytes)| (hash.hash(bytes), *part)).collect()
    }
}

/// The parts of a document by their hashes, each hash made once.
struct Imprints<'a> {
    stamped: Stamped<'a>,
    known: BTreeMap<HashName, BTreeMap<Vec<u8>, TimedPart>>,
}

impl<'a> Imprints<'a> {
    const fn new(stamped: Stamped<'a>) -> Self {
        Self { stamped, known: BTreeMap::new() }
    }

    /// What a token is of.
    fn find(&mut self, token: &Token<'_>) -> Result<TimedPart, TimestampFault> {
        let (hash, imprint) = &token.statement.imprint;
        let known = self.known.entry(*hash).or_insert_with(|| self.stamped.imprints(*hash));
        known
            .get(imprint)
            .copied()
            .ok_or_else(|| TimestampFault::OtherImprint { hash: hash.name(), imprint: hex::encode(imprint) })
    }
}

/// The bytes of an item of external evidence that says to be a time stamp; `None` of any other item.
fn token_bytes(item: &str) -> Option<Result<Vec<u8>, FormatFault>> {
    let mut fields = Fields::of_text(item).ok()?;
    let is_one = fields.optional("kind")?.text().is_ok_and(|kind| kind == KIND);
    is_one.then(|| {
        let bytes = read::base64(fields.required("token")?)?;
        fields.finish()?;
        Ok(bytes)
    })
}

/// Whether an item of external evidence says to be a time stamp.
pub(crate) fn is_timestamp(item: &str) -> bool {
    token_bytes(item).is_some()
}

/// The external evidence that is still about something in a document of these parts: all of it, but for time stamps
/// of a header or record that is there no longer.
pub(crate) fn still_fitting(external: &[String], records: &[&[u8]], header: &[u8]) -> Vec<String> {
    if !external.iter().any(|item| is_timestamp(item)) {
        return external.to_vec();
    }
    let Ok(stamped) = Stamped::unverified(records, header) else { return external.to_vec() };
    let mut imprints = Imprints::new(stamped);
    let mut fits = |item: &String| match token_bytes(item) {
        Some(Ok(bytes)) => Token::read(&bytes).map_or(true, |token| imprints.find(&token).is_ok()),
        _ => true,
    };
    external.iter().filter(|item| fits(item)).cloned().collect()
}

/// The request (`TimeStampReq`, DER) that any RFC 3161 authority answers: for the SHA-256 of a document's record when
/// it has exactly one, else of its header; and which of them it is.
///
/// # Errors
/// When the document carries no external evidence, or is malformed.
pub fn timestamp_request(document: &Document) -> Result<(TimedPart, Vec<u8>), TimestampFault> {
    let stamped = Stamped::of(document)?;
    let chosen = match stamped.parts.as_slice() {
        [_, record] => Some(record),
        parts => parts.first(),
    };
    let (part, bytes) = chosen.ok_or_else(|| TimestampFault::Document { why: "nothing to stamp".into() })?;
    Ok((*part, token::request(&Sha256::digest(bytes).into())))
}

/// Takes an authority's answer (`TimeStampResp` or a bare token, DER) into a document. That the token is of something
/// in the document, and signed by the certificate it carries, is checked; whose certificate that is, only
/// [`crate::ReceiptVerifier`] can say.
///
/// # Errors
/// Everything that would keep the token from ever counting; the document is then as it was.
pub fn attach_timestamp(document: &mut Document, answer: &[u8]) -> Result<ExternalTime, TimestampFault> {
    let bytes = token_of_answer(answer).map_err(|why| TimestampFault::Token { why })?;
    let token = Token::read(bytes).map_err(|why| TimestampFault::Token { why })?;
    let part = Imprints::new(Stamped::of(document)?).find(&token)?;
    let authority = check_signature(&token).map_err(|why| TimestampFault::False { why })?;
    let kind = document.kind();
    let external = match document {
        Document::Receipt(it) => &mut it.external,
        Document::Bundle(it) => &mut it.external,
        Document::Checkpoint(it) => &mut it.external,
        _ => return Err(TimestampFault::Kind { kind }),
    };
    let item = json!({ "kind": KIND, "token": STANDARD.encode(bytes) }).to_string();
    if external.contains(&item) {
        return Err(TimestampFault::Twice);
    }
    if external.len() >= read::EXTERNAL_MAX {
        return Err(TimestampFault::Full { got: external.len() });
    }
    external.push(item);
    Ok(ExternalTime::new(part, &token, authority, String::new()))
}

/// The times that a document's time stamps claim, for showing what is in it. Nothing of them is checked but that
/// they can be read; what a claim is wrong about is said in its place.
pub fn claimed_times(document: &Document) -> Vec<Result<ExternalTime, String>> {
    let external: &[String] = match document {
        Document::Receipt(it) => &it.external,
        Document::Bundle(it) => &it.external,
        Document::Checkpoint(it) => &it.external,
        _ => &[],
    };
    let claim = |bytes: Result<Vec<u8>, FormatFault>| -> Result<ExternalTime, String> {
        let bytes = bytes.map_err(|fault| fault.to_string())?;
        let token = Token::read(&bytes)?;
        let stamped = Stamped::of(document).map_err(|fault| fault.to_string())?;
        let part = Imprints::new(stamped).find(&token).map_err(|fault| fault.to_string())?;
        let authority = check_signature(&token)?;
        Ok(ExternalTime::new(part, &token, authority, String::new()))
    };
    external.iter().filter_map(|item| token_bytes(item)).map(claim).collect()
}

impl ReceiptVerifier {
    /// Checks the time stamps among external evidence, when the verifier trusts any authority. One that is false
    /// fails, and so does a document without any that counts; one by an unknown authority is left unverified
    /// beside one that counts. Gives the items that were not verified.
    pub(crate) fn check_times(
        &self,
        run: &mut Run,
        stamped: Stamped<'_>,
        external: &[String],
    ) -> Result<Vec<String>, Stop> {
        let authorities = &self.trusted().authorities;
        if authorities.is_empty() {
            return Ok(external.to_vec());
        }
        let (mut imprints, mut others, mut unknown) = (Imprints::new(stamped), Vec::new(), None);
        for item in external {
            let Some(bytes) = token_bytes(item) else {
                others.push(item.clone());
                continue;
            };
            match judge(authorities, &mut imprints, bytes) {
                Ok(time) => {
                    run.check(CheckName::Time, Ok(((), time.sentence())))?;
                    run.times.push(time);
                }
                Err(Doubt::Unknown(why)) => {
                    unknown = unknown.or(Some(why));
                    others.push(item.clone());
                }
                Err(Doubt::False(why)) => run.check(CheckName::Time, Err(why))?,
            }
        }
        if run.times.is_empty() {
            let why = unknown.unwrap_or_else(|| "it carries no time stamp (RFC 3161)".to_owned());
            run.check::<()>(CheckName::Time, Err(why))?;
        }
        Ok(others)
    }

    /// For documents that cannot carry a time stamp: asking for one fails.
    pub(crate) fn no_time(&self, run: &mut Run, passed: Passed) -> Result<Passed, Stop> {
        let stamped = Stamped { parts: Vec::new() };
        self.check_times(run, stamped, &[]).map(|_| passed)
    }
}

fn judge(
    authorities: &TimeAuthorities,
    imprints: &mut Imprints<'_>,
    bytes: Result<Vec<u8>, FormatFault>,
) -> Result<ExternalTime, Doubt> {
    let bytes = bytes.map_err(|fault| Doubt::False(format!("the time stamp: {fault}")))?;
    let token = Token::read(&bytes).map_err(|why| Doubt::False(format!("the time stamp: {why}")))?;
    let part = imprints.find(&token).map_err(|fault| Doubt::False(fault.to_string()))?;
    let signed = authorities.judge(&token).map_err(|doubt| match doubt {
        Doubt::False(why) => Doubt::False(format!("the time stamp: {why}")),
        unknown => unknown,
    })?;
    Ok(ExternalTime::new(part, &token, signed.authority, signed.root))
}

/// Unix seconds for people.
fn date(seconds: u64) -> String {
    DateTime::from_unix_duration(Duration::from_secs(seconds))
        .map_or_else(|_| format!("{seconds} s"), |time| time.to_string())
}

/// Unix milliseconds for people.
fn date_ms(ms: u64) -> String {
    let whole = date(ms / 1_000);
    match ms % 1_000 {
        0 => whole,
        rest => whole.replace('Z', &format!(".{rest:03}Z")),
    }
}
