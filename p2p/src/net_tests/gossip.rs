use super::*;
use crate::{Peer, RequestFault, SyncRequest, SyncResponse, Tip, Verdict};
use cairn_types::{BlockId, Height};
use tokio::sync::oneshot;

/// Waits for the next batch, accepts it, and answers nothing else.
async fn accept_batch(node: &mut Node) -> Vec<Bytes> {
    loop {
        if let Event::Transactions { batch, ticket, .. } = node.event().await {
            let verdict = Verdict::Accept;
            node.handle().send(Command::ReportValidation { ticket, verdict }).await.unwrap();
            return batch;
        }
    }
}

async fn public_peer(node: &mut Node) -> Peer {
    loop {
        if let Event::PublicConnected { peer } = node.event().await {
            return peer;
        }
    }
}

async fn follower(validators: &[Address], bootstrap: &Node, quic: bool) -> Node {
    let directory = Arc::new(tempfile::tempdir().unwrap());
    let config = P2pConfig {
        validators: validators.to_vec(),
        public_peers: vec![bootstrap.public.clone()],
        quic,
        lookup_interval: Duration::from_millis(500),
        ..P2pConfig::new(chain(), directory.path())
    };
    Node::start(config, TestIdentity::follower(validators), directory).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_reach_validators_and_a_follower_in_batches() {
    let validators = addresses(4);
    let mut nodes = vec![Node::validator(1, &validators, &[], &[]).await];
    for number in 2..=4 {
        nodes.push(Node::validator(number, &validators, &[], &[&nodes[0]]).await);
    }
    nodes.push(follower(&validators, &nodes[0], false).await);
    for node in &mut nodes {
        public_peer(node).await;
    }
    // Gossip meshes form within a heartbeat or two; until there is a peer, transactions wait.
    let sent: Vec<Bytes> = (0..100_u8).map(|number| Bytes::from(vec![number; 5_500])).collect();
    nodes[1].handle().send(Command::GossipTransactions(sent.clone())).await.unwrap();
    let expected: BTreeSet<Bytes> = sent.into_iter().collect();
    for place in [0, 2, 3, 4] {
        let mut received = BTreeSet::new();
        let mut batches = 0;
        while received.len() < expected.len() {
            received.extend(accept_batch(&mut nodes[place]).await);
            batches += 1;
        }
        assert_eq!(received, expected);
        assert!(batches <= 20, "{batches} batches for 100 transactions");
    }
}

/// Answers four requests of a peer about a chain whose tip is `tip`.
async fn serve_four(mut node: Node, tip: Tip) -> Node {
    let mut served = 0;
    while served < 4 {
        if let Event::SyncRequest { request, reply, .. } = node.event().await {
            served += 1;
            let answer = match request {
                SyncRequest::Status => SyncResponse::Status(tip),
                SyncRequest::Blocks { from, count } => SyncResponse::Blocks(
                    (0..u64::from(count))
                        .map(|n| Bytes::from(vec![(from.get() + n) as u8; 900_000]))
                        .collect(),
                ),
                SyncRequest::Block { id } if id == tip.block => SyncResponse::Block(Some("block".into())),
                _ => continue,
            };
            reply.send(answer).unwrap();
        }
    }
    node
}

/// Announcements do not wait for peers as transactions do, so they are repeated until one arrives; it is
/// reported as worthless.
async fn first_announcement(from: &Node, to: &mut Node) -> Bytes {
    let announcing = async {
        for number in 0_u32.. {
            let bytes = Bytes::from(format!("block {number}"));
            from.handle().send(Command::AnnounceBlock(bytes)).await.unwrap();
            let soon = tokio::time::timeout(Duration::from_millis(300), to.p2p.events.recv()).await;
            if let Ok(Some(Event::Announcement { bytes, ticket, .. })) = soon {
                let report = Command::ReportValidation { ticket, verdict: Verdict::Reject };
                to.handle().send(report).await.unwrap();
                return bytes;
            }
        }
        unreachable!()
    };
    tokio::time::timeout(PATIENCE, announcing).await.expect("an announcement")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn announcements_and_sync_work_and_a_rejecting_peer_is_not_harmed() {
    let validators = addresses(1);
    let mut first = Node::validator(1, &validators, &[], &[]).await;
    let mut second = follower(&validators, &first, false).await;
    let peer = public_peer(&mut second).await;
    public_peer(&mut first).await;
    let tip = Tip {
        height: Height::new(9),
        block: BlockId::new(Hash([3; 32])),
        epoch: Epoch::ZERO,
        earliest: Height::new(1),
        snapshot: None,
    };
    let serving = tokio::spawn(serve_four(first, tip));
    let handle = second.handle().clone();
    let ask = |peer: Peer, request: SyncRequest| {
        let handle = handle.clone();
        async move {
            let (reply, answer) = oneshot::channel();
            handle.send(Command::PublicRequest { peer, request, reply }).await.unwrap();
            timeout(PATIENCE, answer).await.unwrap().unwrap()
        }
    };
    assert_eq!(ask(peer, SyncRequest::Status).await, Ok(SyncResponse::Status(tip)));
    let range = SyncRequest::Blocks { from: Height::new(5), count: 4 };
    let Ok(SyncResponse::Blocks(blocks)) = ask(peer, range).await else { panic!("blocks expected") };
    assert_eq!(blocks.iter().map(|block| block[0]).collect::<Vec<_>>(), [5, 6, 7, 8]);
    let block = ask(peer, SyncRequest::Block { id: tip.block }).await;
    assert_eq!(block, Ok(SyncResponse::Block(Some("block".into()))));
    assert_eq!(ask(peer, SyncRequest::Block { id: BlockId::ZERO }).await, Err(RequestFault::Refused));
    let stranger = Peer(libp2p::PeerId::random());
    assert_eq!(ask(stranger, SyncRequest::Status).await, Err(RequestFault::NotConnected));

    let first = serving.await.unwrap();
    let announced = first_announcement(&first, &mut second).await;
    assert!(announced.starts_with(b"block "));
    assert_eq!(second.info().await.peers.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_is_banned_after_a_few_faults_and_the_ban_is_remembered() {
    let validators = addresses(1);
    let first = Node::validator(1, &validators, &[], &[]).await;
    let mut second = follower(&validators, &first, false).await;
    let peer = public_peer(&mut second).await;
    for _ in 0..5 {
        let why = "an invalid block".to_owned();
        second.handle().send(Command::Penalise { peer, why }).await.unwrap();
    }
    loop {
        if let Event::PublicDisconnected { peer: gone } = second.event().await {
            assert_eq!(gone, peer);
            break;
        }
    }
    assert_eq!(second.info().await.banned, 1);
    second.handle().send(Command::Shutdown).await.unwrap();
    let Node { p2p, directory, .. } = second;
    let P2p { mut events, handle, .. } = p2p;
    drop(handle);
    while events.recv().await.is_some() {}
    let config = P2pConfig { validators: validators.clone(), ..P2pConfig::new(chain(), directory.path()) };
    let second = Node::start(config, TestIdentity::follower(&validators), directory).await;
    assert_eq!(second.info().await.banned, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quic_works_when_it_is_enabled() {
    let directory = Arc::new(tempfile::tempdir().unwrap());
    let config = P2pConfig { quic: true, ..P2pConfig::new(chain(), directory.path()) };
    let mut first = Node::start(config, TestIdentity::follower(&[]), directory).await;
    let quic = loop {
        match first.public.contains("quic-v1") {
            true => break first.public.clone(),
            false => {
                if let Event::Listening { address, .. } = first.event().await {
                    first.public = address;
                }
            }
        }
    };
    first.public = quic;
    let mut second = follower(&[], &first, true).await;
    public_peer(&mut second).await;
    assert!(second.info().await.peers[0].endpoint.contains("quic-v1"));
}
