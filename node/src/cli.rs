//! The command line: one file per verb or group of verbs, one exit code for each kind of answer.

mod actor;
mod audit;
mod config;
mod digest;
mod files;
mod genesis;
mod identity;
mod identity_attach;
mod identity_show;
mod info;
mod init;
mod keys;
mod load;
mod multisig;
mod output;
mod receipt;
mod rpc;
mod sender;
mod signer;
mod sim;
mod snapshot;
mod stamp;
mod start;
mod status;
mod testnet;
mod trust;
mod validator;
mod verify;

use std::path::PathBuf;

use cairn_client::ClientFault;
use clap::{Args, CommandFactory, Parser, Subcommand};
use serde_json::json;

use crate::exit::{Exit, exit_of};
use output::Output;

const EXAMPLES: &str = "\
Examples:
  cairn stamp model.bin                          anchor a file, write model.bin.cairn
  cairn verify model.bin --genesis genesis.json  check it offline, against the genesis alone
  cairn testnet up                               four validators on this machine
  cairn keys new --out validator.json            a validator's key, encrypted
  cairn init --genesis genesis.json              a follower's home in ~/.cairn
  cairn start                                    run the node
  cairn identity new --key me.json               register an identity; `identity --help` says more
  cairn rpc proof_get root=<hex>                 call any JSON-RPC method

Exit codes:
  0 yes          1 no, invalid       2 usage     3 not final yet
  4 no trust    78 configuration    90 signing refused
  91 the chain runs a protocol version that this build does not know

No secret is ever taken from the command line: passphrases come from a file or the terminal.";

/// A node for a chain whose one job is to finalise Merkle roots, with receipts that verify offline.
#[derive(Debug, Parser)]
#[command(name = "cairn", bin_name = "cairn", version, after_help = EXAMPLES, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Verb,
}

/// What every verb takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    /// The node's home directory [default: ~/.cairn]
    #[arg(long, global = true, env = "CAIRN_HOME", value_name = "DIR", hide_env_values = true)]
    home: Option<PathBuf>,
    /// Answer as one JSON object on standard output
    #[arg(long, global = true)]
    json: bool,
}

impl Common {
    /// The home directory asked for, or `~/.cairn`.
    fn home(&self) -> PathBuf {
        self.home.clone().unwrap_or_else(|| user_directory().join(".cairn"))
    }

    fn output(&self) -> Output {
        Output::new(self.json)
    }
}

/// The user's own directory; the working directory for a user that has none.
fn user_directory() -> PathBuf {
    std::env::home_dir().unwrap_or_default()
}

/// What belongs to the user and not to a node: `$XDG_CONFIG_HOME/cairn`, else `~/.config/cairn`.
pub(crate) fn user_config() -> PathBuf {
    let config = std::env::var_os("XDG_CONFIG_HOME")
        .filter(|value| !value.is_empty())
        .map_or_else(|| user_directory().join(".config"), PathBuf::from);
    config.join("cairn")
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a node's home: configuration, keys, and a validator's safety journal
    Init(init::InitArgs),
    /// Run the node until SIGTERM or Ctrl-C
    Start(start::StartArgs),
    /// What a running node is doing
    Status(status::StatusArgs),
    /// Make, show and move signing keys
    #[command(subcommand)]
    Keys(keys::KeysVerb),
    /// Make and check the file that defines a chain
    #[command(subcommand)]
    Genesis(genesis::GenesisVerb),
    /// Anchor files and write their receipts
    Stamp(stamp::StampArgs),
    /// Check a file against its receipt, offline
    Verify(verify::VerifyArgs),
    /// Show what a receipt says, without judging it
    Info(info::InfoArgs),
    /// Fetch, bundle, refresh, split and export receipts
    #[command(subcommand)]
    Receipt(receipt::ReceiptVerb),
    /// What verifications rest on: the genesis and pinned checkpoints
    #[command(subcommand)]
    Trust(trust::TrustVerb),
    /// Execute a node's chain again and check everything it says
    Audit(audit::AuditArgs),
    /// Identities: keys, recovery, delegation, agents, login
    #[command(subcommand)]
    Identity(identity::IdentityVerb),
    /// What several keys of one identity decide together
    #[command(subcommand)]
    Multisig(multisig::MultisigVerb),
    /// Call a JSON-RPC method
    Rpc(rpc::RpcArgs),
    /// Show and check the configuration
    #[command(subcommand)]
    Config(config::ConfigVerb),
    /// Who the validators are; propose and approve changes of them, of parameters and of the protocol
    #[command(subcommand)]
    Validator(validator::ValidatorVerb),
    /// Move a validator's signing duty to another machine
    #[command(subcommand)]
    Signer(signer::SignerVerb),
    /// A final state in one file: made, checked and put into a new home
    #[command(subcommand)]
    Snapshot(snapshot::SnapshotVerb),
    /// Submit proofs at a steady rate and measure finality
    Load(load::LoadArgs),
    /// Networks of real nodes on this machine
    Testnet(testnet::TestnetArgs),
    /// Whole networks in virtual time: experiments, random faults, replays
    Sim(sim::SimArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Parses the command line, does what it asks and gives the exit code.
pub(crate) fn main() -> Exit {
    let cli = Cli::parse();
    let output = cli.common.output();
    match run(cli) {
        Ok(exit) => exit,
        Err(error) => {
            let exit = exit_of(&error);
            let (message, hint) = (sentence(&error), hint(&error));
            if output.is_json() {
                output
                    .json(&json!({ "error": { "message": message, "exit_code": exit as u8, "hint": hint } }));
            } else {
                eprintln!("error: {message}");
                if let Some(hint) = hint {
                    eprintln!("hint: {hint}");
                }
            }
            exit
        }
    }
}

/// An error with its causes on one line, leaving out causes that the text before already names.
fn sentence(error: &anyhow::Error) -> String {
    let mut said = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !said.contains(&cause) {
            said.push_str(": ");
            said.push_str(&cause);
        }
    }
    said
}

/// What to do about an error that says only what happened.
fn hint(error: &anyhow::Error) -> Option<&'static str> {
    error.chain().find_map(|cause| match cause.downcast_ref::<ClientFault>() {
        Some(ClientFault::Unreachable { .. }) => Some(
            "is a node running there? --url or CAIRN_URL names another; `cairn start` runs one, \
             `cairn testnet up` a network of them",
        ),
        _ => None,
    })
}

fn run(cli: Cli) -> anyhow::Result<Exit> {
    let common = &cli.common;
    match cli.verb {
        Verb::Init(args) => init::run(common, &args),
        Verb::Start(args) => start::run(common, &args),
        Verb::Status(args) => status::run(common, &args),
        Verb::Keys(verb) => keys::run(common, &verb),
        Verb::Genesis(verb) => genesis::run(common, &verb),
        Verb::Stamp(args) => stamp::run(common, &args),
        Verb::Verify(args) => verify::run(common, &args),
        Verb::Info(args) => info::run(common, &args),
        Verb::Receipt(verb) => receipt::run(common, &verb),
        Verb::Trust(verb) => trust::run(common, &verb),
        Verb::Audit(args) => audit::run(common, &args),
        Verb::Identity(verb) => identity::run(common, &verb),
        Verb::Multisig(verb) => multisig::run(common, &verb),
        Verb::Rpc(args) => rpc::run(common, &args),
        Verb::Config(verb) => config::run(common, &verb),
        Verb::Validator(verb) => validator::run(common, &verb),
        Verb::Signer(verb) => signer::run(common, &verb),
        Verb::Snapshot(verb) => snapshot::run(common, &verb),
        Verb::Load(args) => load::run(common, args),
        Verb::Testnet(args) => testnet::run(common, args),
        Verb::Sim(args) => sim::run(common, &args),
        Verb::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "cairn", &mut std::io::stdout());
            Ok(Exit::Yes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_cause_is_not_said_twice() {
        let fault = std::io::Error::other("no disk");
        let error = anyhow::Error::new(fault).context("a.bin: no disk").context("stamping");
        assert_eq!(sentence(&error), "stamping: a.bin: no disk");
    }
}
