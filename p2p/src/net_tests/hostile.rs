use super::*;
use crate::frame::Frame;
use crate::metrics::DropReason;
use crate::queue::Queues;

/// Bytes sent as they are over an authenticated link: what a malicious validator could send.
fn raw(bytes: &[u8]) -> Frame {
    Frame {
        kind: MessageKind::Vote,
        epoch: Epoch::ZERO,
        view: View::ZERO,
        bytes: Bytes::copy_from_slice(bytes),
    }
}

fn queues(node: &Node, to: Address) -> Arc<Queues> {
    node.handle().links.queues(&to).expect("a link")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_and_forgers_get_no_link() {
    let validators = addresses(2);
    let mut first = Node::validator(1, &validators, &[], &[]).await;
    let mut intruders = Vec::new();
    for identity in [
        // A key that is in no set.
        TestIdentity::validator(address(9), &addresses(9)),
        // Validator 2's address with another key.
        TestIdentity { key: [66; 32], ..TestIdentity::validator(address(2), &validators) },
        // Our own address.
        TestIdentity::validator(address(1), &validators),
    ] {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let config = P2pConfig {
            mesh_peers: vec![first.mesh.clone().unwrap()],
            ..validator_config(directory.path(), &addresses(9))
        };
        intruders.push(Node::start(config, identity, directory).await);
    }
    let metrics = first.handle().links.metrics();
    tokio::time::timeout(PATIENCE, async {
        while metrics.link_attempts("refused") < 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("three refusals");
    assert_eq!(metrics.link_attempts("linked"), 0);
    for intruder in &mut intruders {
        assert!(intruder.p2p.hot.try_recv().is_err(), "an intruder got a link");
    }
    assert!(first.p2p.hot.try_recv().is_err());
    let mut second = Node::validator(2, &validators, &[&first], &[]).await;
    first.connected(address(2)).await;
    second.connected(address(1)).await;
    assert_eq!(first.handle().linked(), [address(2)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_validator_not_admitted_now_gets_no_link_though_its_key_is_known() {
    let directory = Arc::new(tempfile::tempdir().unwrap());
    let config = validator_config(directory.path(), &addresses(2));
    let identity = TestIdentity::validator(address(1), &addresses(3));
    let mut first = Node::start(config, identity, directory).await;
    let mut third = Node::validator(3, &addresses(3), &[&first], &[]).await;
    let metrics = first.handle().links.metrics();
    tokio::time::timeout(PATIENCE, async {
        while metrics.link_attempts("not_admitted") == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("a refusal");
    assert!(first.handle().linked().is_empty());
    let (epoch, addresses) = (Epoch::new(1), addresses(3));
    first.handle().send(Command::SetValidators { epoch, addresses }).await.unwrap();
    first.connected(address(3)).await;
    third.connected(address(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_is_dropped_and_oversize_frames_end_only_their_link() {
    let validators = addresses(3);
    let mut victim = Node::validator(1, &validators, &[], &[]).await;
    let mut honest = Node::validator(2, &validators, &[&victim], &[]).await;
    let mut hostile = Node::validator(3, &validators, &[&victim], &[]).await;
    honest.connected(address(1)).await;
    hostile.connected(address(1)).await;
    for _ in 0..2 {
        assert!(matches!(victim.hot().await, HotEvent::Connected { .. }));
    }
    let link = queues(&hostile, address(1));
    let mut state = 0x9e37_79b9_u32;
    for length in 0..200_u32 {
        let mut bytes = length.to_be_bytes().to_vec();
        for _ in 0..length {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Never a tag of the envelope's first field with a known kind.
            bytes.push((state >> 24) as u8 | 0x80);
        }
        for plane in Plane::ALL {
            // One place per view, or they would replace one another.
            link.push(plane, Frame { view: View::new(u64::from(length)), ..raw(&bytes) });
        }
    }
    hostile.handle().broadcast(&hot(MessageKind::Vote, 999, "still here"));
    assert_eq!(victim.message().await.body, "still here", "garbage does not end a link");
    let metrics = victim.handle().links.metrics();
    assert_eq!(metrics.drops(Plane::Hot, DropReason::Malformed), 200);

    link.push(Plane::Hot, raw(&u32::MAX.to_be_bytes()));
    victim.disconnected(address(3)).await;
    honest.handle().broadcast(&hot(MessageKind::Vote, 5, "unharmed"));
    loop {
        let message = victim.message().await;
        if message.from == address(2) {
            assert_eq!(message.body, "unharmed");
            break;
        }
    }
    // The link comes back by itself.
    hostile.connected(address(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_another_chain_is_no_peer() {
    let validators = addresses(2);
    let first = Node::validator(1, &validators, &[], &[]).await;
    let directory = Arc::new(tempfile::tempdir().unwrap());
    let config = P2pConfig {
        chain: ChainId::new(Hash([1; 32])),
        public_peers: vec![first.public.clone()],
        mesh_peers: vec![first.mesh.clone().unwrap()],
        ..validator_config(directory.path(), &validators)
    };
    let mut other = Node::start(config, TestIdentity::validator(address(2), &validators), directory).await;
    let metrics = other.handle().links.metrics();
    tokio::time::timeout(PATIENCE, async {
        while metrics.link_attempts("refused") == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("the link is refused");
    assert!(other.p2p.hot.try_recv().is_err());
    assert!(first.info().await.peers.is_empty());
    while let Ok(event) = other.p2p.events.try_recv() {
        assert!(!matches!(event, Event::PublicConnected { .. }), "{event:?}");
    }
}

#[tokio::test]
async fn unusable_configurations_are_refused_with_reasons() {
    let directory = tempfile::tempdir().unwrap();
    let good = validator_config(directory.path(), &addresses(2));
    let start = |config: P2pConfig, identity: TestIdentity| {
        P2p::start(config, Arc::new(identity), Arc::new(now_ms), &mut Registry::default())
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    let validator = || TestIdentity::validator(address(1), &addresses(2));
    let bad_peer = P2pConfig { mesh_peers: vec!["10.0.0.1:7000".to_owned()], ..good.clone() };
    assert!(start(bad_peer, validator()).contains("mesh_peers"));
    let quic = P2pConfig { public_peers: vec!["/ip4/1.2.3.4/udp/1/quic-v1".to_owned()], ..good.clone() };
    assert!(start(quic, validator()).contains("QUIC is not enabled"));
    let few = P2pConfig { public_peers_max: 1, ..good.clone() };
    assert!(start(few, validator()).contains("public_peers_max"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let busy = P2pConfig { public_listen: format!("/ip4/127.0.0.1/tcp/{port}"), ..good.clone() };
    assert!(start(busy, validator()).contains("cannot listen"));
    assert!(start(good, TestIdentity::follower(&addresses(2))).contains("mesh_listen"));
}
