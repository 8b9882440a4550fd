//! Makes transactions ahead of time, as the very bytes that will be posted.

use std::time::Duration;

use anyhow::{Result, anyhow};
use cairn_client::Sender;
use cairn_crypto::KeyPair;
use cairn_types::transaction::Proofs;
use cairn_types::{ChainId, Payload, Scheme, TxId};

use crate::anchoring::{LIFE_MS, Wait, random_proof, request};
use crate::clock;

/// What the transactions look like.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) chain: ChainId,
    pub(crate) scheme: Scheme,
    pub(crate) senders: usize,
    pub(crate) proofs: usize,
    pub(crate) metadata: usize,
    pub(crate) interval: Duration,
}

/// A transaction ready to post.
pub(crate) struct Signed {
    pub(crate) id: TxId,
    /// A whole JSON-RPC request.
    pub(crate) body: Vec<u8>,
}

/// A sender with a new key.
pub(super) fn new_sender(scheme: Scheme) -> Sender {
    Sender::inline(KeyPair::generate(scheme))
}

/// Signs `count` transactions on every core, in the order they are due.
pub(crate) fn sign_all(plan: &Plan, count: usize) -> Result<Vec<Signed>> {
    let senders: Vec<Sender> = (0..plan.senders).map(|_| new_sender(plan.scheme)).collect();
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let share = count.div_ceil(workers).max(1);
    let now = clock::unix_ms();
    std::thread::scope(|scope| {
        let parts: Vec<_> = (0..workers)
            .map(|worker| {
                let (from, to) = ((worker * share).min(count), ((worker + 1) * share).min(count));
                let senders = &senders;
                scope.spawn(move || {
                    (from..to).map(|i| sign(plan, senders, i, now)).collect::<Result<Vec<_>>>()
                })
            })
            .collect();
        let mut signed = Vec::with_capacity(count);
        for part in parts {
            signed.extend(part.join().map_err(|_| anyhow!("a signing thread ended early"))??);
        }
        Ok(signed)
    })
}

fn sign(plan: &Plan, senders: &[Sender], index: usize, now_ms: u64) -> Result<Signed> {
    let due_us = plan.interval.as_micros().saturating_mul(index as u128);
    let due_ms = u64::try_from(due_us / 1_000).unwrap_or(u64::MAX);
    let expires_ms = now_ms.saturating_add(due_ms).saturating_add(LIFE_MS);
    let proofs = (0..plan.proofs).map(|_| random_proof(plan.metadata)).collect();
    let sender = &senders[index % senders.len()];
    let signed = sender.sign(plan.chain, expires_ms, Payload::Proofs(Proofs(proofs)))?;
    Ok(Signed { id: signed.transaction.id(), body: request(&signed, Wait::Accepted) })
}
