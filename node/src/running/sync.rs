//! Fetching what this node lacks: single blocks for the replica, and ranges of final blocks when it is far
//! behind. What to ask of whom is decided by `cairn-catchup`; here its questions are put, its answers judged and
//! its blocks applied.

use std::sync::Arc;

use bytes::Bytes;
use cairn_catchup::{
    Answer, CatchUp, Claim, Entry, Failure, Input as News, JoinInput, Judge, Output, Position, Proof,
    Question, Range, RequestId, check_range,
};
use cairn_consensus::{EpochEnd, Input};
use cairn_p2p::{Command, Peer, RequestFault, SyncRequest, SyncResponse};
use cairn_types::{
    Address, BlockId, CertifiedBlock, CommitCert, EpochProof, Header, Height, ValidatorIndex, Verified,
    decode, encode,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::context::Context;
use super::epoch::EpochInForce;
use super::joining::{Effect, Joining, Taken};
use super::presence::KEY_RUNS_ELSEWHERE;
use super::task::{Job, Source, Task};
use super::wire::{Entries, Found, MeshRequest};
use crate::exit::Exit;

/// Answers that wait to be looked at. The machine has some dozens of questions open at most.
const NEWS_MAX: usize = 256;

/// What came of a question.
type Outcome = Result<Answer, Failure>;

/// Something heard from peers, or come of work on what they gave.
pub(crate) enum Heard {
    /// For catching up.
    News(News<Source>),
    /// For joining.
    Join(JoinInput<Peer>),
    /// Of a snapshot being taken in.
    Taken(Taken),
}

/// The fetching side of a node.
pub(crate) struct Sync {
    context: Arc<Context>,
    machine: CatchUp<Source>,
    started: Instant,
    heard: mpsc::Sender<Heard>,
    heard_queue: mpsc::Receiver<Heard>,
    /// While a node without blocks may begin with a snapshot.
    joining: Option<Joining>,
    /// Whether this node is far behind what is proven.
    behind: bool,
    /// What the replica was last promised, until the state is there.
    goal: Option<Arc<CommitCert>>,
}

impl Sync {
    /// Nothing under way. A node without blocks begins with a snapshot when its peers are more than `join_blocks` ahead.
    pub(crate) fn new(context: Arc<Context>, join_blocks: Option<u64>) -> Self {
        let (heard, heard_queue) = mpsc::channel(NEWS_MAX);
        let tip = position(&context);
        let bound = join_blocks.filter(|_| tip.height == Height::ZERO);
        let joining = bound.map(|bound| Joining::new(Arc::clone(&context), bound, heard.clone()));
        context.may_join.send_replace(joining.is_some());
        let (machine, started) = (CatchUp::new(tip), Instant::now());
        Self { context, machine, started, heard, heard_queue, joining, behind: false, goal: None }
    }

    /// Works until the queue of jobs closes.
    pub(crate) async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut heights = self.context.final_height.subscribe();
        if self.joining.is_some() {
            self.step(News::Hold(true)).await;
        }
        let mut ticked = Instant::now();
        loop {
            let patience = self.machine.patience(self.started.elapsed());
            let patience = self.joining.as_ref().map_or(patience, |it| it.patience().min(patience));
            let heard = tokio::select! {
                job = jobs.recv() => match job {
                    Some(job) => self.on_job(job).await.map(Heard::News),
                    None => return,
                },
                heard = self.heard_queue.recv() => heard,
                changed = heights.changed() => match changed {
                    Ok(()) => {
                        self.join(JoinInput::Moved).await;
                        Some(Heard::News(News::Committed { tip: position(&self.context), applied: false }))
                    }
                    Err(_) => return,
                },
                // Counted from the last one: announcements come more often than that, and would put it off for ever.
                () = tokio::time::sleep_until(ticked + patience) => {
                    ticked = Instant::now();
                    self.join(JoinInput::Tick).await;
                    Some(Heard::News(News::Tick))
                }
            };
            match heard {
                Some(Heard::News(news)) => self.step(news).await,
                Some(Heard::Join(input)) => self.join(input).await,
                Some(Heard::Taken(taken)) => {
                    if let Some(input) = self.joining.as_mut().and_then(|it| it.on_taken(taken)) {
                        self.join(input).await;
                    }
                }
                None => {}
            }
        }
    }

    /// Tells the joining side, while there is one.
    async fn join(&mut self, input: JoinInput<Peer>) {
        let Some(joining) = &mut self.joining else { return };
        let mut decided = false;
        for effect in joining.step(self.started.elapsed(), input) {
            match effect {
                Effect::Hold(hold) => {
                    decided = !hold;
                    self.step(News::Hold(hold)).await;
                }
                Effect::Punish { peer, why } => self.punish(Source::Peer(peer), why).await,
                Effect::Over { joined } => {
                    self.joining = None;
                    if joined {
                        report(&self.context, None).await;
                        self.step(News::Committed { tip: position(&self.context), applied: false }).await;
                    }
                }
            }
        }
        if decided {
            // The replica has been told of a snapshot's block by now.
            self.context.may_join.send_if_modified(std::mem::take);
        }
        self.tell_whether_behind();
    }

    /// Behind is who knows it, and who is fetching a snapshot.
    fn tell_whether_behind(&self) {
        let joining = self.joining.as_ref().is_some_and(Joining::is_fetching);
        self.context.position.set_syncing(self.behind || joining);
    }

    async fn step(&mut self, news: News<Source>) {
        let outputs = self.machine.step(self.started.elapsed(), news);
        self.context.position.learned(self.machine.proven());
        for output in outputs {
            match output {
                Output::Ask { peer, request, question } => self.ask(peer, request, question),
                Output::Apply { blocks, end } => self.apply(blocks, end),
                Output::Punish { peer, why } => self.punish(peer, why).await,
                Output::Behind(behind) => {
                    self.behind = behind;
                    self.tell_whether_behind();
                }
                Output::Fork { height, committed, parent } => self.context.fail(format!(
                    "a quorum has certified a block of height {height} on {parent}, yet block {committed} is committed \
                     below it here: more than a third of the power is faulty, or this data folder is not the chain's"
                )),
            }
        }
    }

    /// What a job is to the machine.
    async fn on_job(&mut self, job: Job) -> Option<News<Source>> {
        Some(match job {
            // Its transactions are being collected: the whole block would bring them a second time.
            Job::Fetch { id, .. } if self.context.assembling.contains(&id) => return None,
            Job::Fetch { id, from } => News::Want { block: id, from: self.named(&from) },
            Job::CatchUp(goal) => {
                if *self.context.final_height.borrow() >= goal.to {
                    report(&self.context, Some(goal.certificate)).await;
                    return None;
                }
                self.goal = Some(goal.certificate);
                News::Proven { height: goal.to, by: None }
            }
            Job::Follow { peer, height } => News::Proven { height, by: Some(Source::Peer(peer)) },
            Job::Connected(source) => {
                self.context.position.count_peer(matches!(source, Source::Peer(_)), true);
                if let Source::Peer(peer) = source {
                    self.join(JoinInput::Connected { peer }).await;
                }
                News::Connected { peer: source, polled: matches!(source, Source::Peer(_)) }
            }
            Job::Gone(source) => {
                self.context.position.count_peer(matches!(source, Source::Peer(_)), false);
                if let Source::Peer(peer) = source {
                    self.join(JoinInput::Gone { peer }).await;
                }
                News::Gone { peer: source }
            }
        })
    }

    /// The named validators, without ourselves.
    fn named(&self, indexes: &[ValidatorIndex]) -> Vec<Source> {
        let epoch = self.context.epoch();
        let me = epoch.signer.as_ref().map(|signer| signer.address);
        let address = |index: &ValidatorIndex| epoch.set.get(*index).map(|validator| validator.address);
        indexes.iter().filter_map(address).filter(|it| Some(*it) != me).map(Source::Validator).collect()
    }

    /// Puts a question; the answer comes back as news.
    fn ask(&self, peer: Source, request: RequestId, question: Question) {
        let (context, heard) = (Arc::clone(&self.context), self.heard.clone());
        tokio::spawn(async move {
            tracing::debug!(?peer, ?request, ?question, "asking");
            let outcome = match question {
                Question::Tip => ask_tip(&context, peer, &heard).await,
                Question::Range { from, count } => ask_range(&context, peer, from, count).await,
                Question::Block(id) => ask_block(&context, peer, id).await,
            };
            let input = match outcome {
                Ok(answer) => News::Answer { request, answer },
                Err(failure) => {
                    tracing::debug!(?peer, ?request, ?failure, "no answer");
                    News::Failed { request, failure }
                }
            };
            // Nobody waits for it any more when the node stops.
            let _ = heard.send(Heard::News(input)).await;
        });
    }

    /// Makes blocks final, and tells the replica how far the state is.
    fn apply(&mut self, blocks: Vec<CertifiedBlock>, end: Option<Arc<EpochProof>>) {
        let (context, heard, goal) = (Arc::clone(&self.context), self.heard.clone(), self.goal.clone());
        tokio::spawn(async move {
            let Some(last) = blocks.last().cloned() else { return };
            let count = blocks.len();
            let (reply, outcome) = oneshot::channel();
            let ends = end.is_some();
            let task = match end {
                Some(proof) => Task::EndEpoch(EpochEnd { blocks, proof }, Some(reply)),
                None => Task::Apply(blocks, reply),
            };
            if context.executor.send(task).await.is_err() {
                return;
            }
            // A failure stops the node: the executor has said why.
            let Ok(Ok(())) = outcome.await else { return };
            let header = last.block.header().clone();
            tracing::info!(height = %header.height, count, "caught up with a range of final blocks");
            // The next epoch's replica begins at its root by itself.
            if !ends {
                let goal = goal.filter(|goal| goal.block == last.block.id());
                tell_committed(&context, header, goal.unwrap_or(last.certificate)).await;
            }
            let news = News::Committed { tip: position(&context), applied: true };
            let _ = heard.send(Heard::News(news)).await;
        });
    }

    async fn punish(&self, peer: Source, why: String) {
        tracing::warn!(source = ?peer, why, "a wrong answer");
        match peer {
            // Networking is gone only when the node stops.
            Source::Peer(peer) => drop(self.context.net.send(Command::Penalise { peer, why }).await),
            Source::Validator(_) => drop(self.context.metrics.rejected.inc()),
        }
    }
}

fn position(context: &Context) -> Position {
    let tip = context.state.tip();
    Position { height: tip.header.height, id: tip.id }
}

async fn ask_tip(context: &Context, source: Source, heard: &mpsc::Sender<Heard>) -> Outcome {
    match source {
        Source::Validator(_) => Err(Failure::Refused),
        Source::Peer(peer) => match ask_peer(context, source, SyncRequest::Status).await? {
            SyncResponse::Status(tip) => {
                let claim = Claim { height: tip.height, earliest: tip.earliest };
                let claimed = JoinInput::Claimed { peer, claim, newest: tip.snapshot };
                // First, so that nothing is fetched that a snapshot may bring.
                let _ = heard.send(Heard::Join(claimed)).await;
                Ok(Answer::Tip(claim))
            }
            _ => Err(another_question()),
        },
    }
}

async fn ask_block(context: &Arc<Context>, source: Source, id: BlockId) -> Outcome {
    let bytes = match source {
        Source::Validator(to) => match ask_validator(context, to, MeshRequest::Block(id)).await {
            // A validator that lacks it does not answer.
            Err(Failure::Refused) => return Ok(Answer::Block(false)),
            bytes => bytes?,
        },
        Source::Peer(_) => match ask_peer(context, source, SyncRequest::Block { id }).await? {
            SyncResponse::Block(Some(found)) => found,
            SyncResponse::Block(None) => return Ok(Answer::Block(false)),
            _ => return Err(another_question()),
        },
    };
    let found = decode::<Found>(&bytes).map_err(|error| Failure::Wrong(error.to_string()))?;
    if found.block().id() != id || !found.block().matches_tx_root() {
        return Err(Failure::Wrong("another block than the one asked for".to_owned()));
    }
    feed_found(context, found).await;
    Ok(Answer::Block(true))
}

async fn feed_found(context: &Context, found: Found) {
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

async fn ask_range(context: &Arc<Context>, source: Source, from: Height, count: u32) -> Outcome {
    let entries: Vec<Bytes> = match source {
        Source::Validator(to) => {
            let bytes = ask_validator(context, to, MeshRequest::Range { from, count }).await?;
            let entries = decode::<Entries>(&bytes).map_err(|error| Failure::Wrong(error.to_string()))?;
            entries.0.into_iter().map(Bytes::from).collect()
        }
        Source::Peer(_) => match ask_peer(context, source, SyncRequest::Blocks { from, count }).await? {
            SyncResponse::Blocks(entries) => entries,
            _ => return Err(another_question()),
        },
    };
    let context = Arc::clone(context);
    // Hundreds of signatures and thousands of hashes: not for the networks' threads.
    let judged = tokio::task::spawn_blocking(move || judge(&context, from, count, &entries)).await;
    judged.unwrap_or(Err(Failure::Refused)).map(Answer::Range)
}

/// Decodes and verifies a range.
fn judge(context: &Context, from: Height, count: u32, entries: &[Bytes]) -> Result<Range, Failure> {
    let bytes = entries.iter().map(Bytes::len).sum();
    let entries: Result<Vec<Entry>, _> = entries.iter().map(|bytes| decode::<Entry>(bytes)).collect();
    let entries = entries.map_err(|error| Failure::Wrong(error.to_string()))?;
    let epoch = context.epoch();
    let mut judge = |header: &Header, proof: Proof<'_>| {
        // The validators of later epochs become known with the blocks that name them.
        if header.epoch != epoch.number() {
            return Judge::EpochUnknown;
        }
        let (verified, certificate) = match proof {
            Proof::Certificate(it) => {
                (context.verifier.commit_cert(&epoch.set, Arc::clone(it)).map(|_| ()), it)
            }
            Proof::End(it) => {
                (context.verifier.epoch_proof(&epoch.set, Arc::clone(it)).map(|_| ()), &it.certificate)
            }
        };
        match verified {
            Ok(()) => {
                if is_ours_from_elsewhere(context, &epoch, certificate) {
                    context.fail_with(Exit::SigningRefused, KEY_RUNS_ELSEWHERE);
                }
                Judge::Good
            }
            Err(fault) => Judge::Bad(fault.to_string()),
        }
    };
    let checked = check_range(from, count, entries, bytes, &mut judge);
    checked.map_err(|fault| Failure::Wrong(fault.to_string()))
}

/// Whether a certificate of this epoch holds a signature of ours that our journal does not know of.
pub(crate) fn is_ours_from_elsewhere(
    context: &Context,
    epoch: &EpochInForce,
    certificate: &CommitCert,
) -> bool {
    epoch.signer.as_ref().is_some_and(|signer| {
        certificate.view > context.position.signed_view()
            && certificate.signer_indexes().any(|index| index == signer.index)
    })
}

async fn ask_validator(context: &Context, to: Address, request: MeshRequest) -> Result<Bytes, Failure> {
    let (reply, answer) = oneshot::channel();
    let command = Command::MeshRequest { to, body: encode(&request).into(), reply };
    context.net.send(command).await.map_err(|_| Failure::Refused)?;
    outcome(answer).await
}

pub(crate) async fn ask_peer(
    context: &Context,
    source: Source,
    request: SyncRequest,
) -> Result<SyncResponse, Failure> {
    let Source::Peer(peer) = source else { return Err(Failure::Refused) };
    let (reply, answer) = oneshot::channel();
    let command = Command::PublicRequest { peer, request, reply };
    context.net.send(command).await.map_err(|_| Failure::Refused)?;
    outcome(answer).await
}

async fn outcome<T>(answer: oneshot::Receiver<Result<T, RequestFault>>) -> Result<T, Failure> {
    match answer.await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(RequestFault::Timeout)) => Err(Failure::Silent),
        Ok(Err(RequestFault::Malformed)) => Err(Failure::Wrong("an answer that is none".to_owned())),
        Ok(Err(_)) | Err(_) => Err(Failure::Refused),
    }
}

pub(crate) fn another_question() -> Failure {
    Failure::Wrong("it answered another question".to_owned())
}

/// Tells the replica how far the state is, with the certificate it was given when that names the tip.
async fn report(context: &Context, certificate: Option<Arc<CommitCert>>) {
    let Ok(Some(newest)) = context.state.newest_final() else { return };
    let certificate = match certificate {
        Some(given) if given.block == newest.header.id() => given,
        _ => Arc::new(newest.certificate),
    };
    tell_committed(context, newest.header, certificate).await;
}

async fn tell_committed(context: &Context, header: Header, certificate: Arc<CommitCert>) {
    let epoch = context.epoch();
    if header.epoch != epoch.number() || certificate.epoch != epoch.number() {
        return; // the replica of that epoch is over
    }
    match context.verifier.commit_cert(&epoch.set, certificate) {
        Ok(certificate) => {
            let certificate: Verified<Arc<CommitCert>> = certificate;
            // The loop is gone only when the node stops.
            let _ = context.inputs.send(Input::Committed { header, certificate }).await;
        }
        Err(fault) => context.fail(format!("a stored commit certificate does not verify: {fault}")),
    }
}
