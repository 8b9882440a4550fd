//! Keys at rest: one JSON file per key, encrypted under a passphrase.
//!
//! The passphrase goes through Argon2id, the secret is sealed with XChaCha20-Poly1305, and the scheme and
//! public key, which stand in clear, are bound as associated data: a file whose clear part was changed
//! does not open.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use cairn_types::{Address, PublicKey, Scheme};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::key_pair::{KeyFault, KeyPair};

/// The only keystore version.
const VERSION: u8 = 1;
const KDF: &str = "argon2id";
const CIPHER: &str = "xchacha20poly1305";
/// What the associated data starts with, so that no other sealed blob of ours opens as a key.
const ASSOCIATED_TAG: &[u8] = b"cairn-keystore-1";
/// Argon2id cost: above OWASP's minimum of 19 MiB and 2 passes, and opened in well under 100 ms.
const MEMORY_KIB: u32 = 32 * 1_024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Highest cost a file may ask for: a hostile file must not take all memory or minutes to refuse.
const MEMORY_KIB_MAX: u32 = 1 << 20;
const PASSES_MAX: u32 = 16;
const LANES_MAX: u32 = 16;
const SALT_BYTES: usize = 16;
const NONCE_BYTES: usize = 24;
/// A keystore of the longest secret has about 13 kB; anything larger is not one.
const FILE_BYTES_MAX: u64 = 64 * 1_024;

/// A passphrase, wiped from memory on drop and never printed.
pub struct Passphrase(Zeroizing<String>);

/// An empty passphrase given where one was expected.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[error("the passphrase is empty; give one, or ask for an unprotected key explicitly")]
pub struct EmptyPassphrase;

impl Passphrase {
    /// The passphrase `text`.
    ///
    /// # Errors
    /// When it is empty: leaving a key unprotected takes [`Passphrase::none`].
    pub fn new(text: String) -> Result<Self, EmptyPassphrase> {
        let text = Zeroizing::new(text);
        if text.is_empty() { Err(EmptyPassphrase) } else { Ok(Self(text)) }
    }

    /// No passphrase: whoever can read the file can use the key. For tests and local networks.
    pub fn none() -> Self {
        Self(Zeroizing::new(String::new()))
    }
}

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase(hidden)")
    }
}

/// Why a keystore could not be read, opened or written.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum KeystoreFault {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} exists already; a key is never overwritten")]
    Exists { path: PathBuf },
    #[error("{path} may be read by others (mode {mode:o}); run: chmod 600 {path}")]
    TooOpen { path: PathBuf, mode: u32 },
    #[error("the keystore has more than {FILE_BYTES_MAX} bytes, which is no keystore")]
    TooLarge,
    #[error("not a keystore: {why}")]
    Malformed { why: String },
    #[error("keystore version {got}, expected {VERSION}")]
    Version { got: u8 },
    #[error("the keystore's {field} is `{got}`, expected {expected}")]
    Field { field: &'static str, got: String, expected: String },
    #[error("the key does not open: wrong passphrase, or the file was changed")]
    WrongPassphrase,
    #[error(transparent)]
    Key(#[from] KeyFault),
    #[error("the operating system gives no randomness: {why}")]
    NoRandomness { why: String },
}

/// An encrypted key with its public part in clear.
#[derive(Clone, PartialEq, Eq)]
pub struct Keystore {
    public: PublicKey,
    cost: Cost,
    salt: [u8; SALT_BYTES],
    nonce: [u8; NONCE_BYTES],
    ciphertext: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeystoreJson {
    version: u8,
    scheme: String,
    address: String,
    public_key: String,
    kdf: KdfJson,
    cipher: CipherJson,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KdfJson {
    name: String,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CipherJson {
    name: String,
    nonce: String,
    ciphertext: String,
}

impl Keystore {
    /// Encrypts `key` under `passphrase`, with a fresh salt and nonce.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn seal(key: &KeyPair, passphrase: &Passphrase) -> Result<Self, KeystoreFault> {
        let (mut salt, mut nonce) = ([0; SALT_BYTES], [0; NONCE_BYTES]);
        getrandom::fill(&mut salt)
            .and_then(|()| getrandom::fill(&mut nonce))
            .map_err(|error| KeystoreFault::NoRandomness { why: error.to_string() })?;
        let cost = Cost { memory_kib: MEMORY_KIB, passes: PASSES, lanes: LANES };
        let cipher = cipher(passphrase, cost, &salt)?;
        let associated = associated_data(key.public());
        let payload = Payload { msg: key.secret_bytes(), aad: &associated };
        let ciphertext = cipher
            .encrypt(XNonce::from_slice(&nonce), payload)
            .map_err(|_| KeystoreFault::Malformed { why: "the secret cannot be sealed".into() })?;
        Ok(Self { public: key.public().clone(), cost, salt, nonce, ciphertext })
    }

    /// Decrypts the key. Takes tens of milliseconds, on purpose.
    ///
    /// # Errors
    /// A wrong passphrase or a changed file; the two cannot be told apart.
    pub fn open(&self, passphrase: &Passphrase) -> Result<KeyPair, KeystoreFault> {
        let cipher = cipher(passphrase, self.cost, &self.salt)?;
        let associated = associated_data(&self.public);
        let payload = Payload { msg: &self.ciphertext, aad: &associated };
        let secret = cipher
            .decrypt(XNonce::from_slice(&self.nonce), payload)
            .map(Zeroizing::new)
            .map_err(|_| KeystoreFault::WrongPassphrase)?;
        Ok(KeyPair::from_secret(self.public.clone(), secret)?)
    }

    /// The public key, readable without the passphrase (and proved only by opening).
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The address of the public key.
    pub fn address(&self) -> Address {
        self.public.address()
    }

    /// The file's text.
    pub fn to_json(&self) -> String {
        let json = KeystoreJson {
            version: VERSION,
            scheme: self.public.scheme().name().into(),
            address: self.address().to_string(),
            public_key: hex::encode(self.public.as_bytes()),
            kdf: KdfJson {
                name: KDF.into(),
                memory_kib: self.cost.memory_kib,
                passes: self.cost.passes,
                lanes: self.cost.lanes,
                salt: hex::encode(self.salt),
            },
            cipher: CipherJson {
                name: CIPHER.into(),
                nonce: hex::encode(self.nonce),
                ciphertext: hex::encode(&self.ciphertext),
            },
        };
        let mut text = serde_json::to_string_pretty(&json).unwrap_or_default();
        text.push('\n');
        text
    }

    /// Reads the file's text.
    ///
    /// # Errors
    /// Names the first field that is not as expected.
    pub fn from_json(text: &str) -> Result<Self, KeystoreFault> {
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(KeystoreFault::TooLarge);
        }
        let json: KeystoreJson = serde_json::from_str(text)
            .map_err(|error| KeystoreFault::Malformed { why: error.to_string() })?;
        if json.version != VERSION {
            return Err(KeystoreFault::Version { got: json.version });
        }
        let public = public_key(&json)?;
        let KdfJson { name, memory_kib, passes, lanes, salt } = json.kdf;
        check_name("kdf.name", name, KDF)?;
        check_name("cipher.name", json.cipher.name, CIPHER)?;
        check_bound("kdf.memory_kib", memory_kib, MEMORY_KIB_MAX)?;
        check_bound("kdf.passes", passes, PASSES_MAX)?;
        check_bound("kdf.lanes", lanes, LANES_MAX)?;
        Ok(Self {
            public,
            cost: Cost { memory_kib, passes, lanes },
            salt: hex_array("kdf.salt", &salt)?,
            nonce: hex_array("cipher.nonce", &json.cipher.nonce)?,
            ciphertext: hex_bytes("cipher.ciphertext", &json.cipher.ciphertext)?,
        })
    }

    /// Writes a new file, readable by its owner only. All of it is on disk when this returns, or nothing.
    ///
    /// # Errors
    /// When the file exists, or the disk refuses.
    pub fn create(&self, path: &Path) -> Result<(), KeystoreFault> {
        let fault = |source| KeystoreFault::Io { path: path.to_owned(), source };
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let Some(name) = path.file_name() else {
            return Err(fault(io::Error::new(io::ErrorKind::InvalidInput, "not a file name")));
        };
        let mut temporary_name = std::ffi::OsString::from(".");
        temporary_name.push(name);
        temporary_name.push(format!(".{}.tmp", std::process::id()));
        let temporary = directory.join(temporary_name);
        let written = write_private(&temporary, self.to_json().as_bytes())
            // A link, unlike a rename, fails when the name is taken: no check that another process can race.
            .and_then(|()| fs::hard_link(&temporary, path));
        // Best effort: what is left behind otherwise is an encrypted file under a dotted name.
        let _ = fs::remove_file(&temporary);
        match written {
            Ok(()) => File::open(directory).and_then(|directory| directory.sync_all()).map_err(fault),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.exists() => {
                Err(KeystoreFault::Exists { path: path.to_owned() })
            }
            Err(error) => Err(fault(error)),
        }
    }

    /// Reads a file that [`Keystore::create`] wrote.
    ///
    /// # Errors
    /// When it cannot be read, others may read it, or it is no keystore.
    pub fn load(path: &Path) -> Result<Self, KeystoreFault> {
        let fault = |source| KeystoreFault::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(fault)?;
        check_private(path, &file)?;
        let mut text = String::new();
        file.take(FILE_BYTES_MAX.saturating_add(1)).read_to_string(&mut text).map_err(fault)?;
        Self::from_json(&text)
    }
}

impl std::fmt::Debug for Keystore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keystore({:?})", self.public)
    }
}

fn cipher(passphrase: &Passphrase, cost: Cost, salt: &[u8]) -> Result<XChaCha20Poly1305, KeystoreFault> {
    let malformed = |error: argon2::Error| KeystoreFault::Malformed { why: format!("kdf: {error}") };
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32)).map_err(malformed)?;
    let mut key = Zeroizing::new([0u8; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.0.as_bytes(), salt, key.as_mut())
        .map_err(malformed)?;
    Ok(XChaCha20Poly1305::new(key.as_ref().into()))
}

fn associated_data(public: &PublicKey) -> Vec<u8> {
    [ASSOCIATED_TAG, &[public.scheme().id()], public.address().as_bytes(), public.as_bytes()].concat()
}

fn public_key(json: &KeystoreJson) -> Result<PublicKey, KeystoreFault> {
    let scheme = Scheme::from_name(&json.scheme).ok_or_else(|| KeystoreFault::Field {
        field: "scheme",
        got: json.scheme.clone(),
        expected: Scheme::ALL.map(Scheme::name).join(" or "),
    })?;
    let bytes = hex_bytes("public_key", &json.public_key)?;
    let public = PublicKey::new(scheme, &bytes).ok_or_else(|| KeystoreFault::Field {
        field: "public_key",
        got: format!("{} bytes", bytes.len()),
        expected: format!("{} bytes for {scheme}", scheme.public_key_bytes()),
    })?;
    let address = public.address().to_string();
    check_name("address", json.address.clone(), &address)?;
    Ok(public)
}

fn check_name(field: &'static str, got: String, expected: &str) -> Result<(), KeystoreFault> {
    if got == expected {
        return Ok(());
    }
    Err(KeystoreFault::Field { field, got, expected: expected.into() })
}

fn check_bound(field: &'static str, got: u32, bound: u32) -> Result<(), KeystoreFault> {
    if (1..=bound).contains(&got) {
        return Ok(());
    }
    Err(KeystoreFault::Field { field, got: got.to_string(), expected: format!("1 to {bound}") })
}

fn hex_bytes(field: &'static str, text: &str) -> Result<Vec<u8>, KeystoreFault> {
    hex::decode(text).map_err(|error| KeystoreFault::Malformed { why: format!("{field}: {error}") })
}

fn hex_array<const N: usize>(field: &'static str, text: &str) -> Result<[u8; N], KeystoreFault> {
    let bytes = hex_bytes(field, text)?;
    bytes.as_slice().try_into().map_err(|_| KeystoreFault::Field {
        field,
        got: format!("{} bytes", bytes.len()),
        expected: format!("{N} bytes"),
    })
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(unix)]
fn check_private(path: &Path, file: &File) -> Result<(), KeystoreFault> {
    use std::os::unix::fs::PermissionsExt;
    let fault = |source| KeystoreFault::Io { path: path.to_owned(), source };
    let mode = file.metadata().map_err(fault)?.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(KeystoreFault::TooOpen { path: path.to_owned(), mode })
}

#[cfg(not(unix))]
fn check_private(_: &Path, _: &File) -> Result<(), KeystoreFault> {
    Ok(())
}

#[cfg(test)]
#[path = "keystore_tests.rs"]
mod tests;
