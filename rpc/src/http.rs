//! Everything on the HTTP port: JSON-RPC, health, artefacts, events and the page.

use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request, State, WebSocketUpgrade};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use jsonrpsee::server::{Methods, StopHandle, ws};
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::args::{BlockRef, parse_block_ref_text};
use crate::backend::{ReceiptForm, RecordKey};
use crate::calls;
use crate::connections::Caller;
use crate::context::Context;
use crate::envelope;
use crate::events::events;
use crate::fault::Fault;
use crate::gate::Gate;
use crate::guard::BrowserPolicy;
use crate::json;
use crate::methods::receipt_text;
use crate::page;
use crate::websocket::{MESSAGE_BYTES_READ_MAX, Sessions};

/// For what never changes.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
const NO_CACHE: &str = "no-cache";
const PLAIN: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json; charset=utf-8";

/// What the handlers share.
pub(crate) type App = Arc<Shared>;

/// One port's calls, sessions and rules for browsers.
pub(crate) struct Shared {
    pub(crate) context: Arc<Context>,
    policy: Arc<BrowserPolicy>,
    methods: Methods,
    sessions: Arc<Sessions>,
    tasks: TaskTracker,
}

impl Shared {
    pub(crate) fn new(
        context: Arc<Context>,
        policy: BrowserPolicy,
        methods: Methods,
        stop: StopHandle,
        tasks: TaskTracker,
    ) -> App {
        let sessions = Arc::new(Sessions::new(Arc::clone(&context), methods.clone(), stop));
        Arc::new(Self { context, policy: Arc::new(policy), methods, sessions, tasks })
    }

    /// Every route of the port.
    pub(crate) fn router(self: Arc<Self>) -> Router {
        let policy = self.policy.clone();
        let cors = CorsLayer::new()
            .allow_methods([Method::GET, Method::HEAD, Method::POST])
            .allow_headers([header::CONTENT_TYPE, header::HeaderName::from_static("last-event-id")])
            .allow_origin(AllowOrigin::predicate(move |origin, parts| policy.allows_cors(origin, parts)));
        Router::new()
            .route("/", get(root).post(post))
            .route("/websocket", get(websocket_only).post(post))
            .route("/livez", get(livez))
            .route("/health", get(livez))
            .route("/readyz", get(readyz))
            .route("/openrpc.json", get(openrpc))
            .route("/v1/receipts/{proof_id}", get(receipt))
            .route("/v1/headers/{height}", get(header_of))
            .route("/v1/events", get(events))
            .route("/ui/app.js", get(page::script))
            .route("/ui/style.css", get(page::style))
            .fallback(nothing_here)
            .layer(from_fn_with_state(self.clone(), admit))
            .layer(cors)
            .with_state(self)
    }
}

/// An answer in plain words.
pub(crate) fn plain(status: StatusCode, text: impl Into<String>) -> Response {
    (status, [(header::CONTENT_TYPE, PLAIN)], text.into()).into_response()
}

/// Host, origin and allowance, before any route.
async fn admit(State(app): State<App>, request: Request, next: Next) -> Response {
    if let Err(sentence) = app.policy.check_host(request.headers()) {
        return plain(StatusCode::MISDIRECTED_REQUEST, sentence);
    }
    let upgrade = ws::is_upgrade_request(&request);
    if (request.method() == Method::POST || upgrade)
        && let Err(sentence) = app.policy.check_origin(request.headers())
    {
        return plain(StatusCode::FORBIDDEN, sentence);
    }
    if request.method() == Method::GET
        && let Some(caller) = request.extensions().get::<Caller>()
        && let Err(fault) = app.context.charge(caller.ip, 1)
    {
        return refused(&fault);
    }
    next.run(request).await
}

async fn root(State(app): State<App>, request: Request) -> Response {
    if ws::is_upgrade_request(&request) { upgrade(&app, request).await } else { page::index() }
}

async fn websocket_only(State(app): State<App>, request: Request) -> Response {
    if ws::is_upgrade_request(&request) {
        return upgrade(&app, request).await;
    }
    plain(
        StatusCode::UPGRADE_REQUIRED,
        "this address speaks WebSocket; open it as ws://, or POST JSON-RPC to /\n",
    )
}

async fn upgrade(app: &App, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let Some(caller) = parts.extensions.get::<Caller>().cloned() else { return without_caller() };
    let (sessions, tasks) = (Arc::clone(&app.sessions), app.tasks.clone());
    match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade
            .max_message_size(MESSAGE_BYTES_READ_MAX)
            .max_frame_size(MESSAGE_BYTES_READ_MAX)
            .on_upgrade(move |socket| {
                tasks.track_future(async move { sessions.serve(socket, caller).await })
            }),
        Err(rejection) => rejection.into_response(),
    }
}

async fn post(State(app): State<App>, request: Request) -> Response {
    if !is_json(request.headers()) {
        return plain(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "JSON-RPC needs the header `content-type: application/json`; with curl, add -H 'content-type: application/json'\n",
        );
    }
    let (parts, body) = request.into_parts();
    let Some(caller) = parts.extensions.get::<Caller>().cloned() else { return without_caller() };
    let body = match envelope::read(body, app.context.config.request_timeout).await {
        Ok(body) => body,
        Err(refusal) => return refusal.into_response(),
    };
    let gate =
        Gate { context: Arc::clone(&app.context), methods: app.methods.clone(), caller, session: None };
    match gate.answer(body).await {
        Some(answer) => {
            let (json, _, _) = answer.into_parts();
            ([(header::CONTENT_TYPE, JSON)], String::from(Box::<str>::from(json))).into_response()
        }
        None => StatusCode::NO_CONTENT.into_response(),
    }
}

/// Every connection is accepted with its caller.
fn without_caller() -> Response {
    tracing::error!("a request without its caller");
    plain(StatusCode::INTERNAL_SERVER_ERROR, "internal error\n")
}

/// The browser asks before a page of another origin may send JSON; it does not before a form's types.
/// So this check is what keeps foreign pages out, and is never relaxed.
fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json") || essence.eq_ignore_ascii_case("application/json-rpc")
}

async fn livez() -> Response {
    plain(StatusCode::OK, "ok\n")
}

async fn readyz(State(app): State<App>) -> Response {
    let checks = match app.context.backend.readiness().await {
        Ok(checks) => checks,
        Err(fault) => return refused(&fault),
    };
    let ready = checks.iter().all(|check| check.ok);
    let listed: Vec<_> = checks
        .iter()
        .map(|check| json!({ "name": check.name, "ok": check.ok, "detail": check.detail }))
        .collect();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CACHE_CONTROL, NO_CACHE)], Json(json!({ "ready": ready, "checks": listed })))
        .into_response()
}

async fn openrpc(State(app): State<App>) -> Response {
    Json(crate::docs::openrpc(&app.context.backend.about().version)).into_response()
}

async fn receipt(
    State(app): State<App>,
    Path(proof_id): Path<String>,
    Query(query): Query<std::collections::BTreeMap<String, String>>,
) -> Response {
    let form = match query.get("form").map(String::as_str) {
        None | Some("standalone") => ReceiptForm::Standalone,
        Some("checkpoint") => ReceiptForm::Checkpoint,
        Some(_) => return refused(&Fault::invalid("form must be standalone or checkpoint")),
    };
    let Some(id) = cairn_types::ProofId::from_hex(proof_id.trim_end_matches(".cairn")) else {
        return refused(&Fault::invalid("a receipt's address ends in the proof id, 64 hex digits"));
    };
    match receipt_text(&app.context, RecordKey::Proof(id), form).await {
        Ok(text) => (
            [
                (header::CONTENT_TYPE, "application/vnd.cairn.receipt+json".to_owned()),
                (header::CACHE_CONTROL, IMMUTABLE.to_owned()),
                (header::CONTENT_DISPOSITION, format!("inline; filename=\"{id}.cairn\"")),
            ],
            text,
        )
            .into_response(),
        Err(fault) => refused(&fault),
    }
}

async fn header_of(State(app): State<App>, Path(height): Path<String>) -> Response {
    let Some(block) = parse_block_ref_text(&height) else {
        return refused(&Fault::invalid(
            "a header's address ends in a height, latest, earliest or a block id",
        ));
    };
    let cache = if matches!(block, BlockRef::Latest | BlockRef::Earliest) { NO_CACHE } else { IMMUTABLE };
    match calls::header(&app.context, block).await {
        Ok(header) => ([(header::CACHE_CONTROL, cache)], Json(json::header(&header))).into_response(),
        Err(fault) => refused(&fault),
    }
}

async fn nothing_here() -> Response {
    plain(
        StatusCode::NOT_FOUND,
        "nothing here; JSON-RPC is POST /, its description GET /openrpc.json, health GET /livez and /readyz\n",
    )
}

/// A fault as a plain HTTP answer.
pub(crate) fn refused(fault: &Fault) -> Response {
    let status = match fault {
        Fault::NotFound { .. } | Fault::FutureHeight { .. } | Fault::UnknownIdentity { .. } => {
            StatusCode::NOT_FOUND
        }
        Fault::Pruned { .. } => StatusCode::GONE,
        Fault::RateLimited { .. } => StatusCode::TOO_MANY_REQUESTS,
        Fault::NotReady { .. } | Fault::MempoolFull { .. } => StatusCode::SERVICE_UNAVAILABLE,
        Fault::CallTimeout { .. } => StatusCode::GATEWAY_TIMEOUT,
        Fault::Internal { reason } => {
            tracing::error!(%reason, "an HTTP request failed");
            StatusCode::INTERNAL_SERVER_ERROR
        }
        _ => StatusCode::BAD_REQUEST,
    };
    let mut response = (status, Json(json!({ "error": fault.to_json() }))).into_response();
    let wait_ms = fault.data().get("retry_after_ms").and_then(Value::as_u64);
    if let Some(wait_ms) = wait_ms {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait_ms.div_ceil(1_000)));
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(NO_CACHE));
    response
}

/// The request's caller, for handlers that go on after the answer began.
pub(crate) struct Who(pub(crate) Option<Caller>);

impl<S: Send + Sync> FromRequest<S> for Who {
    type Rejection = std::convert::Infallible;

    async fn from_request(request: Request, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(request.extensions().get::<Caller>().cloned()))
    }
}
