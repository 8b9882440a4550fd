//! Anchoring: from digests to verified receipts.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cairn_receipt::{AnchorReceipt, bundle_to_json};
use cairn_types::receipt::Receipt;
use cairn_types::{
    Address, ChainId, Hash, Proof, ProofId, ProofKind, Record, SignedTransaction, TreeKind, TxId, encode,
};
use serde_json::{Value, json};

use crate::answers;
use crate::batch::{Batch, Item, Salting};
use crate::fault::{ClientFault, RpcError};
use crate::files::{FileReceipt, receipt_path, write_atomically};
use crate::hashing::{Algorithm, hash_file};
use crate::pending::Pending;
use crate::sender::Sender;
use crate::transport::{Client, Trust};

/// How long a node is asked to wait for finality in one call. Several calls make up a longer wait.
const WAIT_MS: u64 = 10_000;
/// How long a signed transaction stays good, at most; always less than half of the chain's window.
const LIFE_MS_MAX: u64 = 60_000;
/// A transaction with less than this left is signed anew, not sent again.
const LIFE_MS_MIN: u64 = 5_000;

/// How to anchor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AnchorOptions {
    /// What the root stands for.
    pub kind: ProofKind,
    /// The caller's own id, at most 128 bytes; may be empty.
    pub reference: String,
    /// The proof that this one continues.
    pub previous: Option<ProofId>,
    /// The proof that this one speaks about, for instance an attestation of it.
    pub subject: Option<ProofId>,
    /// The identity in whose name it is anchored; it must have delegated that to the sender.
    pub on_behalf_of: Option<Address>,
    /// How the batch tree hashes.
    pub tree: TreeKind,
    /// Whether leaves get salts.
    pub salting: Salting,
    /// How files are hashed.
    pub algorithm: Algorithm,
    /// Where one bundle of all receipts goes, beside or in place of single receipts.
    pub bundle: Option<PathBuf>,
    /// Where batches are kept until their receipts are written; `None` keeps them in memory only.
    pub pending: Option<PathBuf>,
}

impl Default for AnchorOptions {
    fn default() -> Self {
        Self {
            kind: ProofKind::Batch,
            reference: String::new(),
            previous: None,
            subject: None,
            on_behalf_of: None,
            tree: TreeKind::CairnB3V1,
            salting: Salting::Random,
            algorithm: Algorithm::Blake3,
            bundle: None,
            pending: None,
        }
    }
}

/// A root that is anchored, shown by an answer that was verified against the genesis.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Anchored {
    core: AnchorReceipt,
    record: Record,
    /// Whether the proof was on the chain before.
    pub duplicate: bool,
}

impl Anchored {
    /// The record on the chain.
    pub const fn record(&self) -> &Record {
        &self.record
    }

    /// What every receipt of the batch shares.
    pub const fn core(&self) -> &AnchorReceipt {
        &self.core
    }

    /// The receipt of leaf `index` of the batch that was anchored.
    ///
    /// # Errors
    /// When it is another batch, or has no such leaf.
    pub fn receipt(&self, batch: &Batch, index: u64) -> Result<FileReceipt, ClientFault> {
        let (got, expected) = (batch.root(), self.record.root);
        if got != expected || batch.kind() != self.record.tree {
            return Err(ClientFault::OtherBatch { got, expected });
        }
        batch.receipt(&self.core, index).map(FileReceipt)
    }

    /// All of the batch's receipts, in leaf order.
    ///
    /// # Errors
    /// When it is another batch.
    pub fn receipts(&self, batch: &Batch) -> Result<Vec<FileReceipt>, ClientFault> {
        (0..batch.leaves()).map(|index| self.receipt(batch, index)).collect()
    }

    /// Writes everything a pending batch was to become, each file whole or not at all, calling `written` after
    /// each. Gives their paths.
    ///
    /// # Errors
    /// Those of the file system; another batch.
    pub fn write(&self, pending: &Pending, mut written: impl FnMut()) -> Result<Vec<PathBuf>, ClientFault> {
        let mut paths = pending.receipts.clone();
        for (index, path) in (0..).zip(&pending.receipts) {
            self.receipt(&pending.batch, index)?.save(path)?;
            written();
        }
        if let Some(path) = &pending.bundle {
            let indexes: Vec<u64> = (0..pending.batch.leaves()).collect();
            let bundle = pending.batch.bundle(&self.core, &indexes)?;
            write_atomically(path, bundle_to_json(&bundle).as_bytes())?;
            paths.push(path.clone());
            written();
        }
        Ok(paths)
    }
}

impl Client {
    /// Anchors digests as one batch and gives a verified receipt for each, in order. The digests are said
    /// to be BLAKE3; see [`Client::anchor_items`] for others.
    ///
    /// # Errors
    /// See [`ClientFault`].
    pub async fn anchor(&self, digests: impl IntoIterator<Item = Hash>) -> Result<Vec<Receipt>, ClientFault> {
        let algorithm = Algorithm::Blake3.name();
        let items = digests.into_iter().map(|digest| Item { digest, algorithm: algorithm.into() }).collect();
        let receipts = self.anchor_items(items, &AnchorOptions::default()).await?;
        Ok(receipts.into_iter().map(|receipt| receipt.0).collect())
    }

    /// Hashes a file, anchors it, gives its verified receipt.
    ///
    /// # Errors
    /// See [`ClientFault`].
    pub async fn anchor_file(&self, path: &Path) -> Result<FileReceipt, ClientFault> {
        let options = AnchorOptions::default();
        let items = items_of_files(std::slice::from_ref(&path.to_owned()), options.algorithm).await?;
        let mut receipts = self.anchor_items(items, &options).await?;
        receipts.pop().ok_or(ClientFault::EmptyBatch)
    }

    /// Anchors items as one batch and gives a verified receipt for each, in order.
    ///
    /// # Errors
    /// See [`ClientFault`].
    pub async fn anchor_items(
        &self,
        items: Vec<Item>,
        options: &AnchorOptions,
    ) -> Result<Vec<FileReceipt>, ClientFault> {
        let pending = self.prepare(items, Vec::new(), options)?;
        let anchored = self.anchor_prepared(&pending, options.pending.as_deref()).await?;
        let receipts = anchored.receipts(&pending.batch)?;
        if let Some(directory) = &options.pending {
            pending.remove(directory)?;
        }
        Ok(receipts)
    }

    /// Hashes files, anchors them as one batch, and writes each one's receipt beside it as `<file>.cairn`.
    /// Gives the receipts' paths. With `options.pending`, an interruption is made good by [`Client::resume`].
    ///
    /// # Errors
    /// See [`ClientFault`].
    pub async fn stamp_files(
        &self,
        files: &[PathBuf],
        options: &AnchorOptions,
    ) -> Result<(Anchored, Vec<PathBuf>), ClientFault> {
        let items = items_of_files(files, options.algorithm).await?;
        let receipts = files.iter().map(|file| receipt_path(file)).collect();
        let pending = self.prepare(items, receipts, options)?;
        self.finish(pending, options.pending.as_deref()).await
    }

    /// Goes on with a pending batch from `path`, a file of [`Pending::list`]: anchors it, unless it is anchored
    /// already, writes its receipts and removes the file.
    ///
    /// # Errors
    /// See [`ClientFault`]; of another chain or sender it is refused. A batch that the chain now refuses for good is
    /// kept under another name, where [`Pending::list`] no longer finds it: [`ClientFault::SetAside`].
    pub async fn resume(&self, path: &Path) -> Result<(Anchored, Vec<PathBuf>), ClientFault> {
        let pending = Pending::load(path)?;
        let (expected, sender) = (self.trust()?.genesis.chain(), self.sender()?.address());
        if pending.chain != expected {
            return Err(ClientFault::OtherChain { got: pending.chain, expected });
        }
        if pending.sender != sender {
            return Err(ClientFault::OtherSender { got: pending.sender, expected: sender });
        }
        let anchored = match self.anchor_batch(&pending.proof).await {
            // An earlier sending went unanswered, so nobody can say that the root is nowhere.
            Err(ClientFault::Refused(fault)) => {
                return Err(ClientFault::SetAside { path: Pending::set_aside(path)?, fault });
            }
            outcome => outcome?,
        };
        Self::write_out(anchored, &pending, path.parent())
    }

    /// Makes the batch and its proof, and keeps them on disk when asked to: nothing is sent before.
    ///
    /// # Errors
    /// Without genesis, key or items, and those of the file system.
    pub fn prepare(
        &self,
        items: Vec<Item>,
        receipts: Vec<PathBuf>,
        options: &AnchorOptions,
    ) -> Result<Pending, ClientFault> {
        let (chain, sender) = (self.trust()?.genesis.chain(), self.sender()?.address());
        let batch = Batch::new(items, options.tree, options.salting)?;
        let proof = Proof {
            previous: options.previous,
            subject: options.subject,
            on_behalf_of: options.on_behalf_of,
            ..batch.proof(options.kind, options.reference.clone())
        };
        let bundle = options.bundle.clone();
        let pending = Pending { chain, sender, proof, batch, receipts, bundle };
        if let Some(directory) = &options.pending {
            pending.save(directory)?;
        }
        Ok(pending)
    }

    /// Anchors a batch that [`Client::prepare`] has just made. When the chain refuses it for good and no node can have
    /// taken it, its file in `directory` is removed: salts of a root that is anchored nowhere are of no use.
    ///
    /// # Errors
    /// See [`Client::anchor_batch`].
    pub async fn anchor_prepared(
        &self,
        pending: &Pending,
        directory: Option<&Path>,
    ) -> Result<Anchored, ClientFault> {
        let outcome = self.anchor_batch(&pending.proof).await;
        if let (Err(ClientFault::Refused(_)), Some(directory)) = (&outcome, directory) {
            pending.remove(directory)?;
        }
        outcome
    }

    async fn finish(
        &self,
        pending: Pending,
        directory: Option<&Path>,
    ) -> Result<(Anchored, Vec<PathBuf>), ClientFault> {
        let anchored = self.anchor_prepared(&pending, directory).await?;
        Self::write_out(anchored, &pending, directory)
    }

    fn write_out(
        anchored: Anchored,
        pending: &Pending,
        directory: Option<&Path>,
    ) -> Result<(Anchored, Vec<PathBuf>), ClientFault> {
        let paths = anchored.write(pending, || {})?;
        if let Some(directory) = directory {
            pending.remove(directory)?;
        }
        Ok((anchored, paths))
    }

    /// Anchors one proof and waits until it is final. The same proof again gives the same record: what
    /// fails halfway may simply be done again.
    ///
    /// # Errors
    /// See [`ClientFault`]. A node whose receipt does not verify is left for the next one; when all are,
    /// [`ClientFault::ReceiptRefused`]. [`ClientFault::Refused`] says that it is refused for good and that no sending
    /// of this call can have been taken; a plain [`ClientFault::Rpc`], that an earlier one may have been.
    pub async fn anchor_batch(&self, proof: &Proof) -> Result<Anchored, ClientFault> {
        let (trust, sender) = (self.trust()?, self.sender()?);
        let chain = trust.genesis.chain();
        let proof_id = proof.id(chain, sender.address());
        let mut signer = Signer::new(sender, chain, proof, trust.genesis.params.replay_window_ms);
        let mut tries = self.tries();
        let mut refused = 0usize;
        let mut waited_ms = 0u64;
        // Whether a node may have taken it without saying so.
        let mut perhaps_taken = false;
        loop {
            let signed = signer.signed((self.now_ms)())?;
            let params =
                json!({ "tx": STANDARD.encode(encode(signed)), "wait": "final", "timeout_ms": WAIT_MS });
            let tx_id = signed.transaction.id();
            let (url, outcome) = self.call_once("proof_anchor", &params).await;
            let outcome = match outcome {
                Ok(value) => self.anchored(&url, proof, proof_id, &value).await,
                Err(fault) => Err(fault),
            };
            let fault = match outcome {
                Ok(anchored) => return Ok(anchored),
                Err(fault) => fault,
            };
            perhaps_taken |= !fault.says_not_taken();
            match &fault {
                ClientFault::ReceiptRefused { .. } => {
                    refused = refused.saturating_add(1);
                    self.leave(&url);
                    if refused >= self.nodes().len() {
                        return Err(fault);
                    }
                }
                ClientFault::Rpc(error) if error.kind == "timeout_not_final" => {
                    waited_ms = waited_ms.saturating_add(WAIT_MS);
                    tries.pause(not_final(proof_id, tx_id, waited_ms)).await?;
                }
                ClientFault::Rpc(error) if signer.follow_clock(error, (self.now_ms)()) => {}
                fault_seen if fault_seen.is_retryable() => tries.pause(fault).await?,
                _ => return Err(if perhaps_taken { fault } else { fault.for_good() }),
            }
        }
    }

    /// Reads and verifies the answer to `proof_anchor`.
    async fn anchored(
        &self,
        url: &str,
        proof: &Proof,
        proof_id: ProofId,
        value: &Value,
    ) -> Result<Anchored, ClientFault> {
        let bad =
            |why: String| ClientFault::BadAnswer { url: url.into(), method: "proof_anchor".into(), why };
        if !answers::is_final(value).map_err(bad)? {
            return Err(bad("it was asked to wait for finality and answered `pending`".into()));
        }
        let duplicate = answers::flag(value, "duplicate").map_err(bad)?;
        let receipt = value.get("receipt").filter(|receipt| !receipt.is_null());
        let receipt = receipt.ok_or_else(|| bad("`receipt` is missing".into()))?;
        let (core, record) = self.verified_anchor(url, proof_id, receipt)?;
        if (record.root, record.leaves, record.tree, record.kind)
            != (proof.root, proof.leaves, proof.tree, proof.kind)
        {
            let detail = format!("it is for root {} of {} leaves", record.root, record.leaves);
            return Err(ClientFault::ReceiptRefused { url: url.into(), check: "record".into(), detail });
        }
        Ok(Anchored { core, record, duplicate })
    }

    /// A node's receipt, when it verifies against the genesis and is of this proof.
    pub(crate) fn verified_anchor(
        &self,
        url: &str,
        proof_id: ProofId,
        receipt: &Value,
    ) -> Result<(AnchorReceipt, Record), ClientFault> {
        let refused =
            |check: String, detail: String| ClientFault::ReceiptRefused { url: url.into(), check, detail };
        let core = AnchorReceipt::parse(&receipt.to_string())
            .map_err(|fault| refused("format".into(), fault.to_string()))?;
        let verdict = self.trust()?.verifier.verify_anchor(&core);
        if let Some(check) = verdict.failed() {
            return Err(refused(check.name.to_string(), check.detail.clone()));
        }
        let record = verdict.record.filter(|_| verdict.valid);
        let record = record.ok_or_else(|| refused("record".into(), "the verdict names no record".into()))?;
        if record.proof_id != proof_id {
            let detail = format!("it is of proof {}, expected {proof_id}", record.proof_id);
            return Err(refused("record".into(), detail));
        }
        Ok((core, record))
    }

    pub(crate) fn trust(&self) -> Result<&Trust, ClientFault> {
        self.trust.as_deref().ok_or(ClientFault::NoGenesis)
    }

    fn sender(&self) -> Result<&Sender, ClientFault> {
        self.sender.as_deref().ok_or(ClientFault::NoKey)
    }
}

/// Signs one proof, again and again when it has to be.
struct Signer<'a> {
    sender: &'a Sender,
    chain: ChainId,
    proof: &'a Proof,
    life_ms: u64,
    /// The chain's time less the local one, once a node has said that they differ too much.
    skew_ms: Option<i128>,
    signed: Option<SignedTransaction>,
}

impl<'a> Signer<'a> {
    fn new(sender: &'a Sender, chain: ChainId, proof: &'a Proof, window_ms: u64) -> Self {
        let life_ms = LIFE_MS_MAX.min(window_ms / 2);
        Self { sender, chain, proof, life_ms, skew_ms: None, signed: None }
    }

    /// The transaction to send: the last one while it is good for long enough.
    fn signed(&mut self, now_ms: u64) -> Result<&SignedTransaction, ClientFault> {
        let skewed = i128::from(now_ms).saturating_add(self.skew_ms.unwrap_or(0));
        let now_ms = u64::try_from(skewed.max(0)).unwrap_or(u64::MAX);
        let good_until = now_ms.saturating_add(LIFE_MS_MIN.min(self.life_ms / 2));
        let kept = self.signed.take().filter(|signed| signed.transaction.expires_ms > good_until);
        let signed = match kept {
            Some(signed) => signed,
            None => {
                let expires_ms = now_ms.saturating_add(self.life_ms);
                self.sender.sign_proof(self.chain, expires_ms, self.proof.clone())?
            }
        };
        Ok(self.signed.insert(signed))
    }

    /// Takes the chain's time from an error about the expiry, once. A clock that is off is the user's most
    /// common trouble, and an expiry by the chain's own time gives a liar nothing.
    fn follow_clock(&mut self, error: &RpcError, now_ms: u64) -> bool {
        let said = |name: &str| error.data.get(name).and_then(Value::as_u64);
        let chain_ms = match error.kind.as_str() {
            "already_expired" => said("now_ms"),
            "expires_too_late" => said("latest_ms").map(|latest| latest.saturating_sub(2 * self.life_ms)),
            _ => None,
        };
        let (Some(chain_ms), None) = (chain_ms, self.skew_ms) else { return false };
        self.skew_ms = Some(i128::from(chain_ms).saturating_sub(i128::from(now_ms)));
        self.signed = None;
        true
    }
}

fn not_final(proof_id: ProofId, tx_id: TxId, waited_ms: u64) -> ClientFault {
    ClientFault::NotFinal { proof_id, tx_id, waited_ms }
}

/// Hashes files without holding up the runtime.
async fn items_of_files(files: &[PathBuf], algorithm: Algorithm) -> Result<Vec<Item>, ClientFault> {
    let files = files.to_vec();
    let hash_all = move || {
        let item = |path: &PathBuf| {
            let digest = hash_file(algorithm, path)?;
            Ok(Item { digest, algorithm: algorithm.name().into() })
        };
        files.iter().map(item).collect::<Result<Vec<_>, ClientFault>>()
    };
    tokio::task::spawn_blocking(hash_all).await.map_err(|error| ClientFault::Io {
        path: PathBuf::from("the files to hash"),
        source: std::io::Error::other(error),
    })?
}
