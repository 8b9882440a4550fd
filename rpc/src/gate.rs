//! What every JSON-RPC message passes, over POST and WebSocket alike, before a method sees it: whether it is JSON-RPC at all, secret
//! keys, the caller's allowance (a batch is charged for each of its items, all or none), unknown methods, the number of calls in
//! flight; and what is counted after it. The methods are those that jsonrpsee holds.

use std::sync::Arc;
use std::time::Instant;

use futures::future::join_all;
use jsonrpsee::core::JsonRawValue;
use jsonrpsee::server::{
    BatchResponseBuilder, BoundedSubscriptions, MethodCallback, MethodResponse, MethodSink, Methods,
    RandomIntegerIdProvider, SubscriptionState,
};
use jsonrpsee::types::error::ErrorCode;
use jsonrpsee::types::{ErrorObject, ErrorObjectOwned, Id, InvalidRequest, Notification, Params, Request};
use jsonrpsee::{ConnectionId, Extensions};
use serde_json::Value;

use crate::config::RESPONSE_BYTES_MAX;
use crate::connections::Caller;
use crate::context::Context;
use crate::envelope::{self, Envelope};
use crate::fault::{FAULT_KINDS, Fault};
use crate::method::Serve;
use crate::methods;
use crate::secret::looks_secret;
use crate::suggest::nearest;

/// The connection of calls that come without a session. No subscription is ever made on it.
const NO_SESSION: ConnectionId = ConnectionId(usize::MAX);

/// The way of one caller's messages to the methods.
#[derive(Clone)]
pub(crate) struct Gate {
    pub(crate) context: Arc<Context>,
    pub(crate) methods: Methods,
    pub(crate) caller: Caller,
    /// Where subscriptions go; `None` for a POST, which has no place for them.
    pub(crate) session: Option<Session>,
}

/// One WebSocket's subscriptions.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) connection: ConnectionId,
    pub(crate) subscriptions: BoundedSubscriptions,
    pub(crate) sink: MethodSink,
}

/// The error answer of a fault.
pub(crate) fn refuse(id: Id<'_>, fault: &Fault) -> MethodResponse {
    if let Fault::Internal { reason } = fault {
        tracing::error!(%reason, "an RPC call failed");
    }
    MethodResponse::error(id, ErrorObjectOwned::from(fault))
}

/// The metrics label of an answer: `ok`, the kind of a known fault, or `error`.
fn outcome(response: &MethodResponse) -> &'static str {
    match response.as_error_code() {
        None => "ok",
        Some(code) => FAULT_KINDS.iter().find(|kind| kind.code == code).map_or("error", |kind| kind.kind),
    }
}

impl Gate {
    /// The answer to a message, if it wants one.
    pub(crate) async fn answer(&self, message: Vec<u8>) -> Option<MethodResponse> {
        // Nearly every message is one call, and read once.
        if let Ok(request) = serde_json::from_slice::<Request<'_>>(&message)
            && request.id != Id::Null
            && !looks_secret(&message)
        {
            return self.charged_call(request).await;
        }
        match envelope::examine(message) {
            Envelope::Call(body) => self.dispatch(&body).await,
            Envelope::Notification => None,
            Envelope::Refuse { id, fault } => {
                if fault == Fault::SecretMaterial {
                    self.context.metrics.secret_refused();
                }
                // What no method is asked for is charged here, once.
                let fault = self.context.charge(self.caller.ip, 1).err().unwrap_or(fault);
                Some(refuse(repeated(&id), &fault))
            }
        }
    }

    /// A body that was examined: one call, or several.
    async fn dispatch(&self, body: &[u8]) -> Option<MethodResponse> {
        let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
        if first == Some(&b'[') {
            return self.batch(serde_json::from_slice(body).ok()?).await;
        }
        match serde_json::from_slice::<Request<'_>>(body) {
            Ok(request) => self.charged_call(request).await,
            Err(error) => {
                let reason = format!("not a JSON-RPC request: {error}");
                Some(refuse(Id::Null, &Fault::InvalidRequest { reason }))
            }
        }
    }

    async fn charged_call(&self, request: Request<'_>) -> Option<MethodResponse> {
        match self.context.charge(self.caller.ip, 1) {
            Ok(()) => self.call(request).await,
            Err(fault) => Some(refuse(request.id(), &fault)),
        }
    }

    async fn batch(&self, items: Vec<&JsonRawValue>) -> Option<MethodResponse> {
        let charged = self.context.charge(self.caller.ip, u32::try_from(items.len()).unwrap_or(u32::MAX));
        if let Err(fault) = charged {
            return Some(refuse(Id::Null, &fault));
        }
        // All at once: items that wait for finality wait together.
        let answers = join_all(items.into_iter().map(|item| self.item(item.get()))).await;
        let mut responses = BatchResponseBuilder::new_with_limit(RESPONSE_BYTES_MAX);
        for answer in answers.into_iter().flatten() {
            if let Err(too_large) = responses.append(answer) {
                return Some(too_large);
            }
        }
        (!responses.is_empty()).then(|| MethodResponse::from_batch(responses.finish()))
    }

    /// The answer to one item of a batch; none for a notification.
    async fn item(&self, item: &str) -> Option<MethodResponse> {
        if let Ok(request) = serde_json::from_str::<Request<'_>>(item) {
            return self.call(request).await;
        }
        if serde_json::from_str::<Notification<'_, Option<&JsonRawValue>>>(item).is_ok() {
            return None;
        }
        let id = serde_json::from_str::<InvalidRequest<'_>>(item).map_or(Id::Null, |broken| broken.id);
        let reason = "an item of the batch is no JSON-RPC request".to_owned();
        Some(refuse(id, &Fault::InvalidRequest { reason }))
    }

    /// What is wrong with a call whatever its method does.
    fn check(&self, request: &Request<'_>) -> Result<&'static str, Fault> {
        let name = request.method_name();
        let Some(label) = methods::names().find(|known| *known == name) else {
            let shown: String = name.chars().take(60).collect();
            let hint = nearest(name, methods::names()).map(|near| format!("did you mean `{near}`?"));
            return Err(Fault::UnknownMethod { name: shown, hint });
        };
        let streams =
            methods::find(label).is_none_or(|method| matches!(method.serve, Serve::Subscribe { .. }));
        if streams && self.session.is_none() {
            return Err(Fault::NeedsWebSocket { name: label.to_owned() });
        }
        if methods::find(label).is_none() {
            check_unsubscribe(request)?;
        }
        Ok(label)
    }

    async fn call(&self, request: Request<'_>) -> Option<MethodResponse> {
        let started = Instant::now();
        let (label, response) = match self.check(&request) {
            Ok(label) => match self.context.enter() {
                Ok(_place) => (label, self.run(request).await),
                Err(fault) => (label, refuse(request.id(), &fault)),
            },
            Err(fault) => {
                let known = methods::names().find(|known| *known == request.method_name());
                (known.unwrap_or("unknown"), refuse(request.id(), &fault))
            }
        };
        self.context.metrics.called(label, outcome(&response), started.elapsed());
        // The answer to a subscription that was accepted is sent by the library, before its first event.
        response.is_method_call().then_some(response)
    }

    /// Calls a method by name: what jsonrpsee does behind its own ports.
    async fn run(&self, request: Request<'_>) -> MethodResponse {
        let Request { id, method, params, .. } = request;
        let mut extensions = Extensions::new();
        extensions.insert(self.caller.clone());
        let params = Params::new(params.as_deref().map(JsonRawValue::get));
        let connection = self.session.as_ref().map_or(NO_SESSION, |session| session.connection);
        let found = self.methods.method_with_name(&method).map(|(_, found)| found.clone());
        match (found, &self.session) {
            (Some(MethodCallback::Sync(run)), _) => run(id, params, RESPONSE_BYTES_MAX, extensions),
            (Some(MethodCallback::Async(run)), _) => {
                let (id, params) = (id.into_owned(), params.into_owned());
                run(id, params, connection, RESPONSE_BYTES_MAX, extensions).await
            }
            (Some(MethodCallback::Subscription(run)), Some(session)) => {
                let Some(permit) = session.subscriptions.acquire() else {
                    // The library's own refusal says neither the limit nor what to do.
                    return refuse(id, &Fault::TooManySubscriptions);
                };
                let state = SubscriptionState {
                    conn_id: connection,
                    id_provider: &RandomIntegerIdProvider,
                    subscription_permit: permit,
                };
                run(id, params, session.sink.clone(), state, extensions).await
            }
            (Some(MethodCallback::Unsubscription(run)), Some(_)) => {
                run(id, params, connection, RESPONSE_BYTES_MAX, extensions)
            }
            (None | Some(MethodCallback::Subscription(_) | MethodCallback::Unsubscription(_)), _) => {
                MethodResponse::error(id, ErrorObject::from(ErrorCode::MethodNotFound))
            }
        }
    }
}

/// Subscription ids are integers or short strings; anything else would only be logged by the library.
fn check_unsubscribe(request: &Request<'_>) -> Result<(), Fault> {
    let wrong = || Fault::invalid("the one parameter is the subscription id, in an array");
    let params = request.params.as_ref().ok_or_else(wrong)?;
    let ids: Vec<Value> = serde_json::from_str(params.get()).map_err(|_| wrong())?;
    match ids.as_slice() {
        [Value::Number(id)] if id.is_u64() => Ok(()),
        _ => Err(wrong()),
    }
}

/// An id as the library has it.
fn repeated(id: &Value) -> Id<'_> {
    match id {
        Value::Number(number) => number.as_u64().map_or(Id::Null, Id::Number),
        Value::String(text) => Id::Str(text.as_str().into()),
        _ => Id::Null,
    }
}
