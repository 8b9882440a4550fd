//! What a run leaves: the manifest, tables, a plot, one page, and the command that does it again.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use cairn_sim::{Manifest, Micros, finality_plot};
use serde_json::{Value, json};

use super::Observed;
use super::clients::Submission;
use crate::api::NodeApi;
use crate::network::LocalNetwork;

/// A run's tables and verdict.
pub(super) struct Results<'a> {
    manifest: &'a Manifest,
    observed: &'a Observed,
    command: &'a str,
    finality_us: Vec<u64>,
    missed: Vec<String>,
}

/// Every final header from 1 on, as a node gives it.
pub(super) async fn headers(api: &NodeApi) -> Result<Vec<Value>> {
    let highest = crate::invariants::height(api).await.context("node 0 does not tell its height")?;
    let mut headers = Vec::new();
    for height in 1..=highest {
        let header = api.call("chain_header", json!({ "at": height })).await;
        headers.push(header.map_err(|fault| anyhow!("node 0 does not give header {height}: {fault}"))?);
    }
    Ok(headers)
}

/// Views given up by a quorum, as the node that saw most of them counts.
pub(super) async fn timeouts(network: &LocalNetwork) -> u64 {
    let mut most = 0;
    for node in network.nodes() {
        let Ok(ports) = network.ports(node) else { continue };
        let metrics = NodeApi::new(&format!("http://127.0.0.1:{}", ports.metrics)).get("/metrics").await;
        let text = metrics.unwrap_or_default();
        let counter = text.lines().find_map(|line| line.strip_prefix("cairn_timeouts_total "));
        most = most.max(counter.and_then(|count| count.parse().ok()).unwrap_or_default());
    }
    most
}

impl<'a> Results<'a> {
    pub(super) fn of(manifest: &'a Manifest, observed: &'a Observed, command: &'a str) -> Self {
        let warm = manifest.load.warmup.0;
        let took = |it: &Submission| it.final_at.map(|at| at.saturating_sub(it.due));
        let mut finality_us: Vec<u64> =
            observed.submissions.iter().filter(|it| it.due >= warm).filter_map(took).collect();
        finality_us.sort_unstable();
        let mut results = Self { manifest, observed, command, finality_us, missed: Vec::new() };
        results.missed = results.missed();
        results
    }

    /// Whether everything is as the manifest wants it.
    pub(super) fn is_good(&self) -> bool {
        self.missed.is_empty() && self.observed.checked.is_ok()
    }

    fn percentile(&self, of: usize) -> Option<u64> {
        let last = self.finality_us.len().checked_sub(1)?;
        self.finality_us.get((self.finality_us.len() * of / 100).min(last)).copied()
    }

    /// Each assertion that does not hold, as a sentence.
    fn missed(&self) -> Vec<String> {
        let assert = &self.manifest.assert;
        let mut missed = Vec::new();
        let finality = [
            ("finality_p50_max", assert.finality_p50_max, 50),
            ("finality_p95_max", assert.finality_p95_max, 95),
            ("finality_p99_max", assert.finality_p99_max, 99),
        ];
        for (name, most, of) in finality {
            let Some(most) = most else { continue };
            match self.percentile(of).map(Micros) {
                Some(got) if got <= most => {}
                Some(got) => missed.push(format!("{name} = {most}, got {got}")),
                None => missed.push(format!("{name} = {most}, but nothing became final")),
            }
        }
        let least = [
            ("blocks_min", assert.blocks_min, self.observed.headers.len() as u64),
            ("transactions_min", assert.transactions_min, self.finals()),
            ("violations_min", assert.violations_min, u64::from(self.observed.checked.is_err())),
        ];
        for (name, least, got) in least {
            if let Some(least) = least.filter(|least| got < *least) {
                missed.push(format!("{name} = {least}, got {got}"));
            }
        }
        if let Some(most) = assert.timeouts_max.filter(|most| self.observed.timeouts > *most) {
            missed.push(format!("timeouts_max = {most}, got {}", self.observed.timeouts));
        }
        if self.finals() < self.observed.submissions.len() as u64 {
            let (finals, all) = (self.finals(), self.observed.submissions.len());
            missed.push(format!("{finals} of {all} transactions are final, though every fault is over"));
        }
        missed
    }

    fn finals(&self) -> u64 {
        self.observed.submissions.iter().filter(|it| it.final_at.is_some()).count() as u64
    }

    fn json(&self) -> Value {
        let ms = |of: usize| self.percentile(of).map(|us| us as f64 / 1e3);
        let checked = self.observed.checked.as_ref();
        json!({
            "experiment": self.manifest.name,
            "good": self.is_good(),
            "missed": self.missed,
            "violations": checked.err(),
            "nodes_checked": checked.map(|it| it.nodes).ok(),
            "heights_compared": checked.map(|it| it.heights).ok(),
            "receipts_verified": checked.map(|it| it.receipts).ok(),
            "finality_ms": { "p50": ms(50), "p95": ms(95), "p99": ms(99) },
            "submitted": self.observed.submissions.len(),
            "transactions": self.finals(),
            "blocks": self.observed.headers.len(),
            "timed_out_views": self.observed.timeouts,
            "bytes": self.observed.bytes.iter().map(|(_, _, bytes)| bytes).sum::<u64>(),
            "duration_s": self.manifest.duration.as_secs_f64(),
            "version": env!("CARGO_PKG_VERSION"),
            "rerun": self.command,
        })
    }

    /// Writes everything into `folder`.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let put = |name: &str, text: String| {
            fs::write(folder.join(name), text)
                .with_context(|| format!("cannot write {}", folder.join(name).display()))
        };
        let (version, command) = (env!("CARGO_PKG_VERSION"), self.command);
        put("manifest.toml", format!("# cairn {version}\n# {command}\n{}", self.manifest.to_toml()))?;
        put("rerun.txt", format!("{command}\n"))?;
        put("summary.json", format!("{:#}\n", self.json()))?;
        put("tx.csv", self.transactions())?;
        put("blocks.csv", self.blocks())?;
        put("views.csv", self.views())?;
        put("messages.csv", self.messages())?;
        let plot = self.plot();
        put("finality.svg", plot.clone())?;
        put("report.html", self.page(&plot))
    }

    fn plot(&self) -> String {
        let points: Vec<(u64, u64)> = self
            .observed
            .submissions
            .iter()
            .filter_map(|it| Some((it.due, it.final_at?.saturating_sub(it.due))))
            .collect();
        let end = self.observed.submissions.iter().filter_map(|it| it.final_at).max().unwrap_or_default();
        finality_plot(self.manifest, end.max(self.manifest.duration.0), &points, &[])
    }

    fn transactions(&self) -> String {
        let mut text = String::from("transaction,due_ms,validator,tries,final_ms,finality_ms\n");
        let ms = |us: Option<u64>| us.map(|us| format!("{:.1}", us as f64 / 1e3)).unwrap_or_default();
        for it in &self.observed.submissions {
            let took = it.final_at.map(|at| at.saturating_sub(it.due));
            let (due, at, took) = (ms(Some(it.due)), ms(it.final_at), ms(took));
            let _ = writeln!(text, "{},{due},{},{},{at},{took}", it.id, it.entry, it.tries);
        }
        text
    }

    fn blocks(&self) -> String {
        let mut text = String::from("height,epoch,view,proposer,transactions,time_ms\n");
        for header in &self.observed.headers {
            let field = |name: &str| header[name].as_u64().unwrap_or_default();
            let since = field("time_ms").saturating_sub(self.observed.started_ms);
            let _ = writeln!(
                text,
                "{},{},{},{},{},{since}",
                field("height"),
                field("epoch"),
                field("view"),
                field("proposer"),
                field("tx_count")
            );
        }
        text
    }

    /// One row for each view up to the last final one: those without a final block gave nothing.
    fn views(&self) -> String {
        let mut text = String::from("epoch,view,leader,height\n");
        let validators = self.manifest.net.n as u64;
        let mut next = (0, 1);
        for header in &self.observed.headers {
            let field = |name: &str| header[name].as_u64().unwrap_or_default();
            let (epoch, view) = (field("epoch"), field("view"));
            if epoch != next.0 {
                next = (epoch, 1);
            }
            for lost in next.1..view {
                let _ = writeln!(text, "{epoch},{lost},{},", (lost - 1) % validators);
            }
            let _ = writeln!(text, "{epoch},{view},{},{}", field("proposer"), field("height"));
            next = (epoch, view + 1);
        }
        text
    }

    fn messages(&self) -> String {
        let mut text = String::from("from,to,bytes\n");
        for (from, to, bytes) in self.observed.bytes.iter().filter(|(from, to, _)| from != to) {
            let _ = writeln!(text, "{from},{to},{bytes}");
        }
        text
    }

    /// One page for people: everything in it, nothing fetched.
    fn page(&self, plot: &str) -> String {
        let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let mut text = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{0}</title>\
             <style>body{{font:15px/1.5 sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem}}\
             pre{{background:#f5f5f5;padding:.8rem;overflow-x:auto}}.bad{{color:#b00}}.good{{color:#070}}\
             svg{{width:100%;height:auto}}</style></head><body>\n<h1>{0}</h1>\n<p>{1}</p>\n\
             <p>Real processes on one machine, in real time.</p>\n",
            escape(&self.manifest.name),
            escape(&self.manifest.about)
        );
        match &self.observed.checked {
            Ok(_) => text.push_str("<p class=\"good\">No invariant was violated.</p>\n"),
            Err(why) => {
                let _ = writeln!(text, "<p class=\"bad\">Violated: {}</p>", escape(why));
            }
        }
        for missed in &self.missed {
            let _ = writeln!(text, "<p class=\"bad\">Missed: {}</p>", escape(missed));
        }
        let _ = writeln!(
            text,
            "{plot}\n<h2>Figures</h2>\n<pre>{}</pre>\n<h2>Again</h2>\n<pre>{}</pre>\n<h2>Manifest</h2>\n<pre>{}</pre>\n</body></html>",
            escape(&format!("{:#}", self.json())),
            escape(self.command),
            escape(&self.manifest.to_toml())
        );
        text
    }

    /// What the person at the terminal sees.
    pub(super) fn print(&self, folder: &Path, as_json: bool) {
        if as_json {
            println!("{}", self.json());
            return;
        }
        let ms =
            |of: usize| self.percentile(of).map_or("-".to_owned(), |us| format!("{:.0} ms", us as f64 / 1e3));
        println!(
            "{}: {} blocks, {} of {} transactions final, finality p50 {} p95 {} p99 {}, {} views timed out",
            self.manifest.name,
            self.observed.headers.len(),
            self.finals(),
            self.observed.submissions.len(),
            ms(50),
            ms(95),
            ms(99),
            self.observed.timeouts
        );
        match &self.observed.checked {
            Ok(it) => println!("  invariants hold: {} nodes, {} heights compared", it.nodes, it.heights),
            Err(why) => println!("  VIOLATION: {why}"),
        }
        self.missed.iter().for_each(|missed| println!("  MISSED: {missed}"));
        println!("results in {}; again: {}", folder.display(), self.command);
    }
}
