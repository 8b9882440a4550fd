//! Identities, delegation, shared control and login: the typed methods.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cairn_receipt::{ReceiptVerifier, StateDocument, StateFinding, StateSubject};
use cairn_types::identity::Identity;
use cairn_types::login::{LoginChallenge, LoginResponse};
use cairn_types::{Address, ChainId, KeyRef, Payload, ProofId, Record, TxId, encode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::answers::{self, Page, Read, Submitted, Wait, When};
use crate::fault::ClientFault;
use crate::transport::Client;

/// How long a signed change stays good at most, ms; less where the chain's replay window is short.
const CHANGE_LIFE_MAX_MS: u64 = 60_000;

/// One step of an identity's history (`identity_history`).
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct HistoryItem {
    /// What happened, for instance `key_rotated`.
    pub event: String,
    /// Whose identity, a DID.
    pub identity: String,
    /// The transaction that did it.
    pub tx_id: String,
    /// Its block.
    pub height: u64,
    /// That block's time, Unix milliseconds.
    pub time_ms: u64,
    /// What else belongs to this kind of step.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// What one identity granted another (`delegation_get`).
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct DelegationState {
    /// Who granted, a DID.
    pub principal: String,
    /// Who may act, a DID.
    pub delegate: String,
    /// Whether the delegate may act now.
    pub in_force: bool,
    /// Why not.
    pub why_not: Option<String>,
    /// Proofs counted under the grant in force.
    pub used: u64,
    /// Every grant there was.
    pub grants: Vec<Value>,
}

/// A proposal of shared control (`multisig_get`).
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct ProposalState {
    /// The transaction that proposed it.
    pub proposal: String,
    /// The identity it belongs to, a DID.
    pub account: String,
    /// `open`, `executed`, `cancelled` or `expired`.
    pub state: String,
    /// How many keys must stand behind it.
    pub threshold: Option<u16>,
    /// When it expires, Unix milliseconds.
    pub expires_ms: u64,
    /// Which keys stand behind it.
    pub approvals: Vec<KeyVote>,
    /// Which keys are against it.
    pub rejections: Vec<KeyVote>,
    /// What is proposed.
    pub payload: Value,
}

/// One key's word on a proposal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
pub struct KeyVote {
    /// The key's index.
    pub key_index: u16,
    /// The block it came in.
    pub height: u64,
}

/// What a verified state says of a subject.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProvenFinding {
    /// The document, to be kept: it verifies offline.
    pub document: StateDocument,
    /// The height it holds at.
    pub height: u64,
    /// What it says.
    pub finding: StateFinding,
}

fn did(address: Address) -> String {
    format!("did:cairn:{address}")
}

fn typed<T: serde::de::DeserializeOwned>(value: &Value) -> Read<T> {
    serde_json::from_value(value.clone()).map_err(|error| error.to_string())
}

fn page<T: serde::de::DeserializeOwned>(value: &Value) -> Read<Page<T>> {
    let items = answers::list(value, "items")?.iter().map(typed).collect::<Read<_>>()?;
    let next = value.get("next_cursor").and_then(Value::as_str).map(str::to_owned);
    Ok(Page { items, next })
}

impl Client {
    /// Signs a payload as this client's sender and submits it.
    ///
    /// # Errors
    /// As [`Client::call`]; [`ClientFault::NoKey`] without a sender.
    pub async fn send(&self, payload: Payload, wait: Wait) -> Result<Submitted, ClientFault> {
        let sender = self.sender.clone().ok_or(ClientFault::NoKey)?;
        let (chain, window_ms) = match &self.trust {
            Some(trust) => (trust.genesis.chain(), trust.genesis.params.replay_window_ms),
            None => {
                let genesis = self.chain_genesis().await?;
                (genesis.chain(), genesis.params.replay_window_ms)
            }
        };
        let life_ms = CHANGE_LIFE_MAX_MS.min(window_ms / 2);
        let signed = sender.sign(chain, (self.now_ms)().saturating_add(life_ms), payload)?;
        self.tx_submit(&signed, wait).await
    }

    /// A registered identity as of a block or a time.
    ///
    /// # Errors
    /// As [`Client::call`]; kind `unknown_identity` when it was not registered then.
    pub async fn identity_at(
        &self,
        address: Address,
        when: impl Into<When>,
    ) -> Result<Identity, ClientFault> {
        let params = when.into().among(json!({ "did": did(address) }));
        self.read("identity_get", params, answers::identity).await
    }

    /// What happened to an identity, oldest first.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn identity_history(
        &self,
        address: Address,
        cursor: Option<&str>,
    ) -> Result<Page<HistoryItem>, ClientFault> {
        self.read("identity_history", json!({ "did": did(address), "cursor": cursor }), page).await
    }

    /// What a final state holds of an identity or a delegation, verified against the genesis.
    ///
    /// # Errors
    /// As [`Client::call`]; [`ClientFault::ReceiptRefused`] when the answer does not verify, or is about
    /// something else; [`ClientFault::NoGenesis`] when there is nothing to verify by.
    pub async fn state_proof(&self, subject: StateSubject) -> Result<ProvenFinding, ClientFault> {
        let trust = self.trust.clone().ok_or(ClientFault::NoGenesis)?;
        let (method, params) = match subject {
            StateSubject::Identity(address) => ("identity_proof", json!({ "did": did(address) })),
            StateSubject::Delegation { principal, delegate } => {
                ("delegation_proof", json!({ "principal": did(principal), "delegate": did(delegate) }))
            }
        };
        let value = self.call(method, params).await?;
        judge_state(&trust.verifier, subject, &value.to_string()).map_err(|(check, detail)| {
            ClientFault::ReceiptRefused { url: self.nodes().join(", "), check, detail }
        })
    }

    /// What one identity ever granted another.
    ///
    /// # Errors
    /// As [`Client::call`]; kind `not_found` when it never granted anything.
    pub async fn delegation_get(
        &self,
        principal: Address,
        delegate: Address,
    ) -> Result<DelegationState, ClientFault> {
        let params = json!({ "principal": did(principal), "delegate": did(delegate) });
        self.read("delegation_get", params, typed).await
    }

    /// The delegations an identity gave (or, with `received`, got).
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn delegation_list(
        &self,
        address: Address,
        received: bool,
        cursor: Option<&str>,
    ) -> Result<Page<DelegationState>, ClientFault> {
        let side = if received { "received" } else { "given" };
        let params = json!({ "did": did(address), "side": side, "cursor": cursor });
        self.read("delegation_list", params, page).await
    }

    /// A proposal, by the transaction that made it.
    ///
    /// # Errors
    /// As [`Client::call`]; kind `not_found` when there is none.
    pub async fn multisig_get(&self, proposal: TxId) -> Result<ProposalState, ClientFault> {
        self.read("multisig_get", json!({ "id": proposal.to_string() }), typed).await
    }

    /// The open proposals of an identity, oldest first.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn multisig_pending(&self, account: Address) -> Result<Vec<ProposalState>, ClientFault> {
        let params = json!({ "address": account.to_string() });
        self.read("multisig_pending", params, |value| page(value).map(|page| page.items)).await
    }

    /// The records of proofs that speak about a proof: attestations, revocations, disputes.
    ///
    /// # Errors
    /// As [`Client::call`]; kind `not_found` when the proof is not anchored.
    pub async fn proof_statements(
        &self,
        proof: ProofId,
        cursor: Option<&str>,
    ) -> Result<Page<Record>, ClientFault> {
        let read = |value: &Value| {
            let next = value.get("next_cursor").and_then(Value::as_str).map(str::to_owned);
            Ok(Page { items: answers::records(value, "items")?, next })
        };
        self.read("proof_statements", json!({ "proof_id": proof.to_string(), "cursor": cursor }), read).await
    }

    /// A fresh challenge from a node for someone who wants to log in to `audience`.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn login_challenge(
        &self,
        address: Address,
        audience: &str,
    ) -> Result<LoginChallenge, ClientFault> {
        let params = json!({ "did": did(address), "audience": audience });
        self.read("login_challenge", params, |value| answers::canonical(value, "challenge_b64")).await
    }

    /// Lets a node judge an answer; it accepts each once. `Err(reason)` inside when it lets nobody in. Never
    /// tried again by itself: a second try of an accepted answer is a replay.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn login_verify(
        &self,
        response: &LoginResponse,
        audience: &str,
    ) -> Result<Result<(), String>, ClientFault> {
        let params = json!({ "response_b64": STANDARD.encode(encode(response)), "audience": audience });
        let (url, value) = self.call_once("login_verify", &params).await;
        let value = value?;
        let read = || -> Read<Result<(), String>> {
            if answers::flag(&value, "valid")? {
                return Ok(Ok(()));
            }
            answers::text(&value, "reason").map(|reason| Err(reason.to_owned()))
        };
        read().map_err(|why| ClientFault::BadAnswer { url, method: "login_verify".into(), why })
    }

    /// The chain this client is for: that of its genesis, else the node's.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn chain(&self) -> Result<ChainId, ClientFault> {
        match &self.trust {
            Some(trust) => Ok(trust.genesis.chain()),
            None => Ok(self.status().await?.chain),
        }
    }

    /// How a key with this address signs for an identity: inline when the identity is not registered.
    /// `None` when it is registered and has no such key.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn key_reference(
        &self,
        identity: Address,
        key: &cairn_types::PublicKey,
    ) -> Result<Option<KeyRef>, ClientFault> {
        match self.identity_get(identity).await {
            Ok(found) => {
                let index = found.keys.iter().position(|held| held == key);
                Ok(index.and_then(|index| u16::try_from(index).ok()).map(KeyRef::Registered))
            }
            Err(fault) if fault.is_kind("unknown_identity") || fault.is_kind("not_found") => {
                Ok((key.address() == identity).then(|| KeyRef::Inline(key.clone())))
            }
            Err(fault) => Err(fault),
        }
    }
}

/// Verifies a node's answer; gives the check that failed and why when it does not hold.
fn judge_state(
    verifier: &ReceiptVerifier,
    subject: StateSubject,
    text: &str,
) -> Result<ProvenFinding, (String, String)> {
    let document = StateDocument::parse(text).map_err(|fault| ("format".to_owned(), fault.to_string()))?;
    if document.subject != subject {
        return Err(("state".to_owned(), "it is about another subject".to_owned()));
    }
    let outcome = verifier.verify_state(&document);
    match (outcome.finding, &outcome.verdict.header) {
        (Some(finding), Some(header)) => Ok(ProvenFinding { document, height: header.height.get(), finding }),
        _ => {
            let failed = outcome.verdict.failed();
            let (name, detail) = failed.map_or(("state", "it does not verify".to_owned()), |check| {
                (check.name.name(), check.detail.clone())
            });
            Err((name.to_owned(), detail))
        }
    }
}
