//! C2SP tlog-proof (c2sp.org/tlog-proof@v1): a record's place in the SHA-256 log with the log's checkpoint.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cairn_types::log::TreeHash;
use cairn_types::tree::root_from_path;
use cairn_types::{ChainId, Hash};
use thiserror::Error;

use crate::export::note::{NoteFault, SignedNote};

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";
/// Hashes of a path, at most.
const PATH_MAX: usize = 64;

/// Why a text is no tlog-proof, or does not hold.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the message of each variant names its fields")]
pub enum TlogFault {
    #[error("not a tlog-proof: {why}")]
    Format { why: &'static str },
    #[error("the checkpoint: {0}")]
    Note(#[from] NoteFault),
    #[error("the record does not lead to the checkpoint's root: {why}")]
    Path { why: String },
}

/// A record in the SHA-256 log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlogProof {
    /// Data beside the proof; vouched for by nobody. We put the record's bytes here.
    pub extra: Vec<u8>,
    /// The record's `seq`.
    pub index: u64,
    /// Its path, nearest sibling first.
    pub path: Vec<Hash>,
    /// The log's checkpoint.
    pub checkpoint: SignedNote,
}

impl TlogProof {
    /// The text.
    pub fn to_text(&self) -> String {
        let mut text = format!("{FIRST_LINE}\n");
        if !self.extra.is_empty() {
            text.push_str(&format!("extra {}\n", STANDARD.encode(&self.extra)));
        }
        text.push_str(&format!("index {}\n", self.index));
        for hash in &self.path {
            text.push_str(&STANDARD.encode(hash.as_bytes()));
            text.push('\n');
        }
        text.push('\n');
        text + &self.checkpoint.to_text()
    }

    /// Reads the text. Verifies nothing.
    ///
    /// # Errors
    /// The first thing that is not as specified.
    pub fn parse(text: &str) -> Result<Self, TlogFault> {
        let bad = |why| TlogFault::Format { why };
        let (proof, note) = text.split_once("\n\n").ok_or(bad("no empty line before the checkpoint"))?;
        let mut lines = proof.split('\n').peekable();
        if lines.next() != Some(FIRST_LINE) {
            return Err(bad("the first line is not c2sp.org/tlog-proof@v1"));
        }
        let mut extra = Vec::new();
        if let Some(text) = lines.peek().and_then(|line| line.strip_prefix("extra ")) {
            extra = STANDARD.decode(text).map_err(|_| bad("`extra` is not base64"))?;
            lines.next();
        }
        let index_text = lines.next().and_then(|line| line.strip_prefix("index ")).ok_or(bad("no index"))?;
        let index: u64 = index_text.parse().map_err(|_| bad("the index is no number"))?;
        if index.to_string() != index_text {
            return Err(bad("the index has leading zeros or a sign"));
        }
        let hash = |line: &str| {
            let bytes = STANDARD.decode(line).map_err(|_| bad("a hash is not base64"))?;
            Ok(Hash(bytes.try_into().map_err(|_| bad("a hash has not 32 bytes"))?))
        };
        let path = lines.map(hash).collect::<Result<Vec<_>, TlogFault>>()?;
        if path.len() > PATH_MAX {
            return Err(bad("more than 64 hashes"));
        }
        Ok(Self { extra, index, path, checkpoint: SignedNote::parse(note)? })
    }

    /// Checks that `record` stands at the index in the log of a checkpoint that at least `needed` of these
    /// keys signed. Gives the names of those that did.
    ///
    /// # Errors
    /// What does not hold.
    pub fn verify(
        &self,
        chain: ChainId,
        record: &[u8],
        keys: &[(String, [u8; 32])],
        needed: usize,
    ) -> Result<Vec<String>, TlogFault> {
        let signed = self.checkpoint.verify(chain, keys, needed)?;
        let (log, size) = (TreeHash::AnchorsSha256, self.checkpoint.size);
        let root = root_from_path(log, log.leaf(record), self.index, size, &self.path)
            .map_err(|fault| TlogFault::Path { why: fault.to_string() })?;
        if root != self.checkpoint.root {
            return Err(TlogFault::Path { why: format!("it leads to {root}") });
        }
        Ok(signed)
    }
}
