//! The Ed25519 key with which a node signs the SHA-256 log's checkpoints for other worlds' tools. It decides
//! nothing on the chain: finality rests on the validators' keys alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use cairn_types::signing::Tag;
use cairn_types::{ChainId, PublicKey, Signature};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::signature::{SignatureFault, verify};

const SEED_BYTES: usize = 32;
/// Hex digits of the seed and a line end, with room to spare.
const FILE_BYTES_MAX: u64 = 128;

/// Why a note key cannot be used.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum NoteKeyFault {
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
    #[error("{path}: others may read it; expected mode 0600 (chmod 600)")]
    Readable { path: String },
    #[error("{path} is no note key; expected one line of 64 hex digits")]
    NotAKey { path: String },
}

/// An Ed25519 key pair.
pub struct NoteKey {
    pair: Ed25519KeyPair,
    public: [u8; 32],
}

impl NoteKey {
    /// The key of this seed (RFC 8032's private key).
    pub fn from_seed(seed: &[u8; SEED_BYTES]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        let public = pair.public_key().as_ref().try_into().ok()?;
        Some(Self { pair, public })
    }

    /// Reads the key of `path`, or makes one there, readable by its owner alone.
    ///
    /// # Errors
    /// Those of the file system; a file that others may read, or that holds something else.
    pub fn load_or_make(path: &Path) -> Result<Self, NoteKeyFault> {
        let shown = path.display().to_string();
        let not_a_key = || NoteKeyFault::NotAKey { path: shown.clone() };
        let failed = |source| NoteKeyFault::Io { path: shown.clone(), source };
        match fs::metadata(path) {
            Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => {
                Err(NoteKeyFault::Readable { path: shown })
            }
            Ok(metadata) if metadata.len() > FILE_BYTES_MAX => Err(not_a_key()),
            Ok(_) => {
                let text = Zeroizing::new(fs::read_to_string(path).map_err(failed)?);
                let mut seed = Zeroizing::new([0; SEED_BYTES]);
                hex::decode_to_slice(text.trim(), seed.as_mut()).map_err(|_| not_a_key())?;
                Self::from_seed(&seed).ok_or_else(not_a_key)
            }
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
                let mut seed = Zeroizing::new([0; SEED_BYTES]);
                getrandom::fill(seed.as_mut())
                    .map_err(|error| failed(io::Error::other(error.to_string())))?;
                let text = Zeroizing::new(format!("{}\n", hex::encode(seed.as_ref())));
                write_private(path, text.as_bytes()).map_err(failed)?;
                Self::from_seed(&seed).ok_or_else(not_a_key)
            }
            Err(source) => Err(failed(source)),
        }
    }

    /// The public key.
    pub const fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// An Ed25519 signature (RFC 8032) over `message`.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        for (to, from) in signature.iter_mut().zip(self.pair.sign(message).as_ref()) {
            *to = *from;
        }
        signature
    }
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    File::open(directory)?.sync_all()
}

/// Whether `signature` is `public`'s Ed25519 signature over `message`.
pub fn verify_note(public: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    UnparsedPublicKey::new(&ED25519, public).verify(message, signature).is_ok()
}

/// What a validator signs to say that a note key is its own: `cairn-checkpt` over the note key's 32 bytes.
pub fn note_binding_preimage(chain: ChainId, note_key: &[u8; 32]) -> Vec<u8> {
    Tag::Checkpoint.preimage(chain, note_key)
}

/// Checks that the holder of `validator` says that `note_key` is its own.
///
/// # Errors
/// When the signature does not verify.
pub fn verify_note_binding(
    chain: ChainId,
    validator: &PublicKey,
    note_key: &[u8; 32],
    signature: &Signature,
) -> Result<(), SignatureFault> {
    verify(validator, &note_binding_preimage(chain, note_key), signature)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KeyPair;
    use cairn_types::{Hash, Scheme};

    #[test]
    fn the_first_vector_of_rfc_8032_comes_out() {
        let bytes = |text: &str| hex::decode(text).unwrap();
        let seed = bytes("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
        let key = NoteKey::from_seed(&seed.try_into().unwrap()).unwrap();
        let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        assert_eq!(hex::encode(key.public()), public);
        let signature = "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b";
        assert_eq!(hex::encode(key.sign(b"")), signature);
        assert!(verify_note(key.public(), b"", &key.sign(b"")));
        assert!(!verify_note(key.public(), b"x", &key.sign(b"")));
    }

    #[test]
    fn a_key_is_made_once_private_and_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys/note.key");
        let made = NoteKey::load_or_make(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(NoteKey::load_or_make(&path).unwrap().public(), made.public());
        fs::write(&path, b"not a key").unwrap();
        assert!(matches!(NoteKey::load_or_make(&path), Err(NoteKeyFault::NotAKey { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(NoteKey::load_or_make(&path), Err(NoteKeyFault::Readable { .. })));
    }

    #[test]
    fn a_binding_is_of_one_validator_chain_and_note_key() {
        for scheme in Scheme::ALL {
            let (validator, other) = (KeyPair::generate(scheme), KeyPair::generate(scheme));
            let chain = ChainId::new(Hash([1; 32]));
            let signature = validator.sign(&note_binding_preimage(chain, &[7; 32]));
            assert!(verify_note_binding(chain, validator.public(), &[7; 32], &signature).is_ok());
            assert!(verify_note_binding(chain, other.public(), &[7; 32], &signature).is_err());
            assert!(verify_note_binding(chain, validator.public(), &[8; 32], &signature).is_err());
            assert!(verify_note_binding(ChainId::ZERO, validator.public(), &[7; 32], &signature).is_err());
        }
    }
}
