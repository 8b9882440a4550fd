//! What the interfaces ask about identities, delegations and shared control.

use cairn_crypto::{LoginFault, LoginMoment};
use cairn_receipt::StateDocument;
use cairn_rpc::{Answer, Fault, IdentityBackend, PageOf, PageRequest, ReceiptForm};
use cairn_state::{Part, ProvenState};
use cairn_types::delegation::{Delegation, Side, Usage};
use cairn_types::event::IdentityEvent;
use cairn_types::identity::Identity;
use cairn_types::login::{LOGIN_LIFETIME_MAX_MS, LoginChallenge, LoginResponse};
use cairn_types::multisig::Proposal;
use cairn_types::receipt::Finality;
use cairn_types::record::Naming;
use cairn_types::state_key::StateSubject;
use cairn_types::{Address, Height, ProofId, Record, TxId, encode};

use super::backend::NodeBackend;
use super::clock::now_ms;
use super::context::Context;
use super::faults::fault_of_state;
use super::reads;

fn page<T>(part: Part<T>) -> PageOf<T> {
    PageOf { items: part.items, next: part.next }
}

/// A state document against the newest certified header.
fn state_document(
    context: &Context,
    subject: StateSubject,
    form: ReceiptForm,
) -> Result<Option<String>, Fault> {
    let proven = context.state.prove_state(&subject.key()).map_err(fault_of_state)?;
    let Some(ProvenState { top, proof }) = proven else { return Ok(None) };
    let finality = Finality::Certificate(encode(&top.certificate));
    let of = |epochs| StateDocument::new(subject, &proof, &top.header, finality, epochs);
    let document = match form {
        ReceiptForm::Standalone => of(reads::handovers(context, top.header.epoch)?),
        ReceiptForm::Checkpoint => of(Vec::new()).checkpoint_relative(),
    };
    Ok(Some(document.to_json()))
}

impl IdentityBackend for NodeBackend {
    fn identity(&self, address: Address, at: Option<Height>) -> Answer<'_, Option<Identity>> {
        self.read(move |context| {
            let found = match at {
                None => context.state.identity(&address),
                Some(height) => context.state.identity_at(&address, height),
            };
            found.map_err(fault_of_state)
        })
    }

    fn height_at_time(&self, time_ms: u64) -> Answer<'_, Option<Height>> {
        self.read(move |context| context.state.height_at_time(time_ms).map_err(fault_of_state))
    }

    fn identity_events(&self, address: Address, request: PageRequest) -> Answer<'_, PageOf<IdentityEvent>> {
        self.read(move |context| {
            let part = context.state.identity_events(&address, request.cursor.as_deref(), request.limit);
            part.map(page).map_err(fault_of_state)
        })
    }

    fn state_document(&self, subject: StateSubject, form: ReceiptForm) -> Answer<'_, Option<String>> {
        self.read(move |context| state_document(context, subject, form))
    }

    fn delegation(&self, principal: Address, delegate: Address) -> Answer<'_, Option<Delegation>> {
        self.read(move |context| context.state.delegation(principal, delegate).map_err(fault_of_state))
    }

    fn delegations(
        &self,
        address: Address,
        side: Side,
        request: PageRequest,
    ) -> Answer<'_, PageOf<Delegation>> {
        self.read(move |context| {
            let part = context.state.delegations(&address, side, request.cursor.as_deref(), request.limit);
            part.map(page).map_err(fault_of_state)
        })
    }

    fn agent_usage(&self, agent: Address) -> Answer<'_, Usage> {
        self.read(move |context| context.state.agent_usage(agent).map_err(fault_of_state))
    }

    fn proposal(&self, account: Address, id: TxId) -> Answer<'_, Option<Proposal>> {
        self.read(move |context| context.state.proposal(account, id).map_err(fault_of_state))
    }

    fn proposals(&self, account: Address, request: PageRequest) -> Answer<'_, PageOf<Proposal>> {
        self.read(move |context| {
            let part = context.state.proposals(&account, request.cursor.as_deref(), request.limit);
            part.map(page).map_err(fault_of_state)
        })
    }

    fn records_naming(
        &self,
        proof: ProofId,
        naming: Naming,
        from: u64,
        limit: usize,
    ) -> Answer<'_, (Vec<Record>, Option<u64>)> {
        self.read(move |context| {
            context.state.records_naming(&proof, naming, from, limit).map_err(fault_of_state)
        })
    }

    fn login_challenge(&self, audience: String, address: Address) -> Answer<'_, LoginChallenge> {
        Box::pin(async move {
            let mut nonce = [0; 32];
            getrandom::fill(&mut nonce).map_err(Fault::internal)?;
            let issued_ms = now_ms();
            let expires_ms = issued_ms.saturating_add(LOGIN_LIFETIME_MAX_MS);
            Ok(LoginChallenge { audience, address, nonce, issued_ms, expires_ms })
        })
    }

    fn login(&self, audience: String, response: LoginResponse) -> Answer<'_, Result<(), String>> {
        let guard = std::sync::Arc::clone(&self.logins);
        self.read(move |context| {
            let height = context.state.tip().header.height;
            let identity = context.state.identity(&response.challenge.address).map_err(fault_of_state)?;
            let at = LoginMoment {
                entry: identity.as_ref().map(|identity| &identity.entry),
                keys: identity.as_ref().map_or(&[], |identity| &identity.keys),
                height,
                now_ms: now_ms(),
            };
            match guard.lock().accept(context.chain, &audience, &response, at) {
                Ok(()) => Ok(Ok(())),
                Err(LoginFault::Full) => {
                    Err(Fault::NotReady { reason: LoginFault::Full.to_string(), retry_after_ms: 60_000 })
                }
                Err(fault) => Ok(Err(fault.to_string())),
            }
        })
    }
}
