//! What every JSON-RPC call passes, over POST and WebSocket alike, before its method sees it: the caller's
//! allowance (a batch is charged for each of its items, all or none), unknown methods, secret keys, the
//! number of calls in flight; and what is counted after it.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use futures::future::join_all;
use jsonrpsee::core::middleware::{Batch, BatchEntry, Notification, RpcServiceT};
use jsonrpsee::server::{BatchResponseBuilder, MethodResponse};
use jsonrpsee::types::error::TOO_MANY_SUBSCRIPTIONS_CODE;
use jsonrpsee::types::{ErrorObjectOwned, Id, Request};

use crate::config::RESPONSE_BYTES_MAX;
use crate::connections::Caller;
use crate::context::Context;
use crate::fault::{FAULT_KINDS, Fault};
use crate::method::Serve;
use crate::methods;
use crate::secret::looks_secret;
use crate::suggest::nearest;

/// Marks a request whose whole body was searched for secret keys before it came here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scanned;

/// The middleware around jsonrpsee's own dispatch.
#[derive(Clone)]
pub(crate) struct Gate<S> {
    pub(crate) inner: S,
    pub(crate) context: Arc<Context>,
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

impl<S> Gate<S>
where
    S: RpcServiceT<
            MethodResponse = MethodResponse,
            BatchResponse = MethodResponse,
            NotificationResponse = MethodResponse,
        > + Clone
        + Send
        + Sync
        + 'static,
{
    fn caller(&self, extensions: &jsonrpsee::Extensions) -> (IpAddr, bool) {
        extensions
            .get::<Caller>()
            .map_or((IpAddr::V4(Ipv4Addr::UNSPECIFIED), false), |caller| (caller.ip, caller.websocket))
    }

    /// What is wrong with a call whatever its method does.
    fn check(&self, request: &Request<'_>) -> Result<&'static str, Fault> {
        let name = request.method_name();
        let Some(label) = methods::names().find(|known| *known == name) else {
            let shown: String = name.chars().take(60).collect();
            let hint = nearest(name, methods::names()).map(|near| format!("did you mean `{near}`?"));
            return Err(Fault::UnknownMethod { name: shown, hint });
        };
        let unseen = request.extensions().get::<Scanned>().is_none();
        if unseen && request.params.as_ref().is_some_and(|params| looks_secret(params.get().as_bytes())) {
            self.context.metrics.secret_refused();
            return Err(Fault::SecretMaterial);
        }
        let (_, websocket) = self.caller(request.extensions());
        let streams =
            methods::find(label).is_none_or(|method| matches!(method.serve, Serve::Subscribe { .. }));
        if streams && !websocket {
            return Err(Fault::NeedsWebSocket { name: label.to_owned() });
        }
        if methods::find(label).is_none() {
            check_unsubscribe(request)?;
        }
        Ok(label)
    }

    async fn answer(&self, request: Request<'_>) -> MethodResponse {
        let started = Instant::now();
        let label = match self.check(&request) {
            Ok(label) => label,
            Err(fault) => {
                let response = refuse(request.id(), &fault);
                let label =
                    methods::names().find(|known| *known == request.method_name()).unwrap_or("unknown");
                self.context.metrics.called(label, outcome(&response), started.elapsed());
                return response;
            }
        };
        let id = request.id().into_owned();
        let response = match self.context.enter() {
            Ok(_place) => {
                let response = self.inner.call(request).await;
                // The library's own refusal says neither the limit nor what to do.
                match response.as_error_code() {
                    Some(TOO_MANY_SUBSCRIPTIONS_CODE) => refuse(id, &Fault::TooManySubscriptions),
                    _ => response,
                }
            }
            Err(fault) => refuse(request.id(), &fault),
        };
        self.context.metrics.called(label, outcome(&response), started.elapsed());
        response
    }
}

/// Subscription ids are integers or short strings; anything else would only be logged by the library.
fn check_unsubscribe(request: &Request<'_>) -> Result<(), Fault> {
    let wrong = || Fault::invalid("the one parameter is the subscription id, in an array");
    let params = request.params.as_ref().ok_or_else(wrong)?;
    let ids: Vec<serde_json::Value> = serde_json::from_str(params.get()).map_err(|_| wrong())?;
    match ids.as_slice() {
        [serde_json::Value::Number(id)] if id.is_u64() => Ok(()),
        _ => Err(wrong()),
    }
}

impl<S> RpcServiceT for Gate<S>
where
    S: RpcServiceT<
            MethodResponse = MethodResponse,
            BatchResponse = MethodResponse,
            NotificationResponse = MethodResponse,
        > + Clone
        + Send
        + Sync
        + 'static,
{
    type MethodResponse = MethodResponse;
    type NotificationResponse = MethodResponse;
    type BatchResponse = MethodResponse;

    fn call<'a>(&self, request: Request<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let this = self.clone();
        async move {
            let (ip, _) = this.caller(request.extensions());
            match this.context.charge(ip, 1) {
                Ok(()) => this.answer(request).await,
                Err(fault) => refuse(request.id(), &fault),
            }
        }
    }

    fn batch<'a>(&self, mut batch: Batch<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let this = self.clone();
        async move {
            let (ip, _) = this.caller(batch.extensions());
            if batch.is_empty() {
                return refuse(Id::Null, &Fault::InvalidRequest { reason: "the batch is empty".to_owned() });
            }
            let charged = this.context.charge(ip, u32::try_from(batch.len()).unwrap_or(u32::MAX));
            if let Err(fault) = charged {
                return refuse(Id::Null, &fault);
            }
            // All at once: items that wait for finality wait together.
            let answers = join_all(batch.into_iter().map(|entry| this.entry(entry))).await;
            let mut responses = BatchResponseBuilder::new_with_limit(RESPONSE_BYTES_MAX);
            for answer in answers.into_iter().flatten() {
                if let Err(too_large) = responses.append(answer) {
                    return too_large;
                }
            }
            if responses.is_empty() {
                return MethodResponse::notification();
            }
            MethodResponse::from_batch(responses.finish())
        }
    }

    fn notification<'a>(&self, note: Notification<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        self.inner.notification(note)
    }
}

impl<S> Gate<S>
where
    S: RpcServiceT<
            MethodResponse = MethodResponse,
            BatchResponse = MethodResponse,
            NotificationResponse = MethodResponse,
        > + Clone
        + Send
        + Sync
        + 'static,
{
    /// The answer to one item of a batch; none for a notification.
    async fn entry(
        &self,
        entry: Result<BatchEntry<'_>, jsonrpsee::core::middleware::BatchEntryErr<'_>>,
    ) -> Option<MethodResponse> {
        match entry {
            Ok(BatchEntry::Call(request)) => Some(self.answer(request).await),
            Ok(BatchEntry::Notification(_)) => None,
            Err(broken) => {
                let reason = "an item of the batch is no JSON-RPC request".to_owned();
                Some(refuse(broken.into_parts().1, &Fault::InvalidRequest { reason }))
            }
        }
    }
}
