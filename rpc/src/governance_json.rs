//! Governance and evidence as JSON, one way: they are submitted as canonical bytes.

use cairn_types::{Change, Evidence, GovernanceOp, Motion, ValidatorSet};
use serde_json::{Value, json};

use crate::json::{params, public_key, time};

/// A step of governance.
pub(crate) fn governance(op: &GovernanceOp) -> Value {
    match op {
        GovernanceOp::Propose { changes, life_ms } => {
            json!({ "op": "propose", "changes": list(&changes.0), "life_ms": life_ms })
        }
        GovernanceOp::Approve(motion) => json!({ "op": "approve", "motion": motion.to_string() }),
        GovernanceOp::Withdraw(motion) => json!({ "op": "withdraw", "motion": motion.to_string() }),
    }
}

fn list(changes: &[Change]) -> Vec<Value> {
    changes.iter().map(change).collect()
}

fn change(change: &Change) -> Value {
    match change {
        Change::Join { key, power } => json!({
            "change": "join", "address": key.address().to_string(), "key": public_key(key), "power": power,
        }),
        Change::Leave(address) => json!({ "change": "leave", "address": address.to_string() }),
        Change::Power { validator, power } => {
            json!({ "change": "power", "address": validator.to_string(), "power": power })
        }
        Change::Rotate { validator, key } => {
            json!({ "change": "rotate", "address": validator.to_string(), "key": public_key(key) })
        }
        Change::Params(wanted) => json!({ "change": "params", "params": params(wanted) }),
        Change::Protocol(version) => json!({ "change": "protocol", "version": version }),
    }
}

/// An open motion, with the power behind it in `set`.
pub(crate) fn motion(motion: &Motion, set: &ValidatorSet) -> Value {
    let approvals: Vec<_> = motion.approvals.iter().map(ToString::to_string).collect();
    json!({
        "id": motion.id.to_string(),
        "proposer": motion.proposer.to_string(),
        "changes": list(&motion.changes.0),
        "height": motion.height.get(),
        "expires": time(motion.expires_ms),
        "expires_ms": motion.expires_ms,
        "approvals": approvals,
        "power": motion.power(set),
        "total_power": set.total_power(),
    })
}

/// What a validator is accused of.
pub(crate) fn evidence(evidence: &Evidence) -> Value {
    json!({
        "kind": evidence.conflict.name(),
        "epoch": evidence.epoch.get(),
        "view": evidence.view.get(),
        "validator": evidence.validator.0,
    })
}
