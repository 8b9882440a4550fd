use std::sync::Arc;

use cairn_types::transaction::{Proofs, TRANSACTION_VERSION};
use cairn_types::{ChainId, Hash, SignedTransaction, Transaction, identity::IdentityOp};
use proptest::prelude::*;

use super::*;

const NOW: u64 = 1_000_000;
const LIMITS: Limits = Limits {
    transactions_max: 12,
    bytes_max: 1_000,
    sender_transactions_max: 8,
    transaction_bytes_max: 200,
    window_ms: 10_000,
};

fn address(sender: u8) -> Address {
    Address::new(Hash([sender; 32]))
}

#[expect(clippy::disallowed_methods, reason = "the pool never looks at signatures; these have none")]
fn make(
    sender: u8,
    nonce: u64,
    bytes: usize,
    expires_ms: u64,
    payload: Payload,
) -> Verified<AuthenticatedTx> {
    let transaction = Transaction {
        version: TRANSACTION_VERSION,
        chain: ChainId::ZERO,
        sender: address(sender),
        nonce,
        expires_ms,
        keys: Vec::new(),
        payload,
    };
    let id = transaction.id();
    let signed = Arc::new(SignedTransaction::new(transaction, Vec::new()));
    Verified::assume(AuthenticatedTx { signed, id, bytes, keys: Vec::new() })
}

fn tx(sender: u8, nonce: u64) -> Verified<AuthenticatedTx> {
    sized(sender, nonce, 10)
}

fn sized(sender: u8, nonce: u64, bytes: usize) -> Verified<AuthenticatedTx> {
    make(sender, nonce, bytes, NOW + 5_000, Payload::Proofs(Proofs(Vec::new())))
}

fn expiring(sender: u8, nonce: u64, expires_ms: u64) -> Verified<AuthenticatedTx> {
    make(sender, nonce, 10, expires_ms, Payload::Proofs(Proofs(Vec::new())))
}

fn order(selected: &[Verified<AuthenticatedTx>]) -> Vec<(u8, u64)> {
    selected
        .iter()
        .map(|tx| (tx.signed.transaction.sender.as_bytes()[0], tx.signed.transaction.nonce))
        .collect()
}

fn pool_of(txs: &[Verified<AuthenticatedTx>]) -> Pool {
    let mut pool = Pool::new(LIMITS);
    for tx in txs {
        pool.insert(tx.clone(), NOW).unwrap();
    }
    pool
}

#[test]
fn a_transaction_is_pooled_once_and_may_return_after_removal() {
    let mut pool = pool_of(&[tx(1, 1)]);
    let id = tx(1, 1).id;
    assert_eq!(pool.insert(tx(1, 1), NOW), Err(Refusal::Duplicate { id }));
    assert!(pool.contains(&id) && pool.get(&id).is_some());
    pool.remove([&id, &tx(9, 9).id]);
    assert_eq!(pool.stats(), Stats::default());
    assert_eq!(pool.insert(tx(1, 1), NOW), Ok(Admitted::default()));
    assert_eq!(pool.stats(), Stats { transactions: 1, bytes: 10, senders: 1 });
}

#[test]
fn each_bad_transaction_gets_its_own_refusal() {
    let mut pool = Pool::new(LIMITS);
    let window_ms = LIMITS.window_ms;
    let cases = [
        (expiring(1, 1, NOW), Refusal::Expired { expires_ms: NOW, now_ms: NOW }),
        (
            expiring(1, 1, NOW + window_ms + CLOCK_SLACK_MS + 1),
            Refusal::ExpiresTooLate {
                expires_ms: NOW + window_ms + CLOCK_SLACK_MS + 1,
                now_ms: NOW,
                window_ms,
            },
        ),
        (sized(1, 1, 201), Refusal::TooLarge { got: 201, expected: 200 }),
    ];
    for (tx, refusal) in cases {
        assert_eq!(refusal.retry_after_ms(), None);
        assert_eq!(pool.insert(tx, NOW), Err(refusal));
    }
    for nonce in 0..8 {
        pool.insert(tx(1, nonce), NOW).unwrap();
    }
    let refusal = pool.insert(tx(1, 8), NOW).unwrap_err();
    assert_eq!(refusal, Refusal::SenderFull { sender: address(1), held: 8, retry_after_ms: RETRY_AFTER_MS });
    assert_eq!(refusal.retry_after_ms(), Some(RETRY_AFTER_MS));
}

#[test]
fn extreme_times_are_refused_without_overflow() {
    let mut pool = Pool::new(LIMITS);
    assert!(matches!(pool.insert(expiring(1, 1, u64::MAX), NOW), Err(Refusal::ExpiresTooLate { .. })));
    pool.insert(expiring(1, 1, u64::MAX), u64::MAX - 1).unwrap();
    assert_eq!(pool.select(100, u64::MAX - 1, &HashSet::new()).len(), 1);
    assert!(pool.select(100, u64::MAX, &HashSet::new()).is_empty());
    assert_eq!(pool.expire(u64::MAX).len(), 1);
}

#[test]
fn a_block_serves_senders_in_turn_and_each_in_order_of_arrival() {
    let pool = pool_of(&[tx(1, 1), tx(1, 2), tx(1, 3), tx(2, 1), tx(3, 1), tx(3, 2)]);
    let all = pool.select(1_000, NOW, &HashSet::new());
    assert_eq!(order(&all), [(1, 1), (2, 1), (3, 1), (1, 2), (3, 2), (1, 3)]);
    let three = pool.select(39, NOW, &HashSet::new());
    assert_eq!(order(&three), [(1, 1), (2, 1), (3, 1)]);
    assert_eq!(pool.stats().transactions, 6, "selection takes nothing out");
}

#[test]
fn who_was_served_waits_for_the_others() {
    let mut pool = pool_of(&[tx(1, 1), tx(1, 2), tx(2, 1), tx(2, 2), tx(3, 1)]);
    let first = pool.select(20, NOW, &HashSet::new());
    assert_eq!(order(&first), [(1, 1), (2, 1)]);
    pool.remove(first.iter().map(|tx| &tx.id));
    assert_eq!(order(&pool.select(20, NOW, &HashSet::new())), [(3, 1), (1, 2)]);
}

#[test]
fn ancestors_and_what_a_block_of_this_time_may_not_hold_are_left_out() {
    let pool = pool_of(&[tx(1, 1), tx(1, 2), expiring(2, 1, NOW + 11_000), expiring(3, 1, NOW + 1)]);
    let exclude = HashSet::from([tx(1, 1).id]);
    assert_eq!(order(&pool.select(1_000, NOW, &exclude)), [(1, 2), (3, 1)]);
    assert_eq!(order(&pool.select(1_000, NOW + 1, &exclude)), [(1, 2)], "expired for this block");
    assert_eq!(order(&pool.select(1_000, NOW + 1_000, &exclude)), [(1, 2), (2, 1)], "no longer too late");
}

#[test]
fn a_change_of_identity_ends_its_senders_part_of_the_block() {
    let register = make(1, 2, 10, NOW + 5_000, Payload::Identity(IdentityOp::Register));
    let pool = pool_of(&[tx(1, 1), register, tx(1, 3), tx(2, 1)]);
    assert_eq!(order(&pool.select(1_000, NOW, &HashSet::new())), [(1, 1), (2, 1), (1, 2)]);
}

#[test]
fn a_transaction_that_does_not_fit_leaves_room_to_smaller_ones() {
    let pool = pool_of(&[sized(1, 1, 100), sized(2, 1, 30), sized(3, 1, 150), sized(2, 2, 20)]);
    assert_eq!(order(&pool.select(60, NOW, &HashSet::new())), [(2, 1), (2, 2)]);
}

#[test]
fn when_full_the_newest_of_the_biggest_sender_gives_way_to_a_smaller_one() {
    let mut txs: Vec<_> = (0..8).map(|nonce| tx(1, nonce)).collect();
    txs.extend((0..4).map(|nonce| tx(2, nonce)));
    let mut pool = pool_of(&txs);
    let evicted = |nonce| Ok(Admitted { evicted: vec![tx(1, nonce).id] });
    assert_eq!(pool.insert(tx(3, 0), NOW), evicted(7));
    assert_eq!(pool.insert(tx(2, 4), NOW), evicted(6));
    // Sender 1 holds 6, sender 2 holds 5: one more of 2 would only swap the roles.
    let full = |sender| Err(Refusal::Full { sender: address(sender), retry_after_ms: RETRY_AFTER_MS });
    assert_eq!(pool.insert(tx(2, 5), NOW), full(2));
    assert_eq!(pool.insert(tx(1, 9), NOW), full(1));
    assert_eq!(pool.stats(), Stats { transactions: 12, bytes: 120, senders: 3 });
}

#[test]
fn a_flood_leaves_every_other_sender_its_share() {
    let mut pool = Pool::new(LIMITS);
    for nonce in 0..100 {
        let _ = pool.insert(tx(1, nonce), NOW);
    }
    for sender in 2..=4 {
        for nonce in 0..3 {
            pool.insert(tx(sender, nonce), NOW).unwrap();
        }
    }
    assert_eq!(pool.stats().transactions, 12);
    assert!(pool.insert(tx(1, 200), NOW).is_err());
}

#[test]
fn bytes_are_bounded_and_a_refusal_restores_everything() {
    let mut pool =
        pool_of(&[sized(1, 0, 200), sized(1, 1, 200), sized(1, 2, 200), sized(2, 0, 200), sized(2, 1, 200)]);
    let before = order(&pool.select(10_000, NOW, &HashSet::new()));
    assert!(matches!(pool.insert(sized(2, 3, 200), NOW), Err(Refusal::Full { .. })));
    assert_eq!(order(&pool.select(10_000, NOW, &HashSet::new())), before);
    assert_eq!(pool.insert(sized(3, 0, 150), NOW), Ok(Admitted { evicted: vec![sized(1, 2, 200).id] }));
    assert_eq!(pool.stats().bytes, 950);
}

#[test]
fn expired_transactions_leave_in_order_of_expiry() {
    let mut pool = pool_of(&[expiring(1, 1, NOW + 30), expiring(2, 1, NOW + 10), expiring(3, 1, NOW + 20)]);
    assert_eq!(pool.expire(NOW + 20), [expiring(2, 1, NOW + 10).id, expiring(3, 1, NOW + 20).id]);
    assert_eq!(pool.stats(), Stats { transactions: 1, bytes: 10, senders: 1 });
}

#[test]
fn selecting_a_full_block_from_a_full_pool_does_not_depend_on_its_size() {
    let limits =
        Limits { transactions_max: 20_000, bytes_max: 128 << 20, sender_transactions_max: 2_048, ..LIMITS };
    let time = |senders: u64| {
        let mut pool = Pool::new(limits);
        for at in 0..20_000 {
            pool.insert(tx((at % senders) as u8, at), NOW).unwrap();
        }
        let start = std::time::Instant::now();
        for _ in 0..50 {
            assert_eq!(pool.select(5_000, NOW, &HashSet::new()).len(), 500);
        }
        start.elapsed()
    };
    // 50 selections of 500: generous even for a loaded machine, far below what copying the pool takes.
    for senders in [10, 250] {
        assert!(time(senders).as_millis() < 500, "{senders} senders");
    }
}

/// The same rules over a plain list.
#[derive(Default)]
struct Model {
    txs: Vec<Verified<AuthenticatedTx>>,
    rotation: Vec<Address>,
}

impl Model {
    fn held(&self, sender: Address, measure: Measure) -> usize {
        let of_sender = self.txs.iter().filter(|tx| tx.signed.transaction.sender == sender);
        match measure {
            Measure::Transactions => of_sender.count(),
            Measure::Bytes => of_sender.map(|tx| tx.bytes).sum(),
        }
    }

    fn insert(&mut self, tx: &Verified<AuthenticatedTx>, now: u64) -> bool {
        let transaction = &tx.signed.transaction;
        let sender = transaction.sender;
        if tx.bytes > LIMITS.transaction_bytes_max
            || transaction.expires_ms <= now
            || transaction.expires_ms > now + LIMITS.window_ms + CLOCK_SLACK_MS
            || self.txs.iter().any(|held| held.id == tx.id)
            || self.held(sender, Measure::Transactions) >= LIMITS.sender_transactions_max
        {
            return false;
        }
        let (before, rotation) = (self.txs.clone(), self.rotation.clone());
        loop {
            let measure = if self.txs.len() >= LIMITS.transactions_max {
                Measure::Transactions
            } else if self.txs.iter().map(|tx| tx.bytes).sum::<usize>() + tx.bytes > LIMITS.bytes_max {
                Measure::Bytes
            } else {
                break;
            };
            let more = if measure == Measure::Bytes { tx.bytes } else { 1 };
            let biggest = self.rotation.iter().map(|sender| (self.held(*sender, measure), *sender)).max();
            let Some((held, victim)) = biggest else { unreachable!("a full pool has senders") };
            if victim == sender || held <= self.held(sender, measure) + more {
                (self.txs, self.rotation) = (before, rotation);
                return false;
            }
            let newest = self.txs.iter().rposition(|tx| tx.signed.transaction.sender == victim).unwrap();
            self.txs.remove(newest);
            self.forget_idle();
        }
        self.txs.push(tx.clone());
        if !self.rotation.contains(&sender) {
            self.rotation.push(sender);
        }
        true
    }

    fn remove(&mut self, ids: &[TxId]) {
        for id in ids {
            let Some(at) = self.txs.iter().position(|tx| tx.id == *id) else { continue };
            let sender = self.txs.remove(at).signed.transaction.sender;
            self.rotation.retain(|other| *other != sender);
            self.rotation.push(sender);
        }
        self.forget_idle();
    }

    fn expire(&mut self, now: u64) {
        self.txs.retain(|tx| tx.signed.transaction.expires_ms > now);
        self.forget_idle();
    }

    fn forget_idle(&mut self) {
        let txs = &self.txs;
        self.rotation.retain(|sender| txs.iter().any(|tx| tx.signed.transaction.sender == *sender));
    }

    fn select(&self, bytes_max: usize, time: u64, exclude: &HashSet<TxId>) -> Vec<TxId> {
        let mut lists: Vec<Vec<&Verified<AuthenticatedTx>>> = self
            .rotation
            .iter()
            .map(|sender| {
                self.txs
                    .iter()
                    .filter(|tx| tx.signed.transaction.sender == *sender)
                    .filter(|tx| !exclude.contains(&tx.id))
                    .filter(|tx| tx.signed.transaction.expires_ms > time)
                    .filter(|tx| tx.signed.transaction.expires_ms <= time + LIMITS.window_ms)
                    .collect()
            })
            .collect();
        let (mut chosen, mut room) = (Vec::new(), bytes_max);
        while lists.iter().any(|list| !list.is_empty()) {
            for list in &mut lists {
                match list.first() {
                    Some(tx) if tx.bytes <= room => {
                        room -= tx.bytes;
                        chosen.push(tx.id);
                        list.remove(0);
                    }
                    Some(_) => list.clear(),
                    None => {}
                }
            }
        }
        chosen
    }
}

#[derive(Clone, Debug)]
enum Op {
    Insert { sender: u8, nonce: u64, bytes: usize, expires: u64 },
    Remove(Vec<prop::sample::Index>),
    Expire,
    Wait(u64),
    Select { bytes_max: usize, exclude: Vec<prop::sample::Index> },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let picks = || prop::collection::vec(any::<prop::sample::Index>(), 0..4);
    let insert = (1u8..6, 0u64..12, 1usize..210, 0u64..13_000)
        .prop_map(|(sender, nonce, bytes, expires)| Op::Insert { sender, nonce, bytes, expires });
    let op = prop_oneof![
        8 => insert,
        1 => picks().prop_map(Op::Remove),
        1 => Just(Op::Expire),
        1 => (0u64..3_000).prop_map(Op::Wait),
        2 => (0usize..1_200, picks()).prop_map(|(bytes_max, exclude)| Op::Select { bytes_max, exclude }),
    ];
    prop::collection::vec(op, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_does_what_a_plain_list_does(ops in ops()) {
        let (mut pool, mut model, mut now) = (Pool::new(LIMITS), Model::default(), NOW);
        for op in ops {
            let pick = |model: &Model, picks: &[prop::sample::Index]| -> Vec<TxId> {
                if model.txs.is_empty() { return Vec::new(); }
                picks.iter().map(|pick| model.txs[pick.index(model.txs.len())].id).collect()
            };
            match op {
                Op::Insert { sender, nonce, bytes, expires } => {
                    let payload = Payload::Proofs(Proofs(Vec::new()));
                    let tx = make(sender, nonce, bytes, now - 500 + expires, payload);
                    prop_assert_eq!(pool.insert(tx.clone(), now).is_ok(), model.insert(&tx, now));
                }
                Op::Remove(picks) => {
                    let ids = pick(&model, &picks);
                    pool.remove(&ids);
                    model.remove(&ids);
                }
                Op::Expire => {
                    pool.expire(now);
                    model.expire(now);
                }
                Op::Wait(ms) => now += ms,
                Op::Select { bytes_max, exclude } => {
                    let exclude: HashSet<TxId> = pick(&model, &exclude).into_iter().collect();
                    let selected: Vec<TxId> =
                        pool.select(bytes_max, now, &exclude).iter().map(|tx| tx.id).collect();
                    prop_assert_eq!(selected, model.select(bytes_max, now, &exclude));
                }
            }
            let ids: Vec<TxId> = pool.oldest(usize::MAX).map(|tx| tx.id).collect();
            prop_assert_eq!(ids, model.txs.iter().map(|tx| tx.id).collect::<Vec<_>>());
            prop_assert_eq!(pool.stats().bytes, model.txs.iter().map(|tx| tx.bytes).sum::<usize>());
            prop_assert_eq!(pool.stats().senders, model.rotation.len());
            prop_assert!(pool.stats().transactions <= LIMITS.transactions_max);
            prop_assert!(pool.stats().bytes <= LIMITS.bytes_max);
        }
    }
}
