//! The auditor: follows a node over its interface, believes nothing, executes every block again from the
//! genesis, and says which height and index is wrong.
//!
//! For each run of blocks up to a certified one:
//!
//! 1. each transaction's keys are resolved in our own state and its signatures verified;
//! 2. each block is executed on its parent and every field of its header compared;
//! 3. the certificate must be of exactly the last block, by a quorum of its epoch's validators;
//! 4. the blocks are committed to our own state, and what was audited goes into the journal.
//!
//! After each batch the node must also prove that both anchor logs continue those of the last audit, and its
//! receipts must hold our very records.

mod auditor;
mod finding;
mod journal;
mod watch;

pub(crate) use auditor::{Auditor, Progress};
pub(crate) use finding::{AuditFault, Finding};
pub(crate) use journal::AuditJournal;
pub(crate) use watch::{AuditMetrics, alert};
