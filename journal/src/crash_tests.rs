//! The power goes at every single operation of a long run, and unsynced data suffers in every way the
//! twin knows.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::tests::{History, OWNER, STEPS, blocks_to_commit};
use super::*;
use crate::faulty_files::{CrashMode, FaultyDisk};

/// Small segments, so that the run opens and retires many.
const SEGMENT: u64 = 3_000;

/// Not a divisor of anything else, so that appends end before, at and after what is allocated.
const EXTENT: u64 = 1_300;

/// Drives `history` until the disk fails; gives the number of acknowledged steps.
fn run(disk: &FaultyDisk, history: &History, from: usize) -> Option<usize> {
    let (mut journal, _) = Journal::open_in(Box::new(disk.files()), OWNER).ok()?;
    journal.log.segment_bytes = SEGMENT;
    journal.log.extent_bytes = EXTENT;
    for (at, step) in history.steps.iter().enumerate().skip(from) {
        if journal.write(&step.record, &step.certificates, &step.bodies).is_err() {
            assert!(
                journal.write(&step.record, &step.certificates, &step.bodies).is_err(),
                "a journal that failed once must never accept a write again"
            );
            return Some(at);
        }
        journal.prune(blocks_to_commit(at));
    }
    Some(history.steps.len())
}

/// Opens after a crash and checks what was found against what was acknowledged. Gives the steps recorded.
fn check(disk: &FaultyDisk, history: &History, acknowledged: usize, context: &str) -> usize {
    let (journal, contents) = Journal::open_in(Box::new(disk.files()), OWNER)
        .unwrap_or_else(|fault| panic!("{context}: a crash must never leave damage: {fault}"));
    let before = acknowledged.checked_sub(1).map(|at| &history.steps[at].record);
    let recorded =
        if Some(&contents.record) == before || (before.is_none() && contents.record == Default::default()) {
            acknowledged
        } else {
            let next = history.steps.get(acknowledged).map(|step| &step.record);
            assert_eq!(
                Some(&contents.record),
                next,
                "{context}: neither the last synced record nor the one being written"
            );
            acknowledged + 1
        };
    assert_eq!(journal.record(), &contents.record, "{context}");
    let digest = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| digest_of_bytes(bytes));
    assert_eq!(digest(&contents.high_qc), contents.record.high_qc.map(|(_, digest)| digest), "{context}");
    assert_eq!(digest(&contents.high_tc), contents.record.high_tc.map(|(_, digest)| digest), "{context}");
    let found: BTreeMap<BlockId, Height> =
        contents.bodies.iter().map(|body| (body.id(), body.header().height)).collect();
    let committed = acknowledged.checked_sub(1).map_or(Height::ZERO, blocks_to_commit);
    for body in history.steps[..recorded].iter().flat_map(|step| &step.bodies) {
        let gone = body.header().height <= committed;
        assert!(gone || found.contains_key(&body.id()), "{context}: an uncommitted body is lost");
    }
    recorded
}

fn fresh_disk() -> FaultyDisk {
    let disk = FaultyDisk::new();
    Journal::create_in(Box::new(disk.files()), OWNER).unwrap();
    disk
}

#[test]
fn no_crash_at_any_operation_loses_what_was_acknowledged() {
    let history = History::new(STEPS);
    let reference = fresh_disk();
    let created = reference.operations();
    assert_eq!(run(&reference, &history, 0), Some(STEPS));
    let operations = reference.operations() - created;
    assert!(operations > 800, "the run is long enough to mean something: {operations}");
    let mut unfinished_kept = 0;
    for operation in 0..operations {
        for mode in [CrashMode::LoseUnsynced, CrashMode::Torn, CrashMode::Subset, CrashMode::KeepAll] {
            let disk = fresh_disk();
            disk.fail_at(operation);
            let acknowledged = run(&disk, &history, 0).unwrap_or(0);
            disk.crash(mode, operation);
            let context = format!("operation {operation}, {mode:?}");
            let recorded = check(&disk, &history, acknowledged, &context);
            unfinished_kept += usize::from(recorded > acknowledged);
            // It goes on from there, and a second look finds the same.
            let end = (recorded + 3).min(STEPS);
            let short = History { steps: history.steps[..end].to_vec() };
            assert_eq!(run(&disk, &short, recorded), Some(end), "{context}: goes on");
            disk.crash(CrashMode::LoseUnsynced, operation);
            check(&disk, &history, end, &format!("{context}, second crash"));
        }
    }
    assert!(unfinished_kept > 0, "some unfinished writes were whole on disk: both outcomes are exercised");
}

#[test]
fn a_crash_while_opening_after_a_crash_loses_nothing_either() {
    let history = History::new(40);
    let operations = {
        let disk = fresh_disk();
        let before = disk.operations();
        run(&disk, &history, 0).unwrap();
        disk.operations() - before
    };
    for operation in 0..operations {
        for mode in [CrashMode::LoseUnsynced, CrashMode::Torn, CrashMode::Subset] {
            let disk = fresh_disk();
            disk.fail_at(operation);
            let acknowledged = run(&disk, &history, 0).unwrap_or(0);
            disk.crash(mode, operation);
            // The repairs of the first opening fail at each of their own operations.
            for repair in 0..13 {
                let copy = disk.duplicate();
                copy.fail_at(repair);
                let _ = Journal::open_in(Box::new(copy.files()), OWNER);
                for again in [CrashMode::LoseUnsynced, CrashMode::Torn, CrashMode::Subset] {
                    let copy = copy.duplicate();
                    copy.crash(again, repair);
                    check(
                        &copy,
                        &history,
                        acknowledged,
                        &format!("{operation} {mode:?}, repair {repair} {again:?}"),
                    );
                }
            }
        }
    }
}

#[test]
fn a_crash_while_creating_leaves_a_whole_journal_or_none() {
    for operation in 0..20 {
        for mode in [CrashMode::LoseUnsynced, CrashMode::Torn, CrashMode::Subset, CrashMode::KeepAll] {
            let disk = FaultyDisk::new();
            disk.fail_at(operation);
            let finished = Journal::create_in(Box::new(disk.files()), OWNER).is_ok();
            disk.crash(mode, operation);
            match Journal::open_in(Box::new(disk.files()), OWNER) {
                Ok((_, contents)) => assert_eq!(contents.record, SafetyRecord::default()),
                Err(JournalFault::Missing { .. }) => {
                    assert!(!finished, "operation {operation}, {mode:?}: a created journal is gone");
                    Journal::create_in(Box::new(disk.files()), OWNER).unwrap();
                    Journal::open_in(Box::new(disk.files()), OWNER).unwrap();
                }
                Err(fault) => panic!("operation {operation}, {mode:?}: {fault}"),
            }
        }
    }
}

#[test]
fn what_a_restarted_process_has_read_survives_the_power_cut_that_follows() {
    let history = History::new(40);
    for operation in 0..200 {
        let disk = fresh_disk();
        disk.fail_at(operation);
        let acknowledged = run(&disk, &history, 0).unwrap_or(0);
        disk.restart();
        let recorded = check(&disk, &history, acknowledged, &format!("operation {operation}, restart"));
        let seen =
            history.steps.get(recorded.wrapping_sub(1)).map(|step| step.record.clone()).unwrap_or_default();
        for mode in [CrashMode::LoseUnsynced, CrashMode::Torn, CrashMode::Subset] {
            let disk = disk.duplicate();
            disk.crash(mode, operation);
            let (_, contents) = Journal::open_in(Box::new(disk.files()), OWNER).unwrap();
            assert_eq!(
                contents.record, seen,
                "operation {operation}, {mode:?}: signed by a record that is gone"
            );
        }
    }
}

fn crash_modes() -> impl Strategy<Value = Option<CrashMode>> {
    prop::sample::select(vec![
        None,
        Some(CrashMode::LoseUnsynced),
        Some(CrashMode::Torn),
        Some(CrashMode::Subset),
        Some(CrashMode::KeepAll),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    /// Crash upon crash, power cuts and mere restarts mixed, at any operation of opening and writing.
    #[test]
    fn a_life_of_crashes_loses_nothing(
        crashes in prop::collection::vec((0u64..60, crash_modes(), any::<u64>()), 1..12)
    ) {
        let history = History::new(60);
        let disk = fresh_disk();
        let mut acknowledged = 0;
        for (operation, mode, seed) in crashes {
            disk.fail_at(operation);
            acknowledged = run(&disk, &history, acknowledged).unwrap_or(acknowledged);
            match mode {
                Some(mode) => disk.crash(mode, seed),
                None => disk.restart(),
            }
            acknowledged = check(&disk, &history, acknowledged, &format!("{operation} {mode:?} {seed}"));
        }
    }
}
