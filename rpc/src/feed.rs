//! Final blocks and proofs as a resumable stream: the one source behind WebSocket subscriptions,
//! server-sent events and gRPC streams.
//!
//! Subscribers pull: each reads the blocks after its own position, so a slow one holds nobody up and
//! costs no queue beyond the few events on their way to it.

use std::fmt;
use std::sync::Arc;

use cairn_types::event::IdentityEvent;
use cairn_types::{Address, Height, ProofKind, Record};
use serde_json::{Map, Value};
use tokio::sync::watch;

use crate::backend::FinalBlock;
use crate::context::Context;
use crate::fault::Fault;
use crate::identity_json;
use crate::json;

/// What a stream gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// One event per final block.
    Blocks,
    /// One event per final proof.
    Proofs,
    /// One event per step in an identity's history.
    Identities,
}

/// A place in a stream: everything up to and including it was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) height: u64,
    /// Position among the block's records, or its identity events; `None` for the whole block.
    pub(crate) index: Option<u32>,
}

impl Cursor {
    /// Reads `12` or `12.3`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text.split_once('.') {
            None => Some(Self { height: text.parse().ok()?, index: None }),
            Some((height, index)) => {
                Some(Self { height: height.parse().ok()?, index: Some(index.parse().ok()?) })
            }
        }
    }

    /// Reads a cursor that a caller sent.
    ///
    /// # Errors
    /// When it is none.
    pub(crate) fn read(text: &str) -> Result<Self, Fault> {
        Self::parse(text).ok_or_else(|| {
            let shown: String = text.chars().take(40).collect();
            Fault::invalid(format!(
                "`{shown}` is no cursor; expected a height, or height.index, as events carry it"
            ))
        })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            None => write!(f, "{}", self.height),
            Some(index) => write!(f, "{}.{index}", self.height),
        }
    }
}

/// Which events a subscriber wants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filter {
    pub(crate) stream: Stream,
    pub(crate) sender: Option<Address>,
    pub(crate) kind: Option<ProofKind>,
}

impl Filter {
    fn wants(&self, record: &Record) -> bool {
        self.sender.is_none_or(|sender| sender == record.sender)
            && self.kind.is_none_or(|kind| kind == record.kind)
    }

    fn concerns(&self, event: &IdentityEvent) -> bool {
        self.sender.is_none_or(|address| address == event.identity || event.what.other() == Some(address))
    }
}

/// What happened.
#[derive(Clone, Debug)]
pub(crate) enum Happened {
    Block(Arc<FinalBlock>),
    Proof(Record),
    Identity(IdentityEvent),
}

/// One event with the cursor to resume after it.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) cursor: Cursor,
    pub(crate) what: Happened,
}

impl Event {
    /// `block`, `proof` or `identity`.
    pub(crate) fn kind(&self) -> &'static str {
        match self.what {
            Happened::Block(_) => "block",
            Happened::Proof(_) => "proof",
            Happened::Identity(_) => "identity",
        }
    }

    /// The event as JSON: `{kind, cursor, ...}`. A proof keeps its own kind in `proof.kind`.
    pub(crate) fn to_json(&self) -> Value {
        let mut value = Map::new();
        value.insert("kind".into(), self.kind().into());
        value.insert("cursor".into(), self.cursor.to_string().into());
        match &self.what {
            Happened::Block(block) => value.insert("block".into(), Value::Object(json::final_block(block))),
            Happened::Proof(record) => value.insert("proof".into(), Value::Object(json::record(record))),
            Happened::Identity(event) => {
                value.insert("identity".into(), Value::Object(identity_json::event(event)))
            }
        };
        Value::Object(value)
    }
}

/// What a subscriber that reads too slowly is told before it is dropped.
pub(crate) fn lagged(resume_from: Option<Cursor>) -> Value {
    serde_json::json!({
        "kind": "lagged",
        "resume_from": resume_from.map(|cursor| cursor.to_string()),
        "hint": "events were not read in time; subscribe again with from_cursor",
    })
}

/// A subscriber's position.
pub(crate) struct Feed {
    context: Arc<Context>,
    heights: watch::Receiver<Height>,
    filter: Filter,
    next: u64,
    /// Records (or identity events) of block `next` that were received already.
    received: u32,
    ready: std::collections::VecDeque<Event>,
}

impl Feed {
    /// Starts after `cursor`, or with the next final block.
    ///
    /// # Errors
    /// When the cursor lies before what this node keeps, or beyond the last final block.
    pub(crate) fn start(
        context: Arc<Context>,
        filter: Filter,
        cursor: Option<Cursor>,
    ) -> Result<Self, Fault> {
        let heights = context.backend.final_height();
        let latest = *heights.borrow();
        let (next, received) = match cursor {
            None => (latest.get().saturating_add(1), 0),
            Some(Cursor { height, .. }) if height > latest.get() => {
                return Err(Fault::FutureHeight { asked: Height::new(height), latest });
            }
            Some(Cursor { height, index: None }) => (height.saturating_add(1), 0),
            Some(Cursor { height, index: Some(index) }) => (height, index.saturating_add(1)),
        };
        let earliest = context.backend.earliest();
        if next < earliest.get() {
            return Err(Fault::Pruned { what: format!("block {next}"), earliest });
        }
        Ok(Self { context, heights, filter, next, received, ready: std::collections::VecDeque::new() })
    }

    /// The position before anything was received: where a subscriber that got nothing yet may resume.
    pub(crate) fn origin(&self) -> Option<Cursor> {
        self.next.checked_sub(1).map(|height| Cursor { height, index: None })
    }

    /// Waits for the next event. Cancel safe.
    ///
    /// # Errors
    /// When the node cannot read a block, or shuts down.
    pub(crate) async fn next(&mut self) -> Result<Event, Fault> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            self.wait_for(self.next).await?;
            let height = Height::new(self.next);
            let Some(block) = self.context.final_block(height).await? else {
                return Err(Fault::Pruned {
                    what: format!("block {height}"),
                    earliest: self.context.backend.earliest(),
                });
            };
            self.take(&block);
        }
    }

    async fn wait_for(&mut self, height: u64) -> Result<(), Fault> {
        let stopping =
            || Fault::NotReady { reason: "the node is shutting down".into(), retry_after_ms: 5_000 };
        let reached = self.heights.wait_for(|latest| latest.get() >= height);
        tokio::select! {
            reached = reached => reached.map(|_| ()).map_err(|_| stopping()),
            () = self.context.shutdown.cancelled() => Err(stopping()),
        }
    }

    fn take(&mut self, block: &Arc<FinalBlock>) {
        let height = block.header.height.get();
        match self.filter.stream {
            Stream::Blocks => self.ready.push_back(Event {
                cursor: Cursor { height, index: None },
                what: Happened::Block(block.clone()),
            }),
            Stream::Proofs => {
                let skip = self.received as usize;
                let wanted = (0u32..)
                    .zip(&block.records)
                    .skip(skip)
                    .filter(|(_, record)| self.filter.wants(record))
                    .map(|(index, record)| Event {
                        cursor: Cursor { height, index: Some(index) },
                        what: Happened::Proof(record.clone()),
                    });
                self.ready.extend(wanted);
            }
            Stream::Identities => {
                let skip = self.received as usize;
                let wanted = (0u32..)
                    .zip(&block.events)
                    .skip(skip)
                    .filter(|(_, event)| self.filter.concerns(event))
                    .map(|(index, event)| Event {
                        cursor: Cursor { height, index: Some(index) },
                        what: Happened::Identity(event.clone()),
                    });
                self.ready.extend(wanted);
            }
        }
        self.received = 0;
        self.next = self.next.saturating_add(1);
    }
}
