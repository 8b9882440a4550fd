//! What is signed: `tag (16 ASCII bytes, zero padded) ‖ chain (32) ‖ body` (FORMATS, "Signatures").

use crate::id::{BlockId, ChainId, Epoch, View};

/// The domain of a signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "each variant is named after its tag")]
pub enum Tag {
    Tx,
    Proposal,
    Vote,
    Commit,
    Timeout,
    Link,
    Node,
    Checkpoint,
    Login,
}

impl Tag {
    /// The tag's text, at most 16 bytes.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Tx => "cairn-tx",
            Self::Proposal => "cairn-proposal",
            Self::Vote => "cairn-vote",
            Self::Commit => "cairn-commit",
            Self::Timeout => "cairn-timeout",
            Self::Link => "cairn-link",
            Self::Node => "cairn-node",
            Self::Checkpoint => "cairn-checkpt",
            Self::Login => "cairn-login",
        }
    }

    /// The bytes to sign: this tag, the chain and `body`.
    pub fn preimage(self, chain: ChainId, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(body.len().saturating_add(48));
        bytes.extend_from_slice(self.text().as_bytes());
        bytes.resize(16, 0);
        bytes.extend_from_slice(chain.as_bytes());
        bytes.extend_from_slice(body);
        bytes
    }
}

/// The preimage of a proposal, vote or commit vote: `epoch ‖ view ‖ block id`.
pub fn block_preimage(tag: Tag, chain: ChainId, epoch: Epoch, view: View, block: BlockId) -> Vec<u8> {
    let mut body = Vec::with_capacity(48);
    body.extend_from_slice(&epoch.get().to_le_bytes());
    body.extend_from_slice(&view.get().to_le_bytes());
    body.extend_from_slice(block.as_bytes());
    tag.preimage(chain, &body)
}

/// The preimage of a timeout: `epoch ‖ view ‖ high_qc view`.
pub fn timeout_preimage(chain: ChainId, epoch: Epoch, view: View, high_qc_view: View) -> Vec<u8> {
    let mut body = Vec::with_capacity(24);
    body.extend_from_slice(&epoch.get().to_le_bytes());
    body.extend_from_slice(&view.get().to_le_bytes());
    body.extend_from_slice(&high_qc_view.get().to_le_bytes());
    Tag::Timeout.preimage(chain, &body)
}
