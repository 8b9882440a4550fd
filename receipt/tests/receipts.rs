//! Receipts verify as specified, and no changed one does.

mod fixture;

use std::time::Instant;

use cairn_receipt::{
    AnchorReceipt, CheckName, ReceiptVerifier, Trust, Verdict, anchor_receipt, parse, to_json, verify,
    verify_json,
};
use cairn_types::receipt::{Finality, Receipt};
use cairn_types::{Epoch, Height, Scheme, TreeKind};
use fixture::{Batch, World, cases, receipt, receipt_across_epochs, records};

fn named(verdict: &Verdict) -> Option<CheckName> {
    assert_eq!(verdict.valid, verdict.failed().is_none());
    assert_eq!(verdict.valid, verdict.record.is_some() && verdict.trust != Trust::Nothing);
    verdict.failed().map(|check| check.name)
}

#[test]
fn every_case_ends_at_its_own_check() {
    for (scheme, group) in
        Scheme::ALL.into_iter().flat_map(|scheme| cases::all(scheme).into_iter().map(move |it| (scheme, it)))
    {
        for case in group.cases {
            let mut trusted = group.world.trusted();
            trusted.checkpoints.clone_from(&case.checkpoints);
            let verdict = ReceiptVerifier::new(trusted).verify_json(&case.text);
            assert_eq!(named(&verdict), case.fails, "{scheme}, {}: {:?}", case.name, verdict.checks);
        }
    }
}

#[test]
fn a_valid_verdict_says_what_was_anchored_when_and_on_what_it_rests() {
    let world = World::new(Scheme::Dilithium3);
    let batch = Batch::new(TreeKind::CairnB3V1, 7, true);
    let verdict = verify(&receipt(&world, &batch, 3), &world.trusted());
    assert!(verdict.valid);
    assert_eq!(verdict.height(), Some(Height::new(2)));
    assert_eq!(verdict.time_ms(), Some(1_767_225_602_000));
    assert_eq!(verdict.trust, Trust::Genesis { epoch: Epoch::ZERO });
    assert!(verdict.warnings.iter().any(|warning| warning.contains("retired")));
    let names: Vec<_> = verdict.checks.iter().map(|check| check.name.name()).collect();
    let expected =
        ["record", "header", "batch", "anchor", "chain", "carrier", "epochs", "validators", "certificate"];
    assert_eq!(names, expected);

    let across = verify(&receipt_across_epochs(&world, &batch, 3), &world.trusted());
    assert_eq!(across.trust, Trust::Genesis { epoch: Epoch::new(2) });
}

#[test]
fn external_evidence_is_kept_and_reported_as_unverified() {
    let world = World::new(Scheme::MlDsa65);
    let mut receipt = receipt(&world, &Batch::new(TreeKind::CairnB3V1, 2, false), 1);
    receipt.external = vec!["{\"a\":[1,-2,3.5,null,true,\"\\\"x\"]}".into()];
    let read = parse(&to_json(&receipt)).unwrap();
    assert_eq!(read, receipt);
    let verdict = verify(&read, &world.trusted());
    assert!(verdict.valid && verdict.warnings.iter().any(|warning| warning.contains("external")));
    receipt.external = vec!["{\"a\":1,\"a\":2}".into()];
    assert!(parse(&to_json(&receipt)).is_err(), "keys may not repeat there either");
}

#[test]
fn receipts_round_trip_and_every_cut_is_refused() {
    let world = World::new(Scheme::MlDsa65);
    let receipt = receipt_across_epochs(&world, &Batch::new(TreeKind::CairnB3V1, 5, true), 2);
    let text = to_json(&receipt);
    assert_eq!(parse(&text).unwrap(), receipt);
    for cut in (0..text.trim_end().len()).step_by(97) {
        assert!(parse(&text[..cut]).is_err());
    }
}

/// Flips each bit of each byte string and integer that a receipt holds (signatures: a sample of bits).
#[test]
fn no_bit_of_a_receipt_may_change() {
    for scheme in Scheme::ALL {
        let world = World::new(scheme);
        let base = receipt(&world, &Batch::new(TreeKind::CairnB3V1, 7, true), 4);
        let verifier = ReceiptVerifier::new(world.trusted());
        assert!(verifier.verify(&base).valid);
        let mut refused = 0;
        let mut try_bits = |length: usize, step: usize, flip: &dyn Fn(&mut Receipt, usize, u8)| {
            for bit in (0..length * 8).step_by(step) {
                let mut changed = base.clone();
                flip(&mut changed, bit / 8, 1 << (bit % 8));
                assert_ne!(changed, base);
                assert!(!verifier.verify(&changed).valid, "bit {bit} of a field of {length} bytes");
                refused += 1;
            }
        };
        try_bits(32, 1, &|r, at, mask| r.subject.digest.0[at] ^= mask);
        try_bits(16, 1, &|r, at, mask| r.subject.salt[at] ^= mask);
        try_bits(8, 1, &|r, at, mask| r.batch.as_mut().unwrap().index ^= u64::from(mask) << (8 * at));
        for step in 0..base.batch.as_ref().unwrap().path.len() {
            try_bits(32, 1, &|r, at, mask| r.batch.as_mut().unwrap().path[step].0[at] ^= mask);
        }
        try_bits(base.record_bytes.len(), 1, &|r, at, mask| r.record_bytes[at] ^= mask);
        for step in 0..base.anchor_path.len() {
            try_bits(32, 1, &|r, at, mask| r.anchor_path[step].0[at] ^= mask);
        }
        try_bits(base.header_bytes.len(), 1, &|r, at, mask| r.header_bytes[at] ^= mask);
        let Finality::Certificate(certificate) = &base.finality else { unreachable!() };
        let flip = |r: &mut Receipt, at: usize, mask: u8| {
            let Finality::Certificate(bytes) = &mut r.finality else { unreachable!() };
            bytes[at] ^= mask;
        };
        try_bits(61, 1, &flip);
        try_bits(certificate.len(), 61, &flip);
        assert!(refused > 8_000);
    }
}

/// Changes each character of the text of a small receipt to another.
#[test]
fn no_character_of_a_receipts_text_may_change_its_meaning() {
    let world = World::new(Scheme::MlDsa65);
    let batch = Batch::new(TreeKind::CairnB3V1, 7, true);
    let full = receipt(&world, &batch, 4);
    let core = AnchorReceipt::of(&full);
    let mut trusted = world.trusted();
    trusted.checkpoints = vec![core.header().unwrap().id()];
    let pinned = core.checkpoint_relative().complete(full.subject.clone(), full.batch.clone());
    let verifier = ReceiptVerifier::new(trusted);
    let text = to_json(&pinned);
    assert!(verifier.verify_json(&text).valid);
    let algorithm = text.find("sha256").unwrap();
    let is_name = |at: usize| (algorithm..algorithm + 6).contains(&at);
    for (at, old) in text.char_indices() {
        for new in ['0', 'f', 'A', '"', ' ', '{', ',', '1'] {
            let mut changed = text.clone();
            changed.replace_range(at..=at, &new.to_string());
            let verdict = verifier.verify_json(&changed);
            // White space between tokens, and the algorithm, which only says how to hash a file, mean nothing here.
            let harmless = new == old || (old.is_whitespace() && new == ' ') || is_name(at);
            assert!(harmless || !verdict.valid, "{old:?} -> {new:?} at {at}");
        }
    }
}

#[test]
fn the_core_that_a_node_hands_out_verifies_and_becomes_each_leafs_receipt() {
    let world = World::new(Scheme::Dilithium3);
    let batch = Batch::new(TreeKind::Rfc9162Sha256, 6, true);
    let records = records(&world, &batch, 5);
    let proof = world.proof(world.header(0, 7, 9, &records), &records, 2);
    let core = anchor_receipt(&proof);
    assert_eq!(AnchorReceipt::parse(&core.to_json()).unwrap(), core);
    assert_eq!(core.record().unwrap(), proof.record);
    let verifier = ReceiptVerifier::new(world.trusted());
    assert!(verifier.verify_anchor(&core).valid);
    for index in 0..6 {
        let receipt = core.clone().complete(batch.subject(index), batch.place(index as u64));
        assert!(verifier.verify(&receipt).valid);
        assert!(verify_json(&to_json(&receipt), &world.genesis).valid);
    }
    // A core is no receipt, and a receipt no core.
    assert!(parse(&core.to_json()).is_err());
    let receipt = core.clone().complete(batch.subject(0), batch.place(0));
    assert!(AnchorReceipt::parse(&to_json(&receipt)).is_err());

    let pinned = core.checkpoint_relative();
    assert_eq!(named(&verifier.verify_anchor(&pinned)), Some(CheckName::Checkpoint));
    assert!(pinned.to_json().len() < 2_600, "{}", pinned.to_json().len());
}

#[test]
fn another_genesis_trusts_nothing_of_this_chain() {
    let (world, other) = (World::new(Scheme::Dilithium3), World::new(Scheme::MlDsa65));
    let receipt = receipt(&world, &Batch::new(TreeKind::CairnB3V1, 1, false), 0);
    assert_eq!(named(&verify(&receipt, &other.trusted())), Some(CheckName::Chain));
    // The right chain id with other validators.
    let mut trusted = other.trusted();
    trusted.chain = world.chain;
    assert_eq!(named(&verify(&receipt, &trusted)), Some(CheckName::Validators));
    let mut empty = world.genesis.clone();
    empty.validators.clear();
    assert!(!verify_json(&to_json(&receipt), &empty).valid);
}

#[test]
fn oversized_deep_and_hostile_texts_are_refused() {
    let world = World::new(Scheme::MlDsa65);
    for text in [
        " ".repeat(cairn_receipt::RECEIPT_BYTES_MAX + 1),
        "[".repeat(100_000),
        "{\"external\":".repeat(10_000),
        "null".into(),
        String::new(),
        "{}".into(),
        "\u{feff}{}".into(),
    ] {
        assert_eq!(named(&verify_json(&text, &world.genesis)), Some(CheckName::Format));
    }
}

#[test]
fn offline_verification_takes_less_than_a_millisecond() {
    for scheme in Scheme::ALL {
        let world = World::new(scheme);
        let text = to_json(&receipt(&world, &Batch::new(TreeKind::CairnB3V1, 64, true), 40));
        let best = (0..20)
            .map(|_| {
                let start = Instant::now();
                assert!(verify_json(&text, &world.genesis).valid);
                start.elapsed()
            })
            .min()
            .unwrap();
        eprintln!("verifying a receipt of {} bytes, 4 validators, {scheme}: {best:?}", text.len());
        assert!(best.as_micros() < 1_000, "{scheme}: {best:?}");
    }
}

proptest::proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
        let world = World::new(Scheme::MlDsa65);
        let text = String::from_utf8_lossy(&bytes);
        let _ = parse(&text);
        let mut changed = receipt(&world, &Batch::new(TreeKind::CairnB3V1, 1, false), 0);
        changed.record_bytes.clone_from(&bytes);
        proptest::prop_assert!(!verify(&changed, &world.trusted()).valid);
        changed.header_bytes = bytes;
        proptest::prop_assert!(!verify(&changed, &world.trusted()).valid);
    }
}
