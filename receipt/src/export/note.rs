//! C2SP signed notes with a checkpoint inside (c2sp.org/signed-note, tlog-checkpoint, tlog-cosignature).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cairn_crypto::{NoteKey, verify_note};
use cairn_types::{ChainId, Hash};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// The signature type of a plain Ed25519 note signature.
const ED25519: u8 = 0x01;
/// The signature type of an Ed25519 cosignature with a time.
const COSIGNATURE: u8 = 0x04;
/// Bytes of a note's text, at most: three lines and a line for each of 1,024 validators.
const NOTE_BYTES_MAX: usize = 1 << 20;

/// Why a text is no checkpoint, or not one to trust.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum NoteFault {
    #[error("{got} bytes; a checkpoint has at most {NOTE_BYTES_MAX}")]
    TooLarge { got: usize },
    #[error("not a signed note: {why}")]
    Format { why: &'static str },
    #[error("it is of `{got}`; expected `{expected}`")]
    Origin { got: String, expected: String },
    #[error("not a verifier key: {text}; expected name+hash+key")]
    VerifierKey { text: String },
    #[error("the signature of {name} does not verify")]
    Signature { name: String },
    #[error("{got} of the keys given signed it; expected at least {expected}")]
    TooFew { got: usize, expected: usize },
    #[error("it is of another size or root than the one it is added to")]
    OtherBody,
}

/// The origin of a chain's SHA-256 log.
pub fn note_origin(chain: ChainId) -> String {
    format!("cairn/{chain}")
}

/// The name under which a node's note key signs: the origin and the first 16 hex digits of its public key.
pub fn note_key_name(chain: ChainId, public: &[u8; 32]) -> String {
    let digits = hex::encode(public);
    format!("{}/{}", note_origin(chain), digits.get(..16).unwrap_or_default())
}

/// The text of a checkpoint: what the signatures are over.
pub fn note_body(chain: ChainId, size: u64, root: &Hash) -> String {
    format!("{}\n{size}\n{}\n", note_origin(chain), STANDARD.encode(root.as_bytes()))
}

fn key_id(name: &str, kind: u8, public: &[u8; 32]) -> [u8; 4] {
    let digest = Sha256::new().chain_update(name).chain_update([b'\n', kind]).chain_update(public).finalize();
    let mut id = [0; 4];
    for (to, from) in id.iter_mut().zip(digest) {
        *to = from;
    }
    id
}

/// The verifier key that other tools take, of the kind named by `cosigner`: a cosignature or a plain one.
pub fn note_verifier_key(chain: ChainId, public: &[u8; 32], cosigner: bool) -> String {
    let kind = if cosigner { COSIGNATURE } else { ED25519 };
    let name = note_key_name(chain, public);
    let id = hex::encode(key_id(&name, kind, public));
    format!("{name}+{id}+{}", STANDARD.encode([&[kind], public.as_slice()].concat()))
}

/// Reads a verifier key: its name and public key, of either kind.
///
/// # Errors
/// [`NoteFault::VerifierKey`].
pub fn parse_verifier_key(text: &str) -> Result<(String, [u8; 32]), NoteFault> {
    let bad = || NoteFault::VerifierKey { text: text.chars().take(200).collect() };
    let mut parts = text.trim().splitn(3, '+');
    let (name, id, key) = (parts.next(), parts.next(), parts.next());
    let (name, id, key) = (name.ok_or_else(bad)?, id.ok_or_else(bad)?, key.ok_or_else(bad)?);
    let key = STANDARD.decode(key).map_err(|_| bad())?;
    let (kind, public) = key.split_first().ok_or_else(bad)?;
    let public: [u8; 32] = public.try_into().map_err(|_| bad())?;
    if !matches!(*kind, ED25519 | COSIGNATURE) || hex::encode(key_id(name, *kind, &public)) != id {
        return Err(bad());
    }
    Ok((name.to_owned(), public))
}

/// One line under a note.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NoteSignature {
    /// Who.
    pub name: String,
    /// Key id, then the signature; before it the time (big-endian, seconds) in a cosignature.
    pub bytes: Vec<u8>,
}

/// A checkpoint with its signatures.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedNote {
    /// The log.
    pub origin: String,
    /// Records in it.
    pub size: u64,
    /// Its RFC 9162 root.
    pub root: Hash,
    /// Who signed.
    pub signatures: Vec<NoteSignature>,
}

impl SignedNote {
    /// A checkpoint that `key` signs twice: plainly, for tools that know Ed25519 notes alone, and as a
    /// cosignature of the time `time_s` (Unix seconds).
    pub fn sign(chain: ChainId, size: u64, root: Hash, key: &NoteKey, time_s: u64) -> Self {
        let body = note_body(chain, size, &root);
        let name = note_key_name(chain, key.public());
        let plain = [&key_id(&name, ED25519, key.public())[..], &key.sign(body.as_bytes())].concat();
        let timed = key.sign(cosigned(&body, time_s).as_bytes());
        let id = key_id(&name, COSIGNATURE, key.public());
        let timed = [&id[..], &time_s.to_be_bytes(), &timed].concat();
        let signatures = [plain, timed].map(|bytes| NoteSignature { name: name.clone(), bytes });
        Self { origin: note_origin(chain), size, root, signatures: signatures.into() }
    }

    /// What the signatures are over.
    pub fn body(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root.as_bytes()))
    }

    /// The whole text.
    pub fn to_text(&self) -> String {
        let mut text = self.body();
        text.push('\n');
        for signature in &self.signatures {
            text.push_str(&format!("— {} {}\n", signature.name, STANDARD.encode(&signature.bytes)));
        }
        text
    }

    /// Reads a checkpoint of three lines and at least one signature. Verifies nothing.
    ///
    /// # Errors
    /// The first thing that is not as specified.
    pub fn parse(text: &str) -> Result<Self, NoteFault> {
        let bad = |why| NoteFault::Format { why };
        if text.len() > NOTE_BYTES_MAX {
            return Err(NoteFault::TooLarge { got: text.len() });
        }
        let (body, signatures) = text.split_once("\n\n").ok_or(bad("no empty line before the signatures"))?;
        let mut lines = body.split('\n');
        let (origin, size, root) = (lines.next(), lines.next(), lines.next());
        let origin = origin.filter(|origin| !origin.is_empty()).ok_or(bad("no origin"))?.to_owned();
        let size_text = size.ok_or(bad("no size"))?;
        let size: u64 = size_text.parse().map_err(|_| bad("the size is no number"))?;
        if size.to_string() != size_text {
            return Err(bad("the size has leading zeros or a sign"));
        }
        let root = STANDARD.decode(root.ok_or(bad("no root"))?).map_err(|_| bad("the root is not base64"))?;
        let root = Hash(root.try_into().map_err(|_| bad("the root has not 32 bytes"))?);
        if lines.next().is_some() {
            return Err(bad("more than three lines"));
        }
        let signatures = signatures.strip_suffix('\n').ok_or(bad("it does not end with a line end"))?;
        let signatures = signatures.split('\n').map(signature_line).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { origin, size, root, signatures })
    }

    /// Checks that at least `needed` of these keys (names and public keys) signed it, plainly or as
    /// cosigners. Gives the names of those that did. A signature of a given key that does not verify refuses the whole.
    ///
    /// # Errors
    /// What is wrong, or how many are missing.
    pub fn verify(
        &self,
        chain: ChainId,
        keys: &[(String, [u8; 32])],
        needed: usize,
    ) -> Result<Vec<String>, NoteFault> {
        let expected = note_origin(chain);
        if self.origin != expected {
            return Err(NoteFault::Origin { got: self.origin.clone(), expected });
        }
        let body = self.body();
        let mut signed: Vec<String> = Vec::new();
        for signature in &self.signatures {
            for (name, public) in keys.iter().filter(|(name, _)| *name == signature.name) {
                match check_signature(signature, public, &body) {
                    None => continue,
                    Some(false) => return Err(NoteFault::Signature { name: name.clone() }),
                    Some(true) if signed.contains(name) => {}
                    Some(true) => signed.push(name.clone()),
                }
            }
        }
        if signed.len() < needed {
            return Err(NoteFault::TooFew { got: signed.len(), expected: needed });
        }
        Ok(signed)
    }

    /// Takes the signatures of another node's checkpoint of the same log, size and root.
    ///
    /// # Errors
    /// [`NoteFault::OtherBody`].
    pub fn merge(&mut self, other: Self) -> Result<(), NoteFault> {
        if self.body() != other.body() {
            return Err(NoteFault::OtherBody);
        }
        for signature in other.signatures {
            if !self.signatures.contains(&signature) {
                self.signatures.push(signature);
            }
        }
        Ok(())
    }
}

/// Whether the signature is this key's and good; `None` when its id is another key's.
fn check_signature(signature: &NoteSignature, public: &[u8; 32], body: &str) -> Option<bool> {
    let (id, rest) = signature.bytes.split_first_chunk::<4>()?;
    if *id == key_id(&signature.name, ED25519, public) {
        let Ok(bytes) = <&[u8; 64]>::try_from(rest) else { return Some(false) };
        return Some(verify_note(public, body.as_bytes(), bytes));
    }
    if *id == key_id(&signature.name, COSIGNATURE, public) {
        let Some((time, rest)) = rest.split_first_chunk::<8>() else { return Some(false) };
        let Ok(bytes) = <&[u8; 64]>::try_from(rest) else { return Some(false) };
        let message = cosigned(body, u64::from_be_bytes(*time));
        return Some(verify_note(public, message.as_bytes(), bytes));
    }
    None
}

fn cosigned(body: &str, time_s: u64) -> String {
    format!("cosignature/v1\ntime {time_s}\n{body}")
}

fn signature_line(line: &str) -> Result<NoteSignature, NoteFault> {
    let bad = |why| NoteFault::Format { why };
    let rest = line.strip_prefix("— ").ok_or(bad("a signature line does not begin with an em dash"))?;
    let (name, bytes) = rest.split_once(' ').ok_or(bad("a signature line lacks its signature"))?;
    if name.is_empty() || name.contains('+') {
        return Err(bad("a signature line lacks its name"));
    }
    let bytes = STANDARD.decode(bytes).map_err(|_| bad("a signature is not base64"))?;
    if bytes.len() < 5 {
        return Err(bad("a signature is too short"));
    }
    Ok(NoteSignature { name: name.to_owned(), bytes })
}
