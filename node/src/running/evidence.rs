//! Bringing evidence on chain: whoever sees a validator sign two different things signs a transaction about it
//! with its own validator key. Every honest validator does, and the first that lands counts.

use std::collections::HashSet;
use std::sync::Arc;

use cairn_types::transaction::TRANSACTION_VERSION;
use cairn_types::{Address, Epoch, Evidence, KeyRef, Payload, SignedTransaction, Transaction};
use tokio::sync::mpsc;

use super::clock::now_ms;
use super::context::Context;
use super::transactions::{Origin, Transactions};

/// Evidence waiting to be brought: one per validator suffices, and the other validators bring it too.
pub(crate) const EVIDENCE_MAX: usize = 64;

/// Brings evidence until the node stops.
pub(crate) async fn bring(
    context: Arc<Context>,
    transactions: Arc<Transactions>,
    mut queue: mpsc::Receiver<Evidence>,
) {
    // Bounded by the validators of one epoch.
    let mut accused: HashSet<(Epoch, Address)> = HashSet::new();
    while let Some(evidence) = queue.recv().await {
        let epoch = context.epoch();
        accused.retain(|(of, _)| *of == epoch.number());
        let Some(culprit) = epoch.set.get(evidence.validator).filter(|_| evidence.epoch == epoch.number())
        else {
            continue;
        };
        if !accused.insert((evidence.epoch, culprit.address)) {
            continue;
        }
        let Some(signed) = signed(&context, evidence) else { continue };
        let admitted = match transactions.authenticate(Arc::new(signed)).await {
            Ok(tx) => transactions.admit(tx, Origin::Client).map(drop),
            Err(fault) => Err(fault),
        };
        match admitted {
            Ok(()) => tracing::warn!(validator = %culprit.address, "brought evidence against a validator"),
            // Most often that another validator's evidence landed first.
            Err(fault) => tracing::info!(validator = %culprit.address, %fault, "evidence was not taken"),
        }
    }
}

/// The transaction, signed by our validator key; none from a follower, which has nothing to sign with.
fn signed(context: &Context, evidence: Evidence) -> Option<SignedTransaction> {
    let epoch = context.epoch();
    let signer = epoch.signer.as_ref()?;
    let now = now_ms();
    let transaction = Transaction {
        version: TRANSACTION_VERSION,
        chain: context.chain,
        sender: signer.address,
        nonce: now,
        expires_ms: now.saturating_add(epoch.params.replay_window_ms / 2),
        keys: vec![KeyRef::Inline(signer.key().public().clone())],
        payload: Payload::Evidence(evidence),
    };
    let signatures = vec![signer.sign(&transaction.preimage())];
    Some(SignedTransaction::new(transaction, signatures))
}
