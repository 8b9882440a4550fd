use bytes::Bytes;

use super::*;

fn frame(kind: MessageKind, view: u64, bytes: usize, fill: u8) -> Frame {
    Frame { kind, epoch: Epoch::ZERO, view: View::new(view), bytes: Bytes::from(vec![fill; bytes]) }
}

fn drain(queue: &mut HotQueue) -> Vec<(u64, u8)> {
    std::iter::from_fn(|| queue.pop()).map(|frame| (frame.view.get(), frame.bytes[0])).collect()
}

#[test]
fn a_newer_hot_frame_takes_the_place_of_the_older() {
    let mut queue = HotQueue::default();
    queue.push(frame(MessageKind::Vote, 1, 10, 1), 1_000);
    queue.push(frame(MessageKind::Timeout, 1, 10, 2), 1_000);
    let pushed = queue.push(frame(MessageKind::Vote, 1, 30, 3), 1_000);
    assert_eq!(pushed, Pushed { overflowed: 0, replaced: true, queued: true });
    assert_eq!(queue.bytes(), 40);
    assert_eq!(drain(&mut queue), [(1, 3), (1, 2)]);
    assert_eq!(queue.bytes(), 0);
}

#[test]
fn views_of_different_epochs_are_different() {
    let mut queue = HotQueue::default();
    queue.push(frame(MessageKind::Vote, 1, 10, 1), 1_000);
    let next = Frame { epoch: Epoch::new(1), ..frame(MessageKind::Vote, 1, 10, 2) };
    assert!(!queue.push(next, 1_000).replaced);
    assert_eq!(drain(&mut queue).len(), 2);
}

#[test]
fn the_lowest_views_make_way() {
    let mut queue = HotQueue::default();
    for view in [5, 3, 4] {
        queue.push(frame(MessageKind::Vote, view, 400, view as u8), 1_200);
    }
    let pushed = queue.push(frame(MessageKind::Proposal, 6, 700, 6), 1_200);
    assert_eq!(pushed, Pushed { overflowed: 2, replaced: false, queued: true });
    assert_eq!(drain(&mut queue), [(5, 5), (6, 6)]);
}

#[test]
fn a_stale_frame_does_not_displace_newer_ones() {
    let mut queue = HotQueue::default();
    queue.push(frame(MessageKind::Vote, 9, 900, 9), 1_000);
    let pushed = queue.push(frame(MessageKind::Vote, 8, 200, 8), 1_000);
    assert_eq!(pushed, Pushed { overflowed: 1, replaced: false, queued: false });
    assert_eq!(drain(&mut queue), [(9, 9)]);
}

#[test]
fn the_hot_queue_never_exceeds_its_bytes() {
    let mut queue = HotQueue::default();
    let mut state = 7_u64;
    for _ in 0..20_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let kind = MessageKind::ALL[(state >> 40) as usize % MessageKind::ALL.len()];
        queue.push(frame(kind, (state >> 50) % 50, 1 + (state >> 33) as usize % 500, 0), 4_000);
        if state >> 62 == 0 {
            queue.pop();
        }
        let held: usize = queue.order.values().map(|frame| frame.bytes.len()).sum();
        assert!(held == queue.bytes() && held <= 4_000);
        assert_eq!(queue.order.len(), queue.places.len());
    }
}

#[test]
fn bulk_keeps_order_and_drops_the_newcomer() {
    let mut queue = BulkQueue::default();
    for view in 1..=3 {
        assert!(queue.push(frame(MessageKind::Proposal, view, 300, 0), 1_000).queued);
    }
    assert!(!queue.push(frame(MessageKind::Proposal, 4, 300, 0), 1_000).queued);
    let views: Vec<u64> = std::iter::from_fn(|| queue.pop()).map(|frame| frame.view.get()).collect();
    assert_eq!(views, [1, 2, 3]);
    assert_eq!(queue.bytes(), 0);
}

#[test]
fn waiting_transactions_make_way_for_blocks() {
    let mut queue = BulkQueue::default();
    queue.push(frame(MessageKind::Transactions, 1, 400, 0), 1_000);
    queue.push(frame(MessageKind::Proposal, 2, 400, 0), 1_000);
    let pushed = queue.push(frame(MessageKind::Proposal, 3, 600, 0), 1_000);
    assert_eq!(pushed, Pushed { overflowed: 1, replaced: false, queued: true });
    assert!(!queue.push(frame(MessageKind::Transactions, 4, 400, 0), 1_000).queued);
    let views: Vec<u64> = std::iter::from_fn(|| queue.pop()).map(|frame| frame.view.get()).collect();
    assert_eq!(views, [2, 3]);
}

#[test]
fn metrics_follow_the_queues_and_their_end() {
    let metrics = Metrics::default();
    let queues = Queues::new(metrics.clone());
    queues.push(Plane::Hot, frame(MessageKind::Vote, 1, 10, 0));
    queues.push(Plane::Bulk, frame(MessageKind::Transactions, 0, 20, 0));
    assert_eq!((metrics.queued(Plane::Hot), metrics.queued(Plane::Bulk)), (10, 20));
    assert!(queues.pop(Plane::Hot).is_some() && queues.pop(Plane::Hot).is_none());
    assert_eq!(metrics.queued(Plane::Hot), 0);
    drop(queues);
    assert_eq!(metrics.queued(Plane::Bulk), 0);
}
