//! `cairn start`: home, configuration, logs and lock, then the running node.

use std::path::PathBuf;

use cairn_crypto::KeystoreFault;
use cairn_genesis::GenesisFault;
use cairn_testnet::Rehearsal;
use clap::Args;
use figment::value::Value;

use crate::cli::Common;
use crate::config::{Config, Override};
use crate::exit::{Exit, WithExit};
use crate::home::Home;
use crate::{logging, running};

/// Flags that override `config.toml` and the environment.
#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    /// JSON-RPC, WebSocket, health and web page
    #[arg(long, value_name = "ADDRESS")]
    rpc_listen: Option<String>,
    /// gRPC; "" = off
    #[arg(long, value_name = "ADDRESS")]
    grpc_listen: Option<String>,
    /// Prometheus metrics; "" = off
    #[arg(long, value_name = "ADDRESS")]
    metrics_listen: Option<String>,
    /// Public swarm
    #[arg(long, value_name = "ADDRESS")]
    public_listen: Option<String>,
    /// Validators' mesh
    #[arg(long, value_name = "ADDRESS")]
    mesh_listen: Option<String>,
    /// A public multiaddress to join by; may be given several times
    #[arg(long, value_name = "MULTIADDR")]
    bootstrap: Vec<String>,
    /// File with the validator key's passphrase
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// off, error, warn, info, debug, trace or directives
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// pretty or json
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Die or lose unsynced data on purpose; refused unless every address is loopback
    #[arg(long, value_name = "DISASTER", hide = true)]
    rehearse: Option<Rehearsal>,
}

impl StartArgs {
    fn overrides(&self) -> anyhow::Result<Vec<Override>> {
        let passphrase_file = match &self.passphrase_file {
            // Relative to the working directory, as every path on a command line.
            Some(path) => Some(std::path::absolute(path)?.display().to_string()),
            None => None,
        };
        let texts = [
            ("rpc.listen", "--rpc-listen", &self.rpc_listen),
            ("rpc.grpc_listen", "--grpc-listen", &self.grpc_listen),
            ("rpc.metrics_listen", "--metrics-listen", &self.metrics_listen),
            ("p2p.public_listen", "--public-listen", &self.public_listen),
            ("p2p.mesh_listen", "--mesh-listen", &self.mesh_listen),
            ("keys.passphrase_file", "--passphrase-file", &passphrase_file),
            ("log.level", "--log-level", &self.log_level),
            ("log.format", "--log-format", &self.log_format),
        ];
        let mut overrides: Vec<Override> = texts
            .into_iter()
            .filter_map(|(key, flag, text)| {
                text.as_ref().map(|text| Override { key, flag, value: Value::from(text.clone()) })
            })
            .collect();
        if !self.bootstrap.is_empty() {
            let value = Value::from(self.bootstrap.clone());
            overrides.push(Override { key: "p2p.bootstrap", flag: "--bootstrap", value });
        }
        Ok(overrides)
    }
}

pub(crate) fn run(common: &Common, args: &StartArgs) -> anyhow::Result<Exit> {
    let mut home = Home::open(&common.home())?;
    let loaded = Config::load(home.root(), &args.overrides()?)?;
    logging::start(&loaded.config.log)?;
    home.lock()?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    match running::run(home, loaded.config, args.rehearse) {
        Ok(()) => Ok(Exit::Yes),
        // What the operator set up does not fit: restarting would not help.
        Err(error)
            if error.chain().any(|cause| cause.is::<KeystoreFault>() || cause.is::<GenesisFault>()) =>
        {
            Err(error).exit_with(Exit::Config)
        }
        Err(error) => Err(error),
    }
}
