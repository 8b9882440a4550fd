//! `cairn status`: what a running node is doing, once or continuously.

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use crate::cli::Common;
use crate::cli::output::pairs;
use crate::cli::rpc::{NodeArgs, block_on, call};
use crate::exit::Exit;

/// How often `--watch` asks.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// `cairn status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Go on asking, once a second, until Ctrl-C
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    node: NodeArgs,
}

pub(crate) fn run(common: &Common, args: &StatusArgs) -> anyhow::Result<Exit> {
    let url = args.node.url(common)?;
    block_on(async {
        if !args.watch {
            let status = ask(&url).await?;
            common.output().show(&readable(&url, &status), &status);
            return Ok(Exit::Yes);
        }
        loop {
            match ask(&url).await {
                Ok(status) => show_again(common, &url, &status),
                // A node that restarts comes back: keep watching.
                Err(error) => common.output().note(&format!("{error:#}")),
            }
            tokio::time::sleep(WATCH_INTERVAL).await;
        }
    })
}

async fn ask(url: &str) -> anyhow::Result<Value> {
    Ok(call(url, "chain_status", Value::Object(serde_json::Map::new())).await?)
}

fn show_again(common: &Common, url: &str, status: &Value) {
    if common.json || !std::io::stdout().is_terminal() {
        let line = format!("height {}  view {}", plain(&status["height"]), plain(&status["view"]));
        return common.output().show(&line, status);
    }
    // Clear the screen and go to its top left corner.
    common.output().show(&format!("\x1b[2J\x1b[H{}", readable(url, status)), status);
}

/// The node's answer as aligned rows, nested objects as `name.field`.
fn readable(url: &str, status: &Value) -> String {
    let mut rows = vec![("node".to_owned(), url.to_owned())];
    flatten("", status, &mut rows);
    pairs(rows.iter().map(|(name, value)| (name.as_str(), value.clone())))
}

fn flatten(prefix: &str, value: &Value, rows: &mut Vec<(String, String)>) {
    let Value::Object(fields) = value else { return };
    for (name, value) in fields {
        let name = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            Value::Object(_) => flatten(&name, value, rows),
            Value::Null => {}
            other => rows.push((name.replace('_', " "), plain(other))),
        }
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nested_answers_become_aligned_rows() {
        let text = readable("http://x", &json!({ "height": 7, "tip": { "time": "now" }, "gone": null }));
        assert_eq!(text, "node      http://x\nheight    7\ntip.time  now\n");
    }
}
