//! Makes transactions ahead of time, as the very bytes that will be posted.

use std::time::Duration;

use anyhow::{Result, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cairn_client::Sender;
use cairn_crypto::KeyPair;
use cairn_types::identity::IdentityOp;
use cairn_types::transaction::Proofs;
use cairn_types::{ChainId, Payload, Scheme, TxId, encode};
use serde_json::json;
use tokio::task::JoinSet;

use crate::anchoring::{LIFE_MS, Wait, random_proof, request};
use crate::api::NodeApi;
use crate::clock;

/// How long a registration may take to become final, ms.
const REGISTRATION_MS: u64 = 20_000;

/// What the transactions look like, and who signs them in turn: at least one sender.
pub(crate) struct Plan {
    pub(crate) chain: ChainId,
    pub(crate) senders: Vec<Sender>,
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

/// A sender with a new key, which its transactions carry.
pub(crate) fn new_sender(scheme: Scheme) -> Sender {
    Sender::inline(KeyPair::generate(scheme))
}

/// Registers new identities in one round, so that transactions name their keys instead of carrying them.
pub(super) async fn registered_senders(
    api: &NodeApi,
    chain: ChainId,
    scheme: Scheme,
    count: usize,
) -> Result<Vec<Sender>> {
    let mut rounds = JoinSet::new();
    for _ in 0..count {
        let api = api.clone();
        rounds.spawn(async move {
            let sender = new_sender(scheme);
            let payload = Payload::Identity(IdentityOp::Register);
            let signed = sender.sign(chain, clock::unix_ms().saturating_add(LIFE_MS), payload)?;
            let tx = STANDARD.encode(encode(&signed));
            let params = json!({ "tx": tx, "wait": "final", "timeout_ms": REGISTRATION_MS });
            api.call("tx_submit", params)
                .await
                .map_err(|fault| anyhow!("a sender cannot be registered: {fault}"))?;
            Ok(sender.now_registered())
        });
    }
    rounds.join_all().await.into_iter().collect()
}

/// Signs `count` transactions on every core, in the order they are due.
pub(crate) fn sign_all(plan: &Plan, count: usize) -> Result<Vec<Signed>> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let share = count.div_ceil(workers).max(1);
    let now = clock::unix_ms();
    std::thread::scope(|scope| {
        let parts: Vec<_> = (0..workers)
            .map(|worker| {
                let (from, to) = ((worker * share).min(count), ((worker + 1) * share).min(count));
                scope.spawn(move || (from..to).map(|i| sign(plan, i, now)).collect::<Result<Vec<_>>>())
            })
            .collect();
        let mut signed = Vec::with_capacity(count);
        for part in parts {
            signed.extend(part.join().map_err(|_| anyhow!("a signing thread ended early"))??);
        }
        Ok(signed)
    })
}

fn sign(plan: &Plan, index: usize, now_ms: u64) -> Result<Signed> {
    let due_us = plan.interval.as_micros().saturating_mul(index as u128);
    let due_ms = u64::try_from(due_us / 1_000).unwrap_or(u64::MAX);
    let expires_ms = now_ms.saturating_add(due_ms).saturating_add(LIFE_MS);
    let proofs = (0..plan.proofs).map(|_| random_proof(plan.metadata)).collect();
    let sender = &plan.senders[index % plan.senders.len()];
    let signed = sender.sign(plan.chain, expires_ms, Payload::Proofs(Proofs(proofs)))?;
    Ok(Signed { id: signed.transaction.id(), body: request(&signed, Wait::Accepted) })
}
