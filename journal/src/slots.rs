//! The file `safety`: two generations of the record, two copies of each.
//!
//! ```text
//! offset  0 KiB   4 KiB   8 KiB   12 KiB
//!         even    odd     even    odd        generation, by parity; copies of one are 8 KiB apart
//! slot  = u32 length ‖ borsh Slot ‖ zeros ‖ u32 CRC-32 of all that      4,096 bytes, little-endian
//! ```

use borsh::{BorshDeserialize, BorshSerialize};
use cairn_types::safety::SafetyRecord;
use cairn_types::{decode, encode};

use crate::fault::JournalFault;
use crate::log::LogSpan;
use crate::owner::Owner;

/// The file's name.
pub(crate) const SAFETY: &str = "safety";
/// Bytes of one slot: the unit a disk tears at, so that damage to one slot spares its neighbour.
pub(crate) const SLOT_BYTES: usize = 4_096;
/// Two generations of two copies.
pub(crate) const SLOTS: usize = 4;

/// From one copy of a generation to the other.
const COPY_DISTANCE: u64 = 2 * SLOT_BYTES as u64;
const MAGIC: [u8; 8] = *b"CAIRNSIG";
const VERSION: u16 = 1;
const CRC_BYTES: usize = 4;

/// One generation of the record, with how far the log was synced before it.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) struct Slot {
    magic: [u8; 8],
    version: u16,
    pub(crate) owner: Owner,
    pub(crate) generation: u64,
    pub(crate) record: SafetyRecord,
    pub(crate) log: LogSpan,
}

impl Slot {
    pub(crate) fn new(owner: Owner, generation: u64, record: SafetyRecord, log: LogSpan) -> Self {
        Self { magic: MAGIC, version: VERSION, owner, generation, record, log }
    }

    /// Where its two copies go.
    pub(crate) fn offsets(&self) -> [u64; 2] {
        let first = if self.generation.is_multiple_of(2) { 0 } else { SLOT_BYTES as u64 };
        [first, first.saturating_add(COPY_DISTANCE)]
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let body = encode(self);
        let mut bytes = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes().to_vec();
        bytes.extend_from_slice(&body);
        // A record has a fixed largest size of a few hundred bytes, so this only ever pads.
        bytes.resize(SLOT_BYTES.saturating_sub(CRC_BYTES), 0);
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The slot, or why these bytes are not a whole one.
    fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let (content, crc) =
            bytes.split_last_chunk::<CRC_BYTES>().ok_or_else(|| "it is cut short".to_owned())?;
        if crc32fast::hash(content) != u32::from_le_bytes(*crc) {
            return Err("its checksum is wrong".to_owned());
        }
        let (length, rest) = content.split_first_chunk::<4>().ok_or_else(|| "it is cut short".to_owned())?;
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let body = rest.get(..length).ok_or_else(|| "its length is wrong".to_owned())?;
        if !body.starts_with(&MAGIC) {
            return Err("it is no safety record".to_owned());
        }
        let slot: Self = decode(body).map_err(|error| error.to_string())?;
        if slot.version != VERSION {
            return Err(format!("it has version {}, this build writes {VERSION}", slot.version));
        }
        Ok(slot)
    }
}

/// What the file holds.
#[derive(Debug)]
pub(crate) struct Choice {
    /// The newest whole generation: the one to go on from.
    pub(crate) newest: Slot,
    /// Where its copies lie, a bad one first: the order in which they may be written anew, each synced
    /// before the next, so that a whole copy is there at every moment.
    pub(crate) rewrite: [u64; 2],
    /// Whether the previous generation lacks a copy, so that a next one is to be written soon.
    pub(crate) previous_torn: bool,
}

/// Finds the newest generation, or says why none may be acted upon.
///
/// One whole copy suffices. Both copies of one generation bad beside a whole other generation is an
/// unfinished write, after which nothing was signed. Everything else is damage.
pub(crate) fn choose(place: &str, file: &[u8], owner: Owner) -> Result<Choice, JournalFault> {
    let damaged = |what: String| JournalFault::Damaged { place: place.to_owned(), what };
    let expected = SLOTS.saturating_mul(SLOT_BYTES);
    if file.len() != expected {
        return Err(damaged(format!("{SAFETY} has {} bytes, expected {expected}", file.len())));
    }
    let slots: Vec<Result<Slot, String>> = file.chunks(SLOT_BYTES).map(Slot::from_bytes).collect();
    for (position, slot) in slots.iter().enumerate() {
        if let Ok(slot) = slot {
            slot.owner.check(place, owner)?;
            if slot.generation % 2 != (position as u64) % 2 {
                return Err(damaged(format!("generation {} lies in slot {position}", slot.generation)));
            }
        }
    }
    let Some(newest) = slots.iter().flatten().max_by_key(|slot| slot.generation).cloned() else {
        let why: Vec<String> = slots.iter().filter_map(|slot| slot.as_ref().err().cloned()).collect();
        return Err(damaged(format!("no slot of {SAFETY} is whole ({})", why.join("; "))));
    };
    let copies = || slots.iter().flatten().filter(|slot| slot.generation == newest.generation);
    if copies().any(|copy| *copy != newest) {
        return Err(damaged(format!("the two copies of generation {} differ", newest.generation)));
    }
    let copy_missing = copies().count() < 2;
    let others: Vec<&Slot> =
        slots.iter().flatten().filter(|slot| slot.generation % 2 != newest.generation % 2).collect();
    let previous: Vec<&&Slot> =
        others.iter().filter(|slot| slot.generation.checked_add(1) == Some(newest.generation)).collect();
    match previous.first() {
        None if !others.is_empty() => {
            return Err(damaged(format!("generation {} stands beside an unrelated one", newest.generation)));
        }
        None if copy_missing => {
            return Err(damaged(format!("only one copy of generation {} is whole", newest.generation)));
        }
        None => {}
        Some(before) => before
            .record
            .check_next(&newest.record)
            .map_err(|regression| damaged(format!("generation {}: {regression}", newest.generation)))?,
    }
    let mut rewrite = newest.offsets();
    let whole_first =
        slots.first_chunk::<2>().is_some_and(|pair| pair.iter().flatten().any(|slot| *slot == newest));
    if whole_first {
        rewrite.reverse();
    }
    Ok(Choice { rewrite, previous_torn: previous.len() < 2, newest })
}
