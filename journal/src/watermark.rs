//! What moves a validator's signing duty to another machine.

use std::io::{Read, Result as IoResult, Write};
use std::sync::Arc;

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_types::safety::SafetyRecord;
use cairn_types::{Block, decode, encode};

use crate::fault::JournalFault;
use crate::owner::Owner;

const MAGIC: [u8; 8] = *b"CAIRNWM1";
const CRC_BYTES: usize = 4;
/// Bodies in one watermark, at most; bounds decoding.
const BODIES_MAX: u32 = 1 << 20;

/// A record with everything it refers to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Watermark {
    /// Whose it is.
    pub owner: Owner,
    /// The record.
    pub record: SafetyRecord,
    /// The bytes of the certificates it names.
    pub certificates: Vec<Vec<u8>>,
    /// The bodies of blocks voted for.
    pub bodies: Vec<Arc<Block>>,
}

impl BorshSerialize for Watermark {
    fn serialize<W: Write>(&self, writer: &mut W) -> IoResult<()> {
        self.owner.serialize(writer)?;
        self.record.serialize(writer)?;
        self.certificates.serialize(writer)?;
        u32::try_from(self.bodies.len()).unwrap_or(u32::MAX).serialize(writer)?;
        self.bodies.iter().try_for_each(|body| body.as_ref().serialize(writer))
    }
}

impl BorshDeserialize for Watermark {
    fn deserialize_reader<R: Read>(reader: &mut R) -> IoResult<Self> {
        let owner = Owner::deserialize_reader(reader)?;
        let record = SafetyRecord::deserialize_reader(reader)?;
        let certificates = Vec::deserialize_reader(reader)?;
        let count = u32::deserialize_reader(reader)?;
        if count > BODIES_MAX {
            return Err(std::io::Error::other(format!("{count} bodies; expected at most {BODIES_MAX}")));
        }
        let bodies = (0..count)
            .map(|_| Block::deserialize_reader(reader).map(Arc::new))
            .collect::<IoResult<Vec<_>>>()?;
        Ok(Self { owner, record, certificates, bodies })
    }
}

impl Watermark {
    /// The bytes of a watermark file: magic, borsh, CRC-32.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&encode(self));
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a watermark file.
    ///
    /// # Errors
    /// [`JournalFault::BadWatermark`] unless every byte is as written.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, JournalFault> {
        let bad = |why: &str| JournalFault::BadWatermark { why: why.to_owned() };
        let (content, crc) = bytes.split_last_chunk::<CRC_BYTES>().ok_or_else(|| bad("it is cut short"))?;
        if crc32fast::hash(content) != u32::from_le_bytes(*crc) {
            return Err(bad("its checksum is wrong"));
        }
        let body = content.strip_prefix(&MAGIC).ok_or_else(|| bad("it does not start as one"))?;
        decode(body).map_err(|error| bad(&error.to_string()))
    }
}
