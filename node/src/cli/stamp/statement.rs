//! What a stamped batch says beside its root: whose it is, and how it stands to other proofs.

use anyhow::bail;
use cairn_client::{Client, Sender};
use cairn_crypto::KeyPair;
use cairn_types::{Address, Hash, KeyRef, Proof, ProofId, ProofKind};
use clap::Args;

use crate::cli::actor::{parse_did, parse_kind};

/// Whose the batch is, and what it says of others.
#[derive(Clone, Debug, Args)]
pub(super) struct StatementArgs {
    /// What the root stands for; a delegation may allow some kinds alone
    #[arg(long, value_name = "KIND", default_value = "batch", value_parser = parse_kind)]
    pub(super) kind: ProofKind,
    /// Anchor in the name of this identity, which has delegated that to yours
    #[arg(long, value_name = "DID", value_parser = parse_did)]
    pub(super) on_behalf_of: Option<Address>,
    /// The identity whose key signs, when it was made from another key
    #[arg(long = "as", value_name = "DID", value_parser = parse_did)]
    identity: Option<Address>,
    /// The proof that this one continues
    #[arg(long, value_name = "PROOF_ID", value_parser = parse_proof_id)]
    pub(super) previous: Option<ProofId>,
    /// The proof that this one speaks about, for instance with --kind attestation
    #[arg(long, value_name = "PROOF_ID", value_parser = parse_proof_id)]
    pub(super) subject: Option<ProofId>,
}

fn parse_proof_id(text: &str) -> Result<ProofId, String> {
    Hash::from_hex(text).map(ProofId::new).ok_or_else(|| "expected a proof id, 64 hex digits".to_owned())
}

impl StatementArgs {
    /// The proof of a root with all of this in it.
    pub(super) fn about(&self, proof: Proof) -> Proof {
        let (previous, subject) = (self.previous, self.subject);
        Proof { previous, subject, on_behalf_of: self.on_behalf_of, ..proof }
    }

    /// Who signs: the identity named, else the key's own, with the key as the chain knows it.
    ///
    /// # Errors
    /// When the node does not answer, or the key is not one of the identity's.
    pub(super) async fn sender(&self, client: &Client, key: KeyPair) -> anyhow::Result<Sender> {
        let identity = self.identity.unwrap_or_else(|| key.address());
        match client.key_reference(identity, key.public()).await? {
            Some(KeyRef::Registered(index)) => Ok(Sender::registered(identity, index, key)),
            Some(KeyRef::Inline(_)) => Ok(Sender::inline(key)),
            None => bail!(
                "{} is no key of did:cairn:{identity}; --as names the identity, `cairn identity show` lists its keys",
                key.address()
            ),
        }
    }
}
