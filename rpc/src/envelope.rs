//! The body of a POST, looked at before the JSON-RPC library sees it: its size, the time it takes, secret
//! keys, and whether it is JSON-RPC at all, with an answer that says what is missing.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use zeroize::Zeroize;

use crate::config::{BATCH_ITEMS_MAX, BODY_BYTES_MAX};
use crate::fault::Fault;
use crate::http::plain;
use crate::secret::{looks_secret, wipe};

/// Why a body was not read to its end.
pub(crate) enum Unread {
    TooLarge,
    TooSlow(Duration),
    Broken,
}

impl IntoResponse for Unread {
    fn into_response(self) -> Response {
        match self {
            Self::TooLarge => plain(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the request body is larger than {BODY_BYTES_MAX} bytes, the most this node reads\n"),
            ),
            Self::TooSlow(limit) => plain(
                StatusCode::REQUEST_TIMEOUT,
                format!("the request did not arrive whole within {} s\n", limit.as_secs_f32()),
            ),
            Self::Broken => plain(StatusCode::BAD_REQUEST, "the request body broke off\n"),
        }
    }
}

/// Reads a whole body within the limits.
pub(crate) async fn read(body: Body, limit: Duration) -> Result<Vec<u8>, Unread> {
    match tokio::time::timeout(limit, collect(body)).await {
        Ok(read) => read,
        Err(_) => Err(Unread::TooSlow(limit)),
    }
}

async fn collect(body: Body) -> Result<Vec<u8>, Unread> {
    let mut whole = Vec::new();
    let mut frames = body.into_data_stream();
    while let Some(frame) = frames.next().await {
        let frame = frame.map_err(|_| Unread::Broken)?;
        if whole.len() + frame.len() > BODY_BYTES_MAX {
            return Err(Unread::TooLarge);
        }
        whole.extend_from_slice(&frame);
        forget(frame);
    }
    Ok(whole)
}

/// Overwrites a frame that was copied, so that a secret in it does not outlive the request.
fn forget(frame: Bytes) {
    if let Ok(mut frame) = frame.try_into_mut() {
        frame.as_mut().zeroize();
    }
}

/// What a body turned out to be.
pub(crate) enum Envelope {
    /// Worth dispatching.
    Call(Vec<u8>),
    /// One well-formed call without an id, which wants no answer. Nothing here has a use without one.
    Notification,
    /// To be answered at once.
    Refuse { id: Value, fault: Fault },
}

/// The members of a call, borrowed.
#[derive(Deserialize)]
struct Call<'a> {
    #[serde(borrow)]
    jsonrpc: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
}

/// Decides whether a body is worth dispatching.
pub(crate) fn examine(body: Vec<u8>) -> Envelope {
    let verdict = check(&body);
    match verdict {
        Ok(true) => Envelope::Call(body),
        Ok(false) => Envelope::Notification,
        Err((id, fault)) => {
            if fault == Fault::SecretMaterial {
                wipe(body);
            }
            Envelope::Refuse { id, fault }
        }
    }
}

/// Whether the body is a call that wants an answer.
fn check(body: &[u8]) -> Result<bool, (Value, Fault)> {
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    let (id, shape) = match first {
        Some(b'[') => (Value::Null, check_batch(body).map(|()| true)),
        Some(b'{') => match serde_json::from_slice::<Call<'_>>(body) {
            Ok(call) => (id_of(&call), check_call(&call).map(|()| call.id.is_some())),
            Err(error) => (Value::Null, Err(not_json(&error))),
        },
        None => (Value::Null, Err(Fault::ParseError { reason: "it is empty".into() })),
        Some(_) => match serde_json::from_slice::<serde::de::IgnoredAny>(body) {
            Ok(_) => {
                let reason = "a JSON-RPC request is an object, or an array of objects".into();
                (Value::Null, Err(Fault::InvalidRequest { reason }))
            }
            Err(error) => (Value::Null, Err(not_json(&error))),
        },
    };
    // Whatever else is wrong with it: a secret must be named as such, and wiped.
    if looks_secret(body) {
        return Err((id, Fault::SecretMaterial));
    }
    shape.map_err(|fault| (id, fault))
}

fn not_json(error: &serde_json::Error) -> Fault {
    if error.is_data() {
        return Fault::InvalidRequest { reason: format!("not a JSON-RPC request: {error}") };
    }
    Fault::ParseError { reason: error.to_string() }
}

fn check_batch(body: &[u8]) -> Result<(), Fault> {
    let items: Vec<&RawValue> = serde_json::from_slice(body).map_err(|error| not_json(&error))?;
    match items.len() {
        0 => Err(Fault::InvalidRequest { reason: "the batch is empty".into() }),
        count if count > BATCH_ITEMS_MAX => Err(Fault::InvalidRequest {
            reason: format!("a batch of {count} calls; at most {BATCH_ITEMS_MAX} are taken"),
        }),
        _ => Ok(()),
    }
}

/// The call's id, when it is one that may be repeated in the answer.
fn id_of(call: &Call<'_>) -> Value {
    match call.id.map(|id| serde_json::from_str(id.get())) {
        Some(Ok(id @ (Value::Number(_) | Value::String(_)))) => id,
        _ => Value::Null,
    }
}

fn check_call(call: &Call<'_>) -> Result<(), Fault> {
    let invalid = |reason: &str| Err(Fault::InvalidRequest { reason: reason.to_owned() });
    if call.jsonrpc.map(RawValue::get) != Some(r#""2.0""#) {
        return invalid("`jsonrpc` must be \"2.0\"");
    }
    match call.method.map(RawValue::get) {
        Some(method) if method.starts_with('"') => Ok(()),
        Some(_) => invalid("`method` must be a string"),
        None => invalid("`method` is missing"),
    }
}
