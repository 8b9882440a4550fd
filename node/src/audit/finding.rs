//! What an auditor ends with.

use std::fmt;

use cairn_client::ClientFault;
use cairn_state::{BlockFault, StateError};
use cairn_types::Height;
use serde_json::{Value, json};

/// Something that must not be: the node, or the chain behind it, is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Finding {
    /// The block.
    pub(crate) height: Height,
    /// What was checked: `block`, `transaction`, `certificate`, `consistency`, `record`, ...
    pub(crate) check: &'static str,
    /// Which transaction of the block, or which record of the log.
    pub(crate) index: Option<u64>,
    /// What was found and what was expected.
    pub(crate) detail: String,
}

impl Finding {
    pub(crate) fn new(height: Height, check: &'static str, detail: impl ToString) -> Self {
        Self { height, check, index: None, detail: detail.to_string() }
    }

    pub(crate) fn at(self, index: u64) -> Self {
        Self { index: Some(index), ..self }
    }

    /// What is wrong with a block that was executed again.
    pub(crate) fn of_block(height: Height, fault: &BlockFault) -> Self {
        match fault {
            BlockFault::Transaction { index, .. } => {
                Self::new(height, "transaction", fault).at(u64::try_from(*index).unwrap_or(u64::MAX))
            }
            fault => Self::new(height, "block", fault),
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "height": self.height.get(),
            "check": self.check,
            "index": self.index,
            "detail": self.detail,
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "block {}", self.height)?;
        if let Some(index) = self.index {
            write!(f, ", index {index}")?;
        }
        write!(f, ": the check `{}` failed: {}", self.check, self.detail)
    }
}

/// Why an audit stopped.
#[derive(Debug)]
pub(crate) enum AuditFault {
    /// Something is wrong with the chain or the node.
    Wrong(Finding),
    /// The node did not answer, or not now. Says nothing about the chain.
    NoAnswer(ClientFault),
    /// Our own files or state failed.
    Own(anyhow::Error),
}

impl From<Finding> for AuditFault {
    fn from(finding: Finding) -> Self {
        Self::Wrong(finding)
    }
}

impl From<StateError> for AuditFault {
    fn from(error: StateError) -> Self {
        Self::Own(error.into())
    }
}

impl From<anyhow::Error> for AuditFault {
    fn from(error: anyhow::Error) -> Self {
        Self::Own(error)
    }
}

impl AuditFault {
    /// What a client's fault means while block `height` is audited: an answer that is not what the method
    /// gives, or that does not verify, is a finding; silence is not.
    pub(crate) fn of_client(height: Height, check: &'static str, fault: ClientFault) -> Self {
        match &fault {
            ClientFault::BadAnswer { .. } | ClientFault::ReceiptRefused { .. } => {
                Self::Wrong(Finding::new(height, check, fault))
            }
            // What a final block's log must hold, the node says it does not know.
            _ if fault.is_kind("not_found") => Self::Wrong(Finding::new(height, check, fault)),
            _ => Self::NoAnswer(fault),
        }
    }
}
