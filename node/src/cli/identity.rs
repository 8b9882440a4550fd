//! `cairn identity`: who may sign for an address, who may act for whom, and proofs of it.

use std::path::PathBuf;

use anyhow::{Context, bail};
use cairn_client::{Client, StateSubject, write_atomically};
use cairn_crypto::{LoginGuard, sign_login};
use cairn_receipt::{ReceiptVerifier, StateDocument};
use cairn_types::delegation::{DelegationOp, Kinds, Mandate, Rate, Scope, Terms};
use cairn_types::identity::{IdentityOp, NewKey, Purpose, Purposes, RecoveredKeys};
use cairn_types::login::{LoginChallenge, LoginResponse};
use cairn_types::transaction::METADATA_BYTES_MAX;
use cairn_types::{Address, KeyRef, Payload, ProofKind, TreeKind, decode, encode};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::cli::actor::{ActorArgs, ChangeArgs, names, parse_did, parse_duration_ms, parse_kind};
use crate::cli::keys::read_public;
use crate::cli::output::pairs;
use crate::cli::rpc::{NodeArgs, block_on};
use crate::cli::trust::{GenesisArgs, TrustArgs};
use crate::cli::{Common, files};
use crate::cli::{identity_attach, identity_show};
use crate::exit::{Exit, WithExit};

const EXAMPLES: &str = "\
Every change is a transaction of the identity, signed by as many keys as its threshold says (--key, several times).
With --propose one key proposes it and others approve: `cairn multisig`.

Examples:
  cairn identity new --key me.json                               register: key 0 is me.json
  cairn identity add-key phone.json --purpose assertion --expires-in 90d
  cairn identity recovery paper.json                             a key that replaces lost ones, and does nothing else
  cairn identity recover fresh.json --key paper.json --as did:cairn:<hex>
  cairn identity delegate did:cairn:<hex> --kind batch --proofs 100 --expires-in 30d
  cairn identity agent register --key bot.json --owner did:cairn:<hex>    then, as the owner:
  cairn identity agent allow did:cairn:<bot> --kind work --rate 60/1h
  cairn identity proof did:cairn:<hex> --out me.state && cairn identity check me.state
  cairn identity login https://example.org --key me.json";

/// `cairn identity ...`.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum IdentityVerb {
    /// Register an identity: its address is that of the key, for good
    New(ChangeArgs),
    /// Show an identity: keys, policy, delegations
    Show(identity_show::ShowArgs),
    /// What happened to an identity, oldest first
    History(identity_show::HistoryArgs),
    /// Add a key
    AddKey(AddKeyArgs),
    /// Put a new key in the place of an old one
    Rotate(RotateArgs),
    /// Retire a key
    Revoke {
        /// The key's index
        index: u16,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Set how many keys must sign
    Threshold {
        /// How many
        #[arg(value_name = "KEYS")]
        threshold: u16,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Name the key that may replace all others when they are lost
    Recovery {
        /// The recovery key: a keystore, or what `keys export --public` wrote
        key_file: PathBuf,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Replace lost keys, signed with the recovery key
    Recover {
        /// The new keys, public
        #[arg(required = true)]
        key_files: Vec<PathBuf>,
        /// How many of them must sign from now on
        #[arg(long, default_value_t = 1)]
        threshold: u16,
        #[command(flatten)]
        actor: ActorArgs,
    },
    /// End the identity for good
    Deactivate {
        /// There is no way back
        #[arg(long, required = true)]
        yes: bool,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Let another anchor on your behalf
    Delegate(DelegateArgs),
    /// End what another may do on your behalf; what it anchored stays valid
    Undelegate {
        /// Who may act no more
        #[arg(value_parser = parse_did)]
        delegate: Address,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Give back what another granted you
    Renounce {
        /// On whose behalf you act no more
        #[arg(value_parser = parse_did)]
        principal: Address,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Agents: identities that may do what their owner says
    #[command(subcommand)]
    Agent(AgentVerb),
    /// Fetch a proof of an identity or a delegation that verifies offline
    Proof(ProofArgs),
    /// Check such a proof, offline
    Check {
        /// What `identity proof` wrote
        file: PathBuf,
        #[command(flatten)]
        trust: TrustArgs,
    },
    /// Put the states that a receipt rests on beside it: whose key signed, and under which delegation
    Attach(identity_attach::AttachArgs),
    /// Sign a service's challenge with a key of your identity
    Login(LoginArgs),
    /// Check an answer to a challenge
    LoginCheck(LoginCheckArgs),
}

/// `cairn identity add-key`.
#[derive(Debug, Args)]
pub(crate) struct AddKeyArgs {
    /// The new key: a keystore, or what `keys export --public` wrote
    key_file: PathBuf,
    /// What it is for; several times [default: authentication, assertion, delegation and control]
    #[arg(long = "purpose", value_name = "PURPOSE", value_parser = parse_purpose)]
    purposes: Vec<Purpose>,
    /// When it expires, for instance 90d [default: never]
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms)]
    expires_in: Option<u64>,
    #[command(flatten)]
    change: ChangeArgs,
}

/// `cairn identity rotate`.
#[derive(Debug, Args)]
pub(crate) struct RotateArgs {
    /// The index of the key to retire
    index: u16,
    /// The new key: a keystore, or what `keys export --public` wrote
    key_file: PathBuf,
    /// When the new key expires, for instance 90d [default: never]
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms)]
    expires_in: Option<u64>,
    #[command(flatten)]
    change: ChangeArgs,
}

/// What may be anchored, and how much.
#[derive(Debug, Args)]
pub(crate) struct ScopeArgs {
    /// Only proofs of this kind; several times
    #[arg(long = "kind", value_name = "KIND", value_parser = parse_kind)]
    kinds: Vec<ProofKind>,
    /// Only under this tree: cairn-b3-v1 or rfc9162-sha256
    #[arg(long, value_name = "TREE", value_parser = parse_tree)]
    tree: Option<TreeKind>,
    /// Only with so many bytes of metadata
    #[arg(long, value_name = "BYTES", default_value_t = METADATA_BYTES_MAX as u16)]
    metadata_bytes: u16,
    /// At most so many proofs per period, for instance 60/1h
    #[arg(long, value_name = "COUNT/TIME", value_parser = parse_rate)]
    rate: Option<Rate>,
}

/// `cairn identity delegate`.
#[derive(Debug, Args)]
pub(crate) struct DelegateArgs {
    /// Who may act
    #[arg(value_parser = parse_did)]
    delegate: Address,
    #[command(flatten)]
    scope: ScopeArgs,
    /// At most so many proofs in all
    #[arg(long, value_name = "COUNT")]
    proofs: Option<u64>,
    /// When it ends, for instance 30d [default: when revoked]
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms)]
    expires_in: Option<u64>,
    #[command(flatten)]
    change: ChangeArgs,
}

/// `cairn identity agent ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum AgentVerb {
    /// Register an agent, signed with the agent's own key; it may do nothing until its owner allows it
    Register {
        /// Whose agent it is
        #[arg(long, value_parser = parse_did)]
        owner: Address,
        #[command(flatten)]
        actor: ActorArgs,
    },
    /// As its owner: say what an agent may do
    Allow {
        /// The agent
        #[arg(value_parser = parse_did)]
        agent: Address,
        #[command(flatten)]
        scope: ScopeArgs,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// As its owner: end an agent for good
    Retire {
        /// The agent
        #[arg(value_parser = parse_did)]
        agent: Address,
        #[command(flatten)]
        change: ChangeArgs,
    },
}

/// `cairn identity proof`.
#[derive(Debug, Args)]
pub(crate) struct ProofArgs {
    /// The identity; with --delegate, who granted
    #[arg(value_parser = parse_did)]
    did: Address,
    /// Prove a delegation: who may act
    #[arg(long, value_parser = parse_did)]
    delegate: Option<Address>,
    /// Leave out the signatures, for verifiers that have pinned the block
    #[arg(long)]
    short: bool,
    /// Where to write it [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    genesis: GenesisArgs,
}

/// `cairn identity login`.
#[derive(Debug, Args)]
#[command(after_help = "\
Prints the answer to hand to the service: base64 of the signed challenge. Look at the service's name before \
you sign: an answer is good only for the one it names.")]
pub(crate) struct LoginArgs {
    /// The service, for instance `https://example.org`
    audience: String,
    /// The service's own challenge, base64 [default: a fresh one from the node]
    #[arg(long, value_name = "BASE64")]
    challenge: Option<String>,
    #[command(flatten)]
    actor: ActorArgs,
}

/// `cairn identity login-check`.
#[derive(Debug, Args)]
pub(crate) struct LoginCheckArgs {
    /// The answer, base64
    response: String,
    /// This service's name, as in the challenge
    #[arg(long)]
    audience: String,
    /// Judge it offline by this state document of the identity, in place of asking a node
    #[arg(long, value_name = "FILE")]
    document: Option<PathBuf>,
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    trust: TrustArgs,
}

fn parse_purpose(text: &str) -> Result<Purpose, String> {
    Purpose::from_name(text).ok_or_else(|| format!("expected one of {}", names(&Purpose::NAMES)))
}

fn parse_tree(text: &str) -> Result<TreeKind, String> {
    TreeKind::from_name(text).ok_or_else(|| "expected cairn-b3-v1 or rfc9162-sha256".to_owned())
}

fn parse_rate(text: &str) -> Result<Rate, String> {
    let expected = || "expected COUNT/TIME, for instance 60/1h".to_owned();
    let (count, period) = text.split_once('/').ok_or_else(expected)?;
    let count = count.parse().ok().filter(|count| *count > 0).ok_or_else(expected)?;
    Ok(Rate { count, period_ms: parse_duration_ms(period)? })
}

impl ScopeArgs {
    fn scope(&self) -> Scope {
        let kinds = Kinds::of(self.kinds.iter().copied()).unwrap_or(Kinds::ALL);
        Scope { kinds, tree: self.tree, metadata_bytes_max: self.metadata_bytes }
    }
}

/// The chain's time so much later.
async fn later(client: &Client, after_ms: Option<u64>) -> anyhow::Result<Option<u64>> {
    let Some(after_ms) = after_ms else { return Ok(None) };
    Ok(Some(client.status().await?.time_ms.saturating_add(after_ms)))
}

pub(crate) fn run(common: &Common, verb: &IdentityVerb) -> anyhow::Result<Exit> {
    match verb {
        IdentityVerb::Show(args) => identity_show::show(common, args),
        IdentityVerb::History(args) => identity_show::history(common, args),
        IdentityVerb::Proof(args) => proof(common, args),
        IdentityVerb::Check { file, trust } => check(common, file, trust),
        IdentityVerb::Attach(args) => identity_attach::run(common, args),
        IdentityVerb::Login(args) => login(common, args),
        IdentityVerb::LoginCheck(args) => login_check(common, args),
        change => block_on(make(common, change)),
    }
}

async fn make(common: &Common, verb: &IdentityVerb) -> anyhow::Result<Exit> {
    let none = Map::new();
    let identity = |op| Payload::Identity(op);
    let delegation = |op| Payload::Delegation(op);
    match verb {
        IdentityVerb::New(change) => {
            change.run(common, identity(IdentityOp::Register), "registered", none).await
        }
        IdentityVerb::AddKey(args) => add_key(common, args).await,
        IdentityVerb::Rotate(args) => {
            let client = args.change.actor.client(common)?;
            let op = IdentityOp::RotateKey {
                index: args.index,
                key: read_public(&args.key_file)?,
                expires_ms: later(&client, args.expires_in).await?,
            };
            args.change.run(common, identity(op), "rotated", none).await
        }
        IdentityVerb::Revoke { index, change } => {
            change.run(common, identity(IdentityOp::RevokeKey(*index)), "key retired", none).await
        }
        IdentityVerb::Threshold { threshold, change } => {
            change.run(common, identity(IdentityOp::SetThreshold(*threshold)), "threshold set", none).await
        }
        IdentityVerb::Recovery { key_file, change } => {
            let new = NewKey { key: read_public(key_file)?, purposes: Purposes::RECOVERY, expires_ms: None };
            change.run(common, identity(IdentityOp::AddKey(new)), "recovery key named", none).await
        }
        IdentityVerb::Recover { key_files, threshold, actor } => {
            let keys = key_files
                .iter()
                .map(|file| {
                    Ok(NewKey { key: read_public(file)?, purposes: Purposes::ORDINARY, expires_ms: None })
                })
                .collect::<anyhow::Result<Vec<_>>>()?;
            let op = IdentityOp::Recover { keys: RecoveredKeys(keys), threshold: *threshold };
            plain(actor).run(common, identity(op), "recovered", none).await
        }
        IdentityVerb::Deactivate { change, .. } => {
            change.run(common, identity(IdentityOp::Deactivate), "deactivated for good", none).await
        }
        IdentityVerb::Delegate(args) => delegate(common, args).await,
        IdentityVerb::Undelegate { delegate, change } => {
            let op = DelegationOp::Revoke { delegate: *delegate };
            change.run(common, delegation(op), "delegation revoked", none).await
        }
        IdentityVerb::Renounce { principal, change } => {
            let op = DelegationOp::Renounce { principal: *principal };
            change.run(common, delegation(op), "delegation given back", none).await
        }
        IdentityVerb::Agent(verb) => agent(common, verb).await,
        _ => bail!("not a change"),
    }
}

/// A change that is never proposed.
fn plain(actor: &ActorArgs) -> ChangeArgs {
    ChangeArgs::direct(actor.clone())
}

async fn add_key(common: &Common, args: &AddKeyArgs) -> anyhow::Result<Exit> {
    let purposes = match args.purposes.as_slice() {
        [] => Purposes::ORDINARY,
        some => Purposes::of(some.iter().copied())
            .context("recovery stands alone: a recovery key is for nothing else")
            .exit_with(Exit::Usage)?,
    };
    let client = args.change.actor.client(common)?;
    let expires_ms = later(&client, args.expires_in).await?;
    let op = IdentityOp::AddKey(NewKey { key: read_public(&args.key_file)?, purposes, expires_ms });
    args.change.run(common, Payload::Identity(op), "key added", Map::new()).await
}

async fn delegate(common: &Common, args: &DelegateArgs) -> anyhow::Result<Exit> {
    let client = args.change.actor.client(common)?;
    let terms = Terms {
        scope: args.scope.scope(),
        proofs_max: args.proofs,
        rate: args.scope.rate,
        expires_ms: later(&client, args.expires_in).await?,
    };
    let op = DelegationOp::Grant { delegate: args.delegate, terms };
    let more = Map::from_iter([("delegate".to_owned(), json!(format!("did:cairn:{}", args.delegate)))]);
    args.change.run(common, Payload::Delegation(op), "delegated", more).await
}

async fn agent(common: &Common, verb: &AgentVerb) -> anyhow::Result<Exit> {
    match verb {
        AgentVerb::Register { owner, actor } => {
            let op = IdentityOp::RegisterAgent { owner: *owner };
            let done = "registered as an agent; its owner allows it with `cairn identity agent allow`";
            plain(actor).run(common, Payload::Identity(op), done, Map::new()).await
        }
        AgentVerb::Allow { agent, scope, change } => {
            let mandate = Mandate { scope: scope.scope(), rate: scope.rate };
            let op = DelegationOp::SetAgent { agent: *agent, mandate };
            change.run(common, Payload::Delegation(op), "agent allowed", Map::new()).await
        }
        AgentVerb::Retire { agent, change } => {
            let op = DelegationOp::RetireAgent { agent: *agent };
            change.run(common, Payload::Delegation(op), "agent retired", Map::new()).await
        }
    }
}

fn proof(common: &Common, args: &ProofArgs) -> anyhow::Result<Exit> {
    let subject = match args.delegate {
        None => StateSubject::Identity(args.did),
        Some(delegate) => StateSubject::Delegation { principal: args.did, delegate },
    };
    block_on(async {
        let client = Client::connect(&args.node.url(common)?).exit_with(Exit::Usage)?;
        let genesis = args.genesis.for_node(common, &client).await?;
        let found = client.with_genesis(genesis)?.state_proof(subject).await?;
        let document = if args.short { found.document.checkpoint_relative() } else { found.document };
        let text = document.to_json();
        let Some(out) = &args.out else {
            common.output().show(&text, &serde_json::from_str(&text)?);
            return Ok(Exit::Yes);
        };
        write_atomically(out, format!("{text}\n").as_bytes())?;
        let said = identity_show::finding(&found.finding);
        let rows = [
            ("proof", out.display().to_string()),
            ("as of", format!("block {}", found.height)),
            ("says", said),
        ];
        let value = json!({ "proof": out, "bytes": text.len(), "height": found.height });
        common.output().show(&pairs(rows), &value);
        Ok(Exit::Yes)
    })
}

fn check(common: &Common, file: &std::path::Path, trust: &TrustArgs) -> anyhow::Result<Exit> {
    let anchor = trust.load(common)?;
    let text = files::read_text(file, "state document")?;
    let outcome = ReceiptVerifier::new(anchor.trusted).verify_state_json(text.trim());
    let checks: Vec<Value> = outcome
        .verdict
        .checks
        .iter()
        .map(|check| json!({ "name": check.name.name(), "ok": check.passed, "detail": check.detail }))
        .collect();
    let height = outcome.verdict.header.as_ref().map(|header| header.height.get());
    let said = outcome.finding.as_ref().map(identity_show::finding);
    let mut rows: Vec<(&str, String)> = outcome
        .verdict
        .checks
        .iter()
        .map(|check| {
            let mark = if check.passed { "ok" } else { "FAILED" };
            (check.name.name(), format!("{mark}: {}", check.detail))
        })
        .collect();
    rows.extend(said.clone().map(|said| ("says", said)));
    let value = json!({ "valid": outcome.verdict.valid, "height": height, "says": said, "checks": checks,
                        "warnings": outcome.verdict.warnings });
    common.output().show(&pairs(rows), &value);
    Ok(if outcome.verdict.valid { Exit::Yes } else { Exit::No })
}

fn from_base64<T: borsh::BorshDeserialize>(text: &str, what: &str) -> anyhow::Result<T> {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text.trim());
    let bytes = bytes.with_context(|| format!("the {what} is no base64"))?;
    decode(&bytes).with_context(|| format!("the {what} is not one"))
}

fn login(common: &Common, args: &LoginArgs) -> anyhow::Result<Exit> {
    block_on(async {
        let keys = args.actor.open()?;
        let identity = args.actor.identity(&keys)?;
        let client = args.actor.client(common)?;
        let challenge: LoginChallenge = match &args.challenge {
            Some(text) => from_base64(text, "challenge").exit_with(Exit::Usage)?,
            None => client.login_challenge(identity, &args.audience).await?,
        };
        if challenge.audience != args.audience || challenge.address != identity {
            bail!(
                "the challenge is for did:cairn:{} at `{}`; nothing was signed",
                challenge.address,
                challenge.audience
            );
        }
        challenge.check_shape()?;
        let Some(key) = keys.first() else { bail!("no key was given to sign with") };
        if client.key_reference(identity, key.public()).await?.is_none() {
            bail!("{} is no key of did:cairn:{identity}", key.address());
        }
        // The key travels along, so that the service can judge the answer by a proven state alone.
        let reference = KeyRef::Inline(key.public().clone());
        let response = sign_login(client.chain().await?, challenge.clone(), reference, key);
        use base64::Engine;
        let text = base64::engine::general_purpose::STANDARD.encode(encode(&response));
        let value = json!({
            "did": format!("did:cairn:{identity}"),
            "audience": challenge.audience,
            "expires_ms": challenge.expires_ms,
            "response_b64": text,
        });
        common.output().show(&text, &value);
        Ok(Exit::Yes)
    })
}

fn login_check(common: &Common, args: &LoginCheckArgs) -> anyhow::Result<Exit> {
    let response: LoginResponse = from_base64(&args.response, "answer").exit_with(Exit::Usage)?;
    let did = format!("did:cairn:{}", response.challenge.address);
    let outcome = match &args.document {
        None => block_on(async {
            let client = Client::connect(&args.node.url(common)?).exit_with(Exit::Usage)?;
            Ok(client.login_verify(&response, &args.audience).await?)
        })?,
        Some(file) => {
            let anchor = args.trust.load(common)?;
            let text = files::read_text(file, "state document")?;
            let document = StateDocument::parse(text.trim()).exit_with(Exit::No)?;
            let chain = anchor.genesis.chain();
            let verdict = ReceiptVerifier::new(anchor.trusted).verify_state(&document);
            let (entry, height) = identity_show::identity_of(&document, verdict, &response)?;
            let at = cairn_crypto::LoginMoment {
                entry: entry.as_ref(),
                keys: &[],
                height,
                now_ms: crate::running::clock::now_ms(),
            };
            LoginGuard::new().accept(chain, &args.audience, &response, at).map_err(|fault| fault.to_string())
        }
    };
    let reason = outcome.as_ref().err().cloned();
    let text = match &reason {
        None => format!("{did} is who they say they are"),
        Some(reason) => format!("refused: {reason}"),
    };
    common.output().show(&text, &json!({ "valid": outcome.is_ok(), "did": did, "reason": reason }));
    Ok(if outcome.is_ok() { Exit::Yes } else { Exit::No })
}
