//! `cairn rpc METHOD k=v`: any JSON-RPC method, and where a node is.

use anyhow::{Context, anyhow, bail};
use cairn_client::{Client, ClientFault};
use cairn_rpc::docs;
use clap::Args;
use serde_json::{Map, Value, json};

use crate::cli::Common;
use crate::cli::output::pairs;
use crate::config::{Config, ConfigFault};
use crate::exit::{Exit, WithExit};

/// Where a node answers when nothing says otherwise.
const URL: &str = "http://127.0.0.1:26657";

/// Characters of the longest number: a u64 has 20 digits.
const NUMBER_CHARS_MAX: usize = 20;

/// The node to ask.
#[derive(Clone, Debug, Args)]
pub(crate) struct NodeArgs {
    /// The node's JSON-RPC address [default: that of the home's configuration, else http://127.0.0.1:26657]
    #[arg(long, env = "CAIRN_URL", value_name = "URL", hide_env_values = true)]
    url: Option<String>,
}

impl NodeArgs {
    /// The address given, or that of the home's node, or the usual one.
    ///
    /// # Errors
    /// When the home has a configuration that is refused.
    pub(crate) fn url(&self, common: &Common) -> anyhow::Result<String> {
        if let Some(url) = &self.url {
            return Ok(url.trim_end_matches('/').to_owned());
        }
        let mut listen = match Config::load(&common.home(), &[]) {
            Ok(loaded) => loaded.config.rpc.listen,
            // No home, no configuration: most machines that stamp files have none.
            Err(ConfigFault::Unreadable { .. }) => return Ok(URL.to_owned()),
            Err(fault) => return Err(fault.into()),
        };
        if listen.ip().is_unspecified() {
            listen.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        Ok(format!("http://{listen}"))
    }
}

/// One call, tried once: whoever types a command sees at once what is wrong.
///
/// # Errors
/// The node's error, or that it does not answer.
pub(crate) async fn call(url: &str, method: &str, params: Value) -> Result<Value, ClientFault> {
    Client::connect(url)?.with_tries(1).call(method, params).await
}

/// Runs one asynchronous job to its end on this thread.
pub(crate) fn block_on<T>(job: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")?
        .block_on(job)
}

/// As [`block_on`], with the blocking and parallel work of load generators and local networks.
pub(crate) fn block_on_all_cores<T>(job: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")?
        .block_on(job)
}

/// `cairn rpc`.
#[derive(Debug, Args)]
#[command(after_help = "\
A value is read as JSON when it is JSON, else as text: limit=5, wait=final, leaves='[\"00..\"]'.

Examples:
  cairn rpc                            every method
  cairn rpc proof_get --describe       what it does and takes
  cairn rpc chain_status
  cairn rpc chain_block at=latest
  cairn rpc proof_list limit=5
  cairn rpc identity_get did=did:cairn:<64 hex>")]
pub(crate) struct RpcArgs {
    /// The method, for instance chain_status; without one, all of them are listed
    method: Option<String>,
    /// Parameters by name
    #[arg(value_name = "NAME=VALUE")]
    params: Vec<String>,
    /// Show what the method does and takes, without calling it
    #[arg(long, requires = "method")]
    describe: bool,
    #[command(flatten)]
    node: NodeArgs,
}

pub(crate) fn run(common: &Common, args: &RpcArgs) -> anyhow::Result<Exit> {
    let Some(method) = &args.method else {
        list(common);
        return Ok(Exit::Yes);
    };
    if args.describe {
        let text = docs::help(method).ok_or_else(|| unknown(method)).exit_with(Exit::Usage)?;
        common.output().show(&text, &json!({ "method": method, "help": text }));
        return Ok(Exit::Yes);
    }
    let params = parse(&args.params).exit_with(Exit::Usage)?;
    let url = args.node.url(common)?;
    let result = block_on(async { Ok(call(&url, method, params).await?) })?;
    if common.json {
        common.output().json(&result);
    } else {
        common.output().show(&serde_json::to_string_pretty(&result)?, &result);
    }
    Ok(Exit::Yes)
}

fn list(common: &Common) {
    let methods = docs::method_list();
    let text = pairs(methods.iter().map(|(name, doc)| (*name, (*doc).to_owned())));
    let named = methods.iter().map(|(name, doc)| json!({ "method": name, "doc": doc })).collect::<Vec<_>>();
    let more = "`cairn rpc METHOD --describe` says more on one of them";
    common.output().show(&format!("{text}\n{more}"), &json!({ "methods": named }));
}

fn unknown(method: &str) -> anyhow::Error {
    let near = docs::nearest_method(method).map(|near| format!("; did you mean `{near}`?"));
    anyhow!("there is no method `{method}`{}", near.unwrap_or_default())
}

fn parse(params: &[String]) -> anyhow::Result<Value> {
    let mut named = Map::new();
    for param in params {
        let Some((name, value)) = param.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            bail!("`{param}` is no parameter; expected NAME=VALUE, for instance limit=5");
        };
        let value = match serde_json::from_str(value) {
            // An id may happen to consist of digits alone: no number of the interface is that long.
            Ok(Value::Number(_)) if value.len() > NUMBER_CHARS_MAX => Value::String(value.to_owned()),
            Ok(value) => value,
            Err(_) => Value::String(value.to_owned()),
        };
        if named.insert(name.to_owned(), value).is_some() {
            bail!("the parameter `{name}` is given twice");
        }
    }
    Ok(Value::Object(named))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_json_when_they_can_be() {
        let texts = ["limit=5", "wait=final", "at=\"12\"", "list=[1,2]", "text=a=b", "empty="];
        let params = parse(&texts.map(str::to_owned)).unwrap();
        let expected =
            json!({ "limit": 5, "wait": "final", "at": "12", "list": [1, 2], "text": "a=b", "empty": "" });
        assert_eq!(params, expected);
    }

    #[test]
    fn an_id_of_digits_alone_stays_text() {
        let id = "1".repeat(64);
        let params = parse(&[format!("root={id}"), format!("at={}", u64::MAX)]).unwrap();
        assert_eq!(params, json!({ "root": id, "at": u64::MAX }));
    }

    #[test]
    fn what_is_no_parameter_is_refused() {
        assert!(parse(&["latest".to_owned()]).expect_err("no =").to_string().contains("NAME=VALUE"));
        assert!(parse(&["=x".to_owned()]).is_err());
        let twice = parse(&["a=1".to_owned(), "a=2".to_owned()]).expect_err("twice").to_string();
        assert!(twice.contains("given twice"), "{twice}");
    }
}
