//! From the mesh to the replica: decode, verify on the pool, feed as inputs.

use std::sync::Arc;

use cairn_consensus::Input;
use cairn_crypto::{Certificate, MessageFault, VerifiedCertificate};
use cairn_p2p::{HotEvent, MeshMessage};
use cairn_types::{BlockCert, Message, ValidatorIndex, View, decode};
use tokio::sync::{Semaphore, mpsc};

use super::consensus_loop::KEY_RUNS_ELSEWHERE;
use super::context::Context;
use super::serve;
use super::wire::Found;

/// Mesh messages being decoded and verified at one moment. Beyond it they wait in p2p's queues, which are
/// bounded in bytes per validator.
const VERIFYING_MAX: usize = 512;
/// Views behind the current one in which a bare vote may still complete a certificate.
const VIEWS_BEHIND: u64 = 1;
/// Views ahead of the current one that are looked at: what the replica holds.
const VIEWS_AHEAD: u64 = 8;

/// Takes hot events until the networks end.
pub(crate) async fn run(
    context: Arc<Context>,
    mut events: mpsc::Receiver<HotEvent>,
    verifiers: Arc<rayon::ThreadPool>,
) {
    let room = Arc::new(Semaphore::new(VERIFYING_MAX));
    while let Some(event) = events.recv().await {
        match event {
            HotEvent::Connected { address } => {
                tracing::info!(validator = %address, "link is up");
                if let Some(index) = context.set.index_of(&address) {
                    // The loop is gone only when the node stops.
                    let _ = context.inputs.send(Input::Connected(index)).await;
                }
            }
            HotEvent::Disconnected { address } => tracing::info!(validator = %address, "link is down"),
            HotEvent::Message(message) => {
                let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
                let context = Arc::clone(&context);
                verifiers.spawn(move || {
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
fn receive(context: &Context, message: &MeshMessage) {
    let decoded: Message = match decode(&message.body) {
        Ok(decoded) => decoded,
        Err(error) => return blame(context, message, &error),
    };
    let certificates = Certificate::of(&decoded);
    for certificate in certificates {
        match context.verifier.certificate(&context.set, context.root.id(), certificate) {
            Ok(verified) if carries_ours_from_elsewhere(context, &verified) => {
                return context.fail(KEY_RUNS_ELSEWHERE);
            }
            Ok(verified) => feed(context, input_of(verified)),
            Err(fault) => blame_fault(context, message, &fault),
        }
    }
    let Some(sender) = context.set.index_of(&message.from) else { return };
    let signed = signer_of(&decoded);
    match verify(context, decoded, sender) {
        Ok(Some(input)) => {
            if is_ours_from_elsewhere(context, signed) {
                return context.fail(KEY_RUNS_ELSEWHERE);
            }
            feed(context, input);
        }
        Ok(None) => {}
        Err(fault) => blame_fault(context, message, &fault),
    }
}

/// Who signed a message, and for which view.
fn signer_of(message: &Message) -> Option<(ValidatorIndex, View)> {
    match message {
        Message::Proposal(it) => Some((it.block.header().proposer, it.block.header().view)),
        Message::Vote(it) => Some((it.validator, it.view)),
        Message::CommitVote(it) => Some((it.validator, it.view)),
        Message::Timeout(it) => Some((it.validator, it.view)),
        Message::Certificate(_) | Message::TimeoutCert(_) | Message::CommitCert(_) | Message::Status(_) => {
            None
        }
    }
}

/// Whether a verified message is signed by our key for a view that our journal has never signed for.
fn is_ours_from_elsewhere(context: &Context, signed: Option<(ValidatorIndex, View)>) -> bool {
    match (&context.signer, signed) {
        (Some(ours), Some((index, view))) => ours.index == index && view > context.position.signed_view(),
        _ => false,
    }
}

/// The same for our signature inside a verified certificate. Validators do not pass votes on, so this is where
/// a second process with our key, or a journal restored from a backup, shows.
fn carries_ours_from_elsewhere(context: &Context, certificate: &VerifiedCertificate) -> bool {
    let Some(ours) = &context.signer else { return false };
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
    message: Message,
    sender: ValidatorIndex,
) -> Result<Option<Input>, MessageFault> {
    let (verifier, set, root) = (&context.verifier, &*context.set, context.root.id());
    Ok(match message {
        Message::Proposal(proposal) => {
            let verified = verifier.proposal(set, root, proposal)?;
            let id = verified.block.id();
            if !context.recent.lock().contains(&id) {
                context.recent.lock().put(id, Found::Proposal(Arc::new((*verified).clone())));
            }
            Some(Input::Proposal(verified))
        }
        Message::Vote(vote) if in_window(context, vote.view) => Some(Input::Vote(verifier.vote(set, vote)?)),
        Message::CommitVote(vote) if in_window(context, vote.view) => {
            Some(Input::CommitVote(verifier.commit_vote(set, vote)?))
        }
        Message::Vote(_) | Message::CommitVote(_) => None,
        Message::Timeout(timeout) => Some(Input::Timeout(verifier.timeout(set, root, timeout)?)),
        Message::Status(status) => {
            // A claim without proof: it may make us ask, never believe.
            Some(Input::Status { from: sender, status })
        }
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
