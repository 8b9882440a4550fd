//! Fetching what this node lacks: single blocks for the replica, and ranges of final blocks when it is far
//! behind. Wrong or unasked answers cost the peer, never this node.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_consensus::{CatchUp, EpochEnd, Input};
use cairn_p2p::{Command, Peer, SyncRequest, SyncResponse};
use cairn_types::{
    Address, Block, BlockId, CertifiedBlock, CommitCert, EpochProof, Header, Height, ValidatorIndex,
    Verified, decode, encode,
};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::context::Context;
use super::epoch::EpochInForce;
use super::executor::Task;
use super::wire::{Entries, Entry, Found, MeshRequest, RANGE_BLOCKS_MAX};

/// Requests of the replica waiting to be started. It asks again for what it still needs.
pub(crate) const JOBS_MAX: usize = 256;
/// Blocks being fetched at one moment.
const FETCHES_MAX: usize = 32;
/// Rounds over all sources before a fetch is given up; the replica asks again while it needs the block.
const FETCH_ROUNDS: u32 = 10;
/// Pause between rounds.
const ROUND_PAUSE: Duration = Duration::from_millis(100);
/// How often a node asks a peer where the chain stands, beside announcements and statuses.
pub(crate) const POLL_EVERY: Duration = Duration::from_secs(2);
/// Public peers remembered as sources.
const SOURCES_MAX: usize = 64;

/// Something the replica lacks.
#[derive(Debug)]
pub(crate) enum Job {
    /// One block, from whoever should hold it; from anyone when nobody is known to.
    Fetch { id: BlockId, from: Vec<ValidatorIndex> },
    /// Every final block up to this one.
    CatchUp(CatchUp),
    /// A peer claims a higher chain: look, and believe only certificates.
    Follow { peer: Peer, height: Height },
}

/// Someone who may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Validator(Address),
    Peer(Peer),
}

/// Verified final blocks that follow our tip.
struct Range {
    blocks: Vec<CertifiedBlock>,
    /// The commit proof of our epoch, when the last of them ends it.
    end: Option<Arc<EpochProof>>,
}

/// The fetching side of a node.
pub(crate) struct Sync {
    context: Arc<Context>,
    peers: Mutex<Vec<Peer>>,
    fetching: Mutex<HashSet<BlockId>>,
    catching_up: tokio::sync::Mutex<()>,
}

impl Sync {
    /// Nothing under way.
    pub(crate) fn new(context: Arc<Context>) -> Arc<Self> {
        Arc::new(Self {
            context,
            peers: Mutex::default(),
            fetching: Mutex::default(),
            catching_up: tokio::sync::Mutex::new(()),
        })
    }

    /// A public peer may be asked from now on.
    pub(crate) fn connected(&self, peer: Peer) {
        let mut peers = self.peers.lock();
        if !peers.contains(&peer) && peers.len() < SOURCES_MAX {
            peers.push(peer);
        }
    }

    /// A public peer is gone.
    pub(crate) fn disconnected(&self, peer: Peer) {
        self.peers.lock().retain(|known| *known != peer);
    }

    /// Number of public peers that may be asked.
    pub(crate) fn peer_count(&self) -> usize {
        self.peers.lock().len()
    }

    /// Works off jobs until the queue closes; each in a task of its own.
    pub(crate) async fn run(self: Arc<Self>, mut jobs: mpsc::Receiver<Job>) {
        while let Some(job) = jobs.recv().await {
            let sync = Arc::clone(&self);
            match job {
                // Its transactions are being collected: the whole block would bring them a second time.
                Job::Fetch { id, .. } if self.context.assembling.contains(&id) => {}
                Job::Fetch { id, from } => {
                    let mut fetching = self.fetching.lock();
                    if fetching.len() < FETCHES_MAX && fetching.insert(id) {
                        tokio::spawn(async move { sync.fetch(id, from).await });
                    }
                }
                Job::CatchUp(goal) => {
                    self.context.position.learned(goal.to);
                    tokio::spawn(async move { sync.catch_up(goal.to, Some(goal.certificate)).await });
                }
                Job::Follow { peer, height } => {
                    tokio::spawn(async move {
                        sync.prefer(peer);
                        sync.catch_up(height, None).await;
                    });
                }
            }
        }
    }

    /// Asks a random-ish peer where its chain stands, again and again.
    pub(crate) async fn poll(self: Arc<Self>) {
        let mut turn = 0usize;
        loop {
            tokio::time::sleep(POLL_EVERY).await;
            let peer = {
                let peers = self.peers.lock();
                peers.get(turn.checked_rem(peers.len()).unwrap_or(0)).copied()
            };
            turn = turn.wrapping_add(1);
            let Some(peer) = peer else { continue };
            if let Some(SyncResponse::Status(tip)) = self.ask_peer(peer, SyncRequest::Status).await
                && tip.height > *self.context.final_height.borrow()
            {
                self.prefer(peer);
                self.catch_up(tip.height, None).await;
            }
        }
    }

    fn prefer(&self, peer: Peer) {
        let mut peers = self.peers.lock();
        if let Some(at) = peers.iter().position(|known| *known == peer) {
            peers.swap(0, at);
        }
    }

    async fn fetch(&self, id: BlockId, from: Vec<ValidatorIndex>) {
        for round in 0..FETCH_ROUNDS {
            for source in self.sources(&from, round) {
                if let Some(found) = self.ask_block(source, id).await {
                    self.feed_found(found).await;
                    self.fetching.lock().remove(&id);
                    return;
                }
            }
            tokio::time::sleep(ROUND_PAUSE).await;
        }
        self.fetching.lock().remove(&id);
        tracing::debug!(block = %id, "nobody has a block that was asked for");
    }

    /// Who to ask: the named validators first; from the second round on everyone.
    fn sources(&self, named: &[ValidatorIndex], round: u32) -> Vec<Source> {
        let epoch = self.context.epoch();
        let me = epoch.signer.as_ref().map(|signer| signer.address);
        let address = |index: &ValidatorIndex| epoch.set.get(*index).map(|validator| validator.address);
        let mut sources: Vec<_> =
            named.iter().filter_map(address).filter(|it| Some(*it) != me).map(Source::Validator).collect();
        if round > 0 || sources.is_empty() || me.is_none() {
            let others = self.context.net.linked().into_iter().map(Source::Validator);
            let peers = self.peers.lock().iter().copied().map(Source::Peer).collect::<Vec<_>>();
            for source in others.chain(peers) {
                if !sources.contains(&source) {
                    sources.push(source);
                }
            }
        }
        sources
    }

    async fn feed_found(&self, found: Found) {
        let context = &self.context;
        let input = match found {
            Found::Proposal(proposal) => {
                let proposal = Arc::unwrap_or_clone(proposal);
                let block = Arc::clone(&proposal.block);
                let epoch = context.epoch();
                match context.verifier.proposal(&epoch.set, epoch.root_id, proposal) {
                    Ok(proposal) => Input::Proposal(proposal),
                    Err(fault) => {
                        tracing::debug!(%fault, "a fetched proposal does not verify; its block may still be good");
                        Input::BlockFetched { block }
                    }
                }
            }
            Found::Block(block) => Input::BlockFetched { block },
        };
        // The loop is gone only when the node stops.
        let _ = context.inputs.send(input).await;
    }

    async fn ask_block(&self, source: Source, id: BlockId) -> Option<Found> {
        let bytes = match source {
            Source::Validator(to) => self.ask_validator(to, MeshRequest::Block(id)).await?,
            Source::Peer(peer) => match self.ask_peer(peer, SyncRequest::Block { id }).await? {
                SyncResponse::Block(found) => found?,
                _ => return self.accuse(source, "answered another question").await,
            },
        };
        match decode::<Found>(&bytes) {
            Ok(found) if found.block().id() == id && found.block().matches_tx_root() => Some(found),
            Ok(_) => self.accuse(source, "answered with another block than the one asked for").await,
            Err(error) => self.accuse(source, &error.to_string()).await,
        }
    }

    /// Applies final blocks until `goal` is reached or nobody has more. One at a time.
    async fn catch_up(&self, goal: Height, certificate: Option<Arc<CommitCert>>) {
        let Ok(_only) = self.catching_up.try_lock() else { return };
        if *self.context.final_height.borrow() >= goal {
            return self.report(certificate).await;
        }
        self.context.position.set_syncing(true);
        let mut idle_rounds = 0;
        while idle_rounds < FETCH_ROUNDS && !self.context.shutdown.is_cancelled() {
            let before = *self.context.final_height.borrow();
            if before >= goal {
                break;
            }
            self.round(before).await;
            if *self.context.final_height.borrow() == before {
                idle_rounds += 1;
                tokio::time::sleep(ROUND_PAUSE).await;
            } else {
                idle_rounds = 0;
            }
        }
        self.context.position.set_syncing(false);
        self.report(certificate).await;
    }

    /// Asks each source in turn until one brings the chain forward.
    async fn round(&self, before: Height) {
        for source in self.sources(&[], 1) {
            let Some(entries) = self.ask_range(source, before.next()).await else { continue };
            match self.check_range(&entries) {
                Ok(None) => {}
                Ok(Some(range)) => {
                    self.apply(range).await;
                    if *self.context.final_height.borrow() > before {
                        return;
                    }
                }
                Err(why) => {
                    let _: Option<()> = self.accuse(source, &why).await;
                }
            }
        }
    }

    async fn ask_range(&self, source: Source, from: Height) -> Option<Vec<Entry>> {
        let entries = match source {
            Source::Validator(to) => {
                let bytes = self.ask_validator(to, MeshRequest::Range(from)).await?;
                match decode::<Entries>(&bytes) {
                    Ok(entries) => entries.0,
                    Err(error) => return self.accuse(source, &error.to_string()).await,
                }
            }
            Source::Peer(peer) => {
                let request = SyncRequest::Blocks { from, count: RANGE_BLOCKS_MAX };
                match self.ask_peer(peer, request).await? {
                    SyncResponse::Blocks(entries) => entries.into_iter().map(Vec::from).collect(),
                    _ => return self.accuse(source, "answered another question").await,
                }
            }
        };
        match entries.iter().map(|bytes| decode::<Entry>(bytes)).collect() {
            Ok(entries) => Some(entries),
            Err(error) => self.accuse(source, &error.to_string()).await,
        }
    }

    /// Checks that the entries follow our tip by hash, and drops those above the last one that has a
    /// certificate, and those above the end of our epoch. `Ok(None)` when nothing is left.
    fn check_range(&self, entries: &[Entry]) -> Result<Option<Range>, String> {
        let (tip, epoch) = (self.context.state.tip(), self.context.epoch());
        let proven = |entry: &Entry| entry.certificate.is_some() || entry.end.is_some();
        let Some(last) = entries.iter().rposition(proven) else {
            return Ok(None);
        };
        let (mut parent, mut height) = (tip.id, tip.header.height);
        let (mut blocks, mut covered) = (Vec::new(), Vec::new());
        for Entry { block, certificate, end } in entries.iter().take(last + 1) {
            let header = block.header();
            if header.height <= tip.header.height {
                continue;
            }
            if header.parent != parent || !header.height.follows(height) || !block.matches_tx_root() {
                return Err(format!(
                    "block {} at height {} does not follow {parent}",
                    block.id(),
                    header.height
                ));
            }
            (parent, height) = (block.id(), header.height);
            covered.push(Arc::clone(block));
            if header.ends_epoch() {
                let proof = self.check_end(&epoch, block, end.clone())?;
                let certificate = Arc::clone(&proof.certificate);
                let certify = |block| CertifiedBlock { block, certificate: Arc::clone(&certificate) };
                blocks.extend(covered.drain(..).map(certify));
                return Ok(Some(Range { blocks, end: Some(proof) }));
            }
            let Some(certificate) = certificate else { continue };
            if certificate.block != block.id() || certificate.view != header.view {
                return Err(format!("the certificate given for height {height} names another block"));
            }
            let verified = self.context.verifier.commit_cert(&epoch.set, Arc::clone(certificate));
            let certificate = verified.map_err(|fault| fault.to_string())?.into_inner();
            let certify = |block| CertifiedBlock { block, certificate: Arc::clone(&certificate) };
            blocks.extend(covered.drain(..).map(certify));
        }
        Ok((!blocks.is_empty()).then_some(Range { blocks, end: None }))
    }

    /// The proof that `block` ends our epoch.
    fn check_end(
        &self,
        epoch: &EpochInForce,
        block: &Block,
        proof: Option<Arc<EpochProof>>,
    ) -> Result<Arc<EpochProof>, String> {
        let missing =
            || format!("block {} ends epoch {} without its proof", block.id(), block.header().epoch);
        let proof = proof.ok_or_else(missing)?;
        if proof.last_block().map_err(|fault| fault.to_string())?.id() != block.id() {
            return Err(format!("the proof given for block {} is of another", block.id()));
        }
        let verified = self.context.verifier.epoch_proof(&epoch.set, proof);
        Ok(verified.map_err(|fault| fault.to_string())?.into_inner())
    }

    async fn apply(&self, Range { blocks, end }: Range) {
        let Some(last) = blocks.last().cloned() else { return };
        let (reply, outcome) = oneshot::channel();
        let ends = end.is_some();
        let task = match end {
            Some(proof) => Task::EndEpoch(EpochEnd { blocks, proof }, Some(reply)),
            None => Task::Apply(blocks, reply),
        };
        if self.context.executor.send(task).await.is_err() {
            return;
        }
        // A failure stops the node: the executor has said why.
        if let Ok(Ok(())) = outcome.await {
            let header = last.block.header().clone();
            tracing::info!(height = %header.height, "caught up with a range of final blocks");
            if ends {
                return; // the next epoch's replica begins there by itself
            }
            self.tell_committed(header, last.certificate).await;
        }
    }

    /// Tells the replica how far the state is, with the certificate it was given when that names the tip.
    async fn report(&self, certificate: Option<Arc<CommitCert>>) {
        let Ok(Some(newest)) = self.context.state.newest_final() else { return };
        let certificate = match certificate {
            Some(given) if given.block == newest.header.id() => given,
            _ => Arc::new(newest.certificate),
        };
        self.tell_committed(newest.header, certificate).await;
    }

    async fn tell_committed(&self, header: Header, certificate: Arc<CommitCert>) {
        let epoch = self.context.epoch();
        if header.epoch != epoch.number() || certificate.epoch != epoch.number() {
            return; // the replica of that epoch is over
        }
        match self.context.verifier.commit_cert(&epoch.set, certificate) {
            Ok(certificate) => {
                let certificate: Verified<Arc<CommitCert>> = certificate;
                // The loop is gone only when the node stops.
                let _ = self.context.inputs.send(Input::Committed { header, certificate }).await;
            }
            Err(fault) => self.context.fail(format!("a stored commit certificate does not verify: {fault}")),
        }
    }

    async fn ask_validator(&self, to: Address, request: MeshRequest) -> Option<Bytes> {
        let (reply, answer) = oneshot::channel();
        self.context
            .net
            .send(Command::MeshRequest { to, body: encode(&request).into(), reply })
            .await
            .ok()?;
        answer.await.ok()?.ok()
    }

    async fn ask_peer(&self, peer: Peer, request: SyncRequest) -> Option<SyncResponse> {
        let (reply, answer) = oneshot::channel();
        self.context.net.send(Command::PublicRequest { peer, request, reply }).await.ok()?;
        answer.await.ok()?.ok()
    }

    /// Charges the source for a wrong answer; always gives `None`.
    async fn accuse<T>(&self, source: Source, why: &str) -> Option<T> {
        tracing::warn!(?source, why, "a wrong answer");
        match source {
            Source::Peer(peer) => {
                let command = Command::Penalise { peer, why: why.to_owned() };
                // Networking is gone only when the node stops.
                let _ = self.context.net.send(command).await;
            }
            Source::Validator(_) => {
                self.context.metrics.rejected.inc();
            }
        }
        None
    }
}
