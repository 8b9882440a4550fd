//! A block log of 64 KiB, damaged at every offset in every way: the journal sees it or does not depend on it.

use cairn_types::View;

use super::tests::{History, OWNER};
use super::*;
use crate::faulty_files::FaultyDisk;
use crate::log::segment_name;

const LOG_BYTES: usize = 64 << 10;
/// Steps that fill at least that much.
const STEPS: usize = 130;
/// Bytes that a device loses together.
const SECTOR: usize = 512;

/// A journal whose log is in one segment, the log's name, and its synced length.
fn filled() -> (FaultyDisk, SafetyRecord, String, usize) {
    let (disk, history) = (FaultyDisk::new(), History::new(STEPS));
    let mut journal = Journal::create_in(Box::new(disk.files()), OWNER).unwrap();
    // Room made ahead would only be zeros to read.
    journal.log.extent_bytes = 2_048;
    for step in &history.steps {
        journal.write(&step.record, &step.certificates, &step.bodies).unwrap();
    }
    let span = journal.log.span();
    assert_eq!(span.first, span.active, "one segment");
    let length = usize::try_from(span.length).unwrap();
    assert!(length >= LOG_BYTES, "only {length} bytes");
    (disk, journal.record().clone(), segment_name(span.active), length)
}

/// What opening makes of a changed log.
fn open_with(disk: &FaultyDisk, name: &str, bytes: Vec<u8>) -> Result<SafetyRecord, JournalFault> {
    let disk = disk.duplicate();
    disk.put(name, bytes);
    Journal::open_in(Box::new(disk.files()), OWNER).map(|(_, contents)| contents.record)
}

/// Applies `damage` at every `stride`th offset below `end`; every change must be detected.
fn every_offset(stride: usize, damage: impl Fn(&[u8], usize) -> Vec<u8> + Sync) {
    let (disk, _, name, end) = filled();
    let log = disk.content(&name).unwrap();
    let mut detected = 0usize;
    for at in (0..end).step_by(stride) {
        let bytes = damage(&log, at);
        if bytes == log {
            continue;
        }
        match open_with(&disk, &name, bytes) {
            Err(JournalFault::Damaged { .. }) => detected += 1,
            Err(fault) => panic!("byte {at}: {fault}"),
            Ok(_) => panic!("byte {at}: damage was not detected"),
        }
    }
    assert!(detected * stride * 10 > end * 9, "only {detected} offsets were damaged");
}

#[test]
fn a_flipped_bit_at_any_offset_of_a_64_kib_log_is_detected() {
    every_offset(1, |log, at| {
        let mut bytes = log.to_vec();
        bytes[at] ^= 1 << (at % 8);
        bytes
    });
}

#[test]
fn a_64_kib_log_cut_at_any_offset_is_detected() {
    every_offset(1, |log, at| log[..at].to_vec());
}

#[test]
fn a_zeroed_sector_at_any_offset_of_a_64_kib_log_is_detected() {
    every_offset(1, |log, at| {
        let mut bytes = log.to_vec();
        let end = (at + SECTOR).min(bytes.len());
        bytes[at..end].fill(0);
        bytes
    });
}

#[test]
fn a_log_zeroed_from_any_offset_on_is_detected() {
    every_offset(3, |log, at| {
        let mut bytes = log.to_vec();
        bytes[at..].fill(0);
        bytes
    });
}

#[test]
fn garbage_behind_the_synced_length_is_never_acted_upon() {
    let (disk, record, name, end) = filled();
    let log = disk.content(&name).unwrap();
    for at in end..log.len().min(end + 2 * SECTOR) {
        let mut bytes = log.clone();
        bytes[at] ^= 0xa5;
        assert_eq!(open_with(&disk, &name, bytes).unwrap(), record, "byte {at}");
    }
}

/// A segment takes over the file of an older one. Where the device then loses a write, frames of the older one stand
/// there, whole and often at the same places.
#[test]
fn what_an_older_segment_left_in_the_file_is_never_taken_for_the_new_ones() {
    let (disk, mut record) = (FaultyDisk::new(), SafetyRecord::default());
    let mut journal = Journal::create_in(Box::new(disk.files()), OWNER).unwrap();
    journal.log.segment_bytes = 6_000;
    journal.log.extent_bytes = 2_048;
    let mut older = std::collections::BTreeMap::new();
    // Nothing but votes for blocks of one size, so that frames have the same places in every segment.
    for view in 1..=STEPS as u64 {
        let body = super::tests::block(view);
        record.last_voted = Some((View::new(view), body.id()));
        journal.write(&record, &[], &[body]).unwrap();
        journal.prune(Height::new(view.saturating_sub(4)));
        let name = segment_name(journal.log.span().active);
        older.insert(name.clone(), disk.content(&name).unwrap());
    }
    let span = journal.log.span();
    let (name, length) = (segment_name(span.active), usize::try_from(span.length).unwrap());
    let now = older.remove(&name).unwrap();
    assert!(span.active > 4 && length > 3 * SECTOR, "{span:?}");
    let left = |old: &Vec<u8>| old.get(length..now.len()).is_some_and(|old| old == &now[length..]);
    assert!(older.values().any(left), "the file goes on with what an older segment held");
    assert_eq!(open_with(&disk, &name, now.clone()).unwrap(), record);
    let mut replaced = 0;
    for old in older.values().filter(|old| old.len() >= length) {
        // One write is lost: a frame of the older segment stands where one of the same length should.
        let theirs: std::collections::BTreeMap<_, _> = frames(&old[..length]).into_iter().collect();
        for (at, end) in frames(&now[..length]) {
            if theirs.get(&at) == Some(&end) && old[at..end] != now[at..end] {
                let bytes = [&now[..at], &old[at..end], &now[end..]].concat();
                let found = open_with(&disk, &name, bytes);
                assert!(matches!(found, Err(JournalFault::Damaged { .. })), "frame at byte {at}: {found:?}");
                replaced += usize::from(at > 0);
            }
        }
        // All writes from somewhere on are lost.
        for at in 0..length {
            let bytes = [&now[..at], &old[at..]].concat();
            if bytes[..length] != now[..length] {
                let found = open_with(&disk, &name, bytes);
                assert!(matches!(found, Err(JournalFault::Damaged { .. })), "from byte {at}: {found:?}");
            }
        }
    }
    assert!(replaced > 5, "only {replaced} frames have a counterpart");
}

/// Where the frames of a segment begin and end, by their lengths alone.
fn frames(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut all = Vec::new();
    let mut at = 0;
    while let Some(length) = bytes.get(at + 1..at + 5) {
        let end = at + 9 + u32::from_le_bytes(length.try_into().unwrap()) as usize;
        all.push((at, end));
        at = end;
    }
    all
}
