//! Who signs a change: an identity, and as many of its keys as its policy asks for.

use std::path::PathBuf;

use anyhow::{Context, bail};
use cairn_client::{Client, Sender, Submitted, Wait};
use cairn_crypto::KeyPair;
use cairn_types::multisig::{MultisigOp, Proposed};
use cairn_types::{Address, KeyRef, Payload, ProofKind};
use clap::Args;
use serde_json::{Map, Value, json};

use crate::cli::output::pairs;
use crate::cli::rpc::NodeArgs;
use crate::cli::{Common, keys, sender};
use crate::exit::{Exit, WithExit};
use crate::passphrase::Source;

/// Tries against a node that does not answer before that is said.
const REACH_TRIES: usize = 2;
/// How long a proposal stays open unless told otherwise, ms: a day.
const PROPOSAL_LIFE_MS: u64 = 24 * 3_600_000;

/// Who signs.
#[derive(Clone, Debug, Args)]
pub(crate) struct ActorArgs {
    /// The identity that acts, a DID or address [default: the address of the first key]
    #[arg(long = "as", value_name = "DID", value_parser = parse_did)]
    identity: Option<Address>,
    /// A keystore that signs; as many as the threshold asks for [default: ~/.config/cairn/sender.json]
    #[arg(long = "key", value_name = "KEYSTORE", env = "CAIRN_KEY", hide_env_values = true)]
    keys: Vec<PathBuf>,
    /// File with the keystores' passphrase [default: ask on the terminal]
    #[arg(long, value_name = "FILE", env = "CAIRN_PASSPHRASE_FILE", hide_env_values = true)]
    passphrase_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

/// How a change is made.
#[derive(Clone, Debug, Args)]
pub(crate) struct ChangeArgs {
    #[command(flatten)]
    pub(crate) actor: ActorArgs,
    /// Do not change anything yet: propose it, so that other keys can approve (`cairn multisig approve`)
    #[arg(long)]
    propose: bool,
    /// With --propose: how long it may be approved, for instance 2h, 7d
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms, requires = "propose")]
    open_for: Option<u64>,
}

/// Reads `did:cairn:<hex>` or `<hex>`.
pub(crate) fn parse_did(text: &str) -> Result<Address, String> {
    Address::from_hex(text.strip_prefix("did:cairn:").unwrap_or(text))
        .ok_or_else(|| "expected did:cairn:<64 hex digits>, or the address".to_owned())
}

/// The names of a table, as a message lists them.
pub(crate) fn names<T>(all: &[(T, &'static str)]) -> String {
    all.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
}

/// Reads the name of a kind of proof.
pub(crate) fn parse_kind(text: &str) -> Result<ProofKind, String> {
    ProofKind::from_name(text).ok_or_else(|| format!("expected one of {}", names(&ProofKind::NAMES)))
}

/// Reads `90s`, `15m`, `2h` or `7d` as milliseconds.
pub(crate) fn parse_duration_ms(text: &str) -> Result<u64, String> {
    let expected = || "expected a number with its unit, for instance 90s, 15m, 2h or 7d".to_owned();
    let unit = text.chars().last().ok_or_else(expected)?;
    let ms: u64 = match unit {
        's' => 1_000,
        'm' => 60_000,
        'h' => 3_600_000,
        'd' => 24 * 3_600_000,
        _ => return Err(expected()),
    };
    let number: u64 = text.trim_end_matches(unit).parse().map_err(|_| expected())?;
    number.checked_mul(ms).filter(|ms| *ms > 0).ok_or_else(expected)
}

impl ActorArgs {
    /// The keys named, opened.
    pub(crate) fn open(&self) -> anyhow::Result<Vec<KeyPair>> {
        let source = Source::file_or_prompt(self.passphrase_file.clone());
        let default = [sender::default_path()];
        let paths = if self.keys.is_empty() { &default[..] } else { &self.keys[..] };
        paths
            .iter()
            .map(|path| {
                if !path.exists() {
                    bail!("{} does not exist; `cairn keys new --out FILE` makes a key", path.display());
                }
                keys::open(path, &source)
            })
            .collect()
    }

    /// The identity that acts: the one named, else the first key's own.
    pub(crate) fn identity(&self, keys: &[KeyPair]) -> anyhow::Result<Address> {
        self.identity.or_else(|| keys.first().map(KeyPair::address)).context("no key was given to sign with")
    }

    /// A client of the node to ask, without a sender.
    pub(crate) fn client(&self, common: &Common) -> anyhow::Result<Client> {
        Ok(Client::connect(&self.node.url(common)?).exit_with(Exit::Usage)?.with_tries(REACH_TRIES))
    }

    /// The same, signing as the identity with every key named.
    pub(crate) async fn signing(&self, common: &Common) -> anyhow::Result<(Client, Address)> {
        let keys = self.open()?;
        let identity = self.identity(&keys)?;
        let client = self.client(common)?;
        let mut named: Vec<(KeyRef, KeyPair)> = Vec::with_capacity(keys.len());
        for key in keys {
            let address = key.address();
            let Some(reference) = client.key_reference(identity, key.public()).await? else {
                bail!("{address} is no key of did:cairn:{identity}; `cairn identity show` lists its keys");
            };
            named.push((reference, key));
        }
        Ok((client.with_sender(Sender::with_keys(identity, named)), identity))
    }
}

/// What came of a change.
pub(crate) struct Changed {
    pub(crate) identity: Address,
    pub(crate) submitted: Submitted,
    pub(crate) proposed: bool,
}

impl ChangeArgs {
    /// A change that is made at once.
    pub(crate) fn direct(actor: ActorArgs) -> Self {
        Self { actor, propose: false, open_for: None }
    }

    /// Makes the change, or proposes it.
    pub(crate) async fn make(&self, common: &Common, payload: Payload) -> anyhow::Result<Changed> {
        let (client, identity) = self.actor.signing(common).await?;
        let payload = if self.propose { self.proposal(&client, payload).await? } else { payload };
        let submitted = client.send(payload, Wait::Final).await?;
        Ok(Changed { identity, submitted, proposed: self.propose })
    }

    async fn proposal(&self, client: &Client, payload: Payload) -> anyhow::Result<Payload> {
        let payload = match payload {
            Payload::Identity(op) => Proposed::Identity(op),
            Payload::Delegation(op) => Proposed::Delegation(op),
            Payload::Proofs(proofs) => Proposed::Proofs(proofs),
            _ => bail!("this cannot be proposed"),
        };
        let now_ms = client.status().await?.time_ms;
        let expires_ms = now_ms.saturating_add(self.open_for.unwrap_or(PROPOSAL_LIFE_MS));
        Ok(Payload::Multisig(MultisigOp::Propose { payload, expires_ms }))
    }

    /// Makes the change and says so; `more` is what else the answer holds.
    pub(crate) async fn run(
        &self,
        common: &Common,
        payload: Payload,
        done: &str,
        more: Map<String, Value>,
    ) -> anyhow::Result<Exit> {
        let changed = self.make(common, payload).await?;
        Ok(report(common, &changed, done, more))
    }
}

/// Says what came of a change.
pub(crate) fn report(common: &Common, changed: &Changed, done: &str, more: Map<String, Value>) -> Exit {
    let height = changed.submitted.height.map(|height| height.get());
    let did = format!("did:cairn:{}", changed.identity);
    let tx = changed.submitted.tx_id.to_string();
    let said = if changed.proposed { "proposed" } else { done };
    let mut rows = vec![("done", said.to_owned()), ("identity", did.clone()), ("transaction", tx.clone())];
    rows.extend(height.map(|height| ("final in", format!("block {height}"))));
    if changed.proposed {
        rows.push(("approve with", format!("cairn multisig approve {tx}")));
    }
    let mut value = json!({
        "done": said,
        "did": did,
        "tx_id": tx,
        "height": height,
        "proposal": changed.proposed.then(|| tx.clone()),
    });
    if let Value::Object(fields) = &mut value {
        fields.extend(more);
    }
    common.output().show(&pairs(rows), &value);
    if height.is_some() { Exit::Yes } else { Exit::NotFinal }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        for (text, ms) in [("90s", 90_000), ("15m", 900_000), ("2h", 7_200_000), ("7d", 604_800_000)] {
            assert_eq!(parse_duration_ms(text), Ok(ms));
        }
        for text in ["", "5", "s", "-1h", "1.5h", "2y", "0s", "99999999999999999999d"] {
            assert!(parse_duration_ms(text).is_err(), "{text}");
        }
    }

    #[test]
    fn identities_are_dids_or_addresses() {
        let hex = "ab".repeat(32);
        assert_eq!(parse_did(&format!("did:cairn:{hex}")), parse_did(&hex));
        assert!(parse_did("did:web:example.org").is_err() && parse_did("ab").is_err());
    }
}
