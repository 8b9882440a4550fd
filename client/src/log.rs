//! What nodes say about the anchor log as a whole: many receipts at once, consistency, checkpoints, blocks in
//! bulk. What a client can verify is verified before it is handed out.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cairn_receipt::export::SignedNote;
use cairn_receipt::{
    AnchorBundle, Checkpoint, ConsistencyProof, LOG_NAMES, RECEIPT_BYTES_MAX, ReceiptVerifier, Verdict,
};
use cairn_types::log::TreeHash;
use cairn_types::receipt::{EpochHandover, Finality};
use cairn_types::{
    Address, Block, BlockId, CommitCert, Epoch, Hash, Header, Height, Signature, ValidatorSet, decode, encode,
};
use serde_json::{Value, json};

use crate::answers::{self, BlockRef, Read};
use crate::fault::ClientFault;
use crate::transport::Client;

/// Records in one `receipt_bundle`, at most: the node's own bound.
pub const BUNDLE_RECORDS_MAX: usize = 1_000;

/// The SHA-256 log's checkpoint as one node signed it (`log_checkpoint`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogCheckpoint {
    /// The block whose log it is.
    pub height: Height,
    /// Its id.
    pub block: BlockId,
    /// The signed note.
    pub note: SignedNote,
    /// The verifier key of its plain signature, as note tools take it.
    pub verifier_key: String,
    /// The verifier key of its cosignature.
    pub cosigner_key: String,
    /// The Ed25519 public key.
    pub note_key: [u8; 32],
    /// The signature for COSE receipts of this size.
    pub cose_signature: [u8; 64],
    /// The validator that says the note key is its own, with its signature over that.
    pub binding: Option<(Address, Signature)>,
}

/// How the validator sets follow each other (`chain_trust`). Not verified: a receipt's verification does it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrustPath {
    /// The sets, from the one asked for on.
    pub sets: Vec<ValidatorSet>,
    /// The hand-over to each set after the first.
    pub handovers: Vec<EpochHandover>,
}

/// Some final blocks (`chain_blocks`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Blocks {
    /// Each with the certificate of exactly that block, where it has one; heights without gaps.
    pub blocks: Vec<(Block, Option<CommitCert>)>,
    /// The node's last final height.
    pub latest: Height,
}

fn fixed<const N: usize>(value: &Value, name: &str) -> Read<[u8; N]> {
    let bytes = answers::bytes(value, name)?;
    let got = bytes.len();
    bytes.try_into().map_err(|_| format!("`{name}` has {got} bytes; expected {N}"))
}

fn hashes(value: &Value, name: &str) -> Read<Vec<Hash>> {
    let read = |item: &Value| item.as_str().and_then(Hash::from_hex);
    answers::list(value, name)?
        .iter()
        .map(|item| read(item).ok_or_else(|| format!("`{name}` holds something else than hashes")))
        .collect()
}

const fn name_of(log: TreeHash) -> &'static str {
    match log {
        TreeHash::AnchorsSha256 => LOG_NAMES[1].0,
        _ => LOG_NAMES[0].0,
    }
}

fn log_checkpoint(value: &Value) -> Read<LogCheckpoint> {
    let note = SignedNote::parse(answers::text(value, "note")?).map_err(|fault| fault.to_string())?;
    let binding = match value.get("validator").filter(|it| !it.is_null()) {
        None => None,
        Some(_) => {
            let bytes = answers::bytes(value, "binding_b64")?;
            let signature = Signature::new(&bytes).ok_or("`binding_b64` is no signature")?;
            Some((answers::id(value, "validator")?, signature))
        }
    };
    Ok(LogCheckpoint {
        height: Height::new(answers::int(value, "height")?),
        block: answers::id(value, "block")?,
        note,
        verifier_key: answers::text(value, "verifier_key")?.to_owned(),
        cosigner_key: answers::text(value, "cosigner_key")?.to_owned(),
        note_key: fixed(value, "note_key_b64")?,
        cose_signature: fixed(value, "cose_signature_b64")?,
        binding,
    })
}

fn trust_path(value: &Value) -> Read<TrustPath> {
    let sets = answers::list(value, "sets")?.iter().map(|set| answers::canonical(set, "validators_b64"));
    let handover = |step: &Value| {
        let texts = answers::list(step, "headers")?.iter().map(|text| {
            let text = text.as_str().ok_or("`headers` holds something else than text")?;
            STANDARD.decode(text).map_err(|error| format!("`headers`: {error}"))
        });
        Ok(EpochHandover {
            headers: texts.collect::<Read<_>>()?,
            certificate: answers::bytes(step, "certificate")?,
            validators: answers::bytes(step, "validators")?,
        })
    };
    let handovers = answers::list(value, "handovers")?.iter().map(handover).collect::<Read<_>>()?;
    Ok(TrustPath { sets: sets.collect::<Read<_>>()?, handovers })
}

fn blocks_from(value: &Value, from: Height) -> Read<Blocks> {
    let mut blocks = Vec::new();
    let mut height = from;
    for item in answers::list(value, "items")? {
        let block: Block = answers::canonical(item, "block_b64")?;
        if block.header().height != height {
            return Err(format!("block {} where {height} belongs", block.header().height));
        }
        let certificate = item.get("certificate_b64").filter(|it| !it.is_null());
        let certificate = certificate.map(|_| answers::canonical(item, "certificate_b64")).transpose()?;
        blocks.push((block, certificate));
        height = height.next();
    }
    Ok(Blocks { blocks, latest: Height::new(answers::int(value, "latest")?) })
}

impl Client {
    /// The core of a bundle of these records (strictly ascending), under one header: the newest certified one,
    /// or that of `at`. Verified against the genesis; a core that is `relative` to a checkpoint is verified but
    /// for the checkpoint.
    ///
    /// # Errors
    /// As [`Client::call`]; [`ClientFault::ReceiptRefused`] when it does not verify or is of other records.
    pub async fn receipt_bundle(
        &self,
        seqs: &[u64],
        at: Option<BlockRef>,
        relative: bool,
    ) -> Result<AnchorBundle, ClientFault> {
        let form = if relative { "checkpoint" } else { "standalone" };
        let params = json!({ "seqs": seqs, "form": form, "at": at.map(BlockRef::to_json) });
        let (url, value) = self.call_somewhere("receipt_bundle", &params).await?;
        let refused = |check: &str, detail: String| ClientFault::ReceiptRefused {
            url: url.clone(),
            check: check.to_owned(),
            detail,
        };
        let core =
            AnchorBundle::parse(&value.to_string()).map_err(|fault| refused("format", fault.to_string()))?;
        let header = core.header().map_err(|fault| refused("header", fault.to_string()))?;
        let verdict = match core.finality {
            Finality::Certificate(_) => self.trust()?.verifier.verify_anchors(&core),
            Finality::Checkpoint => self.verifier_pinning(header.id())?.verify_anchors(&core),
        };
        if let Some(check) = verdict.failed() {
            return Err(refused(check.name.name(), check.detail.clone()));
        }
        if !verdict.records.iter().map(|record| record.seq).eq(seqs.iter().copied()) {
            return Err(refused("record", "it holds other records than were asked for".to_owned()));
        }
        Ok(core)
    }

    fn verifier_pinning(&self, block: BlockId) -> Result<ReceiptVerifier, ClientFault> {
        let mut trusted = self.trust()?.verifier.trusted().clone();
        trusted.checkpoints = vec![block];
        Ok(ReceiptVerifier::new(trusted))
    }

    /// The hashes of a consistency proof of an anchor log between two sizes.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn log_consistency(
        &self,
        log: TreeHash,
        first: u64,
        second: u64,
    ) -> Result<Vec<Hash>, ClientFault> {
        let params = json!({ "first": first, "second": second, "log": name_of(log) });
        self.read("log_consistency", params, |value| hashes(value, "path")).await
    }

    /// The path of a record in the first `size` records of an anchor log.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn log_proof(&self, log: TreeHash, seq: u64, size: u64) -> Result<Vec<Hash>, ClientFault> {
        let params = json!({ "seq": seq, "size": size, "log": name_of(log) });
        self.read("log_proof", params, |value| hashes(value, "path")).await
    }

    /// The SHA-256 log's checkpoint as the node signs it. Its signatures are not verified.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn log_checkpoint(&self, at: BlockRef) -> Result<LogCheckpoint, ClientFault> {
        self.read("log_checkpoint", json!({ "at": at.to_json() }), log_checkpoint).await
    }

    /// The validator sets from an epoch on, with the hand-overs between them. Not verified.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn chain_trust(&self, from: Epoch) -> Result<TrustPath, ClientFault> {
        self.read("chain_trust", json!({ "from_epoch": from.get() }), trust_path).await
    }

    /// The hand-overs from epoch 0 to `until`, as many as the node has of them, from as many calls as that takes. Not
    /// verified.
    pub(crate) async fn handovers(&self, until: Epoch) -> Result<Vec<EpochHandover>, ClientFault> {
        let steps = usize::try_from(until.get()).unwrap_or(usize::MAX);
        let (mut all, mut bytes) = (Vec::new(), 0usize);
        while all.len() < steps {
            let page = self.chain_trust(Epoch::new(all.len() as u64)).await?.handovers;
            if page.is_empty() {
                break;
            }
            let lengths = page.iter().map(|it| {
                it.headers.iter().map(Vec::len).sum::<usize>() + it.certificate.len() + it.validators.len()
            });
            bytes = bytes.saturating_add(lengths.sum());
            // A receipt holds no more either; and a liar could go on for ever.
            if bytes > RECEIPT_BYTES_MAX {
                return Err(ClientFault::BadAnswer {
                    url: self.nodes().join(", "),
                    method: "chain_trust".to_owned(),
                    why: format!(
                        "hand-overs of more than {RECEIPT_BYTES_MAX} bytes; start from a checkpoint"
                    ),
                });
            }
            all.extend(page);
        }
        all.truncate(steps);
        Ok(all)
    }

    /// Final blocks in bulk; may be fewer than asked for. Not verified.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn chain_blocks(&self, from: Height, limit: usize) -> Result<Blocks, ClientFault> {
        let params = json!({ "from": from.get(), "limit": limit });
        self.read("chain_blocks", params, |value| blocks_from(value, from)).await
    }

    /// The newest header with a certificate of its own, verified against the genesis.
    ///
    /// # Errors
    /// As [`Client::call`]; [`ClientFault::ReceiptRefused`] when it does not verify.
    pub async fn checkpoint(&self) -> Result<(Checkpoint, Header), ClientFault> {
        let certificate = self.chain_certificate(BlockRef::Latest).await?;
        let header = self.chain_header(BlockRef::Id(certificate.block)).await?;
        let epochs = self.handovers(header.epoch).await?;
        let finality = Finality::Certificate(encode(&certificate));
        let checkpoint = Checkpoint::new(encode(&header), finality, epochs);
        let verdict = self.trust()?.verifier.verify_checkpoint(&checkpoint);
        self.accept(verdict)?;
        Ok((checkpoint, header))
    }

    /// A verified proof that the log of `to` begins with that of the header `from_bytes`.
    ///
    /// # Errors
    /// As [`Client::call`]; [`ClientFault::ReceiptRefused`] when it does not verify: the node, or whoever made
    /// the earlier header, rewrote the log.
    pub async fn consistency(
        &self,
        log: TreeHash,
        from_bytes: &[u8],
        to: &Checkpoint,
    ) -> Result<ConsistencyProof, ClientFault> {
        let size = |bytes: &[u8]| -> Result<u64, ClientFault> {
            let header: Header = decode(bytes).map_err(|fault| ClientFault::ReceiptRefused {
                url: self.nodes().join(", "),
                check: "header".to_owned(),
                detail: fault.to_string(),
            })?;
            Ok(header.anchors_size)
        };
        let path = self.log_consistency(log, size(from_bytes)?, size(&to.header_bytes)?).await?;
        let proof = ConsistencyProof { log, from_bytes: from_bytes.to_vec(), path, to: to.clone() };
        self.accept(self.trust()?.verifier.verify_consistency(&proof))?;
        Ok(proof)
    }

    fn accept(&self, verdict: Verdict) -> Result<(), ClientFault> {
        let Some(check) = verdict.failed() else { return Ok(()) };
        let (url, check, detail) = (self.nodes().join(", "), check.name.to_string(), check.detail.clone());
        Err(ClientFault::ReceiptRefused { url, check, detail })
    }
}
