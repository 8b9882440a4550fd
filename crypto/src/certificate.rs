//! The certificates that messages carry.

use std::sync::Arc;

use cairn_types::message::Carried;
use cairn_types::{BlockCert, CommitCert, Message, TimeoutCert, Verified};

/// Any certificate that a message may carry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Certificate {
    /// The certificate of a block, by votes, by commit votes or implicit.
    Block(BlockCert),
    /// A timeout certificate.
    Timeout(Arc<TimeoutCert>),
    /// A commit certificate sent as proof that its block is final.
    Commit(Arc<CommitCert>),
}

/// A [`Certificate`] whose signatures were checked.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the variants are those of `Certificate`")]
pub enum VerifiedCertificate {
    Block(Verified<BlockCert>),
    Timeout(Verified<Arc<TimeoutCert>>),
    Commit(Verified<Arc<CommitCert>>),
}

impl Certificate {
    /// Every certificate that `message` carries inline, the inner before the outer. They are verified and
    /// fed on their own, also when the rest of the message is bad.
    pub fn of(message: &Message) -> Vec<Self> {
        let mut found = Vec::new();
        match message {
            Message::Proposal(proposal) => {
                found.extend(proposal.justify.inline().cloned().map(Self::Block));
                push_timeout(&mut found, proposal.tc.as_ref().and_then(Carried::inline));
            }
            Message::Timeout(timeout) => {
                found.extend(timeout.high_qc.inline().cloned().map(Self::Block));
                push_timeout(&mut found, timeout.tc.as_ref().and_then(Carried::inline));
            }
            Message::Certificate(certificate) => found.push(Self::Block(certificate.clone())),
            Message::TimeoutCert(certificate) => push_timeout(&mut found, Some(certificate)),
            Message::CommitCert(certificate) => found.push(Self::Commit(Arc::clone(certificate))),
            Message::Vote(_) | Message::CommitVote(_) | Message::Status(_) | Message::EpochProof(_) => {}
        }
        found
    }
}

fn push_timeout(found: &mut Vec<Certificate>, certificate: Option<&Arc<TimeoutCert>>) {
    if let Some(certificate) = certificate {
        found.push(Certificate::Block(certificate.high_qc.clone()));
        found.push(Certificate::Timeout(Arc::clone(certificate)));
    }
}
