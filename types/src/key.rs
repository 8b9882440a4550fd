//! Signature schemes, public keys and signatures as data. Nothing here signs or verifies.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::io::{Read, Result as IoResult, Write};
use std::sync::{Arc, OnceLock};

use borsh::{BorshDeserialize, BorshSerialize};
use bytes::Bytes;

use crate::codec::invalid;
use crate::hash::Context;
use crate::id::Address;

/// A signature scheme (FORMATS, "Signatures").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Scheme {
    /// Dilithium3 as `pqcrypto-dilithium` 0.5 has it: the August 2023 FIPS 204 draft.
    Dilithium3 = 1,
    /// ML-DSA-65, FIPS 204, with the empty context.
    MlDsa65 = 2,
}

impl Scheme {
    /// Every scheme this build knows.
    pub const ALL: [Self; 2] = [Self::Dilithium3, Self::MlDsa65];

    /// The one-byte id used inside hashed bytes.
    pub const fn id(self) -> u8 {
        self as u8
    }

    /// The name used in files, flags and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dilithium3 => "dilithium3",
            Self::MlDsa65 => "ml-dsa-65",
        }
    }

    /// The scheme with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scheme| scheme.name() == name)
    }

    /// Length of a public key, bytes.
    pub const fn public_key_bytes(self) -> usize {
        match self {
            Self::Dilithium3 | Self::MlDsa65 => 1_952,
        }
    }

    /// Length of a signature, bytes.
    pub const fn signature_bytes(self) -> usize {
        match self {
            Self::Dilithium3 | Self::MlDsa65 => 3_309,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A public key with its scheme. Borsh: `u8 scheme, u32 length, bytes`; the length is the scheme's.
#[derive(Clone)]
pub struct PublicKey {
    scheme: Scheme,
    shared: Arc<KeyBytes>,
}

/// A key's bytes, and its address once somebody asked for it: it is needed several times on a
/// transaction's way, and hashing a key costs as much as a few hundred comparisons.
struct KeyBytes {
    bytes: Box<[u8]>,
    address: OnceLock<Address>,
}

impl PublicKey {
    /// The key, or `None` when `bytes` has not the scheme's length.
    pub fn new(scheme: Scheme, bytes: &[u8]) -> Option<Self> {
        Self::owning(scheme, bytes.into())
    }

    fn owning(scheme: Scheme, bytes: Box<[u8]>) -> Option<Self> {
        let address = OnceLock::new();
        (bytes.len() == scheme.public_key_bytes())
            .then(|| Self { scheme, shared: Arc::new(KeyBytes { bytes, address }) })
    }

    /// The scheme this key belongs to.
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The raw key.
    pub fn as_bytes(&self) -> &[u8] {
        &self.shared.bytes
    }

    /// `H[address](scheme id ‖ public key)`.
    pub fn address(&self) -> Address {
        let hash = || Address::new(Context::Address.hash_parts(&[&[self.scheme.id()], self.as_bytes()]));
        *self.shared.address.get_or_init(hash)
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared) || self.cmp(other) == Ordering::Equal
    }
}

impl Eq for PublicKey {}

impl PartialOrd for PublicKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PublicKey {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.scheme, self.as_bytes()).cmp(&(other.scheme, other.as_bytes()))
    }
}

impl Hash for PublicKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.scheme, self.as_bytes()).hash(state);
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.scheme, self.address())
    }
}

impl BorshSerialize for PublicKey {
    fn serialize<W: Write>(&self, writer: &mut W) -> IoResult<()> {
        self.scheme.serialize(writer)?;
        self.as_bytes().serialize(writer)
    }
}

impl BorshDeserialize for PublicKey {
    fn deserialize_reader<R: Read>(reader: &mut R) -> IoResult<Self> {
        let scheme = Scheme::deserialize_reader(reader)?;
        let bytes = read_bytes(reader, scheme.public_key_bytes())?;
        Self::owning(scheme, bytes.into_boxed_slice())
            .ok_or_else(|| invalid(format!("a {scheme} public key has {} bytes", scheme.public_key_bytes())))
    }
}

/// A signature, not yet checked. Borsh: `u32 length, bytes`, at most [`Signature::BYTES_MAX`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signature(Bytes);

impl Signature {
    /// No supported scheme has longer signatures.
    pub const BYTES_MAX: usize = 3_309;

    /// The signature with these bytes; `None` when longer than [`Self::BYTES_MAX`].
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (bytes.len() <= Self::BYTES_MAX).then(|| Self(Bytes::copy_from_slice(bytes)))
    }

    /// No bytes: verifies under no key.
    pub fn empty() -> Self {
        Self(Bytes::new())
    }

    /// The raw signature.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reads what borsh wrote at `place` of `buffer`, which it then shares, and moves `place` behind it.
    pub(crate) fn read_shared(buffer: &Bytes, place: &mut usize) -> IoResult<Self> {
        let mut rest = buffer.get(*place..).unwrap_or_default();
        let length = read_length(&mut rest, Self::BYTES_MAX)?;
        let start = buffer.len().saturating_sub(rest.len());
        let end = start.saturating_add(length);
        if rest.len() < length {
            return Err(invalid(format!("{} bytes where {length} were announced", rest.len())));
        }
        *place = end;
        Ok(Self(buffer.slice(start..end)))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({} B)", self.0.len())
    }
}

impl BorshSerialize for Signature {
    fn serialize<W: Write>(&self, writer: &mut W) -> IoResult<()> {
        self.as_bytes().serialize(writer)
    }
}

impl BorshDeserialize for Signature {
    fn deserialize_reader<R: Read>(reader: &mut R) -> IoResult<Self> {
        read_bytes(reader, Self::BYTES_MAX).map(|bytes| Self(bytes.into()))
    }
}

/// A borsh byte list of at most `bytes_max`, refused before anything is allocated for it.
pub(crate) fn read_bytes<R: Read>(reader: &mut R, bytes_max: usize) -> IoResult<Vec<u8>> {
    let mut bytes = vec![0; read_length(reader, bytes_max)?];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn read_length<R: Read>(reader: &mut R, bytes_max: usize) -> IoResult<usize> {
    let length = u32::deserialize_reader(reader)? as usize;
    if length > bytes_max {
        return Err(invalid(format!("{length} bytes where at most {bytes_max} are allowed")));
    }
    Ok(length)
}
