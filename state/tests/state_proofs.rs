//! Proofs of what the state holds: every key, present or absent, against the newest header; and no changed one.

mod support;

use cairn_state::State;
use cairn_types::identity::{IdentityEntry, IdentityOp, KeyStanding, Purpose};
use cairn_types::state_key::read_state_value;
use cairn_types::state_proof::PathEnd;
use cairn_types::*;
use proptest::prelude::*;
use support::*;

fn register_all(state: &State, identities: impl Iterator<Item = u64>) {
    let time = state.tip().header.time_ms + 1_000;
    let txs = identities.map(|n| verified(operation(n, IdentityOp::Register, time), vec![key(n)])).collect();
    grow(state, time, txs);
}

fn identity_key(n: u64) -> StateKey {
    StateKey::Identity(key(n).address())
}

#[test]
fn every_key_is_proven_present_or_absent() {
    on_both(|store| {
        let state = State::open(store, &genesis()).unwrap();
        assert!(state.prove_state(&StateKey::Params).unwrap().is_none(), "nobody signed block 0");
        register_all(&state, 0..100);
        // A block that leaves the map alone: the tree is older than the header.
        let time = state.tip().header.time_ms + 1_000;
        grow(&state, time, vec![anchor(500, 1, time)]);
        for n in 0..200 {
            let proven = state.prove_state(&identity_key(n)).unwrap().unwrap();
            assert_eq!(proven.top.header, *state.tip().header);
            let root = proven.top.header.state_root;
            let value = proven.proof.verify(&identity_key(n), root).unwrap();
            let entry = value.map(|value| read_state_value::<IdentityEntry>(value).unwrap());
            assert_eq!(entry, state.identity(&key(n).address()).unwrap().map(|it| it.entry));
            assert_eq!(entry.is_some(), n < 100);
            // It speaks of no other key, and of no other root.
            assert_ne!(proven.proof.verify(&identity_key(n + 1), root).ok().flatten(), value.or(Some(&[])));
            assert!(proven.proof.verify(&identity_key(n), Hash([1; 32])).is_err());
            let again: StateProof = decode(&encode(&proven.proof)).unwrap();
            assert_eq!(again, proven.proof);
        }
        for key in [StateKey::Params, StateKey::Admission, StateKey::Validators] {
            let proven = state.prove_state(&key).unwrap().unwrap();
            assert!(proven.proof.verify(&key, proven.top.header.state_root).unwrap().is_some());
        }
    });
}

#[test]
fn no_changed_proof_is_accepted() {
    let state = open(&memory());
    register_all(&state, 0..40);
    for n in [3, 39, 77, 123] {
        let proven = state.prove_state(&identity_key(n)).unwrap().unwrap();
        let root = proven.top.header.state_root;
        let bytes = encode(&proven.proof);
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            if let Ok(changed) = decode::<StateProof>(&changed) {
                assert!(changed.verify(&identity_key(n), root).is_err(), "bit {bit} of the proof of {n}");
            }
        }
        let good = &proven.proof;
        let mut shapes = Vec::new();
        for at in 0..good.siblings.len() {
            let mut less = good.clone();
            less.siblings.remove(at);
            shapes.push(less);
        }
        let mut more = good.clone();
        more.siblings.push(Hash([0; 32]));
        shapes.push(more);
        let mut reversed = good.clone();
        reversed.siblings.reverse();
        shapes.push(reversed);
        let ends = [
            PathEnd::Empty,
            PathEnd::Value(vec![1]),
            PathEnd::Other { key_hash: identity_key(n).hash(), value_hash: root },
        ];
        shapes.extend(
            ends.into_iter()
                .filter(|end| *end != good.end)
                .map(|end| StateProof { end, siblings: good.siblings.clone() }),
        );
        for shape in shapes {
            assert!(shape == *good || shape.verify(&identity_key(n), root).is_err(), "{shape:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whatever is registered, in whatever blocks: the newest state proves of each key exactly when it could
    /// sign, and two nodes agree on every root.
    #[test]
    fn the_newest_state_knows_every_keys_interval(steps in proptest::collection::vec((0..4u64, 0..3u8), 1..30)) {
        let (a, b) = (open(&memory()), open(&memory()));
        let mut lives: Vec<Vec<(Address, u64, Option<u64>)>> = vec![Vec::new(); 4];
        let mut fresh = 1_000;
        for (who, what) in steps {
            let time = a.tip().header.time_ms + 1_000;
            let height = a.tip().header.height.get() + 1;
            let held = &mut lives[who as usize];
            fresh += 1;
            let newest = held.len().saturating_sub(1) as u16;
            let tx = match (held.is_empty(), what) {
                (true, _) => {
                    held.push((key(who).address(), height, None));
                    operation(who, IdentityOp::Register, time)
                }
                (false, 0) => {
                    held.push((key(fresh).address(), height, None));
                    registered(who, &[newest], time, Payload::Identity(add_key(fresh)))
                }
                (false, _) => {
                    held[newest as usize].2 = Some(height);
                    held.push((key(fresh).address(), height, None));
                    let op = IdentityOp::RotateKey { index: newest, key: key(fresh), expires_ms: None };
                    registered(who, &[newest], time, Payload::Identity(op))
                }
            };
            let block = grow(&a, time, vec![signed_by_state(&a, tx)]);
            b.commit(&[certified(&block)]).unwrap();
        }
        prop_assert_eq!(a.tip(), b.tip());
        for (who, held) in (0..4).zip(&lives) {
            let proven = a.prove_state(&identity_key(who)).unwrap().unwrap();
            let value = proven.proof.verify(&identity_key(who), proven.top.header.state_root).unwrap();
            let Some(value) = value else {
                prop_assert!(held.is_empty());
                continue;
            };
            let entry: IdentityEntry = read_state_value(value).unwrap();
            let owner = key(who).address();
            for height in 0..a.tip().header.height.get() + 2 {
                for (index, (address, from, until)) in (0u16..).zip(held) {
                    let standing = entry.standing(owner, *address, Purpose::Assertion, Height::new(height), 0);
                    let inline = index == 0 && height <= *from;
                    let valid = inline || (height > *from && until.is_none_or(|until| height <= until));
                    prop_assert_eq!(matches!(standing, KeyStanding::Valid { .. }), valid, "{:?}", standing);
                }
            }
        }
    }
}
