//! Watches one node's stream of final blocks: server-sent events, one per block, with the ids of its
//! transactions and nothing else of them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use cairn_types::TxId;
use serde::Deserialize;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::Finals;
use crate::api::{BLOCK_EVENTS, NodeApi};

/// How long the stream may take to open.
const OPEN_PATIENCE: Duration = Duration::from_secs(5);
/// Before a broken stream is opened again.
const REOPEN_PAUSE: Duration = Duration::from_millis(100);
/// Longest event: 65,536 transaction ids with quotes and commas are 4.4 MB.
const EVENT_BYTES_MAX: usize = 8 << 20;

#[derive(Deserialize)]
struct Event {
    cursor: Option<String>,
    block: Option<FinalBlock>,
}

#[derive(Deserialize)]
struct FinalBlock {
    transactions: Vec<String>,
}

/// Notes in `ledger` when its transactions become final, until aborted. Returns once the stream is open.
pub(crate) async fn follow(api: NodeApi, ledger: Arc<impl Finals>) -> Result<JoinHandle<()>> {
    let (opened, is_open) = oneshot::channel();
    let url = api.url().to_owned();
    let task = tokio::spawn(async move {
        let mut opened = Some(opened);
        let mut cursor = None;
        loop {
            read(&api, &*ledger, &mut cursor, &mut opened).await;
            // A node that restarts or drops a slow reader: go on after the last event received.
            sleep(REOPEN_PAUSE).await;
        }
    });
    match timeout(OPEN_PATIENCE, is_open).await {
        Ok(Ok(())) => Ok(task),
        _ => {
            task.abort();
            Err(anyhow!("{url}{BLOCK_EVENTS} gives no stream of final blocks"))
        }
    }
}

async fn read(
    api: &NodeApi,
    ledger: &impl Finals,
    cursor: &mut Option<String>,
    opened: &mut Option<oneshot::Sender<()>>,
) {
    let Ok(mut answer) = api.events(cursor.as_deref()).await else { return };
    if let Some(opened) = opened.take() {
        // The receiver is gone only when nobody waits any more.
        let _ = opened.send(());
    }
    let mut lines = Lines::default();
    while let Ok(Some(chunk)) = answer.chunk().await {
        for line in lines.push(&chunk) {
            if let Some(event) =
                line.strip_prefix(b"data:").and_then(|data| serde_json::from_slice::<Event>(data).ok())
            {
                take(event, ledger, cursor);
            }
        }
        if lines.rest.len() > EVENT_BYTES_MAX {
            return;
        }
    }
}

fn take(event: Event, ledger: &impl Finals, cursor: &mut Option<String>) {
    for id in event.block.iter().flat_map(|block| &block.transactions) {
        if let Some(id) = TxId::from_hex(id) {
            ledger.became_final(&id);
        }
    }
    if event.cursor.is_some() {
        *cursor = event.cursor;
    }
}

/// Cuts a stream of chunks into lines.
#[derive(Default)]
struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    fn push(&mut self, chunk: &[u8]) -> Vec<Vec<u8>> {
        self.rest.extend_from_slice(chunk);
        let Some(last) = self.rest.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
        let whole: Vec<u8> = self.rest.drain(..=last).collect();
        whole.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_survive_any_cut() {
        let stream = b"id: 7\ndata: {\"cursor\":\"7\"}\n\ndata: x\n";
        for cut in 0..stream.len() {
            let mut lines = Lines::default();
            let (head, tail) = stream.split_at(cut);
            let mut got = lines.push(head);
            got.extend(lines.push(tail));
            assert_eq!(got, [&b"id: 7"[..], b"data: {\"cursor\":\"7\"}", b"data: x"], "cut at {cut}");
        }
    }
}
