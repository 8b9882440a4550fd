//! A batch on disk from before its root is submitted until its receipts are written, so that a client
//! that dies in between goes on where it was. Without the salts an anchored root would be worth nothing.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cairn_types::{Address, ChainId, Hash, Proof, decode, encode};
use serde::{Deserialize, Serialize};

use crate::batch::{Batch, Item, Salt};
use crate::fault::{ClientFault, io_fault};
use crate::files::write_atomically;

const VERSION: u64 = 1;
const SUFFIX: &str = ".pending.json";
/// Of a batch that the chain refused after an earlier sending went unanswered.
const SUFFIX_ASIDE: &str = ".refused.json";

/// A batch that may or may not be anchored yet.
#[derive(Clone, Debug)]
pub struct Pending {
    /// The chain it goes to.
    pub chain: ChainId,
    /// Who anchors it. Together with `proof` this fixes the proof's id: submitting again is harmless.
    pub sender: Address,
    /// The proof, exactly as it is submitted.
    pub proof: Proof,
    /// The batch.
    pub batch: Batch,
    /// Where each leaf's receipt goes; empty, or one per leaf.
    pub receipts: Vec<PathBuf>,
    /// Where one bundle of all leaves goes.
    pub bundle: Option<PathBuf>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PendingJson {
    version: u64,
    chain: String,
    sender: String,
    proof_b64: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bundle: Option<PathBuf>,
    items: Vec<PendingItem>,
}

/// One leaf in the file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PendingItem {
    /// Lower-case hex.
    pub digest: String,
    /// How the digest was made.
    pub algorithm: String,
    /// Lower-case hex; absent without salts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<String>,
    /// Where the receipt goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<PathBuf>,
}

impl Pending {
    /// The file it is kept in.
    pub fn path(&self, directory: &Path) -> PathBuf {
        directory.join(format!("{}-{}{SUFFIX}", self.proof.root, self.sender))
    }

    /// Writes it, durably, into `directory`, which is made when missing. Gives the file.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn save(&self, directory: &Path) -> Result<PathBuf, ClientFault> {
        fs::create_dir_all(directory).map_err(io_fault(directory))?;
        let item = |(index, item): (usize, &Item)| PendingItem {
            digest: item.digest.to_string(),
            algorithm: item.algorithm.clone(),
            salt: self.batch.salts().get(index).map(hex::encode),
            receipt: self.receipts.get(index).cloned(),
        };
        let json = PendingJson {
            version: VERSION,
            chain: self.chain.to_string(),
            sender: self.sender.to_string(),
            proof_b64: STANDARD.encode(encode(&self.proof)),
            bundle: self.bundle.clone(),
            items: self.batch.items().iter().enumerate().map(item).collect(),
        };
        let path = self.path(directory);
        let text = serde_json::to_vec(&json)
            .map_err(|error| ClientFault::BadPending { path: path.clone(), why: error.to_string() })?;
        write_atomically(&path, &text)?;
        Ok(path)
    }

    /// Reads one back and checks that the items still make the proof's root.
    ///
    /// # Errors
    /// [`ClientFault::BadPending`] with what is wrong.
    pub fn load(path: &Path) -> Result<Self, ClientFault> {
        let bad = |why: String| ClientFault::BadPending { path: path.to_owned(), why };
        let text = fs::read(path).map_err(io_fault(path))?;
        let json: PendingJson = serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
        if json.version != VERSION {
            return Err(bad(format!("version {}, expected {VERSION}", json.version)));
        }
        let hash = |what: &str, text: &str| {
            Hash::from_hex(text).ok_or_else(|| bad(format!("`{what}` is not 64 hex digits")))
        };
        let proof = STANDARD.decode(&json.proof_b64).map_err(|error| bad(format!("proof_b64: {error}")))?;
        let proof: Proof = decode(&proof).map_err(|error| bad(error.to_string()))?;
        let (mut items, mut salts, mut receipts) = (Vec::new(), Vec::new(), Vec::new());
        for item in json.items {
            items.push(Item { digest: hash("digest", &item.digest)?, algorithm: item.algorithm });
            if let Some(text) = item.salt {
                let mut salt = Salt::default();
                hex::decode_to_slice(&text, &mut salt).map_err(|error| bad(format!("salt: {error}")))?;
                salts.push(salt);
            }
            receipts.extend(item.receipt);
        }
        if !receipts.is_empty() && receipts.len() != items.len() {
            return Err(bad(format!("{} receipt paths for {} items", receipts.len(), items.len())));
        }
        let batch = Batch::with_salts(items, salts, proof.tree).map_err(|fault| bad(fault.to_string()))?;
        if batch.root() != proof.root || batch.leaves() != proof.leaves {
            return Err(bad(format!("its items make root {}, its proof says {}", batch.root(), proof.root)));
        }
        let chain = ChainId::new(hash("chain", &json.chain)?);
        let sender = Address::new(hash("sender", &json.sender)?);
        Ok(Self { chain, sender, proof, batch, receipts, bundle: json.bundle })
    }

    /// The files of all pending batches in `directory`; none when there is no such directory.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn list(directory: &Path) -> Result<Vec<PathBuf>, ClientFault> {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io_fault(directory)(error)),
        };
        let mut paths = Vec::new();
        for entry in entries {
            let path = entry.map_err(io_fault(directory))?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(SUFFIX)) {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths)
    }

    /// Renames a file of [`Pending::list`] so that it is no longer found there; gives its new name.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn set_aside(path: &Path) -> Result<PathBuf, ClientFault> {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let stem = name.strip_suffix(SUFFIX).unwrap_or(&name);
        let aside = path.with_file_name(format!("{stem}{SUFFIX_ASIDE}"));
        fs::rename(path, &aside).map_err(io_fault(path))?;
        Ok(aside)
    }

    /// Forgets it, once its receipts are written.
    ///
    /// # Errors
    /// Those of the file system; that it is gone already is none.
    pub fn remove(&self, directory: &Path) -> Result<(), ClientFault> {
        let path = self.path(directory);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io_fault(&path)(error)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Salting;
    use cairn_types::{ProofKind, TreeKind};

    fn pending(salting: Salting) -> Pending {
        let items = (0..5).map(|at| Item { digest: Hash([at; 32]), algorithm: "sha256".into() }).collect();
        let batch = Batch::new(items, TreeKind::Rfc9162Sha256, salting).unwrap();
        let proof = batch.proof(ProofKind::Work, "order 7".into());
        let receipts = (0..5).map(|at| PathBuf::from(format!("f{at}.cairn"))).collect();
        Pending {
            chain: ChainId::new(Hash([8; 32])),
            sender: Address::new(Hash([9; 32])),
            proof,
            batch,
            receipts,
            bundle: Some(PathBuf::from("all.cairn")),
        }
    }

    #[test]
    fn it_comes_back_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("pending");
        assert!(Pending::list(&place).unwrap().is_empty());
        for salting in [Salting::Random, Salting::None] {
            let pending = pending(salting);
            let path = pending.save(&place).unwrap();
            assert_eq!(Pending::list(&place).unwrap(), std::slice::from_ref(&path));
            let back = Pending::load(&path).unwrap();
            assert_eq!(back.proof, pending.proof);
            assert_eq!(back.batch.salts(), pending.batch.salts());
            assert_eq!(back.batch.items(), pending.batch.items());
            assert_eq!(
                (back.chain, back.sender, &back.receipts, &back.bundle),
                (pending.chain, pending.sender, &pending.receipts, &pending.bundle)
            );
            back.remove(&place).unwrap();
            back.remove(&place).unwrap();
            assert!(Pending::list(&place).unwrap().is_empty());
        }
    }

    #[test]
    fn a_changed_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = pending(Salting::Random).save(directory.path()).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let digest = "01".repeat(32);
        let cases = [
            (text.replace(&digest, &"0f".repeat(32)), "make root"),
            (text.replace("\"version\":1", "\"version\":2"), "version 2"),
            (text.replace("\"chain\":", "\"chian\":"), "unknown field"),
            (
                text.replace("f3.cairn", "f3").replace(",\"receipt\":\"f4.cairn\"", ""),
                "4 receipt paths for 5 items",
            ),
            (String::new(), "EOF"),
        ];
        for (changed, why) in cases {
            assert_ne!(changed, text);
            fs::write(&path, changed).unwrap();
            let fault = Pending::load(&path).unwrap_err().to_string();
            assert!(fault.contains(why), "{fault}");
        }
    }
}
