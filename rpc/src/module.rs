//! The method table as a jsonrpsee module.

use std::sync::Arc;
use std::time::Duration;

use jsonrpsee::core::server::{PendingSubscriptionSink, SubscriptionSink};
use jsonrpsee::server::RpcModule;
use jsonrpsee::types::ErrorObjectOwned;
use serde_json::Value;

use crate::args::Args;
use crate::config::{ServeError, WAIT_MS_MAX};
use crate::connections::Caller;
use crate::context::Context;
use crate::fault::Fault;
use crate::feed::{Cursor, Feed, Filter, Stream, lagged};
use crate::method::{Handler, Method, Serve};
use crate::methods::{all, kind_of};

/// How long a subscriber that was too slow may take to read where to resume.
const FAREWELL: Duration = Duration::from_secs(30);

/// Registers every row of the table.
///
/// # Errors
/// When two rows have one name.
pub(crate) fn module(context: Arc<Context>) -> Result<RpcModule<Context>, ServeError> {
    let mut module = RpcModule::from_arc(context);
    for method in all() {
        let registered = match method.serve {
            Serve::Call(handler) => register_call(&mut module, method, handler),
            Serve::Subscribe { stream, notification, unsubscribe } => {
                register_subscription(&mut module, method, stream, notification, unsubscribe)
            }
        };
        registered.map_err(|error| ServeError::Descriptor(format!("method {}: {error}", method.name)))?;
    }
    Ok(module)
}

fn register_call(
    module: &mut RpcModule<Context>,
    method: &'static Method,
    handler: Handler,
) -> Result<(), jsonrpsee::core::RegisterMethodError> {
    module
        .register_async_method(method.name, move |params, context, extensions| async move {
            let caller = extensions.get::<Caller>().map(|caller| caller.ip);
            let args = Args::read(params.as_str(), method.params);
            let answer = match args {
                Ok(args) => {
                    let args = match caller {
                        Some(ip) => args.called_by(ip),
                        None => args,
                    };
                    answer(context, args, handler).await
                }
                Err(fault) => Err(fault),
            };
            answer.map_err(|fault| {
                if let Fault::Internal { reason } = &fault {
                    tracing::error!(method = method.name, %reason, "an RPC call failed");
                }
                ErrorObjectOwned::from(&fault)
            })
        })
        .map(|_| ())
}

/// Runs a handler for as long as the call itself asks for, and the configured time on top.
async fn answer(context: Arc<Context>, args: Args, handler: Handler) -> Result<Value, Fault> {
    let own = Duration::from_millis(args.asked_wait_ms().min(WAIT_MS_MAX));
    let allowed = own.saturating_add(context.config.answer_timeout);
    match tokio::time::timeout(allowed, handler(context, args)).await {
        Ok(answer) => answer,
        Err(_) => {
            Err(Fault::CallTimeout { waited_ms: u64::try_from(allowed.as_millis()).unwrap_or(u64::MAX) })
        }
    }
}

fn register_subscription(
    module: &mut RpcModule<Context>,
    method: &'static Method,
    stream: Stream,
    notification: &'static str,
    unsubscribe: &'static str,
) -> Result<(), jsonrpsee::core::RegisterMethodError> {
    module
        .register_subscription_raw(
            method.name,
            notification,
            unsubscribe,
            move |params, pending, context, _| {
                let started = Args::read(params.as_str(), method.params)
                    .and_then(|mut args| start(&context, &mut args, stream));
                tokio::spawn(async move {
                    match started {
                        Ok(feed) => serve_subscriber(pending, feed, context).await,
                        Err(fault) => pending.reject(ErrorObjectOwned::from(&fault)).await,
                    }
                });
            },
        )
        .map(|_| ())
}

/// Reads a subscription's filter and cursor.
pub(crate) fn start(context: &Arc<Context>, args: &mut Args, stream: Stream) -> Result<Feed, Fault> {
    let filter = match stream {
        Stream::Blocks => Filter { stream, sender: None, kind: None },
        Stream::Proofs => Filter { stream, sender: args.address("sender")?, kind: kind_of(args)? },
        Stream::Identities => Filter { stream, sender: args.address("did")?, kind: None },
    };
    let cursor = match args.take("from_cursor") {
        None => None,
        Some(Value::String(text)) => Some(Cursor::read(&text)?),
        Some(Value::Number(height)) => Some(Cursor::read(&height.to_string())?),
        Some(_) => return Err(Fault::invalid("from_cursor must be the cursor of an event")),
    };
    Feed::start(context.clone(), filter, cursor)
}

async fn serve_subscriber(pending: PendingSubscriptionSink, mut feed: Feed, context: Arc<Context>) {
    let Ok(sink) = pending.accept().await else { return };
    let _counted = context.metrics.subscribed();
    let mut last = feed.origin();
    loop {
        let event = tokio::select! {
            event = feed.next() => event,
            () = sink.closed() => return,
        };
        let event = match event {
            Ok(event) => event,
            Err(fault) => {
                farewell(&sink, &serde_json::json!({ "kind": "error", "error": fault.to_json() })).await;
                return;
            }
        };
        let Ok(message) = serde_json::value::to_raw_value(&event.to_json()) else { return };
        let slow = context.config.slow_consumer_after;
        match sink.send_timeout(message, slow).await {
            Ok(()) => last = Some(event.cursor),
            Err(jsonrpsee::core::server::SendTimeoutError::Timeout(_)) => {
                context.metrics.subscriber_lagged();
                farewell(&sink, &lagged(last)).await;
                return;
            }
            Err(_) => return,
        }
    }
}

/// The last message of a subscription. Dropping the sink afterwards ends it.
async fn farewell(sink: &SubscriptionSink, message: &Value) {
    if let Ok(message) = serde_json::value::to_raw_value(message) {
        // When even this cannot be delivered the connection is not being read at all, and its pings end it.
        let _ = sink.send_timeout(message, FAREWELL).await;
    }
}
