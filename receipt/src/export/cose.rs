//! COSE receipts (RFC 9942) of the SHA-256 log: a COSE_Sign1 over the root, detached, with the inclusion proof
//! of a record in its unprotected header.

use cairn_crypto::{NoteKey, verify_note};
use cairn_types::Hash;
use cairn_types::log::TreeHash;
use cairn_types::tree::root_from_path;
use thiserror::Error;

/// Header label of the algorithm (RFC 9052), and EdDSA (RFC 9053).
const ALG: u64 = 1;
const EDDSA: i64 = -8;
/// Header label of the key's id; ours is the Ed25519 public key.
const KID: u64 = 4;
/// Header label of the verifiable data structure, and RFC9162_SHA256 (RFC 9942).
const VDS: u64 = 395;
const RFC9162_SHA256: u64 = 1;
/// Header label of the proofs, and of inclusion proofs among them.
const VDP: u64 = 396;
const INCLUSION: i64 = -1;
/// CBOR tag of a COSE_Sign1.
const COSE_SIGN1: u64 = 18;
/// Hashes of a path, at most.
const PATH_MAX: u64 = 64;

/// Why bytes are no COSE receipt of ours, or do not hold.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum CoseFault {
    #[error("not a COSE receipt as this program writes them: {why} at byte {at}")]
    Format { why: &'static str, at: usize },
    #[error("the record does not lead to a root: {why}")]
    Path { why: String },
    #[error("the signature over root {root} does not verify under the key given")]
    Signature { root: Hash },
}

/// CBOR's deterministic encoding (RFC 8949, section 4.2.1), of what is needed here.
#[derive(Default)]
struct Cbor(Vec<u8>);

impl Cbor {
    fn head(&mut self, major: u8, value: u64) {
        let bytes = value.to_be_bytes();
        let (info, width) = match value {
            0..=23 => (bytes[7], 0),
            24..=0xff => (24, 1),
            0x100..=0xffff => (25, 2),
            0x1_0000..=0xffff_ffff => (26, 4),
            _ => (27, 8),
        };
        self.0.push(major << 5 | info);
        self.0.extend(bytes.iter().skip(8 - width));
    }

    fn uint(mut self, value: u64) -> Self {
        self.head(0, value);
        self
    }

    fn int(mut self, value: i64) -> Self {
        match u64::try_from(value) {
            Ok(value) => self.head(0, value),
            Err(_) => self.head(1, value.unsigned_abs() - 1),
        }
        self
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.head(2, bytes.len() as u64);
        self.0.extend(bytes);
        self
    }

    fn text(mut self, text: &str) -> Self {
        self.head(3, text.len() as u64);
        self.0.extend(text.as_bytes());
        self
    }

    fn array(mut self, items: u64) -> Self {
        self.head(4, items);
        self
    }

    fn map(mut self, pairs: u64) -> Self {
        self.head(5, pairs);
        self
    }

    fn tag(mut self, tag: u64) -> Self {
        self.head(6, tag);
        self
    }

    fn null(mut self) -> Self {
        self.0.push(0xf6);
        self
    }
}

fn protected(public: &[u8; 32]) -> Vec<u8> {
    Cbor::default().map(3).uint(ALG).int(EDDSA).uint(KID).bytes(public).uint(VDS).uint(RFC9162_SHA256).0
}

/// The COSE Sig_structure over a root: what a note key signs.
pub fn cose_root_to_sign(public: &[u8; 32], root: &Hash) -> Vec<u8> {
    let structure = Cbor::default().array(4).text("Signature1").bytes(&protected(public)).bytes(&[]);
    structure.bytes(root.as_bytes()).0
}

/// The signature of `key` over the log's root: what a node hands out, good for every record below `size`.
pub fn cose_key(key: &NoteKey, root: &Hash) -> [u8; 64] {
    key.sign(&cose_root_to_sign(key.public(), root))
}

/// A COSE receipt's parts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CoseReceipt {
    /// The Ed25519 public key that signed; carried as the key id.
    pub public: [u8; 32],
    /// Records in the log.
    pub size: u64,
    /// The record's `seq`.
    pub index: u64,
    /// Its path, nearest sibling first.
    pub path: Vec<Hash>,
    /// The signature over the root that these imply.
    pub signature: [u8; 64],
}

/// The receipt's bytes: CBOR tag 18, payload detached.
pub fn cose_receipt(receipt: &CoseReceipt) -> Vec<u8> {
    let proof =
        Cbor::default().array(3).uint(receipt.size).uint(receipt.index).array(receipt.path.len() as u64);
    let proof = receipt.path.iter().fold(proof, |cbor, hash| cbor.bytes(hash.as_bytes())).0;
    let unprotected = |cbor: Cbor| cbor.map(1).uint(VDP).map(1).int(INCLUSION).array(1).bytes(&proof);
    let whole = Cbor::default().tag(COSE_SIGN1).array(4).bytes(&protected(&receipt.public));
    unprotected(whole).null().bytes(&receipt.signature).0
}

/// Reads exactly what [`cose_receipt`] writes, and nothing else.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn bad(&self, why: &'static str) -> CoseFault {
        CoseFault::Format { why, at: self.at }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], CoseFault> {
        let end = self.at.checked_add(count).ok_or_else(|| self.bad("a length beyond the end"))?;
        let taken = self.bytes.get(self.at..end).ok_or_else(|| self.bad("the end came too early"))?;
        self.at = end;
        Ok(taken)
    }

    fn head(&mut self, major: u8) -> Result<u64, CoseFault> {
        let began = self.at;
        let first = self.take(1)?.first().copied().unwrap_or_default();
        if first >> 5 != major {
            return Err(CoseFault::Format { why: "another kind of value", at: began });
        }
        let width = match first & 31 {
            small @ 0..=23 => return Ok(u64::from(small)),
            24 => 1,
            25 => 2,
            26 => 4,
            27 => 8,
            _ => return Err(self.bad("an indefinite length")),
        };
        let value = self.take(width)?.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
        let mut again = Cbor::default();
        again.head(major, value);
        if again.0.len() != width + 1 {
            return Err(CoseFault::Format { why: "a number longer than needed", at: began });
        }
        Ok(value)
    }

    fn expect(&mut self, expected: &[u8], why: &'static str) -> Result<(), CoseFault> {
        let began = self.at;
        if self.take(expected.len())? != expected {
            return Err(CoseFault::Format { why, at: began });
        }
        Ok(())
    }

    fn bytes(&mut self) -> Result<&'a [u8], CoseFault> {
        let length = usize::try_from(self.head(2)?).map_err(|_| self.bad("a length beyond the end"))?;
        self.take(length)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], CoseFault> {
        self.bytes()?.try_into().map_err(|_| self.bad("a byte string of another length"))
    }

    fn end(&self) -> Result<(), CoseFault> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(self.bad("bytes after the end")) }
    }
}

/// Reads a COSE receipt of the one form that [`cose_receipt`] writes. Verifies nothing.
///
/// # Errors
/// The first thing that is otherwise.
pub fn parse_cose(bytes: &[u8]) -> Result<CoseReceipt, CoseFault> {
    let mut reader = Reader { bytes, at: 0 };
    reader.expect(&Cbor::default().tag(COSE_SIGN1).array(4).0, "no COSE_Sign1")?;
    let header = reader.bytes()?;
    let public = header.get(6..38).and_then(|key| key.try_into().ok());
    let public = public.filter(|public| protected(public) == header);
    let public = public.ok_or_else(|| reader.bad("another protected header"))?;
    reader.expect(&Cbor::default().map(1).uint(VDP).map(1).int(INCLUSION).array(1).0, "another header")?;
    let mut proof = Reader { bytes: reader.bytes()?, at: 0 };
    proof.expect(&Cbor::default().array(3).0, "another inclusion proof")?;
    let (size, index, hashes) = (proof.head(0)?, proof.head(0)?, proof.head(4)?);
    if hashes > PATH_MAX {
        return Err(proof.bad("more than 64 hashes"));
    }
    let path = (0..hashes).map(|_| proof.fixed().map(Hash)).collect::<Result<Vec<_>, _>>()?;
    proof.end()?;
    reader.expect(&Cbor::default().null().0, "a payload that is not detached")?;
    let signature = reader.fixed()?;
    reader.end()?;
    Ok(CoseReceipt { public, size, index, path, signature })
}

/// Checks that `record` is in a log whose root `public` signed. The receipt's own key id is not believed; its
/// size is nobody's word but the file's, since RFC 9942 signs the root alone.
///
/// # Errors
/// What does not hold.
pub fn verify_cose(receipt: &CoseReceipt, record: &[u8], public: &[u8; 32]) -> Result<(), CoseFault> {
    let log = TreeHash::AnchorsSha256;
    let root = root_from_path(log, log.leaf(record), receipt.index, receipt.size, &receipt.path)
        .map_err(|fault| CoseFault::Path { why: fault.to_string() })?;
    let signed = cose_root_to_sign(public, &root);
    if receipt.public != *public || !verify_note(public, &signed, &receipt.signature) {
        return Err(CoseFault::Signature { root });
    }
    Ok(())
}
