use super::*;
use crate::hash::Context;
use crate::id::Epoch;
use crate::key::Scheme;

fn key(n: u8) -> PublicKey {
    PublicKey::new(Scheme::Dilithium3, &vec![n; Scheme::Dilithium3.public_key_bytes()]).unwrap()
}

fn regime(count: u8) -> Regime {
    let member = |n| Validator { address: key(n).address(), key: key(n), power: 10 };
    let mut validators: Vec<_> = (1..=count).map(member).collect();
    validators.sort_by_key(|it| it.address);
    Regime {
        set: ValidatorSet::new(Epoch::new(7), validators).unwrap(),
        params: Params::default(),
        protocol: 1,
    }
}

fn after(changes: &[Change]) -> Result<Regime, ChangeFault> {
    regime(4).after(changes)
}

#[test]
fn every_change_makes_the_next_epochs_regime() {
    let (two, nine) = (key(2).address(), key(9));
    let ml = PublicKey::new(Scheme::MlDsa65, &[5; 1_952]).unwrap();
    let params = Params { interval_idle_ms: 5_000, ..Params::default() };
    let next = after(&[
        Change::Join { key: nine.clone(), power: 3 },
        Change::Leave(key(1).address()),
        Change::Power { validator: two, power: 4 },
        Change::Rotate { validator: two, key: ml.clone() },
        Change::Params(params),
        Change::Protocol(2),
    ])
    .unwrap();
    assert_eq!((next.set.epoch(), next.set.count(), next.protocol), (Epoch::new(8), 4, 2));
    assert_eq!(next.params, params);
    let held = |address| next.set.get(next.set.index_of(&address)?).cloned();
    assert_eq!(held(two), Some(Validator { address: two, key: ml, power: 4 }));
    assert_eq!(held(nine.address()).unwrap().power, 3);
    assert_eq!(held(key(1).address()), None);
}

#[test]
fn changes_that_cannot_be_made_are_refused() {
    let (one, nine) = (key(1).address(), key(9).address());
    let set = |fault| Err::<Regime, _>(ChangeFault::Set(fault));
    let window = Params { replay_window_ms: 1_000, ..Params::default() };
    let drift = Params { drift_ms: 5_000, ..Params::default() };
    let join = |n, power| Change::Join { key: key(n), power };
    assert_eq!(after(&[join(1, 1)]), Err(ChangeFault::AlreadyValidator { address: one }));
    assert_eq!(after(&[join(9, 0)]), set(SetFault::NoPower { address: nine }));
    assert_eq!(after(&[join(9, u64::MAX)]), set(SetFault::TooMuchPower));
    assert_eq!(after(&[join(9, (1 << 63) - 40)]), set(SetFault::TooMuchPower));
    assert_eq!(after(&[join(9, (1 << 63) - 41)]).unwrap().set.total_power(), (1 << 63) - 1);
    assert_eq!(after(&[Change::Leave(nine)]), Err(ChangeFault::NotValidator { address: nine }));
    let power = Change::Power { validator: one, power: 10 };
    assert_eq!(after(&[power]), Err(ChangeFault::SamePower { address: one, power: 10 }));
    let rotate = |to| Change::Rotate { validator: one, key: key(to) };
    assert_eq!(after(&[rotate(2)]), Err(ChangeFault::KeyInUse { address: key(2).address() }));
    assert_eq!(after(&[join(9, 1), rotate(9)]), Err(ChangeFault::KeyInUse { address: nine }));
    // The key of a rotated validator may not join under its old name, nor may another take it over.
    assert_eq!(after(&[rotate(9), join(1, 1)]), Err(ChangeFault::AlreadyValidator { address: one }));
    assert_eq!(after(&[rotate(9), join(9, 1)]), Err(ChangeFault::KeyInUse { address: one }));
    assert_eq!(
        after(&[Change::Params(window)]),
        Err(ChangeFault::ReplayWindow { got: 1_000, expected: 120_000 })
    );
    assert_eq!(after(&[Change::Params(Params::default())]), Err(ChangeFault::SameParams));
    assert!(
        matches!(after(&[Change::Params(drift)]), Err(ChangeFault::Params(fault)) if fault.field == "drift_ms")
    );
    assert_eq!(after(&[Change::Protocol(1)]), Err(ChangeFault::ProtocolNotHigher { got: 1, current: 1 }));
}

#[test]
fn the_last_validator_stays() {
    let alone = regime(1);
    let empty = Err(ChangeFault::Set(SetFault::Count { got: 0 }));
    assert_eq!(alone.without(key(1).address()), empty);
    let two = regime(2).without(key(1).address()).unwrap();
    assert_eq!((two.set.count(), two.set.epoch()), (1, Epoch::new(8)));
    assert_ne!(Context::ValidatorSet.hash(b""), two.set.digest());
}
