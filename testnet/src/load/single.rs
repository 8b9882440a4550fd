//! Anchors one after another on an idle network: what a lone user waits for a receipt.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use cairn_crypto::ExpandedKeys;
use cairn_types::transaction::Proofs;
use cairn_types::{KeyRef, Payload};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::measure::{Latency, histogram};
use super::signing::new_sender;
use super::{LoadArgs, Target};
use crate::anchoring::{LIFE_MS, Wait, random_proof, request};
use crate::clock;

/// Between two anchors: the network is idle again.
const PAUSE: Duration = Duration::from_millis(100);
/// Anchors made before measuring: connections are open then.
const WARMUP: u32 = 5;
/// Longest series.
const COUNT_MAX: u32 = 100_000;
/// Checks of a signature that are timed.
const VERIFICATIONS: u32 = 5_000;
/// Longest wait for one receipt.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a series of single anchors came to.
#[derive(Clone, Debug, Serialize)]
pub struct SingleReport {
    /// The node they were sent to.
    pub url: String,
    /// From posting the transaction to holding the receipt.
    pub receipt: Latency,
    /// Bytes of one answer, receipt included.
    pub answer_bytes: usize,
    /// Processor time of one check of such a transaction's signature here: what no node can do without, ms.
    pub verification_ms: f64,
}

impl SingleReport {
    /// For people.
    pub fn to_text(&self) -> String {
        format!(
            "single anchors at {}, one every {} ms and more, from submission to receipt\n{} anchors   {}\nanswer       {} bytes\none check    {:.3} ms",
            self.url,
            PAUSE.as_millis(),
            self.receipt.count,
            self.receipt.to_text(),
            self.answer_bytes,
            self.verification_ms
        )
    }
}

/// Anchors `count` times.
pub(super) async fn measure(args: &LoadArgs, target: &Target, count: u32) -> Result<SingleReport> {
    ensure!((1..=COUNT_MAX).contains(&count), "--single is {count}; expected 1 to {COUNT_MAX}");
    let api = &target.apis[0];
    let sender = new_sender(args.scheme);
    let mut times = histogram();
    let mut answer_bytes = 0;
    for round in 0..WARMUP.saturating_add(count) {
        let proofs = (0..args.proofs).map(|_| random_proof(args.metadata.into())).collect();
        let signed =
            sender.sign(target.chain, clock::unix_ms() + LIFE_MS, Payload::Proofs(Proofs(proofs)))?;
        let body = request(&signed, Wait::Final(PATIENCE));
        let began = Instant::now();
        let answer = api.post(body).await?;
        let took = began.elapsed();
        ensure!(!answer["receipt"].is_null(), "the answer holds no receipt: {answer}");
        if round >= WARMUP {
            times.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
            answer_bytes = answer.to_string().len();
        }
        sleep(PAUSE).await;
    }
    let verification_ms = verification_ms(args, target)?;
    Ok(SingleReport {
        url: api.url().to_owned(),
        receipt: Latency::of(&times),
        answer_bytes,
        verification_ms,
    })
}

/// Mean time of checking a transaction's signature, its key known.
fn verification_ms(args: &LoadArgs, target: &Target) -> Result<f64> {
    let sender = new_sender(args.scheme);
    let proof = random_proof(args.metadata.into());
    let signed =
        sender.sign(target.chain, clock::unix_ms() + LIFE_MS, Payload::Proofs(Proofs(vec![proof])))?;
    let [KeyRef::Inline(key)] = signed.transaction.keys.as_slice() else {
        bail!("a new sender signs with its inline key");
    };
    let signature = signed.signatures.first().context("a signed transaction has a signature")?;
    let (preimage, known) = (signed.preimage(), ExpandedKeys::of_senders());
    known.verify(key, &preimage, signature)?;
    let began = Instant::now();
    for _ in 0..VERIFICATIONS {
        known.verify(key, &preimage, signature)?;
    }
    Ok(began.elapsed().as_secs_f64() * 1_000.0 / f64::from(VERIFICATIONS))
}
