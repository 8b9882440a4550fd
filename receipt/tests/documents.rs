//! Bundles, checkpoints and consistency proofs verify as specified, and no changed one does.

mod fixture;

use cairn_receipt::{
    BundleFault, CheckName, Document, ReceiptVerifier, bundle, bundle_to_json, core_of, parse_bundle,
    places_of, receipt_of, receipts_of, refreshed, to_json,
};
use cairn_types::log::TreeHash;
use cairn_types::receipt::{Bundle, Finality};
use cairn_types::{Hash, Scheme};
use fixture::World;
use fixture::documents::{self, Log, anchor_path, pinned, relative};

#[test]
fn every_case_ends_at_its_own_check() {
    for scheme in Scheme::ALL {
        let group = documents::all(scheme);
        for case in group.cases {
            let mut trusted = group.world.trusted();
            trusted.checkpoints.clone_from(&case.checkpoints);
            let (document, verdict) = ReceiptVerifier::new(trusted).verify_any(&case.text);
            let failed = verdict.failed().map(|check| check.name);
            assert_eq!(failed, case.fails, "{scheme}, {}: {:?}", case.name, verdict.checks);
            assert_eq!(verdict.valid, case.fails.is_none());
            assert_eq!(document.is_none(), case.fails == Some(CheckName::Format));
            if let Some(document) = document {
                assert_eq!(document.to_json(), case.text, "{}: written as it was read", case.name);
            }
        }
    }
}

#[test]
fn a_bundle_comes_apart_into_the_receipts_it_was_made_of() {
    let world = World::new(Scheme::Dilithium3);
    let log = Log::new(&world);
    let whole = log.bundle(&world);
    assert_eq!(whole.batches.iter().map(|batch| batch.leaves.len()).collect::<Vec<_>>(), [3, 2, 1]);
    let verifier = ReceiptVerifier::new(world.trusted());
    let verdict = verifier.verify_bundle(&whole);
    assert!(verdict.valid && verdict.records.len() == 3 && verdict.record.is_none());
    let receipts = receipts_of(&whole).unwrap();
    let expected = [(0, 0), (0, 3), (0, 6), (1, 1), (1, 2), (2, 0)];
    assert_eq!(receipts.len(), expected.len());
    for (receipt, (batch, leaf)) in receipts.iter().zip(expected) {
        let mut alone = log.receipt(&world, batch, leaf);
        // Another signing of the same header: the certificate is the first receipt's.
        alone.finality.clone_from(&receipt.finality);
        assert_eq!(receipt, &alone);
        assert_eq!(receipt.anchor_path, anchor_path(&log, documents::SEQS[batch]));
        assert!(verifier.verify(receipt).valid);
    }
    assert_eq!(receipt_of(&whole, 1, 0).unwrap(), receipts[3]);
    assert!(matches!(receipt_of(&whole, 1, 2), Err(BundleFault::NoLeaf { batch: 1, leaf: 2 })));
    assert_eq!(bundle(&receipts).unwrap(), whole);
    // The fixture's batches hold the same digests at the same places.
    assert_eq!(places_of(&whole, &receipts[0].subject.digest), [(0, 0), (2, 0)]);
    assert_eq!(places_of(&whole, &Hash([0xee; 32])), []);
    // One certificate, not six.
    let singles: usize = receipts.iter().map(|receipt| to_json(receipt).len()).sum();
    assert!(bundle_to_json(&whole).len() * 4 < singles);
}

#[test]
fn receipts_that_do_not_belong_together_make_no_bundle() {
    let world = World::new(Scheme::MlDsa65);
    let log = Log::new(&world);
    assert_eq!(bundle(&[]), Err(BundleFault::Empty));
    let (one, mut two) = (log.receipt(&world, 0, 1), log.receipt(&world, 1, 1));
    assert!(matches!(
        bundle(&[one.clone(), pinned(&two)]),
        Err(BundleFault::OtherHeader { position: 1, got: 9, expected: 9 })
    ));
    two.anchor_path[3].0[0] ^= 1;
    assert!(matches!(bundle(&[one.clone(), two.clone()]), Err(BundleFault::Malformed { .. })));
    two.anchor_path.pop();
    assert!(matches!(bundle(&[one.clone(), two]), Err(BundleFault::Malformed { .. })));
    let mut other = one.clone();
    other.subject.algorithm = "blake3".into();
    assert_eq!(bundle(&[one.clone(), other]), Err(BundleFault::SameLeaf { position: 1 }));
    assert_eq!(bundle(&[one.clone(), one.clone()]).unwrap(), bundle(&[one]).unwrap());
}

#[test]
fn a_bundle_takes_a_new_header_only_for_its_own_records() {
    let world = World::new(Scheme::MlDsa65);
    let log = Log::new(&world);
    let whole = log.bundle(&world);
    let mut core = core_of(&whole);
    assert_eq!(refreshed(&whole, core.clone()).unwrap(), whole);
    core.records.push(core.records[0].clone());
    assert_eq!(refreshed(&whole, core.clone()), Err(BundleFault::OtherRecord { seq: 1 }));
    core.records.truncate(2);
    assert_eq!(refreshed(&whole, core.clone()), Err(BundleFault::OtherRecord { seq: 8 }));
    core.records.swap(0, 1);
    assert_eq!(refreshed(&whole, core), Err(BundleFault::OtherRecord { seq: 1 }));
}

#[test]
fn no_bit_of_a_bundle_may_change() {
    let world = World::new(Scheme::Dilithium3);
    let base = Log::new(&world).bundle(&world);
    let verifier = ReceiptVerifier::new(world.trusted());
    assert!(verifier.verify_bundle(&base).valid);
    let mut refused = 0;
    let mut try_bits = |length: usize, step: usize, flip: &dyn Fn(&mut Bundle, usize, u8)| {
        for bit in (0..length * 8).step_by(step) {
            let mut changed = base.clone();
            flip(&mut changed, bit / 8, 1 << (bit % 8));
            assert_ne!(changed, base);
            assert!(!verifier.verify_bundle(&changed).valid, "bit {bit} of a field of {length} bytes");
            refused += 1;
        }
    };
    for (b, batch) in base.batches.iter().enumerate() {
        for (l, leaf) in batch.leaves.iter().enumerate() {
            try_bits(32, 1, &|it, at, mask| it.batches[b].leaves[l].subject.digest.0[at] ^= mask);
            try_bits(8, 1, &|it, at, mask| it.batches[b].leaves[l].index ^= u64::from(mask) << (8 * at));
            let salt = leaf.subject.salt.len();
            try_bits(salt, 1, &|it, at, mask| it.batches[b].leaves[l].subject.salt[at] ^= mask);
        }
        for step in 0..batch.path.len() {
            try_bits(32, 1, &|it, at, mask| it.batches[b].path[step].0[at] ^= mask);
        }
        try_bits(batch.record_bytes.len(), 1, &|it, at, mask| it.batches[b].record_bytes[at] ^= mask);
    }
    for step in 0..base.anchor_path.len() {
        try_bits(32, 1, &|it, at, mask| it.anchor_path[step].0[at] ^= mask);
    }
    try_bits(base.header_bytes.len(), 1, &|it, at, mask| it.header_bytes[at] ^= mask);
    let Finality::Certificate(certificate) = &base.finality else { unreachable!() };
    try_bits(certificate.len(), 61, &|it, at, mask| {
        let Finality::Certificate(bytes) = &mut it.finality else { unreachable!() };
        bytes[at] ^= mask;
    });
    assert!(refused > 14_000, "{refused}");
}

#[test]
fn no_bit_of_a_checkpoint_or_consistency_proof_may_change() {
    let world = World::new(Scheme::MlDsa65);
    let log = Log::new(&world);
    let verifier = ReceiptVerifier::new(world.trusted());
    for (size, hash) in [(6, TreeHash::Anchors), (5, TreeHash::AnchorsSha256), (8, TreeHash::Anchors)] {
        let base = log.consistency(&world, size, hash);
        let verdict = verifier.verify_consistency(&base);
        assert!(verdict.valid, "{:?}", verdict.checks);
        for step in 0..base.path.len() {
            for bit in 0..256 {
                let mut changed = base.clone();
                changed.path[step].0[bit / 8] ^= 1 << (bit % 8);
                assert!(!verifier.verify_consistency(&changed).valid, "hash {step}, bit {bit}");
            }
        }
        for bit in 0..base.to.header_bytes.len() * 8 {
            let mut changed = base.clone();
            changed.to.header_bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(!verifier.verify_consistency(&changed).valid, "later header, bit {bit}");
            assert!(!verifier.verify_checkpoint(&changed.to).valid, "checkpoint, bit {bit}");
        }
    }
}

/// Changes each character of the text of a small bundle to another.
#[test]
fn no_character_of_a_bundles_text_may_change_its_meaning() {
    let world = World::new(Scheme::MlDsa65);
    let log = Log::new(&world);
    let mut trusted = world.trusted();
    trusted.checkpoints = vec![log.header.id()];
    let verifier = ReceiptVerifier::new(trusted);
    let text = bundle_to_json(&relative(&log.bundle(&world)));
    assert!(verifier.verify_any(&text).1.valid);
    let names: Vec<_> = text.match_indices("sha256").map(|(at, _)| at..at + 6).collect();
    for (at, old) in text.char_indices().filter(|(at, _)| !names.iter().any(|name| name.contains(at))) {
        for new in ['0', 'f', 'A', '"', ' ', '{', ',', '1'] {
            let mut changed = text.clone();
            changed.replace_range(at..=at, &new.to_string());
            let harmless = new == old || (old == '\n' && new == ' ');
            assert!(harmless || !verifier.verify_any(&changed).1.valid, "{old:?} -> {new:?} at {at}");
        }
    }
}

#[test]
fn documents_are_told_apart_and_hostile_texts_refused() {
    let world = World::new(Scheme::MlDsa65);
    let log = Log::new(&world);
    let bundle = log.bundle(&world);
    let receipt = log.receipt(&world, 0, 0);
    let kind = |text: &str| Document::parse(text).map(|document| document.kind()).ok();
    assert_eq!(kind(&bundle_to_json(&bundle)), Some("bundle"));
    assert_eq!(kind(&core_of(&bundle).to_json()), Some("core of a bundle"));
    assert_eq!(kind(&to_json(&receipt)), Some("receipt"));
    assert_eq!(
        kind(&cairn_receipt::AnchorReceipt::of(&receipt).to_json()),
        Some("receipt of a batch's root")
    );
    assert_eq!(kind(&log.checkpoint(&world).to_json()), Some("checkpoint"));
    let proof = log.consistency(&world, 2, TreeHash::Anchors);
    assert_eq!(kind(&proof.to_json()), Some("consistency proof"));
    for text in ["", "{}", "null", "[]", "{\"batches\":1}", "{\"version\":1}", "{\"header\":\"\"}"] {
        assert_eq!(kind(text), None, "{text}");
    }
    let text = bundle_to_json(&bundle);
    for cut in (0..text.trim_end().len()).step_by(97) {
        assert!(parse_bundle(&text[..cut]).is_err());
    }
    let mut hostile = relative(&bundle);
    hostile.batches[0].leaves[0].index = u64::MAX;
    hostile.batches[0].record_bytes = vec![0; 10_000];
    hostile.anchor_path = vec![Hash([0; 32]); 10_000];
    assert!(!ReceiptVerifier::new(world.trusted()).verify_bundle(&hostile).valid);
    assert!(receipts_of(&hostile).is_err());
}
