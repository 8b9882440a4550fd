//! `cairn receipt export`: a record in the formats of other worlds, from the SHA-256 log.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use cairn_client::{BlockRef, Client, LogCheckpoint, write_atomically};
use cairn_crypto::verify_note_binding;
use cairn_receipt::export::{
    CoseReceipt, TlogProof, cose_receipt, note_key_name, ots_of, parse_verifier_key, verify_cose, verify_ots,
};
use cairn_receipt::{Document, ReceiptVerifier};
use cairn_types::log::TreeHash;
use cairn_types::receipt::Receipt;
use cairn_types::{Genesis, Hash, Header, Height, Record, decode};
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::cli::output::{bytes, pairs};
use crate::cli::rpc::{NodeArgs, block_on};
use crate::cli::trust::TrustArgs;
use crate::cli::{Common, files};
use crate::exit::{Exit, WithExit};

/// The forms a receipt can be written in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Format {
    /// C2SP tlog-proof: the record's place in the log, with the log's cosigned checkpoint
    TlogProof,
    /// C2SP checkpoint alone: the log's size and root, cosigned
    Checkpoint,
    /// COSE receipt (RFC 9942)
    Cose,
    /// OpenTimestamps; only for sha256 digests in an rfc9162-sha256 batch
    Ots,
}

impl Format {
    const fn extension(self) -> &'static str {
        match self {
            Self::TlogProof => "tlog-proof",
            Self::Checkpoint => "checkpoint",
            Self::Cose => "cose",
            Self::Ots => "ots",
        }
    }

    /// What a reader of the file relies on.
    const fn rests_on(self) -> &'static str {
        match self {
            Self::TlogProof | Self::Checkpoint => {
                "the Ed25519 note keys of the nodes that cosigned, which its reader must trust by itself"
            }
            Self::Cose => {
                "the Ed25519 note key of the node that signed, which its reader must trust by itself"
            }
            Self::Ots => {
                "nothing yet: tools follow it to a block header of the chain, and no Bitcoin block attests that; \
                 keep the receipt"
            }
        }
    }
}

/// `cairn receipt export`.
#[derive(Debug, Args)]
#[command(after_help = "\
The receipt itself proves more, and rests on a quorum of validators: keep it. Tlog-proof and COSE are about the
record, whose bytes are written beside them as FILE.record; the way from your file to the record is the receipt's.

Each node signs with a note key of its own; name several nodes, separated by commas, and all of them cosign.

Examples:
  cairn receipt export model.bin.cairn --format tlog-proof --url http://a:26657,http://b:26657
  cairn receipt export model.bin.cairn --format cose
  cairn receipt export data.csv.cairn --format ots       after: cairn stamp data.csv --sha256 --tree rfc9162-sha256")]
pub(crate) struct ExportArgs {
    /// The receipt; or a receipt of a batch's root
    receipt: PathBuf,
    /// Into which form
    #[arg(long, value_enum)]
    format: Format,
    /// The file to write [default: RECEIPT with the format's extension]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    trust: TrustArgs,
}

/// What is exported, once it has verified.
struct Subject {
    genesis: Genesis,
    /// The whole receipt; `None` for that of a batch's root.
    receipt: Option<Receipt>,
    record_bytes: Vec<u8>,
    record: Record,
    header: Header,
    header_bytes: Vec<u8>,
}

pub(super) fn run(common: &Common, args: &ExportArgs) -> anyhow::Result<Exit> {
    let subject = load(common, args)?;
    let url = args.node.url(common)?;
    let (content, cosigners) = block_on(async {
        match args.format {
            Format::Ots => Ok((ots(&url, &subject).await?, Vec::new())),
            Format::Cose => cose(&url, &subject).await,
            Format::TlogProof | Format::Checkpoint => note(&url, &subject, args.format).await,
        }
    })?;
    let mut name = args.receipt.clone().into_os_string();
    name.push(format!(".{}", args.format.extension()));
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from(name));
    write_atomically(&out, &content)?;
    let mut rows = vec![("export", format!("{}, {}", out.display(), bytes(content.len() as u64)))];
    let beside = beside(&out);
    if matches!(args.format, Format::TlogProof | Format::Cose) {
        write_atomically(&beside, &subject.record_bytes)?;
        rows.push(("record", format!("{}, the log's leaf", beside.display())));
    }
    for (key, validator) in &cosigners {
        rows.push(("signed by", format!("{key}{validator}")));
    }
    rows.push(("rests on", args.format.rests_on().to_owned()));
    let keys: Vec<&String> = cosigners.iter().map(|(key, _)| key).collect();
    let value = json!({ "export": out, "bytes": content.len(), "verifier_keys": keys,
        "rests_on": args.format.rests_on(), "size": subject.header.anchors_size, "index": subject.record.seq });
    common.output().show(&pairs(rows), &value);
    Ok(Exit::Yes)
}

fn beside(out: &Path) -> PathBuf {
    let mut name = out.to_owned().into_os_string();
    name.push(".record");
    PathBuf::from(name)
}

/// Reads and verifies the receipt: nothing is exported that does not hold.
fn load(common: &Common, args: &ExportArgs) -> anyhow::Result<Subject> {
    let anchor = args.trust.load(common)?;
    let text = files::read_text(&args.receipt, "receipt")?;
    let (document, verdict) = ReceiptVerifier::new(anchor.trusted).verify_any(&text);
    if let Some(check) = verdict.failed() {
        bail!("{} does not verify, check `{}`: {}", args.receipt.display(), check.name, check.detail);
    }
    let (record_bytes, header_bytes, receipt) = match document {
        Some(Document::Receipt(it)) => (it.record_bytes.clone(), it.header_bytes.clone(), Some(*it)),
        Some(Document::Anchor(it)) => (it.record_bytes, it.header_bytes, None),
        other => bail!(
            "{} is a {}; take one receipt out of it first (cairn receipt split)",
            args.receipt.display(),
            other.map_or("nothing", |document| document.kind())
        ),
    };
    let record = verdict.record.context("the verdict names no record")?;
    let header: Header = decode(&header_bytes)?;
    Ok(Subject { genesis: anchor.genesis, receipt, record_bytes, record, header, header_bytes })
}

/// Each node by itself: all of them are asked.
fn nodes(url: &str) -> anyhow::Result<Vec<Client>> {
    let all = Client::connect(url).exit_with(Exit::Usage)?;
    all.nodes().iter().map(|url| Ok(Client::connect(url)?.with_tries(2))).collect()
}

async fn path(client: &Client, subject: &Subject) -> anyhow::Result<Vec<Hash>> {
    let size = subject.header.anchors_size;
    Ok(client.log_proof(TreeHash::AnchorsSha256, subject.record.seq, size).await?)
}

/// One node's checkpoint of exactly the receipt's block, its signatures checked; with what it says about itself.
async fn checkpoint(client: &Client, subject: &Subject) -> anyhow::Result<(LogCheckpoint, String)> {
    let chain = subject.genesis.chain();
    let url = client.nodes().join(", ");
    let found = client.log_checkpoint(BlockRef::Height(Height::new(subject.header.height.get()))).await?;
    let header = &subject.header;
    if (found.note.size, found.note.root) != (header.anchors_size, header.anchors_sha256) {
        bail!(
            "{url} signs size {} and root {}, the receipt's header has {} and {}",
            found.note.size,
            found.note.root,
            header.anchors_size,
            header.anchors_sha256
        );
    }
    let key = (note_key_name(chain, &found.note_key), found.note_key);
    found.note.verify(chain, std::slice::from_ref(&key), 1).with_context(|| url.clone())?;
    if parse_verifier_key(&found.verifier_key)? != key {
        bail!("{url} names another verifier key than it signs with");
    }
    let Some((address, signature)) = &found.binding else { return Ok((found, String::new())) };
    let validator = subject.genesis.validators.iter().find(|validator| validator.address == *address);
    let said = match validator.map(|it| verify_note_binding(chain, &it.key, &found.note_key, signature)) {
        Some(Ok(())) => format!("  (the note key of validator {address})"),
        Some(Err(fault)) => bail!("{url} claims validator {address}'s word for its note key: {fault}"),
        None => String::new(),
    };
    Ok((found, said))
}

async fn note(
    url: &str,
    subject: &Subject,
    format: Format,
) -> anyhow::Result<(Vec<u8>, Vec<(String, String)>)> {
    let (mut whole, mut cosigners, mut proof) = (None, Vec::new(), None);
    for client in nodes(url)? {
        let (found, said) = checkpoint(&client, subject).await?;
        cosigners.push((found.verifier_key.clone(), said));
        if proof.is_none() {
            proof = Some(path(&client, subject).await?);
        }
        match &mut whole {
            None => whole = Some(found.note),
            Some(whole) => whole.merge(found.note)?,
        }
    }
    let checkpoint = whole.context("no node was named")?;
    if format == Format::Checkpoint {
        return Ok((checkpoint.to_text().into_bytes(), cosigners));
    }
    let (extra, path) = (subject.record_bytes.clone(), proof.unwrap_or_default());
    let proof = TlogProof { extra, index: subject.record.seq, path, checkpoint };
    let keys = cosigners.iter().map(|(key, _)| parse_verifier_key(key)).collect::<Result<Vec<_>, _>>()?;
    proof.verify(subject.genesis.chain(), &subject.record_bytes, &keys, keys.len())?;
    Ok((proof.to_text().into_bytes(), cosigners))
}

async fn cose(url: &str, subject: &Subject) -> anyhow::Result<(Vec<u8>, Vec<(String, String)>)> {
    let client = nodes(url)?.into_iter().next().context("no node was named")?;
    let (found, said) = checkpoint(&client, subject).await?;
    let receipt = CoseReceipt {
        public: found.note_key,
        size: subject.header.anchors_size,
        index: subject.record.seq,
        path: path(&client, subject).await?,
        signature: found.cose_signature,
    };
    verify_cose(&receipt, &subject.record_bytes, &found.note_key)?;
    Ok((cose_receipt(&receipt), vec![(found.verifier_key, said)]))
}

async fn ots(url: &str, subject: &Subject) -> anyhow::Result<Vec<u8>> {
    let Some(receipt) = &subject.receipt else {
        bail!("a receipt of a batch's root is about no file; OpenTimestamps needs the receipt of one");
    };
    // What cannot be expressed at all is said before a node is asked.
    if let Err(
        fault @ (cairn_receipt::export::OtsFault::NotSha256
        | cairn_receipt::export::OtsFault::Algorithm { .. }),
    ) = ots_of(receipt, &[])
    {
        return Err(fault.into());
    }
    let client = nodes(url)?.into_iter().next().context("no node was named")?;
    let bytes = ots_of(receipt, &path(&client, subject).await?)?;
    verify_ots(&bytes, &subject.header_bytes)?;
    Ok(bytes)
}
