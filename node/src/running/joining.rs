//! Beginning with a peer's snapshot: what `cairn-catchup` decides is asked, judged by an intake and installed here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_catchup::{
    Failure, Join, JoinAnswer, JoinInput, JoinOutput, JoinQuestion, Offer, RequestId, Verdict,
};
use cairn_crypto::Verifier;
use cairn_p2p::{Peer, SyncRequest, SyncResponse};
use cairn_state::{CHUNK_BYTES, Intake, SnapshotChunk, SnapshotFault, SnapshotHead};
use cairn_types::{Hash, decode, encode};
use tokio::sync::{mpsc, oneshot};

use super::context::Context;
use super::presence::KEY_RUNS_ELSEWHERE;
use super::snapshots::check_room;
use super::sync::{Heard, another_question, ask_peer, is_ours_from_elsewhere};
use super::task::{Source, Task};
use crate::exit::Exit;
use crate::snapshots::{Signatures, Stored, Writer};

/// Pause between two lines that tell how far it has come.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// What the fetching side has to do for it.
pub(crate) enum Effect {
    /// Whether blocks wait.
    Hold(bool),
    /// A peer lied.
    Punish { peer: Peer, why: String },
    /// It has ended, with a snapshot as the state or without.
    Over { joined: bool },
}

/// A snapshot being taken in, and the copy of it that is kept.
pub(crate) struct Taking {
    intake: Intake,
    copy: Copy,
}

/// The file that a snapshot is kept in, to give it to others.
struct Copy {
    offer: Offer,
    head: SnapshotHead,
    file: Option<Writer>,
    frames: u32,
}

/// What came of a job.
pub(crate) struct Taken {
    job: RequestId,
    taking: Option<Box<Taking>>,
    verdict: Verdict,
}

/// The joining side of a node without blocks.
pub(crate) struct Joining {
    context: Arc<Context>,
    machine: Join<Peer>,
    heard: mpsc::Sender<Heard>,
    /// What is under way, and what it has come to.
    job: Option<RequestId>,
    taking: Option<Box<Taking>>,
    wanted: u32,
    began: Instant,
    told: Instant,
}

impl Joining {
    /// For a node that begins with a snapshot when its peers are more than `bound` blocks ahead.
    pub(crate) fn new(context: Arc<Context>, bound: u64, heard: mpsc::Sender<Heard>) -> Self {
        let now = Instant::now();
        let machine = Join::new(bound);
        Self { context, machine, heard, job: None, taking: None, wanted: 0, began: now, told: now }
    }

    /// Whether a snapshot is being fetched.
    pub(crate) fn is_fetching(&self) -> bool {
        self.machine.is_fetching()
    }

    /// How long to wait for news.
    pub(crate) fn patience(&self) -> Duration {
        self.machine.patience().unwrap_or(TELL_EVERY)
    }

    /// What came of a job is to the machine.
    pub(crate) fn on_taken(&mut self, taken: Taken) -> Option<JoinInput<Peer>> {
        let Taken { job, taking, verdict } = taken;
        if self.job != Some(job) {
            return None; // given up meanwhile
        }
        (self.job, self.taking) = (None, taking);
        Some(JoinInput::Judged { job, verdict })
    }

    /// Tells the machine, and does what it asks for.
    pub(crate) fn step(&mut self, now: Duration, input: JoinInput<Peer>) -> Vec<Effect> {
        let mut effects = Vec::new();
        for output in self.machine.step(now, input) {
            match output {
                JoinOutput::Ask { peer, request, question } => self.ask(peer, request, question),
                JoinOutput::Begin { job, head, offer } => self.begin(job, head, offer),
                JoinOutput::Take { job, bytes, done } => self.take(job, bytes, done),
                JoinOutput::Install { job } => self.install(job),
                JoinOutput::Abandon { why } => {
                    tracing::warn!(why, "a snapshot is given up");
                    (self.job, self.taking) = (None, None);
                }
                JoinOutput::Punish { peer, why } => effects.push(Effect::Punish { peer, why }),
                JoinOutput::Hold(hold) => effects.push(Effect::Hold(hold)),
                JoinOutput::Over { joined } => effects.push(Effect::Over { joined }),
            }
        }
        effects
    }

    fn ask(&self, peer: Peer, request: RequestId, question: JoinQuestion) {
        let (context, heard) = (Arc::clone(&self.context), self.heard.clone());
        tokio::spawn(async move {
            tracing::debug!(?peer, ?request, ?question, "asking about snapshots");
            let input = match ask(&context, peer, question).await {
                Ok(answer) => JoinInput::Answer { request, answer },
                Err(failure) => {
                    tracing::debug!(?peer, ?request, ?failure, "no answer about snapshots");
                    JoinInput::Failed { request, failure }
                }
            };
            // Nobody waits for it any more when the node stops.
            let _ = heard.send(Heard::Join(input)).await;
        });
    }

    /// Works on a job away from the networks' threads: signatures and hashes by the thousand.
    fn work(
        &mut self,
        job: RequestId,
        work: impl FnOnce() -> (Option<Box<Taking>>, Verdict) + Send + 'static,
    ) {
        self.job = Some(job);
        let heard = self.heard.clone();
        tokio::spawn(async move {
            // A fault here, or the node stops: either way this snapshot cannot be judged, and is given up.
            let lost = || (None, Verdict::WrongHead("it cannot be judged".to_owned()));
            let (taking, verdict) = tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| lost());
            let _ = heard.send(Heard::Taken(Taken { job, taking, verdict })).await;
        });
    }

    fn begin(&mut self, job: RequestId, head: Vec<u8>, offer: Offer) {
        let context = Arc::clone(&self.context);
        (self.wanted, self.began) = (offer.chunks, Instant::now());
        tracing::info!(height = %offer.height, chunks = offer.chunks, "beginning with a peer's snapshot");
        context.snapshots.join_progress(0, offer.chunks);
        self.work(job, move || match begin(&context, &head, offer) {
            Ok(taking) => {
                let verdict = taking.good();
                (Some(Box::new(taking)), verdict)
            }
            Err(why) => (None, Verdict::Wrong(why)),
        });
    }

    fn take(&mut self, job: RequestId, bytes: Vec<u8>, done: Option<u32>) {
        let Some(mut taking) = self.taking.take() else { return };
        if let Some(done) = done {
            self.context.snapshots.join_progress(done, self.wanted);
            if self.told.elapsed() >= TELL_EVERY {
                self.told = Instant::now();
                tracing::info!(done, of = self.wanted, "taking in a snapshot");
            }
        }
        self.work(job, move || {
            let verdict = match done {
                Some(_) => taking.chunk(&bytes),
                None => taking.handovers(&bytes),
            };
            (Some(taking), verdict)
        });
    }

    fn install(&mut self, job: RequestId) {
        let Some(taking) = self.taking.take() else { return };
        if let Err(fault) = taking.intake.check_complete() {
            let verdict = Verdict::Wrong(fault.to_string());
            return self.work(job, move || (None, verdict));
        }
        self.job = Some(job);
        let (context, heard, began) = (Arc::clone(&self.context), self.heard.clone(), self.began);
        tokio::spawn(async move {
            let Some(verdict) = install(&context, *taking, began).await else { return };
            let _ = heard.send(Heard::Taken(Taken { job, taking: None, verdict })).await;
        });
    }
}

/// Begins an intake, and the copy.
fn begin(context: &Context, bytes: &[u8], offer: Offer) -> Result<Taking, String> {
    let head: SnapshotHead = decode(bytes).map_err(|error| error.to_string())?;
    if head.header.height != offer.height {
        return Err(format!("it is of height {}, not {}", head.header.height, offer.height));
    }
    let signatures = Arc::new(Signatures(Verifier::new(context.chain)));
    let intake =
        Intake::new(head.clone(), &context.genesis, signatures).map_err(|fault| fault.to_string())?;
    // A copy that cannot be written only leaves this node without one to give.
    let folder = context.snapshots.folder();
    let file = check_room(folder, u64::from(offer.chunks).saturating_mul(CHUNK_BYTES as u64))
        .and_then(|()| Ok(Writer::create(&folder.unfinished(offer.height), &head)?));
    let file = file.inspect_err(|error| tracing::warn!(%error, "the snapshot will not be kept")).ok();
    Ok(Taking { intake, copy: Copy { offer, head, file, frames: 0 } })
}

impl Taking {
    fn good(&self) -> Verdict {
        Verdict::Good { reached: self.intake.epoch(), wanted: self.intake.header().epoch }
    }

    fn add(&mut self, bytes: &[u8]) -> Result<(), SnapshotFault> {
        self.intake.add(bytes)?;
        self.copy.add(bytes);
        Ok(())
    }

    fn chunk(&mut self, bytes: &[u8]) -> Verdict {
        match self.add(bytes) {
            Ok(()) => self.good(),
            Err(fault) => Verdict::Wrong(fault.to_string()),
        }
    }

    fn handovers(&mut self, bytes: &[u8]) -> Verdict {
        let Ok(SnapshotChunk::Handovers(mut handovers)) = decode(bytes) else {
            return Verdict::Wrong("what it gives for ends of epochs is something else".to_owned());
        };
        // A peer tells of epochs that have ended since the snapshot, too.
        let missing = self.intake.header().epoch.get().saturating_sub(self.intake.epoch().get());
        handovers.truncate(usize::try_from(missing).unwrap_or(usize::MAX));
        match self.add(&encode(&SnapshotChunk::Handovers(handovers))) {
            Ok(()) => self.good(),
            Err(fault @ (SnapshotFault::WrongCertificate { .. } | SnapshotFault::Unsigned { .. })) => {
                Verdict::WrongHead(fault.to_string())
            }
            Err(fault) => Verdict::Wrong(fault.to_string()),
        }
    }
}

impl Copy {
    fn add(&mut self, bytes: &[u8]) {
        self.frames = self.frames.saturating_add(1);
        if let Some(file) = &mut self.file
            && let Err(error) = file.frame(bytes)
        {
            tracing::warn!(%error, "the snapshot will not be kept");
            self.file = None;
        }
    }

    /// Gives the file its name, and peers what is in it.
    fn keep(self, context: &Context) {
        let Some(mut file) = self.file else { return };
        let head = SnapshotHead { chunks: self.frames, ..self.head };
        let path = context.snapshots.folder().path_of(head.header.height);
        let kept = file.sync(&head).and_then(|_| file.publish(&path)).and_then(|()| Stored::open(&path));
        match kept {
            // Peers are given only what was verified here.
            Ok(stored) if stored.offer() != self.offer => {
                tracing::warn!("the snapshot reads otherwise than it was written")
            }
            Ok(stored) => context.snapshots.offer(stored, head.header.height),
            Err(error) => tracing::warn!(%error, "the snapshot is not kept"),
        }
    }
}

/// Makes a complete snapshot the state; `None` when the node stops.
async fn install(context: &Arc<Context>, taking: Taking, began: Instant) -> Option<Verdict> {
    let epoch = context.epoch();
    let (header, certificate) = (taking.intake.header().clone(), &taking.copy.head.certificate);
    if header.epoch == epoch.number() && is_ours_from_elsewhere(context, &epoch, certificate) {
        context.fail_with(Exit::SigningRefused, KEY_RUNS_ELSEWHERE);
        return None;
    }
    let verdict = taking.good();
    let Taking { intake, copy } = taking;
    let (reply, outcome) = oneshot::channel();
    context.executor.send(Task::Adopt(Box::new(intake), reply)).await.ok()?;
    match outcome.await.ok()? {
        Ok(()) => {}
        // Everything was verified: that it cannot be installed is nobody's lie.
        Err(error) => return Some(Verdict::WrongHead(error.to_string())),
    }
    let took_ms = began.elapsed().as_millis();
    tracing::info!(height = %header.height, epoch = %header.epoch, took_ms, "the state is that of a snapshot");
    context.snapshots.join_progress(0, 0);
    let held = Arc::clone(context);
    // Reads the file through once.
    let _ = tokio::task::spawn_blocking(move || copy.keep(&held)).await;
    Some(verdict)
}

async fn ask(context: &Context, peer: Peer, question: JoinQuestion) -> Result<JoinAnswer, Failure> {
    let request = match question {
        JoinQuestion::Offers => SyncRequest::Snapshots,
        JoinQuestion::Contents(id) => SyncRequest::SnapshotContents { id },
        JoinQuestion::Handovers(from) => SyncRequest::Handovers { from },
        JoinQuestion::Chunk { id, index } => SyncRequest::SnapshotChunk { id, index },
    };
    Ok(match ask_peer(context, Source::Peer(peer), request).await? {
        SyncResponse::Snapshots(offers) => {
            let offer =
                |it: cairn_p2p::SnapshotOffer| Offer { height: it.height, id: it.id, chunks: it.chunks };
            JoinAnswer::Offers(offers.into_iter().map(offer).collect())
        }
        SyncResponse::SnapshotContents(Some(contents)) => {
            let (chunks, _) = contents.chunks.as_chunks::<32>();
            JoinAnswer::Contents {
                head: contents.head.into(),
                chunks: chunks.iter().copied().map(Hash).collect(),
            }
        }
        SyncResponse::SnapshotChunk(Some(bytes)) => JoinAnswer::Chunk(bytes.into()),
        SyncResponse::Handovers(Some(bytes)) => JoinAnswer::Handovers(bytes.into()),
        SyncResponse::SnapshotContents(None)
        | SyncResponse::SnapshotChunk(None)
        | SyncResponse::Handovers(None) => JoinAnswer::Lacks,
        _ => return Err(another_question()),
    })
}
