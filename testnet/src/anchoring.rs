//! Anchoring by single requests whose bytes are known beforehand, and a sender that keeps every receipt to
//! verify it again later.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cairn_client::{ClientFault, Sender};
use cairn_crypto::KeyPair;
use cairn_receipt::{AnchorReceipt, ReceiptVerifier, Trusted};
use cairn_types::transaction::Proofs;
use cairn_types::validator::SetFault;
use cairn_types::{
    Address, ChainId, Genesis, Hash, Payload, Proof, Scheme, SignedTransaction, TreeKind, encode,
};
use serde_json::Value;

use crate::api::{CallFault, NodeApi};
use crate::clock;

/// How long after it is signed a transaction expires: half the default replay window, so that neither a slow
/// start nor a clock that is off by half a minute matters.
pub const LIFE_MS: u64 = 60_000;
/// Leaves a made-up proof claims to stand for.
const LEAVES: u64 = 1_024;
/// Longest wait for finality a node accepts, ms.
const WAIT_MS_MAX: u64 = 30_000;

/// A proof of a root nobody has anchored before.
pub fn random_proof(metadata_bytes: usize) -> Proof {
    Proof {
        metadata: (0..metadata_bytes).map(|_| rand::random()).collect(),
        ..Proof::batch(TreeKind::CairnB3V1, Hash(rand::random()), LEAVES)
    }
}

/// What a submission waits for.
#[derive(Clone, Copy, Debug)]
pub enum Wait {
    /// The answer comes once the node has taken the transaction.
    Accepted,
    /// The answer comes with the receipt, or as an error after this long (at most 30 s).
    Final(Duration),
}

/// The JSON-RPC request that anchors a transaction.
pub fn request(signed: &SignedTransaction, wait: Wait) -> Vec<u8> {
    let tx = STANDARD.encode(encode(signed));
    let wait = match wait {
        Wait::Accepted => r#""wait":"accepted""#.to_owned(),
        Wait::Final(patience) => {
            let timeout_ms = patience.as_millis().min(WAIT_MS_MAX.into());
            format!(r#""wait":"final","timeout_ms":{timeout_ms}"#)
        }
    };
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"proof_anchor","params":{{"tx":"{tx}",{wait}}}}}"#)
        .into_bytes()
}

/// One sender that remembers every receipt it was given.
pub struct Anchorer {
    sender: Sender,
    genesis: Genesis,
    chain: ChainId,
    verifier: ReceiptVerifier,
    /// Proof id and receipt.
    issued: Vec<(String, String)>,
}

impl Anchorer {
    /// A new sender on the chain of `genesis`.
    ///
    /// # Errors
    /// When its validators make no set.
    pub fn new(genesis: Genesis, scheme: Scheme) -> Result<Self, SetFault> {
        let verifier = ReceiptVerifier::new(Trusted::genesis(&genesis)?);
        let (sender, chain) = (Sender::inline(KeyPair::generate(scheme)), genesis.chain());
        Ok(Self { sender, chain, genesis, verifier, issued: Vec::new() })
    }

    /// The chain's genesis.
    pub const fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// The chain.
    pub const fn chain(&self) -> ChainId {
        self.chain
    }

    /// The sender's address.
    pub const fn address(&self) -> Address {
        self.sender.address()
    }

    /// Every receipt so far: proof id and JSON text.
    pub fn issued(&self) -> &[(String, String)] {
        &self.issued
    }

    /// A signed transaction with one new proof that expires as usual.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn transaction(&self) -> Result<SignedTransaction, ClientFault> {
        self.transaction_of(1, 0)
    }

    /// The same with several proofs, each with so many bytes of metadata.
    ///
    /// # Errors
    /// As [`Self::transaction`].
    pub fn transaction_of(
        &self,
        proofs: usize,
        metadata_bytes: usize,
    ) -> Result<SignedTransaction, ClientFault> {
        let expires_ms = clock::unix_ms().saturating_add(LIFE_MS);
        let proofs = Proofs((0..proofs).map(|_| random_proof(metadata_bytes)).collect());
        self.sender.sign(self.chain, expires_ms, Payload::Proofs(proofs))
    }

    /// Anchors a new proof through a node and keeps its receipt. The node's answer.
    ///
    /// # Errors
    /// What the node answered, and `timeout_not_final` when `patience` passed.
    pub async fn anchor_within(&mut self, api: &NodeApi, patience: Duration) -> Result<Value, CallFault> {
        let signed = self.transaction().map_err(|fault| CallFault::Unreachable(fault.to_string()))?;
        let answer = api.post(request(&signed, Wait::Final(patience))).await?;
        let (Some(proof), receipt) = (answer["proof_id"].as_str(), &answer["receipt"]) else {
            return Err(CallFault::Unreachable(format!("the answer names no proof: {answer}")));
        };
        if !receipt.is_object() {
            return Err(CallFault::Unreachable(format!("the answer holds no receipt: {answer}")));
        }
        self.issued.push((proof.to_owned(), receipt.to_string()));
        Ok(answer)
    }

    /// Verifies what a node gives for a root against the genesis alone.
    ///
    /// # Errors
    /// The check that failed.
    pub fn verify(&self, receipt: &str) -> Result<(), String> {
        let receipt = AnchorReceipt::parse(receipt).map_err(|fault| fault.to_string())?;
        let verdict = self.verifier.verify_anchor(&receipt);
        match verdict.failed() {
            None if verdict.valid => Ok(()),
            None => Err("no check failed, yet the receipt is not valid".to_owned()),
            Some(failed) => Err(format!("{}: {}", failed.name, failed.detail)),
        }
    }
}
