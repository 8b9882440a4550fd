//! The client's typed methods against real nodes.

use cairn_client::{BlockRef, Client, ClientFault, Sender, Wait};
use cairn_crypto::KeyPair;
use cairn_testnet::anchoring::random_proof;
use cairn_types::{ChainId, Change, Hash, Height, Params, Scheme, SignedTransaction};

use crate::cluster::{Cluster, params};
use crate::epochs::{enact, govern};

fn client(cluster: &Cluster) -> Client {
    let genesis = cluster.anchorer.genesis().clone();
    Client::connect(cluster.api(0).url()).unwrap().with_genesis(genesis).unwrap().with_tries(1)
}

/// A proof of a sender of its own that lands within a second or so.
fn signed(cluster: &Cluster, chain: ChainId, now_ms: u64) -> SignedTransaction {
    let life_ms = cluster.anchorer.genesis().params.replay_window_ms / 2;
    let sender = Sender::inline(KeyPair::generate(Scheme::MlDsa65));
    sender.sign_proof(chain, now_ms + life_ms, random_proof(0)).unwrap()
}

#[tokio::test]
async fn transactions_are_checked_and_anchored_many_at_once() {
    let mut cluster = Cluster::start_with(1, Scheme::MlDsa65).await;
    cluster.anchor(0).await;
    let client = client(&cluster);
    let (own, other) = (cluster.anchorer.chain(), ChainId::new(Hash([9; 32])));
    let now_ms = client.status().await.unwrap().time_ms;
    let good: Vec<_> = (0..3).map(|_| signed(&cluster, own, now_ms)).collect();
    let foreign = signed(&cluster, other, now_ms);

    let checked = client.tx_check(&good[0]).await.unwrap();
    assert_eq!((checked.tx_id, checked.duplicate), (good[0].transaction.id(), false));
    assert_eq!(checked.proofs.len(), 1);
    let refused = client.tx_check(&foreign).await.unwrap_err();
    assert!(refused.is_kind("wrong_chain"), "{refused}");

    let many = [&good[0], &foreign, &good[1], &good[2]].map(Clone::clone);
    let outcomes = client.proof_anchor_many(&many, Wait::Final).await.unwrap();
    assert_eq!(outcomes.len(), many.len());
    for (outcome, sent) in outcomes.iter().zip(&many) {
        match outcome {
            Ok(submitted) => {
                assert_eq!((submitted.tx_id, submitted.duplicate), (sent.transaction.id(), false));
                assert!(submitted.height.is_some());
            }
            Err(error) => assert_eq!((error.kind.as_str(), sent), ("wrong_chain", &foreign)),
        }
    }
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_err()).count(), 1);
    // The checked one was not submitted by that, and is known now.
    let again = client.tx_check(&good[0]).await.unwrap();
    assert_eq!((again.tx_id, again.duplicate, again.proofs.clone()), (checked.tx_id, true, checked.proofs));
    client.receipt_get(again.proofs[0]).await.unwrap();
    let none = client.proof_anchor_many(&[], Wait::Final).await.unwrap_err();
    assert!(matches!(none, ClientFault::Rpc(_)), "{none}");
    cluster.check().await;
}

#[tokio::test]
async fn parameters_and_motions_are_read() {
    let mut cluster = Cluster::start_with(2, Scheme::MlDsa65).await;
    let client = client(&cluster);
    let found = client.chain_params(BlockRef::Latest).await.unwrap();
    assert_eq!((found.params, found.registrar), (params(), None));
    let none = client.validator_motions().await.unwrap();
    assert_eq!((none.epoch.get(), none.total_power, none.motions.len()), (0, 2, 0));

    // The other validator has not approved it.
    enact(&cluster.network, &[(0, None)], &["--param", "interval_idle_ms=45000"]);
    let open = client.validator_motions().await.unwrap();
    let [(motion, power)] = &open.motions[..] else { panic!("{open:?}") };
    let wanted = Params { interval_idle_ms: 45_000, ..params() };
    assert_eq!(motion.changes.0, [Change::Params(wanted)]);
    let proposer = cluster.anchorer.genesis().validators[0].address;
    assert_eq!((motion.proposer, &motion.approvals[..], *power), (proposer, &[proposer][..], 1));

    govern(&cluster.network, 1, None, &["approve", &motion.id.to_string()]);
    // A block of the next epoch.
    cluster.anchor(0).await;
    let after = client.chain_params(BlockRef::Latest).await.unwrap();
    assert_eq!(after.params, wanted);
    assert_eq!(client.chain_params(BlockRef::Height(Height::new(1))).await.unwrap().params, params());
}
