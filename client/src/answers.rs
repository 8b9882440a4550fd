//! What nodes answer, as the chain's own types. These are read from the canonical bytes in the answer,
//! never from the JSON beside them; none of it is verified unless it says so.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use borsh::BorshDeserialize;
use cairn_types::identity::{Identity, IdentityEntry};
use cairn_types::{
    Address, Block, BlockId, ChainId, Hash, Height, ProofId, ProofKind, PublicKey, Record, Scheme,
    SignedTransaction, TxId, decode,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// How a call names a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum BlockRef {
    /// The last final block.
    #[default]
    Latest,
    /// The first block the node keeps.
    Earliest,
    /// By height.
    Height(Height),
    /// By id.
    Id(BlockId),
}

impl BlockRef {
    pub(crate) fn to_json(self) -> Value {
        match self {
            Self::Latest => "latest".into(),
            Self::Earliest => "earliest".into(),
            Self::Height(height) => height.get().into(),
            Self::Id(id) => id.to_string().into(),
        }
    }
}

/// As of when something is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// As a block left it.
    Block(BlockRef),
    /// As the last block not after this time left it, Unix milliseconds.
    Time(u64),
}

impl Default for When {
    fn default() -> Self {
        Self::Block(BlockRef::Latest)
    }
}

impl From<BlockRef> for When {
    fn from(block: BlockRef) -> Self {
        Self::Block(block)
    }
}

impl When {
    /// The parameters of a method with this moment among them.
    pub(crate) fn among(self, mut params: Value) -> Value {
        let (name, value) = match self {
            Self::Block(block) => ("at", block.to_json()),
            Self::Time(unix_ms) => ("at_time", unix_ms.to_string().into()),
        };
        if let Some(fields) = params.as_object_mut() {
            fields.insert(name.to_owned(), value);
        }
        params
    }
}

/// What a submission waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Wait {
    /// That the node took it.
    Accepted,
    /// That it is final.
    #[default]
    Final,
}

impl Wait {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Final => "final",
        }
    }
}

/// Where the chain and a node are (`chain_status`).
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub struct ChainStatus {
    /// The chain the node is on.
    #[serde(deserialize_with = "hex_id")]
    pub chain: ChainId,
    /// The last final block.
    pub height: u64,
    /// Current epoch of consensus.
    pub epoch: u64,
    /// Current view of consensus.
    pub view: u64,
    /// The last final block's time, Unix milliseconds.
    pub time_ms: u64,
    /// Milliseconds since that time, by the node's clock.
    pub final_age_ms: u64,
    /// Connected peers.
    pub peers: u64,
    /// The node's software.
    pub version: String,
    /// Everything else it says.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

fn hex_id<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<ChainId, D::Error> {
    let text = <String as Deserialize>::deserialize(deserializer)?;
    ChainId::from_hex(&text).ok_or_else(|| serde::de::Error::custom("not 64 hex digits"))
}

/// How a proof is looked up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ProofQuery {
    /// By its id.
    Proof(ProofId),
    /// By its root.
    Root(Hash),
    /// By the transaction that carried it.
    Tx(TxId),
    /// By the sender's own id.
    Reference {
        /// Who anchored it.
        sender: Address,
        /// The id.
        reference: String,
    },
}

impl ProofQuery {
    pub(crate) fn to_json(&self) -> Value {
        match self {
            Self::Proof(id) => json!({ "proof_id": id.to_string() }),
            Self::Root(root) => json!({ "root": root.to_string() }),
            Self::Tx(id) => json!({ "tx_id": id.to_string() }),
            Self::Reference { sender, reference } => {
                json!({ "sender": sender.to_string(), "reference": reference })
            }
        }
    }
}

/// Where a proof is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ProofState {
    /// Submitted, not final.
    Pending {
        /// The proof.
        proof_id: ProofId,
        /// The transaction that carries it.
        tx_id: TxId,
    },
    /// Final.
    Final {
        /// The record with the lowest seq.
        record: Box<Record>,
        /// Further records with the same key.
        others: Vec<Record>,
    },
}

/// Which proofs a list holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ProofFilter {
    /// Only of this sender.
    pub sender: Option<Address>,
    /// Only of this kind.
    pub kind: Option<ProofKind>,
    /// Only from this height on.
    pub from: Option<Height>,
    /// Only up to this height.
    pub to: Option<Height>,
    /// At most so many, 1 to 100; 100 when left out.
    pub limit: Option<usize>,
    /// `next` of the page before.
    pub cursor: Option<String>,
}

impl ProofFilter {
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "sender": self.sender.map(|sender| sender.to_string()),
            "kind": self.kind.map(ProofKind::name),
            "from": self.from.map(Height::get),
            "to": self.to.map(Height::get),
            "limit": self.limit,
            "cursor": self.cursor,
        })
    }
}

/// A part of a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// The cursor of the next page; `None` after the last.
    pub next: Option<String>,
}

/// What became of a submission (`tx_submit`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Submitted {
    /// The transaction: the earlier one for a repeat.
    pub tx_id: TxId,
    /// Whether it was known already.
    pub duplicate: bool,
    /// The block that holds it, once final.
    pub height: Option<Height>,
}

/// What submitting would find (`tx_check`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checked {
    /// The transaction: the earlier one for a repeat.
    pub tx_id: TxId,
    /// Whether it is known already.
    pub duplicate: bool,
    /// The ids of its proofs.
    pub proofs: Vec<ProofId>,
}

/// Where a transaction is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TxState {
    /// The block that holds it; `None` while pending.
    pub height: Option<Height>,
    /// The records it made.
    pub records: Vec<Record>,
    /// The transaction, while the node keeps it.
    pub signed: Option<SignedTransaction>,
}

/// What was wrong with a part of an answer.
pub(crate) type Read<T> = Result<T, String>;

pub(crate) fn field<'a>(value: &'a Value, name: &str) -> Read<&'a Value> {
    value.get(name).filter(|value| !value.is_null()).ok_or_else(|| format!("`{name}` is missing"))
}

pub(crate) fn text<'a>(value: &'a Value, name: &str) -> Read<&'a str> {
    field(value, name)?.as_str().ok_or_else(|| format!("`{name}` is no text"))
}

pub(crate) fn int(value: &Value, name: &str) -> Read<u64> {
    field(value, name)?.as_u64().ok_or_else(|| format!("`{name}` is no unsigned integer"))
}

pub(crate) fn flag(value: &Value, name: &str) -> Read<bool> {
    field(value, name)?.as_bool().ok_or_else(|| format!("`{name}` is neither true nor false"))
}

pub(crate) fn list<'a>(value: &'a Value, name: &str) -> Read<&'a [Value]> {
    field(value, name)?.as_array().map(Vec::as_slice).ok_or_else(|| format!("`{name}` is no list"))
}

pub(crate) fn id<K>(value: &Value, name: &str) -> Read<cairn_types::id::Id<K>> {
    cairn_types::id::Id::from_hex(text(value, name)?).ok_or_else(|| format!("`{name}` is not 64 hex digits"))
}

pub(crate) fn bytes(value: &Value, name: &str) -> Read<Vec<u8>> {
    STANDARD.decode(text(value, name)?).map_err(|error| format!("`{name}` is not base64: {error}"))
}

/// A canonical value from its base64 field.
pub(crate) fn canonical<T: BorshDeserialize>(value: &Value, name: &str) -> Read<T> {
    decode(&bytes(value, name)?).map_err(|error| format!("`{name}`: {error}"))
}

pub(crate) fn record(value: &Value) -> Read<Record> {
    canonical(value, "record_b64")
}

pub(crate) fn records(value: &Value, name: &str) -> Read<Vec<Record>> {
    match value.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(_) => list(value, name)?.iter().map(record).collect(),
    }
}

pub(crate) fn is_final(value: &Value) -> Read<bool> {
    match text(value, "state")? {
        "final" => Ok(true),
        "pending" => Ok(false),
        other => Err(format!("`state` is `{other}`; expected final or pending")),
    }
}

pub(crate) fn submitted(value: &Value) -> Read<Submitted> {
    let height = is_final(value)?.then(|| int(value, "height")).transpose()?;
    Ok(Submitted {
        tx_id: id(value, "tx_id")?,
        duplicate: flag(value, "duplicate")?,
        height: height.map(Height::new),
    })
}

pub(crate) fn checked(value: &Value) -> Read<Checked> {
    let proof = |value: &Value| {
        value.as_str().and_then(ProofId::from_hex).ok_or_else(|| "`proof_ids` holds no id".to_owned())
    };
    Ok(Checked {
        tx_id: id(value, "tx_id")?,
        duplicate: flag(value, "duplicate")?,
        proofs: list(value, "proof_ids")?.iter().map(proof).collect::<Read<_>>()?,
    })
}

pub(crate) fn proof_state(value: &Value) -> Read<ProofState> {
    if is_final(value)? {
        let others = records(value, "others")?;
        return Ok(ProofState::Final { record: Box::new(record(value)?), others });
    }
    Ok(ProofState::Pending { proof_id: id(value, "proof_id")?, tx_id: id(value, "tx_id")? })
}

pub(crate) fn tx_state(value: &Value) -> Read<TxState> {
    let signed = value.get("transaction").filter(|tx| !tx.is_null());
    Ok(TxState {
        height: is_final(value)?.then(|| int(value, "height")).transpose()?.map(Height::new),
        records: records(value, "proofs")?,
        signed: signed.map(|tx| canonical(tx, "tx_b64")).transpose()?,
    })
}

/// A block from its header's and transactions' bytes; refused when the header does not commit to them.
pub(crate) fn block(value: &Value) -> Read<Block> {
    let header = canonical(field(value, "header")?, "header_b64")?;
    let transactions = list(value, "transactions")?
        .iter()
        .map(|tx| canonical(tx, "tx_b64").map(Arc::new))
        .collect::<Read<_>>()?;
    let block = Block::new(header, transactions);
    if block.matches_tx_root() {
        Ok(block)
    } else {
        Err("the transactions are not those of the header".into())
    }
}

/// An identity from its entry's bytes and its public keys; refused when a key is not the one the entry names.
pub(crate) fn identity(value: &Value) -> Read<Identity> {
    let entry: IdentityEntry = canonical(value, "entry_b64")?;
    let listed = list(value, "verificationMethod")?;
    if listed.len() != entry.keys.len() {
        return Err(format!("{} keys are listed; the entry has {}", listed.len(), entry.keys.len()));
    }
    let mut keys = Vec::with_capacity(listed.len());
    for (position, (listed, held)) in listed.iter().zip(&entry.keys).enumerate() {
        let scheme = Scheme::from_name(text(listed, "scheme")?).ok_or("an unknown signature scheme")?;
        let key = PublicKey::new(scheme, &bytes(listed, "key_b64")?).ok_or("a key of a wrong length")?;
        if key.address() != held.address {
            return Err(format!("key {position} is not the one the entry names"));
        }
        keys.push(key);
    }
    Ok(Identity { address: id(value, "address")?, entry, keys })
}
