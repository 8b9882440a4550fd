use std::io::ErrorKind;

use cairn_types::block::HEADER_VERSION;
use cairn_types::{Epoch, Header, ValidatorIndex, View};

use super::*;
use crate::faulty_files::FaultyDisk;
use crate::log::EXTENT_BYTES;
use crate::slots::{SLOT_BYTES, SLOTS};

pub(crate) const OWNER: Owner =
    Owner { validator: Address::new(Hash([7; 32])), chain: ChainId::new(Hash([9; 32])) };
/// Steps of the long run: as many blocks as `reliability.md` asks to crash in.
pub(crate) const STEPS: usize = 200;

/// One call of `write`.
#[derive(Clone)]
pub(crate) struct Step {
    pub(crate) record: SafetyRecord,
    pub(crate) certificates: Vec<Vec<u8>>,
    pub(crate) bodies: Vec<Arc<Block>>,
}

/// What a validator writes over many views.
pub(crate) struct History {
    pub(crate) steps: Vec<Step>,
}

pub(crate) fn block(height: u64) -> Arc<Block> {
    let header = Header {
        version: HEADER_VERSION,
        chain: OWNER.chain,
        epoch: Epoch::ZERO,
        view: View::new(height),
        height: Height::new(height),
        parent: BlockId::ZERO,
        parent_view: View::new(height.saturating_sub(1)),
        time_ms: height,
        proposer: ValidatorIndex(0),
        tx_root: Hash([0; 32]),
        tx_count: 0,
        state_root: Hash([0; 32]),
        anchors_root: Hash([0; 32]),
        anchors_size: 0,
        anchors_sha256: Hash([0; 32]),
        history_root: Hash([0; 32]),
        validators: Hash([0; 32]),
        next_validators: Hash([0; 32]),
    };
    Arc::new(Block::new(header, Vec::new()))
}

fn certificate(view: u64, salt: u8) -> Vec<u8> {
    (0..300 + view % 50).map(|at| (at as u8) ^ (view as u8) ^ salt).collect()
}

/// The highest height committed after step `at`.
pub(crate) fn blocks_to_commit(at: usize) -> Height {
    Height::new((at as u64).saturating_sub(4))
}

impl History {
    /// Votes in every view, a new certificate in most, a timeout certificate in some.
    pub(crate) fn new(steps: usize) -> Self {
        let mut record = SafetyRecord::default();
        let steps = (1..=steps as u64).map(|view| {
            let (mut certificates, mut bodies) = (Vec::new(), Vec::new());
            match view % 5 {
                0 => record.last_timeout = Some((View::new(view), View::new(view - 1))),
                1 if view > 1 => {
                    let bytes = certificate(view, 1);
                    record.high_tc = Some((View::new(view - 1), digest_of_bytes(&bytes)));
                    certificates.push(bytes);
                }
                _ => {
                    let bytes = certificate(view, 0);
                    record.high_qc = Some((View::new(view), digest_of_bytes(&bytes)));
                    record.last_commit_voted = Some((View::new(view), block(view).id()));
                    certificates.push(bytes);
                }
            }
            if view % 5 != 0 {
                record.last_voted = Some((View::new(view), block(view).id()));
                bodies.push(block(view));
            }
            Step { record: record.clone(), certificates, bodies }
        });
        Self { steps: steps.collect() }
    }
}

fn create(disk: &FaultyDisk) -> Journal {
    Journal::create_in(Box::new(disk.files()), OWNER).unwrap()
}

fn open(disk: &FaultyDisk) -> Result<(Journal, JournalContents), JournalFault> {
    Journal::open_in(Box::new(disk.files()), OWNER)
}

fn write(journal: &mut Journal, history: &History) {
    for step in &history.steps {
        journal.write(&step.record, &step.certificates, &step.bodies).unwrap();
    }
}

fn written(steps: usize) -> (FaultyDisk, History) {
    let (disk, history) = (FaultyDisk::new(), History::new(steps));
    write(&mut create(&disk), &history);
    (disk, history)
}

#[test]
fn what_was_written_is_read_back() {
    let (disk, history) = written(23);
    let (_, contents) = open(&disk).unwrap();
    assert_eq!(contents.record, history.steps.last().unwrap().record);
    assert_eq!(contents.high_qc, Some(certificate(23, 0)));
    assert_eq!(contents.high_tc, Some(certificate(21, 1)));
    let bodies: Vec<_> = history.steps.iter().flat_map(|step| step.bodies.clone()).collect();
    assert_eq!(contents.bodies, bodies);
}

#[test]
fn a_write_costs_two_syncs_and_one_when_only_the_record_changed() {
    let disk = FaultyDisk::new();
    let mut journal = create(&disk);
    let step = &History::new(1).steps[0];
    let mut syncs = disk.syncs();
    let mut spent = || {
        let before = std::mem::replace(&mut syncs, disk.syncs());
        disk.syncs() - before
    };
    // A vote, with its block's body and a certificate.
    let bytes = certificate(1, 0);
    let mut record = step.record.clone();
    record.high_qc = Some((View::new(1), digest_of_bytes(&bytes)));
    journal.write(&record, &[bytes], &step.bodies).unwrap();
    assert_eq!(spent(), 2);
    record.last_timeout = Some((View::new(2), View::new(1)));
    journal.write(&record, &[], &[]).unwrap();
    assert_eq!(spent(), 1);
    journal.write(&record, &[certificate(9, 9)], &step.bodies).unwrap();
    assert_eq!(spent(), 0, "nothing new: nothing written");
}

#[test]
fn a_signed_view_is_never_lowered_or_changed() {
    let (disk, history) = written(12);
    let (mut journal, contents) = open(&disk).unwrap();
    let last = &contents.record;
    let lower = |change: &dyn Fn(&mut SafetyRecord)| {
        let mut record = last.clone();
        change(&mut record);
        record
    };
    let cases: [(&str, SafetyRecord); 8] = [
        ("vote forgotten", lower(&|record| record.last_voted = None)),
        ("vote lowered", lower(&|record| record.last_voted = Some((View::new(3), block(3).id())))),
        ("vote changed", lower(&|record| record.last_voted = Some((View::new(12), block(3).id())))),
        ("timeout changed", lower(&|record| record.last_timeout = Some((View::new(10), View::new(2))))),
        (
            "commit vote changed",
            lower(&|record| record.last_commit_voted = Some((View::new(12), block(1).id()))),
        ),
        ("certificate lowered", lower(&|record| record.high_qc = None)),
        ("timeout certificate lowered", lower(&|record| record.high_tc = None)),
        ("older record", history.steps[4].record.clone()),
    ];
    for (name, record) in cases {
        let error = journal.write(&record, &[], &[block(3)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name}");
        assert_eq!(journal.record(), last, "{name}");
    }
    // A refusal is no failure: the journal goes on.
    let mut next = last.clone();
    next.last_timeout = Some((View::new(13), View::new(12)));
    journal.write(&next, &[], &[]).unwrap();
    assert_eq!(open(&disk).unwrap().1.record, next);
}

#[test]
fn a_vote_without_its_body_and_a_certificate_without_its_bytes_are_refused() {
    let disk = FaultyDisk::new();
    let mut journal = create(&disk);
    let voted = SafetyRecord { last_voted: Some((View::new(1), block(1).id())), ..Default::default() };
    let error = journal.write(&voted, &[], &[block(2)]).unwrap_err();
    assert!(error.to_string().contains("whose body was not given"), "{error}");
    let bytes = certificate(1, 0);
    let certified =
        SafetyRecord { high_qc: Some((View::new(1), digest_of_bytes(&bytes))), ..Default::default() };
    let error = journal.write(&certified, &[certificate(2, 0)], &[]).unwrap_err();
    assert!(error.to_string().contains("whose bytes were not given"), "{error}");
    journal.write(&voted, &[], &[block(1)]).unwrap();
    let both = SafetyRecord { high_qc: certified.high_qc, ..voted };
    journal.write(&both, std::slice::from_ref(&bytes), &[]).unwrap();
    assert_eq!(open(&disk).unwrap().1.high_qc, Some(bytes));
}

#[test]
fn one_failed_write_closes_the_journal_for_good() {
    let history = History::new(8);
    for operation in 0..4 {
        let disk = FaultyDisk::new();
        let mut journal = create(&disk);
        write(&mut journal, &History { steps: history.steps[..6].to_vec() });
        disk.fail_at(operation);
        let step = &history.steps[6];
        assert!(journal.write(&step.record, &step.certificates, &step.bodies).is_err());
        // The disk works again, as it seems to after a failed fsync. The journal does not believe it.
        disk.restart();
        let operations = disk.operations();
        let error = journal.write(&step.record, &step.certificates, &step.bodies).unwrap_err();
        assert!(error.to_string().contains("earlier write"), "{error}");
        assert_eq!(disk.operations(), operations, "nothing was even tried");
    }
}

#[test]
fn no_damaged_byte_of_the_safety_file_is_acted_upon() {
    let (disk, history) = written(9);
    let newest = &history.steps.last().unwrap().record;
    let safety = disk.content(SAFETY).unwrap();
    assert_eq!(safety.len(), SLOTS * SLOT_BYTES);
    let try_with = |bytes: Vec<u8>, what: &str| {
        let disk = disk.duplicate();
        disk.put(SAFETY, bytes);
        match open(&disk) {
            Ok((_, contents)) => {
                assert_eq!(&contents.record, newest, "{what}: an older record was acted upon");
                // What was damaged is repaired: opening finds four whole slots.
                let bytes = disk.content(SAFETY).unwrap();
                let (left, right) = bytes.split_at(2 * SLOT_BYTES);
                assert_eq!(left, right, "{what}: not repaired");
                true
            }
            Err(JournalFault::Damaged { what: why, .. }) => {
                assert!(!why.is_empty());
                false
            }
            Err(fault) => panic!("{what}: {fault}"),
        }
    };
    for at in 0..safety.len() {
        let mut flipped = safety.clone();
        flipped[at] ^= 1 << (at % 8);
        assert!(try_with(flipped, &format!("byte {at} flipped")), "one copy is enough");
        if at % 16 == 0 {
            let mut zeroed = safety.clone();
            zeroed[at..(at + 512).min(safety.len())].fill(0);
            try_with(zeroed, &format!("sector at {at} zeroed"));
        }
        if at % 7 == 0 {
            assert!(!try_with(safety[..at].to_vec(), &format!("cut at {at}")), "a short file is damage");
        }
    }
    assert!(!try_with(Vec::new(), "empty"));
    assert!(!try_with(vec![0; safety.len()], "all zero"));
    assert!(!try_with([&safety[..], &[0]].concat(), "one byte more"));
}

#[test]
fn combinations_of_damaged_slots_are_judged_by_the_rule() {
    // Generation 9 + 1 = 10 is even: its copies are slots 0 and 2, the previous generation's 1 and 3.
    let (disk, history) = written(9);
    let safety = disk.content(SAFETY).unwrap();
    let records: Vec<&SafetyRecord> = history.steps.iter().map(|step| &step.record).collect();
    for bad in 0..16u8 {
        let mut bytes = safety.clone();
        for slot in (0..SLOTS).filter(|slot| bad & (1 << slot) != 0) {
            bytes[slot * SLOT_BYTES + 20] ^= 0xff;
        }
        let disk = disk.duplicate();
        disk.put(SAFETY, bytes);
        let newest_bad = (bad & 0b0101).count_ones();
        let previous_bad = (bad & 0b1010).count_ones();
        let expected = match (newest_bad, previous_bad) {
            // An unfinished write: both copies bad beside a whole previous generation.
            (2, 0) => Some(records[7]),
            (0, _) | (1, 0 | 1) => Some(records[8]),
            _ => None,
        };
        assert_eq!(open(&disk).ok().map(|(_, contents)| contents.record).as_ref(), expected, "{bad:04b}");
    }
}

#[test]
fn slots_that_do_not_belong_together_are_refused() {
    let (disk, _) = written(9);
    let (older, _) = written(4);
    let (safety, old) = (disk.content(SAFETY).unwrap(), older.content(SAFETY).unwrap());
    let slot = |bytes: &[u8], at: usize| bytes[at * SLOT_BYTES..(at + 1) * SLOT_BYTES].to_vec();
    let mixes: [(&str, [Vec<u8>; 4]); 3] = [
        ("swapped", [slot(&safety, 1), slot(&safety, 0), slot(&safety, 3), slot(&safety, 2)]),
        ("an old backup's half", [slot(&safety, 0), slot(&old, 1), slot(&safety, 2), slot(&old, 3)]),
        ("one slot in all places", [slot(&safety, 0), slot(&safety, 0), slot(&safety, 0), slot(&safety, 0)]),
    ];
    for (name, mix) in mixes {
        let disk = disk.duplicate();
        disk.put(SAFETY, mix.concat());
        assert!(matches!(open(&disk), Err(JournalFault::Damaged { .. })), "{name}");
    }
}

/// Bytes of the active segment that the record names.
fn synced_bytes(disk: &FaultyDisk) -> usize {
    open(&disk.duplicate()).unwrap().0.log.span().length as usize
}

#[test]
fn no_damaged_byte_of_the_log_is_acted_upon() {
    let (disk, history) = (FaultyDisk::new(), History::new(24));
    let mut journal = create(&disk);
    journal.log.segment_bytes = 3_000;
    journal.log.extent_bytes = 700;
    write(&mut journal, &history);
    let span = journal.log.span();
    drop(journal);
    assert!(span.active > span.first, "closed segments are damaged here, too");
    for number in span.first..=span.active {
        let name = segment_name(number);
        let log = disk.content(&name).unwrap();
        let end = if number == span.active { span.length as usize } else { log.len() };
        let (mut detected, mut zeros) = (0, 0);
        for at in 0..end {
            let mut flipped = log.clone();
            flipped[at] ^= 1 << (at % 8);
            for (what, bytes) in [("flipped", flipped), ("cut", log[..at].to_vec())] {
                let disk = disk.duplicate();
                disk.put(&name, bytes);
                match open(&disk) {
                    Err(JournalFault::Damaged { .. }) => detected += 1,
                    Err(fault) => panic!("{name} byte {at} {what}: {fault}"),
                    // Only what comes after a segment's end may change, and that is zeros.
                    Ok(_) if log[at..].iter().all(|byte| *byte == 0) => zeros += 1,
                    Ok(_) => panic!("{name} byte {at} {what}: not detected"),
                }
            }
        }
        assert!(zeros < detected / 2, "{name}: {zeros} beside {detected}");
    }
    disk.delete(&segment_name(span.first));
    let fault = open(&disk).unwrap_err().to_string();
    assert!(fault.contains("is missing") && fault.contains("import a watermark"), "{fault}");
}

#[test]
fn bytes_after_the_last_synced_frame_are_cut_off() {
    let (disk, history) = written(9);
    let (name, end) = (segment_name(1), synced_bytes(&disk));
    let log = disk.content(&name).unwrap();
    assert_eq!(log.len() as u64, end as u64 + EXTENT_BYTES - (end - synced_bytes(&written(1).0)) as u64);
    for tail in [&[][..], &[1, 2, 3], &log[..200]] {
        disk.put(&name, [&log[..end], tail].concat());
        let (_, contents) = open(&disk).unwrap();
        assert_eq!(contents.record, history.steps.last().unwrap().record);
        assert_eq!(disk.content(&name).unwrap(), log[..end]);
    }
}

#[test]
fn a_restored_older_log_beside_the_newer_record_is_refused() {
    let (disk, _) = written(9);
    let (older, _) = written(5);
    disk.put(&segment_name(1), older.content(&segment_name(1)).unwrap());
    assert!(matches!(open(&disk), Err(JournalFault::Damaged { .. })));
}

#[test]
fn pruned_segments_leave_the_disk_and_certificates_survive_them() {
    let (disk, history) = (FaultyDisk::new(), History::new(STEPS));
    let mut journal = create(&disk);
    journal.log.segment_bytes = 3_000;
    journal.log.extent_bytes = 700;
    for (at, step) in history.steps.iter().enumerate() {
        journal.write(&step.record, &step.certificates, &step.bodies).unwrap();
        journal.prune(blocks_to_commit(at));
        assert!(journal.log_bytes() < 15_000, "the log stays short: {}", journal.log_bytes());
    }
    let segments = disk.files().names().unwrap().iter().filter(|name| segment_number(name).is_some()).count();
    assert!(segments <= 4, "{segments} segments");
    // Export reads, and must not disturb what the durable record still names.
    journal.prune(Height::new(STEPS as u64));
    journal.export().unwrap();
    drop(journal);
    let (_, contents) = open(&disk).unwrap();
    assert_eq!(contents.high_qc, Some(certificate(199, 0)));
    assert!(contents.bodies.iter().any(|body| body.header().height == Height::new(STEPS as u64 - 1)));
}

#[test]
fn a_full_log_refuses_votes_and_still_records_timeouts() {
    let (disk, history) = (FaultyDisk::new(), History::new(6));
    let mut journal = create(&disk);
    journal.log.log_bytes_max = 2_000;
    let full = history.steps.iter().find_map(|step| {
        journal.write(&step.record, &step.certificates, &step.bodies).err().map(|error| error.kind())
    });
    assert_eq!(full, Some(ErrorKind::StorageFull));
    let mut record = journal.record().clone();
    record.last_timeout = Some((View::new(50), View::new(1)));
    journal.write(&record, &[], &[]).unwrap();
}

#[test]
fn files_of_another_key_or_chain_are_refused() {
    let (disk, _) = written(3);
    let other = Hash([1; 32]);
    let key = Owner { validator: Address::new(other), ..OWNER };
    let fault = Journal::open_in(Box::new(disk.files()), key).unwrap_err();
    assert!(matches!(fault, JournalFault::WrongValidator { .. }), "{fault}");
    let chain = Owner { chain: ChainId::new(other), ..OWNER };
    let fault = Journal::open_in(Box::new(disk.files()), chain).unwrap_err();
    assert!(matches!(fault, JournalFault::WrongChain { .. }), "{fault}");
}

#[test]
fn a_journal_is_created_once_and_never_over_remains() {
    let (disk, _) = written(3);
    let again = |disk: &FaultyDisk| Journal::create_in(Box::new(disk.files()), OWNER).err();
    assert!(matches!(again(&disk), Some(JournalFault::Exists { .. })));
    disk.delete(SAFETY);
    assert!(matches!(again(&disk), Some(JournalFault::Exists { .. })), "the log alone is a remain, too");
    assert!(matches!(open(&disk), Err(JournalFault::Missing { .. })));
    assert!(matches!(open(&FaultyDisk::new()), Err(JournalFault::Missing { .. })));
}

#[test]
fn a_watermark_moves_the_duty_and_never_lowers_it() {
    let (disk, history) = written(9);
    let (mut journal, contents) = open(&disk).unwrap();
    let bytes = journal.export().unwrap().to_bytes();
    let watermark = Watermark::from_bytes(&bytes).unwrap();
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 4;
        assert!(Watermark::from_bytes(&flipped).is_err(), "byte {at}");
        assert!(Watermark::from_bytes(&bytes[..at]).is_err(), "cut at {at}");
    }
    let target = FaultyDisk::new();
    drop(Journal::import_higher_in(Box::new(target.files()), OWNER, &watermark).unwrap());
    let (mut moved, found) = open(&target).unwrap();
    assert_eq!(found, contents);
    let mut next = history.steps[8].record.clone();
    next.last_timeout = Some((View::new(40), View::new(9)));
    moved.write(&next, &[], &[]).unwrap();
    drop(moved);
    let lower = Journal::import_higher_in(Box::new(target.files()), OWNER, &watermark);
    assert!(matches!(lower, Err(JournalFault::Lower(_))));
    let foreign = Watermark { owner: Owner { chain: ChainId::ZERO, ..OWNER }, ..watermark };
    let refused = Journal::import_higher_in(Box::new(target.files()), OWNER, &foreign);
    assert!(matches!(refused, Err(JournalFault::WrongChain { .. })));
    assert_eq!(open(&target).unwrap().1.record, next);
}

#[test]
fn a_floor_made_by_hand_needs_no_body() {
    let record = SafetyRecord { last_voted: Some((View::new(70), BlockId::ZERO)), ..Default::default() };
    let watermark = Watermark { owner: OWNER, record: record.clone(), certificates: vec![], bodies: vec![] };
    let disk = FaultyDisk::new();
    Journal::import_higher_in(Box::new(disk.files()), OWNER, &watermark).unwrap();
    assert_eq!(open(&disk).unwrap().1.record, record);
}

#[test]
fn on_disk_it_survives_reopening_and_admits_one_process() {
    let directory = tempfile::tempdir().unwrap();
    let sign = directory.path().join("sign");
    let missing = Journal::open(&sign, OWNER.validator, OWNER.chain).unwrap_err();
    assert!(matches!(missing, JournalFault::Missing { .. }), "{missing}");
    let history = History::new(30);
    let mut journal = Journal::create(&sign, OWNER.validator, OWNER.chain).unwrap();
    journal.log.segment_bytes = 3_000;
    journal.log.extent_bytes = 700;
    for (at, step) in history.steps.iter().enumerate() {
        journal.write(&step.record, &step.certificates, &step.bodies).unwrap();
        journal.prune(blocks_to_commit(at));
    }
    let locked = Journal::open(&sign, OWNER.validator, OWNER.chain).unwrap_err().to_string();
    assert!(locked.contains(&format!("process {}", std::process::id())), "{locked}");
    drop(journal);
    let (_journal, contents) = Journal::open(&sign, OWNER.validator, OWNER.chain).unwrap();
    assert_eq!(contents.record, history.steps.last().unwrap().record);
    assert_eq!(contents.high_tc, Some(certificate(26, 1)));
    let exists = Journal::create(&sign, OWNER.validator, OWNER.chain).unwrap_err();
    assert!(matches!(exists, JournalFault::Locked { .. }), "{exists}");
    use std::os::unix::fs::PermissionsExt;
    for entry in std::fs::read_dir(&sign).unwrap() {
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "readable by others");
    }
}
