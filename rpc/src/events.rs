//! Server-sent events: the subscriptions for those who have no WebSocket.

use std::collections::BTreeMap;
use std::convert::Infallible;

use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::args::Args;
use crate::fault::Fault;
use crate::feed::{Cursor, Feed, Stream, lagged};
use crate::http::{App, Who, refused};
use crate::method::{Field, Shape, opt};
use crate::module::start;

/// Events on their way to one reader, and one place kept free for the last word.
const BUFFER_EVENTS: usize = 64;

const FIELDS: &[Field] = &[
    opt("stream", Shape::OneOf(STREAMS), "blocks when left out"),
    opt("sender", Shape::Address, "only proofs of this sender"),
    opt("kind", Shape::Text, "only proofs of this kind"),
    opt("did", Shape::Address, "only what concerns this identity"),
    opt("from_cursor", Shape::Text, "resume after this event; the header Last-Event-ID goes before it"),
];
const STREAMS: &[&str] = &["blocks", "proofs", "identities"];

/// `GET /v1/events`.
pub(crate) async fn events(
    State(app): State<App>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
    Who(caller): Who,
) -> Response {
    let feed = match open(&app, query, &headers) {
        Ok(feed) => feed,
        Err(fault) => return refused(&fault),
    };
    let (sender, receiver) = mpsc::channel(BUFFER_EVENTS);
    // The reader is counted as a connection for as long as it is fed.
    tokio::spawn(async move {
        feed_reader(&app, feed, sender).await;
        drop(caller);
    });
    Sse::new(ReceiverStream::new(receiver)).keep_alive(KeepAlive::default()).into_response()
}

fn open(app: &App, query: BTreeMap<String, String>, headers: &HeaderMap) -> Result<Feed, Fault> {
    let mut values: Map<String, Value> =
        query.into_iter().map(|(name, value)| (name, Value::String(value))).collect();
    if let Some(last) = headers.get("last-event-id") {
        let last = last.to_str().map_err(|_| Fault::invalid("Last-Event-ID is no cursor"))?;
        values.insert("from_cursor".into(), last.into());
    }
    let mut args = Args::read(Some(&Value::Object(values).to_string()), FIELDS)?;
    let read = |name: &str| match name {
        "blocks" => Some(Stream::Blocks),
        "proofs" => Some(Stream::Proofs),
        "identities" => Some(Stream::Identities),
        _ => None,
    };
    let stream = args.one_of("stream", STREAMS, read)?.unwrap_or(Stream::Blocks);
    if stream != Stream::Proofs && (args.has("sender") || args.has("kind")) {
        return Err(Fault::invalid("sender and kind filter proofs: add stream=proofs"));
    }
    if stream != Stream::Identities && args.has("did") {
        return Err(Fault::invalid("did filters identities: add stream=identities"));
    }
    start(&app.context, &mut args, stream)
}

async fn feed_reader(app: &App, mut feed: Feed, sender: mpsc::Sender<Result<Event, Infallible>>) {
    let _counted = app.context.metrics.subscribed();
    let Ok(last_word) = sender.clone().reserve_owned().await else { return };
    let mut last: Option<Cursor> = feed.origin();
    loop {
        let event = tokio::select! {
            event = feed.next() => event,
            () = sender.closed() => return,
        };
        let (kind, value) = match event {
            Ok(event) => {
                let message = Event::default()
                    .id(event.cursor.to_string())
                    .event(event.kind())
                    .data(event.to_json().to_string());
                match sender.send_timeout(Ok(message), app.context.config.slow_consumer_after).await {
                    Ok(()) => {
                        last = Some(event.cursor);
                        continue;
                    }
                    Err(mpsc::error::SendTimeoutError::Closed(_)) => return,
                    Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
                        app.context.metrics.subscriber_lagged();
                        ("lagged", lagged(last))
                    }
                }
            }
            Err(fault) => ("error", serde_json::json!({ "kind": "error", "error": fault.to_json() })),
        };
        last_word.send(Ok(Event::default().event(kind).data(value.to_string())));
        return;
    }
}
