//! `cairn status`: what a running node is doing, once or continuously.

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use crate::cli::output::pairs;
use crate::cli::rpc::{NodeArgs, block_on, call};
use crate::cli::{Common, sentence};
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
        let mut last = String::new();
        loop {
            match ask(&url).await {
                Ok(status) => show_again(common, &url, &status, &mut last),
                // A node that restarts comes back: keep watching.
                Err(error) => common.output().note(&sentence(&error)),
            }
            tokio::time::sleep(WATCH_INTERVAL).await;
        }
    })
}

async fn ask(url: &str) -> anyhow::Result<Value> {
    Ok(call(url, "chain_status", Value::Object(serde_json::Map::new())).await?)
}

/// On a terminal the whole status again; in a pipe a line whenever something moved.
fn show_again(common: &Common, url: &str, status: &Value, last: &mut String) {
    if common.json {
        return common.output().show("", status);
    }
    if std::io::stdout().is_terminal() {
        // Clear the screen and go to its top left corner.
        return common.output().show(&format!("\x1b[2J\x1b[H{}", readable(url, status)), status);
    }
    let line = line(status);
    if line != *last {
        common.output().show(&line, status);
        *last = line;
    }
}

fn line(status: &Value) -> String {
    let field = |name: &str| plain(&status[name]);
    format!(
        "height {}  view {}  proofs {}  pending {}  peers {}{}",
        field("height"),
        field("view"),
        field("anchors"),
        field("pending"),
        field("peers"),
        if status["syncing"] == true { "  catching up" } else { "" }
    )
}

/// What matters of the node's answer, most important first; `--json` gives all of it.
fn readable(url: &str, status: &Value) -> String {
    let field = |name: &str| plain(&status[name]);
    let duration = |name: &str| status[name].as_u64().map_or_else(|| field(name), spoken);
    let sync = match status["syncing"] == true {
        true => format!("catching up: {} of {}", field("height"), field("best_known")),
        false => "in step with its peers".to_owned(),
    };
    let rows = [
        ("node", format!("{url}  {}", field("moniker")).trim_end().to_owned()),
        ("runs", format!("cairn {}, for {}", field("version"), duration("uptime_ms"))),
        ("role", format!("{} {}", field("role"), field("validator")).trim_end().to_owned()),
        ("chain", format!("{} {}", field("chain_name"), field("chain"))),
        ("state", sync),
        ("final", format!("block {}, {} ago, {}", field("height"), duration("final_age_ms"), field("time"))),
        ("block", field("block")),
        (
            "consensus",
            format!("epoch {}, view {}, {} validators", field("epoch"), field("view"), field("validators")),
        ),
        ("proofs", format!("{} anchored", field("anchors"))),
        ("pending", field("pending")),
        ("peers", format!("{} links", field("peers"))),
    ];
    pairs(rows)
}

/// A duration for people: `973 ms`, `12 s`, `5 min`, `3 h 20 min`, `4 d 2 h`.
fn spoken(ms: u64) -> String {
    let (seconds, minutes, hours) = (ms / 1_000, ms / 60_000, ms / 3_600_000);
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{seconds} s"),
        120_000..7_200_000 => format!("{minutes} min"),
        7_200_000..172_800_000 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{} d {} h", hours / 24, hours % 24),
    }
}

/// Text as it is, other values as JSON; what is absent is empty.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status() -> Value {
        json!({
            "chain": "c0", "chain_name": "net", "height": 7, "block": "b7", "time": "now", "final_age_ms": 12_300,
            "epoch": 0, "view": 8, "anchors": 5, "best_known": 9, "syncing": true, "peers": 3, "validators": 4,
            "pending": 0, "role": "follower", "validator": null, "moniker": "", "version": "1.2.3",
            "uptime_ms": 7_260_000,
        })
    }

    #[test]
    fn a_status_reads_from_what_matters_most() {
        let text = readable("http://x", &status());
        assert!(text.starts_with(
            "node       http://x\nruns       cairn 1.2.3, for 2 h 1 min\nrole       follower\n"
        ));
        for row in ["state      catching up: 7 of 9\n", "final      block 7, 12 s ago, now\n"] {
            assert!(text.contains(row), "{text}");
        }
        assert_eq!(line(&status()), "height 7  view 8  proofs 5  pending 0  peers 3  catching up");
    }

    #[test]
    fn durations_are_spoken() {
        let spoken = [999, 1_000, 119_999, 120_000, 7_199_999, 90_000_000, 266_400_000].map(spoken);
        assert_eq!(spoken, ["999 ms", "1 s", "119 s", "2 min", "119 min", "25 h 0 min", "3 d 2 h"]);
    }
}
