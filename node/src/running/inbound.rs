//! From the mesh to the replica: decode, verify on the pool, feed as inputs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_consensus::{Across, Input, across};
use cairn_crypto::{Certificate, MessageFault, VerifiedCertificate};
use cairn_p2p::{HotEvent, MeshMessage, MessageKind};
use cairn_types::{
    Address, BlockCert, CompactProposal, Epoch, Message, Status, ValidatorIndex, View, decode,
};
use tokio::sync::{Semaphore, mpsc};

use super::compact;
use super::consensus_loop::outbound;
use super::context::Context;
use super::epoch::EpochInForce;
use super::presence::{self, KEY_RUNS_ELSEWHERE};
use super::serve;
use super::stages::Moment;
use super::task::{Job, Source};
use super::wire::Found;
use super::workers::Workers;
use crate::exit::Exit;

/// Mesh messages being decoded and verified at one moment. Beyond it they wait in p2p's queues, which are
/// bounded in bytes per validator.
const VERIFYING_MAX: usize = 512;
/// Views behind the current one in which a bare vote may still complete a certificate.
const VIEWS_BEHIND: u64 = 1;
/// Views ahead of the current one that are looked at: what the replica holds.
const VIEWS_AHEAD: u64 = 8;

/// Pause between two answers to one peer of another epoch: a round trip and a half of a wide network.
const ANSWER_EVERY: Duration = Duration::from_millis(250);

/// Takes hot events until the networks end.
pub(crate) async fn run(context: Arc<Context>, mut events: mpsc::Receiver<HotEvent>, workers: Workers) {
    let room = Arc::new(Semaphore::new(VERIFYING_MAX));
    while let Some(event) = events.recv().await {
        match event {
            HotEvent::Connected { address } => {
                tracing::info!(validator = %address, "link is up");
                // The loops are gone only when the node stops.
                let _ = context.jobs.send(Job::Connected(Source::Validator(address))).await;
                presence::on_connected(&context, &address);
                if let Some(index) = context.epoch().set.index_of(&address) {
                    let _ = context.inputs.send(Input::Connected(index)).await;
                }
            }
            HotEvent::Disconnected { address } => {
                tracing::info!(validator = %address, "link is down");
                let _ = context.jobs.send(Job::Gone(Source::Validator(address))).await;
            }
            HotEvent::Message(message) => {
                let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
                let context = Arc::clone(&context);
                workers.spawn(move || {
                    receive(&context, &message);
                    drop((message, permit));
                });
            }
            HotEvent::Request { from, body, reply } => {
                let context = Arc::clone(&context);
                tokio::task::spawn_blocking(move || {
                    if let Some(answer) = serve::mesh_request(&context, &body) {
                        // A peer that went away needs no answer.
                        let _ = reply.send(answer);
                    } else {
                        tracing::debug!(%from, "a request that cannot be answered");
                    }
                });
            }
        }
    }
}

/// Decodes and verifies one message and feeds what it yields.
fn receive(context: &Arc<Context>, message: &MeshMessage) {
    let decoded = match message.kind {
        MessageKind::Presence => {
            return presence::receive(context, message)
                .unwrap_or_else(|error| blame(context, message, &error));
        }
        MessageKind::CompactProposal => {
            compact::shell(&message.body).map(|(compact, shell)| (shell, Some(compact)))
        }
        _ => decode(&message.body).map(|decoded| (decoded, None)),
    };
    match decoded {
        Ok((decoded, compact)) => receive_decoded(context, message, decoded, compact),
        Err(error) => blame(context, message, &error),
    }
}

/// Verifies and feeds. `decoded` is the shell of `compact` when there is one.
fn receive_decoded(
    context: &Arc<Context>,
    message: &MeshMessage,
    decoded: Message,
    compact: Option<CompactProposal>,
) {
    let epoch = context.epoch();
    match across(epoch.number(), decoded.epoch()) {
        Across::Ours => {}
        Across::AnswerWithProof => return answer_with_proof(context, message, &decoded),
        Across::AskForProof => return ask_for_proof(context, message.from, epoch.number()),
    }
    let certificates = Certificate::of(&decoded);
    for certificate in certificates {
        match context.verifier.certificate(&epoch.set, epoch.root_id, certificate) {
            Ok(verified) if carries_ours_from_elsewhere(context, &epoch, &verified) => {
                return context.fail_with(Exit::SigningRefused, KEY_RUNS_ELSEWHERE);
            }
            Ok(verified) => feed(context, input_of(verified)),
            Err(fault) => blame_fault(context, message, &fault),
        }
    }
    let sender = epoch.set.index_of(&message.from);
    let signed = signer_of(&decoded);
    let verified = match &compact {
        Some(_) => verify_shell(context, &epoch, decoded).map(|()| None),
        None => verify(context, &epoch, decoded, sender),
    };
    if verified.is_ok() && is_ours_from_elsewhere(context, &epoch, signed) {
        return context.fail_with(Exit::SigningRefused, KEY_RUNS_ELSEWHERE);
    }
    match (verified, compact) {
        (Ok(_), Some(compact)) => {
            context.stages.note(compact.header.id(), Moment::Proposed);
            if let Err(fault) = compact::take(context, message.from, compact) {
                blame(context, message, &fault);
            }
        }
        (Ok(Some(input)), None) => feed(context, input),
        (Ok(None), None) => {}
        (Err(fault), _) => blame_fault(context, message, &fault),
    }
}

/// Whether the leader of its view signed a proposal, whatever its transactions.
fn verify_shell(context: &Context, epoch: &EpochInForce, shell: Message) -> Result<(), MessageFault> {
    let Message::Proposal(shell) = shell else { return Ok(()) };
    context.verifier.proposal(&epoch.set, epoch.root_id, shell).map(drop)
}

/// Who signed a message, and for which view.
fn signer_of(message: &Message) -> Option<(ValidatorIndex, View)> {
    match message {
        Message::Proposal(it) => Some((it.block.header().proposer, it.block.header().view)),
        Message::Vote(it) => Some((it.validator, it.view)),
        Message::CommitVote(it) => Some((it.validator, it.view)),
        Message::Timeout(it) => Some((it.validator, it.view)),
        Message::Certificate(_)
        | Message::TimeoutCert(_)
        | Message::CommitCert(_)
        | Message::Status(_)
        | Message::EpochProof(_) => None,
    }
}

/// Someone of an earlier epoch: the proof that it has ended brings it forward. Its next message will ask for
/// the epoch after.
fn answer_with_proof(context: &Context, message: &MeshMessage, decoded: &Message) {
    if matches!(decoded, Message::EpochProof(_)) || !may_answer(context, message.from) {
        return;
    }
    match context.state.epoch_proof(decoded.epoch()) {
        Ok(Some(proof)) => {
            let answer = outbound(&Message::EpochProof(Arc::new(proof)));
            context.net.send_to(&message.from, &answer);
        }
        Ok(None) => tracing::warn!(epoch = %decoded.epoch(), "the proof of an epoch that ended is missing"),
        Err(error) => context.fail(format!("the state cannot be read: {error}")),
    }
}

/// Someone claims to be in a later epoch: where we stand makes an honest one send the proof.
fn ask_for_proof(context: &Context, from: Address, epoch: Epoch) {
    if may_answer(context, from) {
        let committed = *context.final_height.borrow();
        let status = Status { epoch, view: context.position.view(), committed, ..Status::default() };
        context.net.send_to(&from, &outbound(&Message::Status(status)));
    }
}

/// One answer across epochs per peer and moment: a peer that floods gets no more than an honest one needs.
fn may_answer(context: &Context, to: Address) -> bool {
    let mut answered = context.answered.lock();
    if answered.get(&to).is_some_and(|last| last.elapsed() < ANSWER_EVERY) {
        return false;
    }
    answered.put(to, Instant::now());
    true
}

/// Whether a verified message is signed by our key for a view that our journal has never signed for.
fn is_ours_from_elsewhere(
    context: &Context,
    epoch: &EpochInForce,
    signed: Option<(ValidatorIndex, View)>,
) -> bool {
    match (&epoch.signer, signed) {
        (Some(ours), Some((index, view))) => ours.index == index && view > context.position.signed_view(),
        _ => false,
    }
}

/// The same for our signature inside a verified certificate. Validators do not pass votes on, so this is where
/// a second process with our key, or a journal restored from a backup, shows.
fn carries_ours_from_elsewhere(
    context: &Context,
    epoch: &EpochInForce,
    certificate: &VerifiedCertificate,
) -> bool {
    let Some(ours) = &epoch.signer else { return false };
    let (view, mut signers): (View, Box<dyn Iterator<Item = ValidatorIndex>>) = match certificate {
        VerifiedCertificate::Block(certificate) => match &**certificate {
            BlockCert::Root { .. } => return false,
            BlockCert::Quorum(it) => (it.view, Box::new(it.signer_indexes())),
            BlockCert::Commit(it) => (it.view, Box::new(it.signer_indexes())),
        },
        VerifiedCertificate::Timeout(it) => {
            (it.view, Box::new(it.entries.iter().map(|entry| entry.validator)))
        }
        VerifiedCertificate::Commit(it) => (it.view, Box::new(it.signer_indexes())),
    };
    view > context.position.signed_view() && signers.any(|signer| signer == ours.index)
}

fn input_of(certificate: VerifiedCertificate) -> Input {
    match certificate {
        VerifiedCertificate::Block(certificate) => Input::Certificate(certificate),
        VerifiedCertificate::Timeout(certificate) => Input::TimeoutCert(certificate),
        VerifiedCertificate::Commit(certificate) => Input::CommitCert(certificate),
    }
}

fn verify(
    context: &Context,
    epoch: &EpochInForce,
    message: Message,
    sender: Option<ValidatorIndex>,
) -> Result<Option<Input>, MessageFault> {
    let (verifier, set, root) = (&context.verifier, &*epoch.set, epoch.root_id);
    Ok(match message {
        Message::Proposal(proposal) => {
            let verified = verifier.proposal(set, root, proposal)?;
            context.recent.lock().keep(Found::Proposal(Arc::new((*verified).clone())));
            Some(Input::Proposal(verified))
        }
        Message::Vote(vote) if in_window(context, vote.view) => Some(Input::Vote(verifier.vote(set, vote)?)),
        Message::CommitVote(vote) if in_window(context, vote.view) => {
            Some(Input::CommitVote(verifier.commit_vote(set, vote)?))
        }
        Message::Vote(_) | Message::CommitVote(_) => None,
        Message::Timeout(timeout) => Some(Input::Timeout(verifier.timeout(set, root, timeout)?)),
        Message::Status(status) => {
            // A claim without proof: it may make us ask, never believe. Followers ask for ranges instead.
            sender.map(|from| Input::Status { from, status })
        }
        Message::EpochProof(proof) => Some(Input::EpochProof(verifier.epoch_proof(set, proof)?)),
        Message::Certificate(_) | Message::TimeoutCert(_) | Message::CommitCert(_) => None,
    })
}

fn in_window(context: &Context, view: View) -> bool {
    let current = context.position.view().get();
    view.get().saturating_add(VIEWS_BEHIND) >= current && view.get() <= current.saturating_add(VIEWS_AHEAD)
}

fn feed(context: &Context, input: Input) {
    // The loop is gone only when the node stops.
    let _ = context.inputs.blocking_send(input);
}

fn blame_fault(context: &Context, message: &MeshMessage, fault: &MessageFault) {
    if fault.is_peers_fault() {
        blame(context, message, fault);
    } else {
        tracing::debug!(from = %message.from, kind = message.kind.name(), %fault, "passed over a message");
    }
}

fn blame(context: &Context, message: &MeshMessage, why: &dyn std::fmt::Display) {
    context.metrics.rejected.inc();
    tracing::warn!(from = %message.from, kind = message.kind.name(), %why, "refused a message");
}
