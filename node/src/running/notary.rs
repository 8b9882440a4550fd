//! The node's note key: what it signs for tools of other worlds, and its questions about the anchor logs.

use std::sync::Arc;

use cairn_crypto::{NoteKey, note_binding_preimage};
use cairn_receipt::AnchorBundle;
use cairn_receipt::export::{SignedNote, cose_key, note_verifier_key};
use cairn_rpc::{AnchorLog, At, Fault, LogCheckpoint, ReceiptForm, StoredBlock};
use cairn_types::{Address, ChainId, Hash, Height};

use super::clock::now_ms;
use super::context::Context;
use super::faults::fault_of_state;
use super::reads;
use crate::home::Home;

type Read<T> = Result<T, Fault>;

/// Holds the note key.
pub(crate) struct Notary {
    chain: ChainId,
    key: NoteKey,
    binding: Option<(Address, Vec<u8>)>,
}

impl Notary {
    /// Opens the home's note key, or makes one; a validator says with its own key that it is its own.
    ///
    /// # Errors
    /// When the file cannot be read or written, or others may read it.
    pub(crate) fn open(home: &Home, context: &Context) -> anyhow::Result<Self> {
        let key = NoteKey::load_or_make(&home.note_key())?;
        let preimage = note_binding_preimage(context.chain, key.public());
        let epoch = context.epoch();
        let binding =
            epoch.signer.as_ref().map(|signer| (signer.address, signer.sign(&preimage).as_bytes().to_vec()));
        Ok(Self { chain: context.chain, key, binding })
    }

    /// The SHA-256 log's checkpoint as of a block.
    pub(crate) fn checkpoint(&self, context: &Context, at: At) -> Read<Option<LogCheckpoint>> {
        let Some(header) = reads::header(context, at)? else { return Ok(None) };
        let (size, root, public) = (header.anchors_size, header.anchors_sha256, self.key.public());
        let note = SignedNote::sign(self.chain, size, root, &self.key, now_ms() / 1_000);
        Ok(Some(LogCheckpoint {
            note: note.to_text(),
            verifier_key: note_verifier_key(self.chain, public, false),
            cosigner_key: note_verifier_key(self.chain, public, true),
            note_key: *public,
            cose_signature: cose_key(&self.key, &root).to_vec(),
            binding: self.binding.clone(),
            header,
        }))
    }
}

const fn log_of(log: AnchorLog) -> cairn_state::AnchorLog {
    match log {
        AnchorLog::Anchors => cairn_state::AnchorLog::Blake3,
        AnchorLog::Sha256 => cairn_state::AnchorLog::Sha256,
    }
}

/// The core of a bundle of these records, JSON text.
pub(crate) fn receipts(
    context: &Context,
    seqs: &[u64],
    form: ReceiptForm,
    at: Option<At>,
) -> Read<Option<String>> {
    let height = match at {
        None => None,
        Some(at) => match reads::header(context, at)? {
            Some(header) => Some(header.height),
            None => return Ok(None),
        },
    };
    let proofs = context.state.anchor_proofs(seqs, height).map_err(fault_of_state)?;
    let relative = form == ReceiptForm::Checkpoint;
    let Some(proofs) = proofs.filter(|proofs| relative || proofs.certificate.is_some()) else {
        return Ok(None);
    };
    let handovers = reads::handovers(context, proofs.header.epoch)?;
    Ok(Some(AnchorBundle::new(&proofs, handovers, relative).to_json()))
}

/// A consistency proof's hashes.
pub(crate) fn consistency(
    context: &Context,
    log: AnchorLog,
    first: u64,
    second: u64,
) -> Read<Option<Vec<Hash>>> {
    context.state.consistency(log_of(log), first, second).map_err(fault_of_state)
}

/// A record's path in an anchor log.
pub(crate) fn path(context: &Context, log: AnchorLog, seq: u64, size: u64) -> Read<Option<Vec<Hash>>> {
    context.state.anchor_path(log_of(log), seq, size).map_err(fault_of_state)
}

/// Final blocks in bulk.
pub(crate) fn blocks(
    context: &Context,
    from: Height,
    limit: usize,
    bytes_max: usize,
) -> Read<Vec<StoredBlock>> {
    let (mut blocks, mut bytes, mut height) = (Vec::new(), 0usize, from);
    while blocks.len() < limit && bytes < bytes_max {
        let Some(block) = context.state.block(height).map_err(fault_of_state)? else { break };
        let certificate = context.state.certificate(height).map_err(fault_of_state)?;
        bytes = bytes.saturating_add(borsh::object_length(&block).unwrap_or(bytes_max));
        blocks.push(StoredBlock { block: Arc::new(block), certificate });
        height = height.next();
    }
    Ok(blocks)
}
