//! The durability border: actions come out only once what they rest on is synced.

use std::sync::Arc;

use cairn_types::Block;
use cairn_types::safety::SafetyRecord;

use crate::action::Action;

/// What must be on disk before a step's actions may be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Durable {
    /// The whole record `D`, to be synced last.
    pub record: SafetyRecord,
    /// Canonical bytes of certificates that the record newly names, block certificates as `BlockCert`.
    pub certificates: Vec<Vec<u8>>,
    /// Bodies of blocks newly voted for.
    pub bodies: Vec<Arc<Block>>,
}

/// Where the durable record is kept.
pub trait SafetyStore {
    /// Why it could not be written.
    type Error;

    /// Writes and syncs: certificates and bodies first, then the record.
    ///
    /// # Errors
    /// When anything is not known to be on disk. Nothing of the step may then leave the node.
    fn persist(&mut self, write: &Durable) -> Result<(), Self::Error>;
}

/// The outcome of one or more inputs. Its actions are out of reach until they are durable.
#[derive(Debug, Default)]
#[must_use = "a step that is not committed loses its actions"]
pub struct Step {
    pub(crate) durable: Option<Durable>,
    pub(crate) actions: Vec<Action>,
}

impl Step {
    /// Adds the step that followed this one, so that one sync covers both.
    pub fn merge(&mut self, next: Self) {
        self.actions.extend(next.actions);
        match (&mut self.durable, next.durable) {
            (Some(durable), Some(next)) => {
                durable.record = next.record;
                durable.certificates.extend(next.certificates);
                durable.bodies.extend(next.bodies);
            }
            (durable @ None, next) => *durable = next,
            (Some(_), None) => {}
        }
    }

    /// Whether anything must be written before the actions may be carried out.
    pub const fn needs_sync(&self) -> bool {
        self.durable.is_some()
    }

    /// Whether there is neither anything to write nor anything to do.
    pub fn is_empty(&self) -> bool {
        self.durable.is_none() && self.actions.is_empty()
    }

    /// Makes the step durable and gives its actions, in order: the only way to them. Nothing is written when
    /// nothing durable changed.
    ///
    /// # Errors
    /// The store's; the actions are then lost, and the node must not go on signing.
    pub fn commit_to<S: SafetyStore>(self, store: &mut S) -> Result<Vec<Action>, S::Error> {
        if let Some(durable) = &self.durable {
            store.persist(durable)?;
        }
        Ok(self.actions)
    }
}
