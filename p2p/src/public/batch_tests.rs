use super::*;

const INTERVAL: Duration = Duration::from_millis(50);

fn transactions(count: usize, bytes: usize) -> Vec<Bytes> {
    (0..count).map(|place| Bytes::from(vec![place as u8; bytes])).collect()
}

#[test]
fn the_first_transaction_goes_at_once_and_the_next_waits() {
    let mut batcher = Batcher::new(INTERVAL);
    let now = Instant::now();
    assert_eq!(batcher.due(now), None);
    batcher.push(transactions(1, 10));
    assert_eq!(batcher.due(now), Some(now));
    assert!(batcher.next(now).is_some());
    batcher.push(transactions(1, 10));
    assert_eq!(batcher.due(now), Some(now + INTERVAL));
    let later = now + INTERVAL * 3;
    assert_eq!(batcher.due(later), Some(later));
}

#[test]
fn batches_keep_order_and_limits() {
    let mut batcher = Batcher::new(INTERVAL);
    let sent = transactions(40, 5_500);
    assert_eq!(batcher.push(sent.clone()), 0);
    let mut received = Vec::new();
    while let Some(batch) = batcher.next(Instant::now()) {
        assert!(batch.len() <= ENCODED_BYTES_MAX);
        received.extend(decode(batch.into()).unwrap());
    }
    assert_eq!(received, sent);
    assert_eq!(batcher.bytes, 0);
}

#[test]
fn small_transactions_are_counted_and_one_of_full_size_fits() {
    let mut batcher = Batcher::new(INTERVAL);
    batcher.push(transactions(300, 1));
    let first = decode(batcher.next(Instant::now()).unwrap().into()).unwrap();
    assert_eq!(first.len(), GOSSIP_BATCH_TRANSACTIONS_MAX);
    batcher.next(Instant::now());
    batcher.push(transactions(1, GOSSIP_BATCH_BYTES_MAX));
    assert_eq!(decode(batcher.next(Instant::now()).unwrap().into()).unwrap().len(), 1);
}

#[test]
fn what_waits_is_bounded() {
    let mut batcher = Batcher::new(INTERVAL);
    let dropped = batcher.push(transactions(1_000, 5_500));
    assert_eq!(1_000 - dropped, WAITING_BYTES_MAX / 5_500);
    assert_eq!(batcher.push(transactions(1, GOSSIP_BATCH_BYTES_MAX + 1)), 1);
    assert_eq!(batcher.push(vec![Bytes::new()]), 1);
}

#[test]
fn an_unsent_batch_comes_back_first() {
    let mut batcher = Batcher::new(INTERVAL);
    let sent = transactions(3, 100);
    batcher.push(sent.clone());
    let batch = batcher.next(Instant::now()).unwrap();
    batcher.push(transactions(1, 7));
    batcher.put_back(&batch, Instant::now());
    let again = decode(batcher.next(Instant::now()).unwrap().into()).unwrap();
    assert_eq!(again[..3], sent);
    assert_eq!(again.len(), 4);
}

#[test]
fn hostile_batches_are_refused() {
    assert_eq!(decode(Bytes::new()), None);
    assert_eq!(decode(Bytes::from(vec![0; ENCODED_BYTES_MAX + 1])), None);
    assert_eq!(decode(Bytes::from_static(b"\x0a\x7f")), None);
    let many = WireBatch { transactions: transactions(GOSSIP_BATCH_TRANSACTIONS_MAX + 1, 1) };
    assert_eq!(decode(many.encode_to_vec().into()), None);
    let empty = WireBatch { transactions: vec![Bytes::new()] };
    assert_eq!(decode(empty.encode_to_vec().into()), None);
}
