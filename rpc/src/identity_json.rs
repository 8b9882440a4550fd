//! Identities, their history, delegations and proposals as the API's JSON.

use cairn_types::delegation::Delegation;
use cairn_types::event::{IdentityEvent, IdentityStep};
use cairn_types::identity::{Identity, Purpose};
use cairn_types::multisig::{Outcome, Proposal, Vote};
use cairn_types::{Height, encode};
use serde_json::{Map, Value, json};

use crate::control_json::{mandate_json, proposed_json, purposes_json, terms_json};
use crate::json::{b64, did, object, time};

/// A W3C-shaped DID document. The verification relationships list the keys that may sign in the block at
/// `height` with time `time_ms`.
pub(crate) fn did_document(identity: &Identity, height: Height, time_ms: u64) -> Value {
    let name = did(&identity.address);
    let key_id = |index: u16| format!("{name}#key-{index}");
    let methods: Vec<_> = (0u16..)
        .zip(identity.entry.keys.iter().zip(&identity.keys))
        .map(|(index, (entry, key))| {
            json!({
                "id": key_id(index),
                "type": "CairnKey2026",
                "controller": name,
                "index": index,
                "scheme": key.scheme().name(),
                "key_b64": b64(key.as_bytes()),
                "key_address": entry.address.to_string(),
                "purposes": purposes_json(entry.purposes),
                "from_height": entry.from.get(),
                "until_height": entry.until.map(|height| height.get()),
                "expires_ms": entry.expires_ms,
            })
        })
        .collect();
    let with = |purpose: Purpose| -> Vec<String> {
        identity
            .keys_at(height, time_ms)
            .filter(|(_, entry, _)| entry.purposes.has(purpose))
            .map(|(index, ..)| key_id(index))
            .collect()
    };
    let entry = &identity.entry;
    let agent = entry.agent.as_ref().map(|agent| {
        json!({
            "owner": did(&agent.owner),
            "confirmed": agent.mandate.is_some(),
            "revision": agent.revision,
            "mandate": agent.mandate.as_ref().map(mandate_json),
        })
    });
    json!({
        "@context": ["https://www.w3.org/ns/did/v1"],
        "id": name,
        "address": identity.address.to_string(),
        "controller": entry.agent.as_ref().map(|agent| did(&agent.owner)),
        "threshold": entry.threshold,
        "admitted": entry.admitted,
        "deactivated": entry.deactivated.is_some(),
        "deactivated_height": entry.deactivated.map(Height::get),
        "agent": agent,
        "open_proposals": entry.proposals.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "verificationMethod": methods,
        "authentication": with(Purpose::Authentication),
        "assertionMethod": with(Purpose::Assertion),
        "capabilityDelegation": with(Purpose::Delegation),
        "capabilityInvocation": with(Purpose::Control),
        "recovery": with(Purpose::Recovery),
        "as_of_height": height.get(),
        "entry_b64": b64(&encode(entry)),
    })
}

/// One event of an identity's history.
pub(crate) fn event(event: &IdentityEvent) -> Map<String, Value> {
    let mut value = object(json!({
        "event": event.what.name(),
        "identity": did(&event.identity),
        "tx_id": event.tx_id.to_string(),
        "height": event.height.get(),
        "time": time(event.time_ms),
        "time_ms": event.time_ms,
    }));
    value.extend(object(step(&event.what)));
    value
}

fn step(step: &IdentityStep) -> Value {
    match step {
        IdentityStep::Registered | IdentityStep::Admitted | IdentityStep::Deactivated => json!({}),
        IdentityStep::AgentRegistered { owner } => json!({ "owner": did(owner) }),
        IdentityStep::KeyAdded { index } | IdentityStep::KeyRevoked { index } => json!({ "index": index }),
        IdentityStep::KeyRotated { retired, index } => json!({ "retired": retired, "index": index }),
        IdentityStep::ThresholdSet { threshold } => json!({ "threshold": threshold }),
        IdentityStep::Recovered { first, keys, threshold } => {
            json!({ "first_index": first, "keys": keys, "threshold": threshold })
        }
        IdentityStep::AgentMandated { agent, revision } => {
            json!({ "agent": did(agent), "revision": revision })
        }
        IdentityStep::AgentRetired { agent } => json!({ "agent": did(agent) }),
        IdentityStep::DelegationGranted { delegate }
        | IdentityStep::DelegationRevoked { delegate }
        | IdentityStep::DelegationRenounced { delegate } => json!({ "delegate": did(delegate) }),
        IdentityStep::Proposed { proposal, key }
        | IdentityStep::Approved { proposal, key }
        | IdentityStep::Rejected { proposal, key } => {
            json!({ "proposal": proposal.to_string(), "key_index": key })
        }
        IdentityStep::Cancelled { proposal }
        | IdentityStep::Executed { proposal }
        | IdentityStep::Lapsed { proposal } => json!({ "proposal": proposal.to_string() }),
    }
}

/// A delegation with every grant. `in_force` speaks of the block at `height` with time `time_ms`.
pub(crate) fn delegation(found: &Delegation, height: Height, time_ms: u64) -> Value {
    let grants: Vec<_> = found
        .entry
        .grants
        .iter()
        .map(|grant| {
            json!({
                "terms": terms_json(&grant.terms),
                "from_height": grant.from.get(),
                "until_height": grant.until.map(Height::get),
            })
        })
        .collect();
    let standing = found.entry.in_force(height, time_ms);
    let used = match &standing {
        Ok((number, _)) if found.usage.of == *number => found.usage.total,
        _ => 0,
    };
    json!({
        "principal": did(&found.principal),
        "delegate": did(&found.delegate),
        "in_force": standing.is_ok(),
        "why_not": standing.err().map(|lack| lack.to_string()),
        "used": used,
        "grants": grants,
    })
}

/// A proposal with every vote. `time_ms` is the last final block's.
pub(crate) fn proposal(found: &Proposal, threshold: Option<u16>, time_ms: u64) -> Value {
    let entry = &found.entry;
    let votes = |votes: &[Vote]| -> Vec<Value> {
        votes.iter().map(|vote| json!({ "key_index": vote.key, "height": vote.height.get() })).collect()
    };
    let (state, ended) = match entry.outcome {
        None if entry.expires_ms <= time_ms => ("expired", None),
        None => ("open", None),
        Some(Outcome::Executed { height, .. }) => ("executed", Some(height)),
        Some(Outcome::Cancelled { height }) => ("cancelled", Some(height)),
        Some(Outcome::Lapsed { height }) => ("expired", Some(height)),
    };
    let executed_by = match entry.outcome {
        Some(Outcome::Executed { tx, .. }) => Some(tx.to_string()),
        _ => None,
    };
    json!({
        "proposal": found.id.to_string(),
        "account": did(&found.account),
        "state": state,
        "ended_height": ended.map(Height::get),
        "executed_by": executed_by,
        "threshold": threshold,
        "expires": time(entry.expires_ms),
        "expires_ms": entry.expires_ms,
        "proposed": { "key_index": entry.proposed.key, "height": entry.proposed.height.get() },
        "approvals": votes(&entry.approvals),
        "rejections": votes(&entry.rejections),
        "payload": proposed_json(&entry.payload),
    })
}
