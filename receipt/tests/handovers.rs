//! Hand-overs between epochs: in every kind of document that has them, no changed one is accepted.

mod fixture;

use cairn_receipt::{
    CheckName, Checkpoint, ConsistencyProof, ReceiptVerifier, StateDocument, StateSubject, Verdict, bundle,
};
use cairn_types::certificate::Second;
use cairn_types::log::TreeHash;
use cairn_types::receipt::{EpochHandover, Finality};
use cairn_types::state_key::state_value;
use cairn_types::{Header, Scheme, TreeKind, encode};
use fixture::states::{Scene, State, identity, key_entry};
use fixture::{Batch, World, receipt_across_epochs};

type Epochs = Vec<EpochHandover>;
/// A name, and what it does to hand-overs.
type Change<'a> = (&'a str, &'a dyn Fn(&mut Epochs));
/// Verifies one document with other hand-overs in it.
type Verify<'a> = &'a dyn Fn(Epochs) -> Verdict;

/// From epoch 0 over two carriers, from epoch 1 over none.
fn genuine(world: &World) -> Epochs {
    vec![world.handover(0, 2), world.handover(1, 0)]
}

/// A header of epoch 2 with what makes it final, all but the hand-overs.
fn signed(world: &World, header: &Header) -> Finality {
    let committee = &world.committees[2];
    Finality::Certificate(encode(&committee.certify::<Second>(header, committee.quorum())))
}

/// Every byte string of the hand-overs: of `headers`, `certificate`, `validators`, of each.
fn fields(epochs: &mut Epochs) -> Vec<&mut Vec<u8>> {
    epochs
        .iter_mut()
        .flat_map(|it| it.headers.iter_mut().chain([&mut it.certificate, &mut it.validators]))
        .collect()
}

/// The bits to change in a field: every one of a header, and of what begins a certificate or a set; of the keys and
/// signatures that follow, which are long, a sample.
fn bits(length: usize) -> impl Iterator<Item = usize> {
    let dense = if length < 1_024 { length * 8 } else { 128 * 8 };
    (0..dense).chain((dense..length * 8).step_by(211))
}

fn refused(name: &str, what: &str, verdict: &Verdict) {
    let failed = verdict.failed().map(|check| check.name);
    assert!(!verdict.valid, "{name}: {what} was accepted");
    assert_eq!(failed, Some(CheckName::Epochs), "{name}: {what}: {:?}", verdict.failed());
}

/// Changes each field of the hand-overs, bit by bit and by cutting it short.
fn change_every_field(name: &str, world: &World, verify: Verify) -> usize {
    let good = genuine(world);
    let mut tried = 0;
    for index in 0..fields(&mut good.clone()).len() {
        let mut changed = good.clone();
        let length = fields(&mut changed)[index].len();
        for bit in bits(length) {
            fields(&mut changed)[index][bit / 8] ^= 1 << (bit % 8);
            refused(name, &format!("bit {bit} of field {index}"), &verify(changed.clone()));
            fields(&mut changed)[index][bit / 8] ^= 1 << (bit % 8);
            tried += 1;
        }
        for change in
            [|bytes: &mut Vec<u8>| bytes.truncate(bytes.len() - 1), |bytes: &mut Vec<u8>| bytes.push(0)]
        {
            let mut changed = good.clone();
            change(fields(&mut changed)[index]);
            refused(name, &format!("another length of field {index}"), &verify(changed));
            tried += 1;
        }
    }
    tried
}

/// Changes the order and the number of the hand-overs and of their headers.
fn change_the_shape(name: &str, world: &World, verify: Verify) {
    let changes: [Change; 11] = [
        ("no hand-over", &|it| it.clear()),
        ("the first alone", &|it| it.truncate(1)),
        ("the second alone", &|it| drop(it.remove(0))),
        ("the other order", &|it| it.reverse()),
        ("the first twice", &|it| it[1] = it[0].clone()),
        ("one more", &|it| it.push(it[1].clone())),
        ("no header", &|it| it[1].headers.clear()),
        ("a carrier left out", &|it| drop(it[0].headers.remove(1))),
        ("the last carrier left out", &|it| drop(it[0].headers.pop())),
        ("only carriers", &|it| drop(it[0].headers.remove(0))),
        ("the next set in the place of the set", &|it| it[0].validators = it[1].validators.clone()),
    ];
    for (what, change) in changes {
        let mut epochs = genuine(world);
        change(&mut epochs);
        refused(name, what, &verify(epochs));
    }
}

fn every_change(name: &str, world: &World, verify: Verify) {
    let verdict = verify(genuine(world));
    assert!(verdict.valid, "{name}: {:?}", verdict.failed());
    let tried = change_every_field(name, world, verify);
    change_the_shape(name, world, verify);
    assert!(tried > 15_000, "{name}: {tried}");
    println!("{name}: {tried} changed fields of two hand-overs: accepted, none");
}

#[test]
fn none_in_a_state_document() {
    for scheme in Scheme::ALL {
        let scene = Scene::new(scheme);
        let verifier = ReceiptVerifier::new(scene.world.trusted());
        let subject = StateSubject::Identity(scene.sender);
        let key = key_entry(scene.sender, 1, None, cairn_types::identity::Purposes::ORDINARY);
        let state = State::new(vec![(subject, state_value(&identity(vec![key])))]);
        let mut header = scene.world.header(2, 40, 3, &[]);
        header.state_root = state.root();
        let finality = signed(&scene.world, &header);
        let document =
            |epochs| StateDocument::new(subject, &state.prove(subject), &header, finality.clone(), epochs);
        every_change("state document", &scene.world, &|epochs| {
            let outcome = verifier.verify_state(&document(epochs));
            assert_eq!(
                outcome.finding.is_some(),
                outcome.verdict.valid,
                "nothing is found in what is not valid"
            );
            outcome.verdict
        });
    }
}

#[test]
fn none_in_a_state_that_travels_with_a_receipt() {
    let scene = Scene::new(Scheme::MlDsa65);
    let verifier = ReceiptVerifier::new(scene.world.trusted());
    let subject = StateSubject::Identity(scene.sender);
    let key = key_entry(scene.sender, 1, None, cairn_types::identity::Purposes::ORDINARY);
    let state = State::new(vec![(subject, state_value(&identity(vec![key])))]);
    let mut header = scene.world.header(2, 40, 3, &[]);
    header.state_root = state.root();
    let finality = signed(&scene.world, &header);
    let carried = |epochs| {
        let document = StateDocument::new(subject, &state.prove(subject), &header, finality.clone(), epochs);
        verifier.verify(&scene.receipt(&[document]))
    };
    assert!(carried(genuine(&scene.world)).valid);
    let mut changed = genuine(&scene.world);
    for index in 0..fields(&mut changed).len() {
        for bit in bits(fields(&mut changed)[index].len()).step_by(17) {
            fields(&mut changed)[index][bit / 8] ^= 1 << (bit % 8);
            let verdict = carried(changed.clone());
            assert!(!verdict.valid);
            assert_eq!(verdict.failed().map(|check| check.name), Some(CheckName::Signer));
            fields(&mut changed)[index][bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn none_in_a_receipt_or_a_bundle() {
    for scheme in Scheme::ALL {
        let world = World::new(scheme);
        let verifier = ReceiptVerifier::new(world.trusted());
        let receipt = receipt_across_epochs(&world, &Batch::new(TreeKind::CairnB3V1, 7, true), 3);
        let many = bundle(std::slice::from_ref(&receipt)).unwrap();
        every_change("receipt", &world, &|epochs| {
            verifier.verify(&cairn_types::receipt::Receipt { epochs, ..receipt.clone() })
        });
        every_change("bundle", &world, &|epochs| {
            verifier.verify_bundle(&cairn_types::receipt::Bundle { epochs, ..many.clone() })
        });
    }
}

#[test]
fn none_in_a_checkpoint_or_a_consistency_proof() {
    let world = World::new(Scheme::MlDsa65);
    let verifier = ReceiptVerifier::new(world.trusted());
    let header = world.header(2, 40, 3, &[]);
    let finality = signed(&world, &header);
    let checkpoint = |epochs| Checkpoint::new(encode(&header), finality.clone(), epochs);
    every_change("checkpoint", &world, &|epochs| verifier.verify_checkpoint(&checkpoint(epochs)));
    let from_bytes = encode(&world.header(0, 3, 4, &[]));
    every_change("consistency proof", &world, &|epochs| {
        verifier.verify_consistency(&ConsistencyProof {
            log: TreeHash::Anchors,
            from_bytes: from_bytes.clone(),
            path: Vec::new(),
            to: checkpoint(epochs),
        })
    });
}
