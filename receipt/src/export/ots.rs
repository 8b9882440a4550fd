//! OpenTimestamps: how a file's SHA-256 leads, by prepending, appending and hashing alone, to a Cairn header.
//!
//! The attestation at the end is of our own kind, with the chain, the block and its height. Tools parse the file,
//! follow every step and show an unknown attestation: no calendar and no Bitcoin block vouches for it. Who
//! wants to know more checks that the message it ends with is a header of the chain, as a receipt shows.

use cairn_types::log::TreeHash;
use cairn_types::receipt::{BatchPath, Receipt};
use cairn_types::tree::{path_length, root_from_path};
use cairn_types::{Hash, Header, Record, TreeKind, decode};
use sha2::{Digest, Sha256};
use thiserror::Error;

const MAGIC: &[u8] = b"\x00OpenTimestamps\x00\x00Proof\x00\xbf\x89\xe2\xe8\x84\xe8\x92\x94";
const VERSION: u8 = 1;
const OP_SHA256: u8 = 0x08;
const OP_APPEND: u8 = 0xf0;
const OP_PREPEND: u8 = 0xf1;
const ATTESTATION: u8 = 0x00;
/// The tag of our attestation: ASCII, so that whoever meets it can look it up.
pub const OTS_ATTESTATION_TAG: [u8; 8] = *b"cairnlog";
/// Bytes that one operation may add, and that a message may have, at most (OpenTimestamps' own limits).
const MESSAGE_BYTES_MAX: usize = 4_096;

/// Why a receipt has no OpenTimestamps form, or a file of that form does not hold.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum OtsFault {
    #[error(
        "the receipt's batch is hashed with BLAKE3, which OpenTimestamps cannot express; stamp with --tree rfc9162-sha256 --sha256"
    )]
    NotSha256,
    #[error("the receipt's digest is `{got}`; OpenTimestamps files of this program are about sha256")]
    Algorithm { got: String },
    #[error("the {what} is malformed: {why}")]
    Malformed { what: &'static str, why: String },
    #[error("not an OpenTimestamps file as this program writes them: {why}")]
    Format { why: &'static str },
    #[error("the file leads to another header than {block}")]
    OtherHeader { block: String },
}

/// One step of a timestamp.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Step {
    Append(Vec<u8>),
    Prepend(Vec<u8>),
    Sha256,
}

impl Step {
    fn apply(&self, message: Vec<u8>) -> Vec<u8> {
        match self {
            Self::Append(suffix) => [message, suffix.clone()].concat(),
            Self::Prepend(prefix) => [prefix.clone(), message].concat(),
            Self::Sha256 => Sha256::digest(message).to_vec(),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let (op, bytes) = match self {
            Self::Append(bytes) => (OP_APPEND, Some(bytes)),
            Self::Prepend(bytes) => (OP_PREPEND, Some(bytes)),
            Self::Sha256 => (OP_SHA256, None),
        };
        out.push(op);
        if let Some(bytes) = bytes {
            write_varbytes(out, bytes);
        }
    }
}

fn write_varbytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut length = bytes.len();
    while length > 0x7f {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend(bytes);
}

/// The OpenTimestamps file of a receipt over SHA-256 alone: digest, batch tree and the log `anchors_sha256`.
/// `path` is the record's path in that log, at the size of the receipt's header.
///
/// # Errors
/// When the receipt is about other hashes, or a part is malformed. What is malformed leads elsewhere, and
/// [`verify_ots`] says so.
pub fn ots_of(receipt: &Receipt, path: &[Hash]) -> Result<Vec<u8>, OtsFault> {
    let malformed = |what, why: String| OtsFault::Malformed { what, why };
    let record: Record =
        decode(&receipt.record_bytes).map_err(|fault| malformed("record", fault.to_string()))?;
    let header: Header =
        decode(&receipt.header_bytes).map_err(|fault| malformed("header", fault.to_string()))?;
    if record.tree != TreeKind::Rfc9162Sha256 {
        return Err(OtsFault::NotSha256);
    }
    if receipt.subject.algorithm != "sha256" {
        return Err(OtsFault::Algorithm { got: receipt.subject.algorithm.clone() });
    }
    let mut steps = vec![Step::Prepend([&[0x00], receipt.subject.salt.as_slice()].concat()), Step::Sha256];
    let single = BatchPath { index: 0, path: Vec::new() };
    let place = receipt.batch.as_ref().unwrap_or(&single);
    climb(&mut steps, place.index, record.leaves, &place.path)
        .ok_or_else(|| malformed("batch path", "it does not fit the tree".to_owned()))?;
    steps.push(Step::Prepend([&[0x02], record.leaves.to_le_bytes().as_slice()].concat()));
    steps.push(Step::Sha256);
    surround(&mut steps, &receipt.record_bytes, &record.root, &[0x00])
        .ok_or_else(|| malformed("record", "it does not hold its root".to_owned()))?;
    steps.push(Step::Sha256);
    let root = root_from_path(
        TreeHash::AnchorsSha256,
        TreeHash::AnchorsSha256.leaf(&receipt.record_bytes),
        record.seq,
        header.anchors_size,
        path,
    );
    let leads = root.map_err(|fault| malformed("log path", fault.to_string()))?;
    if leads != header.anchors_sha256 {
        return Err(malformed("log path", format!("it leads to {leads}")));
    }
    climb(&mut steps, record.seq, header.anchors_size, path)
        .ok_or_else(|| malformed("log path", "it does not fit the log".to_owned()))?;
    surround(&mut steps, &receipt.header_bytes, &header.anchors_sha256, &[])
        .ok_or_else(|| malformed("header", "it does not hold the log's root".to_owned()))?;
    let mut out = [MAGIC, &[VERSION, OP_SHA256], receipt.subject.digest.as_bytes().as_slice()].concat();
    for step in &steps {
        step.write(&mut out);
    }
    out.push(ATTESTATION);
    out.extend(OTS_ATTESTATION_TAG);
    write_varbytes(&mut out, &attestation(&header));
    Ok(out)
}

/// What our attestation carries: chain, block id, height.
fn attestation(header: &Header) -> Vec<u8> {
    let height = header.height.get().to_le_bytes();
    [header.chain.as_bytes().as_slice(), header.id().as_bytes(), &height].concat()
}

/// The steps from a leaf to the root of an RFC 9162 tree.
fn climb(steps: &mut Vec<Step>, index: u64, size: u64, path: &[Hash]) -> Option<()> {
    if path_length(index, size)? != path.len() {
        return None;
    }
    let (mut node, mut last) = (index, size.checked_sub(1)?);
    let mut rest = path.iter();
    while last > 0 {
        if node & 1 == 1 {
            steps.push(Step::Prepend([&[0x01], rest.next()?.as_bytes().as_slice()].concat()));
            steps.push(Step::Sha256);
        } else if node < last {
            steps.push(Step::Append(rest.next()?.as_bytes().to_vec()));
            steps.push(Step::Prepend(vec![0x01]));
            steps.push(Step::Sha256);
        }
        node >>= 1;
        last >>= 1;
    }
    Some(())
}

/// The steps from `part` to `prefix ‖ whole`, which holds it.
fn surround(steps: &mut Vec<Step>, whole: &[u8], part: &Hash, prefix: &[u8]) -> Option<()> {
    let at = whole.windows(32).position(|window| window == part.as_bytes())?;
    let (before, after) = (whole.get(..at)?, whole.get(at.checked_add(32)?..)?);
    if !after.is_empty() {
        steps.push(Step::Append(after.to_vec()));
    }
    let before = [prefix, before].concat();
    if !before.is_empty() {
        steps.push(Step::Prepend(before));
    }
    Some(())
}

/// Reads bytes in order.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], OtsFault> {
        let (taken, rest) =
            self.0.split_at_checked(count).ok_or(OtsFault::Format { why: "the end came too early" })?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, OtsFault> {
        Ok(self.take(1)?.first().copied().unwrap_or_default())
    }

    fn varbytes(&mut self) -> Result<&'a [u8], OtsFault> {
        let mut length = 0usize;
        for shift in [0, 7] {
            let byte = self.byte()?;
            length |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                if shift > 0 && byte == 0 {
                    return Err(OtsFault::Format { why: "a length longer than needed" });
                }
                if length > MESSAGE_BYTES_MAX {
                    return Err(OtsFault::Format { why: "an operation over 4,096 bytes" });
                }
                return self.take(length);
            }
        }
        Err(OtsFault::Format { why: "an operation over 4,096 bytes" })
    }
}

/// Follows an OpenTimestamps file of the one form that [`ots_of`] writes: one path and our attestation. Gives
/// the digest it is about when it leads to exactly `header`, which the caller has verified elsewhere.
///
/// # Errors
/// What is otherwise.
pub fn verify_ots(bytes: &[u8], header_bytes: &[u8]) -> Result<Hash, OtsFault> {
    let format = |why| OtsFault::Format { why };
    let header: Header = decode(header_bytes)
        .map_err(|fault| OtsFault::Malformed { what: "header", why: fault.to_string() })?;
    let mut reader = Reader(bytes);
    if reader.take(MAGIC.len())? != MAGIC || reader.byte()? != VERSION || reader.byte()? != OP_SHA256 {
        return Err(format("another beginning"));
    }
    let digest = Hash(reader.take(32)?.try_into().map_err(|_| format("no digest"))?);
    let mut message = digest.as_bytes().to_vec();
    loop {
        let step = match reader.byte()? {
            OP_SHA256 => Step::Sha256,
            OP_APPEND => Step::Append(reader.varbytes()?.to_vec()),
            OP_PREPEND => Step::Prepend(reader.varbytes()?.to_vec()),
            ATTESTATION => break,
            _ => return Err(format("an operation that is not sha256, append or prepend")),
        };
        message = step.apply(message);
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(format("a message over 4,096 bytes"));
        }
    }
    if reader.take(8)? != OTS_ATTESTATION_TAG {
        return Err(format("another attestation"));
    }
    let claimed = reader.varbytes()?;
    if !reader.0.is_empty() {
        return Err(format("bytes after the end"));
    }
    if message != header_bytes || claimed != attestation(&header) {
        return Err(OtsFault::OtherHeader { block: header.id().to_string() });
    }
    Ok(digest)
}
