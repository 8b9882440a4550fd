//! The rules one by one: what happens, and what is done about it.

use std::sync::Arc;
use std::time::Duration;

use cairn_catchup::{
    Answer, CatchUp, Claim, Entry, Failure, Input, Judge, Output, Proof, Question, RANGE_BLOCKS,
    RANGE_BLOCKS_MAX, RangeFault, RequestId, Rest, check_range,
};
use cairn_types::{Block, BlockId, Epoch, Hash, Header, Height};

use crate::chain::{Chain, verify};

/// The verdict of a state in epoch 0.
fn verify_first(header: &Header, proof: Proof<'_>) -> Judge {
    verify(Epoch::ZERO, header, proof)
}

const HONEST: u32 = 1;
const OTHER: u32 = 2;

/// A machine at block 0 whose questions are kept.
struct Bench {
    chain: Chain,
    machine: CatchUp<u32>,
    now: Duration,
    asked: Vec<(u32, RequestId, Question)>,
    rest: Vec<Output<u32>>,
}

impl Bench {
    fn new() -> Self {
        let chain = Chain::new(3_000, 0);
        let machine = CatchUp::new(chain.position(0));
        Self { chain, machine, now: Duration::ZERO, asked: Vec::new(), rest: Vec::new() }
    }

    fn step(&mut self, after_ms: u64, input: Input<u32>) {
        self.now += Duration::from_millis(after_ms);
        for output in self.machine.step(self.now, input) {
            match output {
                Output::Ask { peer, request, question } => self.asked.push((peer, request, question)),
                other => self.rest.push(other),
            }
        }
    }

    /// A peer that has said how high it is.
    fn peer(&mut self, peer: u32, height: u64) {
        self.step(0, Input::Connected { peer, polled: true });
        let (_, request, question) = self.asked.pop().expect("a newcomer is asked for its tip");
        assert_eq!(question, Question::Tip);
        let claim = Claim { height: Height::new(height), earliest: Height::ZERO };
        self.step(0, Input::Answer { request, answer: Answer::Tip(claim) });
    }

    fn ranges(&self) -> Vec<(u32, u64, u32)> {
        let range = |(peer, _, question): &(u32, RequestId, Question)| match question {
            Question::Range { from, count } => Some((*peer, from.get(), *count)),
            _ => None,
        };
        self.asked.iter().filter_map(range).collect()
    }

    fn take(&mut self, peer: u32, from: u64) -> (RequestId, u32) {
        let fits = |(to, _, question): &(u32, RequestId, Question)| {
            *to == peer && matches!(question, Question::Range { from: at, .. } if at.get() == from)
        };
        let at = self.asked.iter().position(fits).expect("the range was asked for");
        match self.asked.remove(at) {
            (_, request, Question::Range { count, .. }) => (request, count),
            _ => unreachable!("a range"),
        }
    }

    fn serve(&mut self, peer: u32, from: u64) {
        let (request, count) = self.take(peer, from);
        let entries = self.chain.range(from, u64::from(count), 3_000);
        let range = check_range(Height::new(from), count, entries, 1_000, &mut verify_first).unwrap();
        self.step(10, Input::Answer { request, answer: Answer::Range(range) });
    }

    fn applied(&mut self, height: u64) {
        let tip = self.chain.position(height);
        self.step(10, Input::Committed { tip, applied: true });
    }
}

#[test]
fn a_claim_far_ahead_opens_a_bounded_window_and_answers_out_of_order_are_applied_in_order() {
    let mut bench = Bench::new();
    bench.peer(HONEST, 3_000);
    let size = u64::from(RANGE_BLOCKS);
    // One peer is asked for three ranges at a time.
    let expected: Vec<_> = (0..3).map(|at| (HONEST, 1 + at * size, RANGE_BLOCKS)).collect();
    assert_eq!(bench.ranges(), expected);
    bench.peer(OTHER, 3_000);
    assert_eq!(bench.ranges()[3], (OTHER, 1 + 3 * size, RANGE_BLOCKS));

    bench.serve(HONEST, 1 + size);
    assert!(bench.rest.iter().all(|output| matches!(output, Output::Behind(true))), "{:?}", bench.rest);
    bench.serve(HONEST, 1);
    let applied: Vec<u64> = bench
        .rest
        .iter()
        .filter_map(|output| match output {
            Output::Apply { blocks, .. } => Some(blocks.first()?.block.header().height.get()),
            _ => None,
        })
        .collect();
    assert_eq!(applied, [1], "one batch at a time");
    bench.rest.clear();
    bench.applied(size);
    assert!(
        matches!(&bench.rest[..], [Output::Apply { blocks, .. }] if blocks[0].block.header().height.get() == 1 + size)
    );
}

#[test]
fn a_lie_is_punished_once_and_all_the_liar_was_asked_goes_to_others() {
    let mut bench = Bench::new();
    bench.peer(OTHER, 3_000);
    let lied: Vec<u64> = bench.ranges().iter().map(|(_, from, _)| *from).collect();
    let (request, _) = bench.take(OTHER, lied[0]);
    bench.peer(HONEST, 3_000);
    bench.asked.clear();
    bench.step(10, Input::Failed { request, failure: Failure::Wrong("nonsense".into()) });
    assert!(bench.rest.contains(&Output::Punish { peer: OTHER, why: "nonsense".into() }));
    assert!(bench.ranges().iter().all(|(peer, ..)| *peer == HONEST), "{:?}", bench.ranges());
    assert_eq!(bench.ranges()[0].1, lied[0], "what everything waits for goes first");
    // Late answers of the liar are nobody's, and coming back forgives nothing.
    bench.asked.clear();
    bench.step(10, Input::Answer { request, answer: Answer::Block(true) });
    bench.step(10, Input::Gone { peer: OTHER });
    bench.step(10, Input::Connected { peer: OTHER, polled: true });
    assert!(bench.asked.iter().all(|(peer, ..)| *peer == HONEST), "{:?}", bench.asked);
    assert_eq!(bench.rest.iter().filter(|output| matches!(output, Output::Punish { .. })).count(), 1);
}

#[test]
fn an_empty_answer_and_a_falling_height_void_the_claim() {
    let mut bench = Bench::new();
    bench.peer(OTHER, 3_000);
    let (request, count) = bench.take(OTHER, 1);
    bench.asked.clear();
    let nothing = check_range(Height::new(1), count, Vec::new(), 0, &mut verify_first).unwrap();
    bench.step(10, Input::Answer { request, answer: Answer::Range(nothing) });
    for _ in 0..20 {
        bench.step(50, Input::Tick);
    }
    assert!(bench.ranges().is_empty(), "nothing is proven, and nobody's word counts: {:?}", bench.ranges());
    assert!(!bench.rest.contains(&Output::Behind(true)), "an unproven claim makes nobody behind");
}

#[test]
fn a_claim_of_a_few_blocks_has_to_stand_before_it_is_followed() {
    let mut bench = Bench::new();
    bench.peer(HONEST, 2);
    assert!(bench.ranges().is_empty());
    bench.step(900, Input::Tick);
    assert!(bench.ranges().is_empty());
    bench.step(200, Input::Tick);
    assert_eq!(bench.ranges(), [(HONEST, 1, 2)]);
}

#[test]
fn a_proven_height_is_asked_for_at_once_first_of_whoever_told() {
    let mut bench = Bench::new();
    bench.step(0, Input::Connected { peer: HONEST, polled: false });
    bench.step(0, Input::Connected { peer: OTHER, polled: false });
    bench.step(0, Input::Proven { height: Height::new(1), by: Some(OTHER) });
    assert_eq!(bench.ranges(), [(OTHER, 1, 1)]);
}

#[test]
fn the_range_that_everything_waits_for_is_asked_of_another_after_a_while() {
    let mut bench = Bench::new();
    bench.step(0, Input::Proven { height: Height::new(100), by: None });
    bench.step(0, Input::Connected { peer: HONEST, polled: false });
    bench.step(0, Input::Connected { peer: OTHER, polled: false });
    assert_eq!(bench.ranges(), [(HONEST, 1, 100)]);
    bench.step(900, Input::Tick);
    assert_eq!(bench.ranges().len(), 1);
    bench.step(200, Input::Tick);
    assert_eq!(bench.ranges()[1], (OTHER, 1, 100));
}

#[test]
fn a_block_is_asked_of_the_named_then_of_another_then_of_everyone() {
    let mut bench = Bench::new();
    for peer in [1, 2, 3] {
        bench.step(0, Input::Connected { peer, polled: false });
    }
    let block = BlockId::new(Hash([9; 32]));
    bench.step(0, Input::Want { block, from: vec![2] });
    let asked = |bench: &Bench| bench.asked.iter().map(|(peer, ..)| *peer).collect::<Vec<_>>();
    assert_eq!(asked(&bench), [2]);
    let (_, request, _) = bench.asked[0];
    bench.step(10, Input::Answer { request, answer: Answer::Block(false) });
    for _ in 0..4 {
        bench.step(100, Input::Tick);
    }
    assert_eq!(asked(&bench), [2, 2, 1], "a second round begins with the named, then goes to everyone");
    let (_, request, question) = bench.asked[2];
    assert_eq!(question, Question::Block(block));
    bench.step(10, Input::Answer { request, answer: Answer::Block(true) });
    bench.step(5_000, Input::Tick);
    assert_eq!(asked(&bench), [2, 2, 1], "a block that came is asked of nobody");
}

#[test]
fn a_certified_range_that_does_not_follow_the_committed_block_is_a_fork() {
    let mut bench = Bench::new();
    let foreign = Chain::new(5, 3);
    bench.machine = CatchUp::new(foreign.position(5));
    bench.step(0, Input::Connected { peer: HONEST, polled: false });
    bench.step(0, Input::Proven { height: Height::new(10), by: None });
    bench.serve(HONEST, 6);
    let (committed, parent) = (foreign.position(5).id, bench.chain.position(5).id);
    assert_eq!(bench.rest, [Output::Fork { height: Height::new(6), committed, parent }]);
}

#[test]
fn blocks_of_an_epoch_not_yet_known_wait_for_the_blocks_below() {
    let mut bench = Bench::new();
    bench.step(0, Input::Connected { peer: HONEST, polled: false });
    bench.step(0, Input::Proven { height: Height::new(500), by: None });
    let (request, count) = bench.take(HONEST, 257);
    let entries = bench.chain.range(257, u64::from(count), 3_000);
    let range = check_range(Height::new(257), count, entries, 9, &mut |_, _| Judge::EpochUnknown).unwrap();
    assert_eq!(range.rest, Rest::EpochUnknown(Height::new(257)));
    bench.step(10, Input::Answer { request, answer: Answer::Range(range) });
    bench.step(5_000, Input::Tick);
    assert!(bench.ranges().iter().all(|(_, from, _)| *from < 257), "{:?}", bench.ranges());
    bench.serve(HONEST, 1);
    bench.applied(256);
    assert!(bench.ranges().iter().any(|(_, from, _)| *from == 257), "{:?}", bench.ranges());
}

#[test]
fn whoever_puts_the_next_block_into_another_epoch_holds_nobody_up() {
    let mut bench = Bench::new();
    bench.peer(OTHER, 500);
    let (request, count) = bench.take(OTHER, 1);
    let entries = bench.chain.range(1, u64::from(count), 3_000);
    let range = check_range(Height::new(1), count, entries, 9, &mut |_, _| Judge::EpochUnknown).unwrap();
    assert_eq!(range.rest, Rest::EpochUnknown(Height::new(1)));
    bench.step(10, Input::Answer { request, answer: Answer::Range(range) });
    bench.peer(HONEST, 500);
    bench.serve(HONEST, 1);
    assert!(bench.rest.iter().any(|output| matches!(output, Output::Apply { .. })), "{:?}", bench.rest);
}

#[test]
fn an_answer_from_before_the_epoch_turned_holds_nobody_up() {
    let mut bench = Bench::new();
    bench.peer(HONEST, 500);
    let (request, count) = bench.take(HONEST, 257);
    let entries = bench.chain.range(257, u64::from(count), 3_000);
    let late = check_range(Height::new(257), count, entries, 9, &mut |_, _| Judge::EpochUnknown).unwrap();
    // Consensus brings everything meanwhile, and the epoch turns.
    bench.applied(500);
    bench.step(10, Input::Answer { request, answer: Answer::Range(late) });
    bench.step(0, Input::Proven { height: Height::new(600), by: None });
    bench.step(5_000, Input::Tick);
    assert!(bench.ranges().iter().any(|(_, from, _)| *from == 501), "{:?}", bench.ranges());
}

#[test]
fn a_range_without_any_certificate_is_asked_for_again_with_more_blocks() {
    let mut bench = Bench::new();
    bench.step(0, Input::Connected { peer: HONEST, polled: false });
    bench.step(0, Input::Proven { height: Height::new(300), by: None });
    let (request, count) = bench.take(HONEST, 1);
    let bare = bench.chain.range(1, u64::from(count), 3_000).into_iter();
    let bare = bare.map(|entry| Entry { certificate: None, ..entry }).collect();
    let range = check_range(Height::new(1), count, bare, 9, &mut verify_first).unwrap();
    bench.step(10, Input::Answer { request, answer: Answer::Range(range) });
    assert!(bench.ranges().contains(&(HONEST, 1, RANGE_BLOCKS_MAX)), "{:?}", bench.ranges());
}

#[test]
fn ranges_wait_while_a_snapshot_may_take_their_place() {
    let mut bench = Bench::new();
    bench.step(0, Input::Hold(true));
    bench.peer(HONEST, 3_000);
    bench.step(0, Input::Proven { height: Height::new(3_000), by: None });
    bench.step(5_000, Input::Tick);
    assert!(bench.ranges().is_empty(), "{:?}", bench.ranges());
    let block = BlockId::new(Hash([9; 32]));
    bench.step(0, Input::Want { block, from: vec![] });
    assert!(bench.asked.iter().any(|(_, _, question)| *question == Question::Block(block)));
    bench.step(0, Input::Hold(false));
    assert_eq!(bench.ranges()[0], (HONEST, 1, RANGE_BLOCKS));
}

#[test]
fn a_departed_peer_is_asked_nothing_and_its_questions_go_on() {
    let mut bench = Bench::new();
    bench.step(0, Input::Proven { height: Height::new(10), by: None });
    bench.step(0, Input::Connected { peer: HONEST, polled: false });
    bench.step(0, Input::Connected { peer: OTHER, polled: false });
    bench.step(10, Input::Gone { peer: HONEST });
    assert_eq!(bench.ranges(), [(HONEST, 1, 10), (OTHER, 1, 10)]);
}

#[test]
fn each_way_a_range_can_be_wrong_has_its_name() {
    let chain = Chain::new(20, 0);
    let check = |from: u64, count: u32, entries: Vec<Entry>| {
        check_range(Height::new(from), count, entries, 0, &mut verify_first)
    };
    let good = chain.range(3, 6, 20);
    let range = check(3, 6, good.clone()).unwrap();
    // Block 7 is under the certificate of block 8.
    assert_eq!((range.blocks.len(), range.rest), (6, Rest::Nothing));
    assert_eq!(range.blocks[4].certificate, range.blocks[5].certificate);
    let range = check(3, 6, chain.bare_range(3, 5, 20)).unwrap();
    assert_eq!((range.blocks.len(), range.rest), (4, Rest::Uncertified(Height::new(7))));

    let too_many = check(3, 5, good.clone()).unwrap_err();
    assert_eq!(too_many, RangeFault::TooMany { got: 6, most: 5 });
    let shifted = check(4, 6, good.clone()).unwrap_err();
    assert!(matches!(shifted, RangeFault::WrongHeight { .. }), "{shifted}");
    let fork = Chain::new(20, 5);
    let mut mixed = good.clone();
    mixed[2] = fork.entries[5].clone();
    assert!(matches!(check(3, 6, mixed), Err(RangeFault::WrongParent { .. })));
    let mut renamed = good.clone();
    renamed[1].certificate = good[0].certificate.clone();
    assert!(matches!(check(3, 6, renamed), Err(RangeFault::WrongCertificate { .. })));
    assert!(matches!(check(3, 6, fork.range(3, 6, 20)), Err(RangeFault::BadCertificate { .. })));
    let mut header = good[0].block.header().clone();
    header.tx_count = 1;
    let emptied = Entry {
        block: Block::new(header, Vec::new()).into(),
        certificate: None,
        end: None,
        above: Vec::new(),
    };
    assert!(matches!(check(3, 1, vec![emptied]), Err(RangeFault::WrongTransactions { .. })));
}

#[test]
fn what_stands_above_an_answer_must_lead_up_from_it() {
    let chain = Chain::new(20, 0);
    let check = |entries: Vec<Entry>| check_range(Height::new(6), 2, entries, 0, &mut verify_first);
    // Block 7 is under the certificate of block 8, which is not in the answer.
    let good = chain.range(6, 2, 20);
    assert_eq!(good[1].above, [chain.entries[8].block.header().clone()]);
    let range = check(good.clone()).unwrap();
    assert_eq!((range.blocks.len(), range.rest), (2, Rest::Nothing));
    assert_eq!(range.blocks[1].certificate.block, chain.entries[8].block.id());

    let with = |change: &dyn Fn(&mut Vec<Entry>)| {
        let mut entries = good.clone();
        change(&mut entries);
        check(entries).unwrap_err()
    };
    let above = |fault: RangeFault| assert!(matches!(fault, RangeFault::WrongAbove { .. }), "{fault}");
    above(with(&|it| it[1].above[0].parent = it[0].block.id()));
    above(with(&|it| it[1].above[0].height = Height::new(9)));
    above(with(&|it| it[1].above[0].epoch = Epoch::new(1)));
    above(with(&|it| it[1].above[0].view = it[1].block.header().view));
    above(with(&|it| {
        it[1].above = chain.entries[9..11].iter().map(|it| it.block.header().clone()).collect()
    }));
    above(with(&|it| {
        let mut below = it[1].clone();
        (below.block, below.above) = (Arc::clone(&it[0].block), vec![it[1].block.header().clone()]);
        it[0] = below;
    }));
    // The certificate is not of the last header; and one that no quorum signed.
    let named = with(&|it| it[1].certificate = chain.entries[9].certificate.clone());
    assert!(matches!(named, RangeFault::WrongCertificate { .. }), "{named}");
    let fork = Chain::new(20, 5);
    assert!(matches!(check(fork.range(6, 2, 20)), Err(RangeFault::BadCertificate { .. })));
    // Nothing covers the chain's newest block while it has no certificate.
    assert!(chain.range(6, 2, 7)[1].above.is_empty());
}

#[test]
fn no_certificate_reaches_back_over_an_epochs_end() {
    let chain = Chain::new(3, 0);
    let mut old = chain.entries[1].block.header().clone();
    old.epoch = Epoch::new(0);
    let old = Block::new(old, Vec::new());
    let mut new = chain.entries[2].block.header().clone();
    (new.epoch, new.parent) = (Epoch::new(1), old.id());
    let new = Block::new(new, Vec::new());
    let mut certificate = (**chain.entries[2].certificate.as_ref().unwrap()).clone();
    (certificate.epoch, certificate.block) = (Epoch::new(1), new.id());
    let entries = vec![
        Entry { block: old.into(), certificate: None, end: None, above: Vec::new() },
        Entry { block: new.into(), certificate: Some(certificate.into()), end: None, above: Vec::new() },
    ];
    let range = check_range(Height::new(1), 2, entries, 0, &mut |_, _| Judge::Good).unwrap();
    assert_eq!((range.blocks.len(), range.rest), (0, Rest::Uncertified(Height::new(1))));
}
