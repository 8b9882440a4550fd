//! The part of the seam to the node that is about identities, delegations and shared control.

use cairn_types::delegation::{Delegation, Side, Usage};
use cairn_types::event::IdentityEvent;
use cairn_types::identity::Identity;
use cairn_types::login::{LoginChallenge, LoginResponse};
use cairn_types::multisig::Proposal;
use cairn_types::record::Naming;
use cairn_types::state_key::StateSubject;
use cairn_types::{Address, Height, ProofId, Record, TxId};

use crate::backend::{Answer, ReceiptForm};

/// What the node answers about identities. A read of something that does not exist is `Ok(None)`.
pub trait IdentityBackend: Send + Sync + 'static {
    /// A registered identity as the block at this height left it; as of the last final block for `None`.
    fn identity(&self, address: Address, at: Option<Height>) -> Answer<'_, Option<Identity>>;

    /// The height of the last final block whose time is not after `time_ms`; `None` before block 0.
    fn height_at_time(&self, time_ms: u64) -> Answer<'_, Option<Height>>;

    /// What happened to an identity, oldest first.
    fn identity_events(&self, address: Address, page: PageRequest) -> Answer<'_, PageOf<IdentityEvent>>;

    /// A state document of this subject against the newest certified header, JSON text; `None` while there
    /// is no such header.
    fn state_document(&self, subject: StateSubject, form: ReceiptForm) -> Answer<'_, Option<String>>;

    /// What one identity ever granted another.
    fn delegation(&self, principal: Address, delegate: Address) -> Answer<'_, Option<Delegation>>;

    /// The delegations an identity gave or received, ended ones included.
    fn delegations(&self, address: Address, side: Side, page: PageRequest) -> Answer<'_, PageOf<Delegation>>;

    /// What an agent has used of its mandate.
    fn agent_usage(&self, agent: Address) -> Answer<'_, Usage>;

    /// A proposal, open or ended.
    fn proposal(&self, account: Address, id: TxId) -> Answer<'_, Option<Proposal>>;

    /// Every proposal of an identity, ended ones included.
    fn proposals(&self, account: Address, page: PageRequest) -> Answer<'_, PageOf<Proposal>>;

    /// The records of proofs that name `proof`, from this seq on, and the seq to go on from.
    fn records_naming(
        &self,
        proof: ProofId,
        naming: Naming,
        from: u64,
        limit: usize,
    ) -> Answer<'_, (Vec<Record>, Option<u64>)>;

    /// A fresh challenge for someone who wants to log in to `audience`.
    fn login_challenge(&self, audience: String, address: Address) -> Answer<'_, LoginChallenge>;

    /// Lets the sender of an answer in, once: `Ok(Err(why))` when it does not.
    fn login(&self, audience: String, response: LoginResponse) -> Answer<'_, Result<(), String>>;
}

/// Which part of a list is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PageRequest {
    /// Where it starts: [`PageOf::next`] of the part before; `None` for the first.
    pub cursor: Option<Vec<u8>>,
    /// At most so many items, 1 to 100.
    pub limit: usize,
}

/// A part of a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PageOf<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next part starts; `None` after the last.
    pub next: Option<Vec<u8>>,
}
