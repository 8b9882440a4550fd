//! Compact proposals: what was taken out comes back, and nothing else does.

use std::sync::Arc;

use cairn_types::transaction::{Proofs, TRANSACTION_VERSION};
use cairn_types::{
    Address, Admission, Assembly, Block, BlockCert, BlockId, Carried, ChainId, CompactFault, CompactProposal,
    Epoch, Genesis, Hash, KeyRef, Params, Payload, Proof, Proposal, PublicKey, Scheme, Signature,
    SignedTransaction, Transaction, TreeKind, Validator, decode, encode, tree,
};

fn transaction(nonce: u64) -> Arc<SignedTransaction> {
    let proof = Proof::batch(TreeKind::CairnB3V1, Hash([7; 32]), 1);
    let transaction = Transaction {
        version: TRANSACTION_VERSION,
        chain: ChainId::ZERO,
        sender: Address::ZERO,
        nonce,
        expires_ms: 1,
        keys: vec![KeyRef::Registered(0)],
        payload: Payload::Proofs(Proofs(vec![proof])),
    };
    Arc::new(SignedTransaction::new(transaction, vec![Signature::new(&[3; 40]).unwrap()]))
}

fn proposal(count: u64) -> Proposal {
    let key = PublicKey::new(Scheme::Dilithium3, &[1; 1_952]).unwrap();
    let genesis = Genesis {
        version: 1,
        name: "test".to_owned(),
        time_ms: 1,
        params: Params::default(),
        admission: Admission::Open,
        validators: vec![Validator { address: key.address(), key, power: 1 }],
    };
    let transactions: Vec<_> = (0..count).map(transaction).collect();
    let leaves: Vec<_> = transactions.iter().map(|tx| tx.block_leaf()).collect();
    let mut header = genesis.header(Hash::default()).unwrap();
    header.tx_root = tree::tx_root(&leaves);
    header.tx_count = u32::try_from(count).unwrap();
    Proposal {
        block: Arc::new(Block::new(header, transactions)),
        justify: Carried::Inline(BlockCert::Root { epoch: Epoch::ZERO, block: BlockId::ZERO }),
        tc: None,
        signature: Signature::new(&[5; 50]).unwrap(),
    }
}

#[test]
fn a_proposal_comes_back_whole_from_what_it_carries_and_what_the_receiver_holds() {
    for count in [0, 1, 2, 7] {
        let whole = proposal(count);
        let compact = CompactProposal::of(&whole, |tx| tx.transaction.nonce % 3 == 1);
        assert_eq!(decode::<CompactProposal>(&encode(&compact)).as_ref(), Ok(&compact));
        let mut assembly = Assembly::begin(compact).unwrap();
        let missing: Vec<u32> = (0..count as u32).filter(|at| at % 3 != 1).collect();
        assert_eq!(assembly.missing(), missing);
        let held = whole.block.transactions();
        assembly.fill(|leaf| held.iter().find(|tx| tx.block_leaf() == *leaf).cloned());
        assert_eq!(assembly.whole(), Some(whole));
    }
}

#[test]
fn missing_transactions_are_placed_when_they_arrive_and_strange_ones_are_named() {
    let whole = proposal(5);
    let held = whole.block.transactions();
    let mut assembly = Assembly::begin(CompactProposal::of(&whole, |_| false)).unwrap();
    assert_eq!(assembly.whole(), None);
    assert_eq!(assembly.place(vec![held[4].clone(), held[0].clone()]), None);
    assert_eq!(assembly.missing(), [1, 2, 3]);
    let stranger = transaction(99);
    assert_eq!(assembly.place(vec![stranger.clone(), held[1].clone()]), Some(stranger.block_leaf()));
    // A table that gives the wrong transaction for a leaf changes nothing.
    assembly.fill(|_| Some(stranger.clone()));
    assert_eq!(assembly.missing(), [2, 3]);
    // The same transaction with another signature has another leaf.
    let resigned =
        SignedTransaction::new(held[2].transaction.clone(), vec![Signature::new(&[4; 40]).unwrap()]);
    assembly.fill(|_| Some(Arc::new(resigned.clone())));
    assert_eq!(assembly.missing(), [2, 3]);
    assert_eq!(assembly.place(held[2..4].to_vec()), None);
    assert_eq!(assembly.whole(), Some(whole));
}

#[test]
fn leaves_that_are_not_the_headers_are_refused() {
    let compact = || CompactProposal::of(&proposal(4), |_| false);
    let refused = |change: fn(&mut CompactProposal)| {
        let mut compact = compact();
        change(&mut compact);
        Assembly::begin(compact).unwrap_err()
    };
    assert!(matches!(refused(|it| it.leaves.0.swap(0, 1)), CompactFault::Root { .. }));
    assert!(matches!(refused(|it| it.leaves.0[2].0[0] ^= 1), CompactFault::Root { .. }));
    assert_eq!(refused(|it| it.leaves.0.truncate(3)), CompactFault::Count { got: 3, expected: 4 });
    assert!(matches!(refused(|it| it.header.tx_count = 5), CompactFault::Count { got: 4, expected: 5 }));
    assert!(matches!(refused(|it| it.carried.0.push(transaction(50))), CompactFault::NotOfBlock { .. }));
}

#[test]
fn a_count_beyond_any_block_is_refused_before_anything_is_allocated() {
    let compact = CompactProposal::of(&proposal(0), |_| false);
    let header = encode(&compact.header);
    let mut bytes = encode(&compact);
    bytes[header.len()..header.len() + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    let fault = decode::<CompactProposal>(&bytes).unwrap_err();
    assert!(fault.to_string().contains("at most 65536"), "{fault}");
}
