//! The public side: gossip, announcements and sync requests; and the bulk plane of the mesh.

use std::sync::Arc;

use bytes::Bytes;
use cairn_consensus::Input;
use cairn_p2p::{Command, Event, GossipTicket, LinkIdentity, MessageKind, Peer, Verdict};
use cairn_types::{Address, Signature, decode};
use tokio::sync::{Semaphore, mpsc};

use super::context::Context;
use super::epoch::InForce;
use super::keys::ValidatorKeys;
use super::serve;
use super::task::{Job, Source};
use super::transactions::Transactions;
use super::wire::Announcement;

/// Events being worked off at one moment. Beyond it they wait in p2p's own bounded queue.
const WORKING_MAX: usize = 64;

/// The validator key and the validators, as the networks see them.
pub(crate) struct Identity {
    /// Our keys, also while no set names one: whoever is voted in links at once.
    pub(crate) keys: Arc<ValidatorKeys>,
    /// The validators whose signatures count.
    pub(crate) in_force: Arc<InForce>,
}

impl LinkIdentity for Identity {
    fn address(&self) -> Option<Address> {
        let signer = self.in_force.get().signer.clone();
        signer.map(|signer| signer.address).or_else(|| self.keys.own_address())
    }

    fn sign(&self, preimage: &[u8]) -> Signature {
        match &self.in_force.get().signer {
            Some(signer) => signer.sign(preimage),
            None => self.keys.sign_as_first(preimage),
        }
    }

    fn verify(&self, address: &Address, preimage: &[u8], signature: &Signature) -> bool {
        let keys = self.in_force.get().link_keys(address);
        keys.iter().any(|key| cairn_crypto::verify(key, preimage, signature).is_ok())
    }
}

/// Takes events until the networks end.
pub(crate) async fn run(
    context: Arc<Context>,
    mut events: mpsc::Receiver<Event>,
    transactions: Arc<Transactions>,
) {
    let room = Arc::new(Semaphore::new(WORKING_MAX));
    while let Some(event) = events.recv().await {
        match event {
            // The fetching side is gone only when the node stops.
            Event::PublicConnected { peer } => {
                drop(context.jobs.send(Job::Connected(Source::Peer(peer))).await);
            }
            Event::PublicDisconnected { peer } => {
                drop(context.jobs.send(Job::Gone(Source::Peer(peer))).await);
            }
            Event::Listening { address, .. } => tracing::info!(%address, "listening"),
            // By far the most frequent: straight to the threads that check them.
            Event::Bulk(message) if message.kind == MessageKind::Transactions => {
                transactions.receive_forwarded(message).await;
            }
            work => {
                let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
                let (context, transactions) = (Arc::clone(&context), Arc::clone(&transactions));
                tokio::spawn(async move {
                    work_off(&context, &transactions, work).await;
                    drop(permit);
                });
            }
        }
    }
}

async fn work_off(context: &Arc<Context>, transactions: &Arc<Transactions>, event: Event) {
    match event {
        Event::Bulk(message) => {
            tracing::debug!(from = %message.from, kind = message.kind.name(), "unexpected on the bulk plane");
        }
        Event::Transactions { batch, ticket, .. } => transactions.receive_gossip(batch, ticket).await,
        Event::Announcement { from, bytes, ticket } => announced(context, from, &bytes, ticket).await,
        Event::SyncRequest { request, reply, .. } => {
            let context = Arc::clone(context);
            let answer = tokio::task::spawn_blocking(move || serve::sync_request(&context, request)).await;
            if let Ok(Some(answer)) = answer {
                // A peer that went away needs no answer.
                let _ = reply.send(answer);
            }
        }
        Event::PublicConnected { .. } | Event::PublicDisconnected { .. } | Event::Listening { .. } => {}
    }
}

/// News of a final block: believed when its certificate verifies.
async fn announced(context: &Arc<Context>, from: Peer, bytes: &Bytes, ticket: GossipTicket) {
    let verdict = judge(context, from, bytes).await;
    // Networking is gone only when the node stops.
    let _ = context.net.send(Command::ReportValidation { ticket, verdict }).await;
}

async fn judge(context: &Arc<Context>, from: Peer, bytes: &Bytes) -> Verdict {
    let Ok(Announcement { header, certificate }) = decode::<Announcement>(bytes) else {
        return Verdict::Reject;
    };
    if certificate.block != header.id() || header.chain != context.chain {
        return Verdict::Reject;
    }
    let (height, known) = (header.height, *context.final_height.borrow());
    if height <= known {
        return Verdict::Ignore;
    }
    let epoch = context.epoch();
    if certificate.epoch > epoch.number() {
        // Its signers are unknown here: look, and believe only what is proven from this epoch on.
        let _ = context.jobs.try_send(Job::Follow { peer: from, height });
        return Verdict::Ignore;
    }
    let verified = match context.verifier.commit_cert(&epoch.set, certificate) {
        Ok(verified) => verified,
        Err(fault) if fault.is_peers_fault() => return Verdict::Reject,
        Err(_) => return Verdict::Ignore,
    };
    context.position.learned(height);
    if epoch.signer.is_none() {
        // A follower goes by ranges: with the certificate proven there is nothing left to vote on.
        // The queue being full means that fetching is under way already.
        let _ = context.jobs.try_send(Job::Follow { peer: from, height });
    } else {
        // The loop is gone only when the node stops.
        let _ = context.inputs.send(Input::CommitCert(verified)).await;
    }
    Verdict::Accept
}
