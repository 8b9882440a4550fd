//! Reading signed transactions: base64 of the canonical bytes, the JSON form, and the form an existing
//! proof server's client sends. JSON is never hashed: the canonical bytes are rebuilt from it, and the
//! signatures must be over those.
//!
//! The JSON form:
//! ```json
//! { "chain": "<hex, optional: this chain>", "sender": "<hex or DID>", "nonce": 7, "expires_ms": 1790000000000,
//!   "keys": [ { "scheme": "dilithium3", "key_b64": "..." } | { "index": 0 } ],
//!   "proofs": [ { "kind": "batch", "tree": "cairn-b3-v1", "root": "<hex>", "leaves": 3, "reference": "",
//!                 "previous": null, "subject": null, "on_behalf_of": null, "metadata_b64": "" } ],
//!   "signatures_b64": [ "..." ] }
//! ```
//! or, in place of `proofs`, one of `identity`, `delegation` and `multisig` as in `control_json.rs`. In a proof only
//! `root` is required.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cairn_types::transaction::{
    KEYS_MAX, METADATA_BYTES_MAX, PROOFS_MAX, Payload, Proofs, TRANSACTION_VERSION,
};
use cairn_types::{
    ChainId, KeyRef, Proof, ProofKind, PublicKey, Scheme, Signature, SignedTransaction, Transaction, TreeKind,
};
use serde_json::Value;
use zeroize::Zeroize;

use crate::args::Args;
use crate::control_json;
use crate::fault::Fault;
use crate::secret::is_secret_length;

const TX_FIELDS: [&str; 12] = [
    "type",
    "version",
    "chain",
    "sender",
    "nonce",
    "expires_ms",
    "keys",
    "proofs",
    "identity",
    "delegation",
    "multisig",
    "signatures_b64",
];
const PROOF_FIELDS: [&str; 9] =
    ["kind", "tree", "root", "leaves", "reference", "previous", "subject", "on_behalf_of", "metadata_b64"];
/// The PROOF payload's number among transaction types, also used by clients that send JSON.
const PROOF_TYPE: u64 = 7;
/// Longest text accepted where hex of a signature stands; anything longer is refused unread.
const SIGNATURE_HEX_CHARS_MAX: usize = 2 * 4_032 + 2;

/// Reads the `tx` parameter: base64, or the JSON form.
///
/// # Errors
/// What was wrong and what was expected; [`Fault::SecretMaterial`] for a key in a signature's place.
pub(crate) fn transaction(value: Value, chain: ChainId) -> Result<SignedTransaction, Fault> {
    match value {
        Value::String(text) => from_base64(&text),
        Value::Object(_) => from_json(value, chain),
        _ => Err(Fault::invalid(
            "tx must be base64 of a signed transaction's canonical bytes, or its JSON form",
        )),
    }
}

/// Reads canonical bytes.
///
/// # Errors
/// When they are not exactly one signed transaction.
pub(crate) fn from_bytes(bytes: Vec<u8>) -> Result<SignedTransaction, Fault> {
    SignedTransaction::from_canonical(bytes).map_err(|error| Fault::InvalidParams {
        reason: format!("tx is {error}"),
        hint: Some("send the borsh bytes of SignedTransaction, nothing before or after".into()),
    })
}

fn from_base64(text: &str) -> Result<SignedTransaction, Fault> {
    let bytes =
        STANDARD.decode(text).map_err(|error| Fault::invalid(format!("tx is not padded base64: {error}")))?;
    from_bytes(bytes)
}

fn from_json(value: Value, this_chain: ChainId) -> Result<SignedTransaction, Fault> {
    let mut tx = Args::nested("tx", value, &TX_FIELDS)?;
    if let Some(kind) = tx.take("type")
        && !matches!(kind.as_str(), Some("proofs" | "identity" | "delegation" | "multisig"))
    {
        return Err(Fault::invalid(
            "tx.type must name the payload (proofs, identity, delegation, multisig), or be left out; the type 7 form goes to broadcast_tx_sync",
        ));
    }
    let version = tx.int("version")?.map_or(Ok(TRANSACTION_VERSION), u8::try_from);
    let version = version.map_err(|_| Fault::invalid("tx.version must be 1"))?;
    let chain = tx.id("chain")?.unwrap_or(this_chain);
    let sender = tx.address("sender")?;
    let nonce = tx.int("nonce")?;
    let expires_ms = tx.int("expires_ms")?;
    let keys = tx.list("keys", KEYS_MAX)?;
    let signatures = tx.list("signatures_b64", KEYS_MAX)?;
    let payload = payload(&mut tx)?;
    let transaction = Transaction {
        version,
        chain,
        sender: tx.need("sender", sender)?,
        nonce: tx.need("nonce", nonce)?,
        expires_ms: tx.need("expires_ms", expires_ms)?,
        keys: each("tx.keys", tx.need("keys", keys)?, key_ref)?,
        payload,
    };
    let signatures = each("tx.signatures_b64", tx.need("signatures_b64", signatures)?, signature_b64)?;
    Ok(SignedTransaction::new(transaction, signatures))
}

/// Reads each item, naming its place in the list.
fn each<T>(
    place: &str,
    items: Vec<Value>,
    read: impl Fn(&str, Value) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    items.into_iter().enumerate().map(|(index, item)| read(&format!("{place}[{index}]"), item)).collect()
}

/// Reads a payload in the API's JSON form, `{"proofs": [...]}` and the like, from a text.
///
/// # Errors
/// What was wrong, and what was expected.
pub fn read_payload(text: &str) -> Result<Payload, Fault> {
    let value = serde_json::from_str(text)
        .map_err(|error| Fault::invalid(format!("the payload is not JSON: {error}")))?;
    payload(&mut Args::nested("tx", value, &["proofs", "identity", "delegation", "multisig"])?)
}

fn payload(tx: &mut Args) -> Result<Payload, Fault> {
    let given = ["proofs", "identity", "delegation", "multisig"].map(|name| (name, tx.take(name)));
    let mut given = given.into_iter().filter_map(|(name, value)| value.map(|value| (name, value)));
    let (Some((name, value)), None) = (given.next(), given.next()) else {
        return Err(Fault::invalid(
            "a transaction has exactly one of tx.proofs, tx.identity, tx.delegation and tx.multisig",
        ));
    };
    let place = format!("tx.{name}");
    match name {
        "proofs" => proofs_of(&place, value).map(Payload::Proofs),
        "identity" => control_json::identity_op(&place, value).map(Payload::Identity),
        "delegation" => control_json::delegation_op(&place, value).map(Payload::Delegation),
        _ => control_json::multisig_op(&place, value).map(Payload::Multisig),
    }
}

/// Reads a list of proofs.
pub(crate) fn proofs_of(place: &str, value: Value) -> Result<Proofs, Fault> {
    match value {
        Value::Array(items) if (1..=PROOFS_MAX).contains(&items.len()) => {
            each(place, items, |place, item| proof(&mut Args::nested(place, item, &PROOF_FIELDS)?))
                .map(Proofs)
        }
        Value::Array(items) => {
            Err(Fault::invalid(format!("{place} has {} items; expected 1 to {PROOFS_MAX}", items.len())))
        }
        _ => Err(Fault::invalid(format!("{place} must be an array of 1 to {PROOFS_MAX} proofs"))),
    }
}

fn proof(args: &mut Args) -> Result<Proof, Fault> {
    let kinds = ProofKind::NAMES.map(|(_, name)| name);
    let kind = args.one_of("kind", &kinds, ProofKind::from_name)?;
    let trees = [TreeKind::CairnB3V1.name(), TreeKind::Rfc9162Sha256.name()];
    let tree = args.one_of("tree", &trees, TreeKind::from_name)?;
    let root = args.hash("root")?;
    let metadata = args.b64("metadata_b64")?.unwrap_or_default();
    if metadata.len() > METADATA_BYTES_MAX {
        return Err(Fault::invalid(format!(
            "the metadata has {} bytes; expected at most {METADATA_BYTES_MAX}",
            metadata.len()
        )));
    }
    Ok(Proof {
        kind: kind.unwrap_or(ProofKind::Batch),
        tree: tree.unwrap_or(TreeKind::CairnB3V1),
        root: args.need("root", root)?,
        leaves: args.int("leaves")?.unwrap_or(1),
        reference: args.text("reference")?.unwrap_or_default(),
        previous: args.id("previous")?,
        subject: args.id("subject")?,
        on_behalf_of: args.address("on_behalf_of")?,
        metadata,
    })
}

fn key_ref(place: &str, value: Value) -> Result<KeyRef, Fault> {
    let mut key = Args::nested(place, value, &["index", "scheme", "key_b64"])?;
    match key.int("index")? {
        Some(index) if !key.has("key_b64") => u16::try_from(index)
            .map(KeyRef::Registered)
            .map_err(|_| Fault::invalid(format!("{place}.index is {index}; expected at most 65535"))),
        Some(_) => Err(Fault::invalid(format!("{place} has an index and a key; expected one of them"))),
        None => public_key_in(place, &mut key).map(KeyRef::Inline),
    }
}

pub(crate) fn public_key(place: &str, value: Value) -> Result<PublicKey, Fault> {
    public_key_in(place, &mut Args::nested(place, value, &["scheme", "key_b64"])?)
}

pub(crate) fn public_key_in(place: &str, args: &mut Args) -> Result<PublicKey, Fault> {
    let schemes = Scheme::ALL.map(Scheme::name);
    let scheme = args.one_of("scheme", &schemes, Scheme::from_name)?.unwrap_or(Scheme::Dilithium3);
    let bytes = args.b64("key_b64")?;
    let mut bytes = args.need("key_b64", bytes)?;
    if is_secret_length(bytes.len()) {
        bytes.zeroize();
        return Err(Fault::SecretMaterial);
    }
    PublicKey::new(scheme, &bytes).ok_or_else(|| {
        Fault::invalid(format!(
            "{place}.key_b64 has {} bytes; a {scheme} public key has {}",
            bytes.len(),
            scheme.public_key_bytes()
        ))
    })
}

fn signature_b64(place: &str, value: Value) -> Result<Signature, Fault> {
    let Value::String(mut text) = value else {
        return Err(Fault::invalid(format!("{place} must be padded base64")));
    };
    let decoded = STANDARD.decode(&text);
    text.zeroize();
    signature(place, decoded.map_err(|_| Fault::invalid(format!("{place} is not padded base64")))?)
}

fn signature_hex(place: &str, value: Value) -> Result<Signature, Fault> {
    let Value::String(mut text) = value else {
        return Err(Fault::invalid(format!("{place} must be hex")));
    };
    if text.len() > SIGNATURE_HEX_CHARS_MAX {
        text.zeroize();
        return Err(Fault::invalid(format!("{place} is longer than any signature")));
    }
    let decoded = hex::decode(text.strip_prefix("0x").unwrap_or(&text));
    text.zeroize();
    signature(place, decoded.map_err(|_| Fault::invalid(format!("{place} is not hex")))?)
}

fn signature(place: &str, mut bytes: Vec<u8>) -> Result<Signature, Fault> {
    if is_secret_length(bytes.len()) {
        bytes.zeroize();
        return Err(Fault::SecretMaterial);
    }
    Signature::new(&bytes).ok_or_else(|| {
        Fault::invalid(format!(
            "{place} has {} bytes; no signature has more than {}",
            bytes.len(),
            Signature::BYTES_MAX
        ))
    })
}

/// Reads what an existing proof server's client sends to `broadcast_tx_sync`:
/// `{type: 7, data: {sender, expires_ms, key, ...PROOF fields}, signature: hex, nonce, timestamp}`. `key` is a
/// key index, or `{scheme, key_b64}`; `timestamp` is ignored. A string is base64 as everywhere.
///
/// # Errors
/// As [`transaction`].
pub(crate) fn broadcast(value: Value, chain: ChainId) -> Result<SignedTransaction, Fault> {
    if !value.is_object() {
        return transaction(value, chain);
    }
    let mut tx = Args::nested("tx", value, &["type", "data", "signature", "nonce", "timestamp"])?;
    // The signature first: when it is a secret key, nothing else of the request matters.
    let signature = tx.take("signature").map(|value| signature_hex("tx.signature", value)).transpose()?;
    match tx.int("type")? {
        Some(PROOF_TYPE) => {}
        other => {
            let got = other.map_or("missing".to_owned(), |kind| kind.to_string());
            return Err(Fault::invalid(format!("tx.type is {got}; expected 7 (PROOF)")));
        }
    }
    let nonce = tx.int("nonce")?;
    let data = tx.take("data");
    let known: Vec<&str> = ["sender", "expires_ms", "key"].into_iter().chain(PROOF_FIELDS).collect();
    let mut data = Args::nested("tx.data", tx.need("data", data)?, &known)?;
    let sender = data.address("sender")?;
    let expires_ms = data.int("expires_ms")?;
    let key = match data.take("key") {
        Some(Value::Number(index)) => index
            .as_u64()
            .and_then(|index| u16::try_from(index).ok())
            .map(KeyRef::Registered)
            .ok_or_else(|| Fault::invalid("tx.data.key must be a key index from 0 to 65535"))?,
        Some(key) => key_ref("tx.data.key", key)?,
        None => return Err(data.missing("key")),
    };
    let transaction = Transaction {
        version: TRANSACTION_VERSION,
        chain,
        sender: data.need("sender", sender)?,
        nonce: tx.need("nonce", nonce)?,
        expires_ms: data.need("expires_ms", expires_ms)?,
        keys: vec![key],
        payload: Payload::Proofs(Proofs(vec![proof(&mut data)?])),
    };
    Ok(SignedTransaction::new(transaction, vec![tx.need("signature", signature)?]))
}

#[cfg(test)]
#[path = "txjson_tests.rs"]
mod tests;
