//! The safety journal: what a validator has signed, on disk before the signature leaves.
//!
//! ```text
//! sign/LOCK           held with flock by the one process that may sign; holds its pid
//! sign/safety         the record, 4 slots of 4 KiB: two generations, two copies of each
//! sign/log-<number>   append-only segments: bodies of the blocks voted for, certificates' bytes
//! ```
//!
//! One [`Journal::write`] appends new bodies and certificates to the log and syncs it, then writes the
//! record to the two slots of its generation and syncs them: two syncs, one when only the record changed.
//! Bodies and certificates share the log so that a turn with both costs no third sync.
//!
//! * A generation never overwrites the one before it, so an unfinished write leaves that one whole.
//! * The record says how far the log was synced before it was written. All of that must be whole on
//!   opening; whatever follows belongs to a write that never finished, and is cut off.
//! * After one failed write or sync nothing is written any more: a failed sync may have dropped the data
//!   while a second one reports success.
//! * Files that are missing, damaged, or another key's refuse to open. Only [`Journal::import_higher`] or a
//!   new key goes on from there.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

mod fault;
mod faulty_files;
mod files;
mod journal;
mod log;
mod owner;
mod slots;
mod watermark;

pub use fault::JournalFault;
pub use faulty_files::{CrashMode, FaultyDisk, FaultyFiles};
pub use files::{DiskFiles, Files};
pub use journal::{Journal, JournalContents};
pub use log::{EXTENT_BYTES, FRAME_BYTES_MAX, LOG_BYTES_MAX, SEGMENT_BYTES};
pub use owner::Owner;
pub use watermark::Watermark;
