//! What an audit has seen, line by line: each line is synced before the audit goes on.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use cairn_types::{BlockId, ChainId, Header, Height};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::finding::Finding;

/// Characters of one line, at most; longer ones are damage.
const LINE_BYTES_MAX: usize = 1 << 16;

/// The place an audit has come to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Mark {
    pub(crate) height: Height,
    pub(crate) block: BlockId,
}

/// One line.
#[derive(Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
enum Line {
    /// The first line: which chain.
    Chain { chain: String },
    /// Everything up to this block is as it should be.
    Audited { height: u64, block: String, anchors: u64, anchors_root: String, proofs: u64 },
    /// Something was not.
    Finding { finding: Value },
}

/// The journal, open for more.
pub(crate) struct AuditJournal {
    path: PathBuf,
    file: File,
    mark: Option<Mark>,
}

impl AuditJournal {
    /// Opens the journal at `path`, or begins one for `chain`. A line that was cut short by a crash is dropped.
    ///
    /// # Errors
    /// When it is of another chain, damaged, or cannot be written.
    pub(crate) fn open(path: &Path, chain: ChainId) -> anyhow::Result<Self> {
        let shown = || format!("the audit journal {}", path.display());
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).with_context(shown)?;
        }
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).open(path).with_context(shown)?;
        let (mut mark, mut whole, mut first) = (None, 0u64, true);
        let mut reader = BufReader::new(&file);
        let mut text = String::new();
        while reader.read_line(&mut text).with_context(shown)? > 0 {
            if !text.ends_with('\n') {
                break;
            }
            let line: Line = serde_json::from_str(&text).with_context(shown)?;
            match (first, line) {
                (true, Line::Chain { chain: held }) if held == chain.to_string() => {}
                (true, Line::Chain { chain: held }) => bail!("{} is of chain {held}, not {chain}", shown()),
                (true, _) | (false, Line::Chain { .. }) => bail!("{} does not begin with its chain", shown()),
                (false, Line::Audited { height, block, .. }) => {
                    let block = BlockId::from_hex(&block).with_context(shown)?;
                    mark = Some(Mark { height: Height::new(height), block });
                }
                (false, Line::Finding { .. }) => {}
            }
            first = false;
            whole += text.len() as u64;
            if text.len() > LINE_BYTES_MAX {
                bail!("{} has a line of {} bytes", shown(), text.len());
            }
            text.clear();
        }
        drop(reader);
        file.set_len(whole).with_context(shown)?;
        if first {
            let line = serde_json::to_string(&Line::Chain { chain: chain.to_string() })?;
            writeln!(file, "{line}").and_then(|()| file.sync_data()).with_context(shown)?;
        }
        Ok(Self { path: path.to_owned(), file, mark })
    }

    /// Where the last audit came to.
    pub(crate) const fn mark(&self) -> Option<&Mark> {
        self.mark.as_ref()
    }

    /// Everything up to this header was audited.
    pub(crate) fn audited(&mut self, header: &Header, proofs: u64) -> anyhow::Result<()> {
        let block = header.id();
        self.append(&Line::Audited {
            height: header.height.get(),
            block: block.to_string(),
            anchors: header.anchors_size,
            anchors_root: header.anchors_root.to_string(),
            proofs,
        })?;
        self.mark = Some(Mark { height: header.height, block });
        Ok(())
    }

    /// Something was wrong.
    pub(crate) fn found(&mut self, finding: &Finding) -> anyhow::Result<()> {
        self.append(&Line::Finding { finding: json!(finding.to_json()) })
    }

    fn append(&mut self, line: &Line) -> anyhow::Result<()> {
        let text = serde_json::to_string(line)?;
        writeln!(self.file, "{text}")
            .and_then(|()| self.file.sync_data())
            .with_context(|| format!("the audit journal {}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_types::Hash;

    #[test]
    fn a_torn_line_is_dropped_and_a_foreign_chain_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let chain = ChainId::new(Hash([1; 32]));
        assert!(AuditJournal::open(&path, chain).unwrap().mark().is_none());
        let block = Hash([7; 32]).to_string();
        let line = format!(
            "{{\"line\":\"audited\",\"height\":5,\"block\":\"{block}\",\"anchors\":3,\"anchors_root\":\"\",\"proofs\":0}}\n"
        );
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(format!("{line}{}", &line[..20]).as_bytes()).unwrap();
        let journal = AuditJournal::open(&path, chain).unwrap();
        assert_eq!(journal.mark().map(|mark| mark.height.get()), Some(5));
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2, "the torn line is gone");
        assert!(AuditJournal::open(&path, ChainId::ZERO).is_err());
        fs::write(&path, line).unwrap();
        assert!(AuditJournal::open(&path, chain).is_err(), "no chain line");
    }
}
