//! `identity_*`, `delegation_*`, `multisig_*`, `login_*`.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cairn_types::delegation::Side;
use cairn_types::event::IdentityEvent;
use cairn_types::login::{AUDIENCE_BYTES_MAX, LoginChallenge, LoginResponse};
use cairn_types::state_key::StateSubject;
use cairn_types::{Address, Height, decode, encode};
use serde_json::{Value, json};

use super::limit_field;
use super::proof::limit_of;
use crate::args::{Args, BlockRef};
use crate::backend::ReceiptForm;
use crate::calls;
use crate::context::Context;
use crate::fault::{self, Fault, FaultKind};
use crate::feed::Stream;
use crate::identity_backend::{PageOf, PageRequest};
use crate::identity_json;
use crate::json;
use crate::method::{Field, Method, Serve, Shape, opt, req};

const AT_ERRORS: &[FaultKind] =
    &[fault::UNKNOWN_IDENTITY, fault::NOT_FOUND, fault::PRUNED, fault::FUTURE_HEIGHT];

const PAGE: Shape = Shape::Object(&[
    req("items", Shape::List(&Shape::AnyObject), "the items"),
    req("next_cursor", Shape::Any, "text for the next page, or null after the last"),
]);

const FORMS: &[&str] = &["standalone", "checkpoint"];
const SIDES: &[&str] = &["given", "received"];

pub(crate) const METHODS: &[Method] = &[
    Method {
        name: "identity_get",
        doc: "A registered identity as a DID document: every key it ever had with its purposes and the heights between which it may sign, threshold, mandate of an agent. An address that was never registered is -32032; it may still anchor with its inline key where admission is open.",
        params: &[
            req("did", Shape::Address, "did:cairn:<hex>, or the address"),
            opt(
                "at",
                Shape::At,
                "as that block left it, with the keys that could sign in it; latest when left out",
            ),
            opt(
                "at_time",
                Shape::Text,
                "in place of `at`: as of the last block not after this time, RFC 3339 or Unix ms",
            ),
        ],
        result: Shape::AnyObject,
        errors: AT_ERRORS,
        example: r#"{"did":"did:cairn:<address>"}"#,
        serve: Serve::Call(|cx, args| Box::pin(get(cx, args))),
    },
    Method {
        name: "identity_history",
        doc: "What happened to an identity, oldest first: registration, keys, thresholds, delegations given and received, agents, every step of shared control.",
        params: &[
            req("did", Shape::Address, "did:cairn:<hex>, or the address"),
            limit_field(),
            opt("cursor", Shape::Text, "next_cursor of the page before"),
        ],
        result: PAGE,
        errors: &[],
        example: r#"{"did":"did:cairn:<address>","limit":10}"#,
        serve: Serve::Call(|cx, args| Box::pin(history(cx, args))),
    },
    Method {
        name: "identity_proof",
        doc: "What the newest certified state holds of an identity, or that it holds nothing, as a document that verifies offline against the genesis. It tells of every key when it could sign, and may travel in a receipt's `external`.",
        params: &[
            req("did", Shape::Address, "did:cairn:<hex>, or the address"),
            opt("form", Shape::OneOf(FORMS), "standalone when left out"),
        ],
        result: Shape::AnyObject,
        errors: &[fault::NOT_READY],
        example: r#"{"did":"did:cairn:<address>"}"#,
        serve: Serve::Call(|cx, args| Box::pin(identity_proof(cx, args))),
    },
    Method {
        name: "identity_subscribe",
        doc: "What happens to identities, as it becomes final (WebSocket): each event is `{kind: \"identity\", cursor, identity}`. `GET /v1/events?stream=identities` gives the same without WebSocket.",
        params: &[
            opt("did", Shape::Address, "only what concerns this identity"),
            opt("from_cursor", Shape::Text, "resume after this event"),
        ],
        result: Shape::Any,
        errors: &[fault::PRUNED, fault::FUTURE_HEIGHT],
        example: r#"{"from_cursor":"0"}"#,
        serve: Serve::Subscribe {
            stream: Stream::Identities,
            notification: "identity_event",
            unsubscribe: "identity_unsubscribe",
        },
    },
    Method {
        name: "delegation_get",
        doc: "What one identity ever granted another: each grant with the heights between which it was in force, and what has been used.",
        params: &[
            req("principal", Shape::Address, "who granted"),
            req("delegate", Shape::Address, "who may act"),
        ],
        result: Shape::AnyObject,
        errors: &[fault::NOT_FOUND],
        example: r#"{"principal":"<address>","delegate":"<address>"}"#,
        serve: Serve::Call(|cx, args| Box::pin(delegation(cx, args))),
    },
    Method {
        name: "delegation_list",
        doc: "The delegations an identity gave or received, ended ones included.",
        params: &[
            req("did", Shape::Address, "did:cairn:<hex>, or the address"),
            opt("side", Shape::OneOf(SIDES), "given when left out"),
            limit_field(),
            opt("cursor", Shape::Text, "next_cursor of the page before"),
        ],
        result: PAGE,
        errors: &[],
        example: r#"{"did":"did:cairn:<address>","side":"received"}"#,
        serve: Serve::Call(|cx, args| Box::pin(delegations(cx, args))),
    },
    Method {
        name: "delegation_proof",
        doc: "The same as `identity_proof` for a delegation: proves offline which grant was in force at which height, or that there never was one.",
        params: &[
            req("principal", Shape::Address, "who granted"),
            req("delegate", Shape::Address, "who may act"),
            opt("form", Shape::OneOf(FORMS), "standalone when left out"),
        ],
        result: Shape::AnyObject,
        errors: &[fault::NOT_READY],
        example: r#"{"principal":"<address>","delegate":"<address>"}"#,
        serve: Serve::Call(|cx, args| Box::pin(delegation_proof(cx, args))),
    },
    Method {
        name: "multisig_get",
        doc: "A proposal of shared control with its votes, by its id; or an identity's policy, by its address.",
        params: &[
            opt("address", Shape::Address, "the identity; needed for its policy"),
            opt("id", Shape::Id, "the proposal: the id of the transaction that made it"),
        ],
        result: Shape::AnyObject,
        errors: &[fault::UNKNOWN_IDENTITY, fault::NOT_FOUND],
        example: r#"{"address":"<address>"}"#,
        serve: Serve::Call(|cx, args| Box::pin(multisig(cx, args))),
    },
    Method {
        name: "multisig_pending",
        doc: "The open proposals of an identity, oldest first, with their votes and expiry; with `all`, every proposal it ever had.",
        params: &[
            req("address", Shape::Address, "the identity"),
            opt("all", Shape::Bool, "ended ones too, by id"),
            limit_field(),
            opt("cursor", Shape::Text, "next_cursor of the page before"),
        ],
        result: PAGE,
        errors: &[fault::UNKNOWN_IDENTITY],
        example: r#"{"address":"<address>"}"#,
        serve: Serve::Call(|cx, args| Box::pin(pending(cx, args))),
    },
    Method {
        name: "login_challenge",
        doc: "A fresh challenge for someone who wants to log in to a service: they sign its bytes under the tag cairn-login.",
        params: &[
            req("did", Shape::Address, "who wants to log in"),
            req("audience", Shape::Text, "the service, for instance https://example.org; 1 to 255 bytes"),
        ],
        result: Shape::Object(CHALLENGE),
        errors: &[],
        example: r#"{"did":"did:cairn:<address>","audience":"https://example.org"}"#,
        serve: Serve::Call(|cx, args| Box::pin(challenge(cx, args))),
    },
    Method {
        name: "login_verify",
        doc: "Whether an answer to a challenge is good now: right service, not expired, signed by a key for authentication that the identity has now. A node accepts each answer once. Services that keep an identity's document can verify without a node.",
        params: &[
            req("response_b64", Shape::B64, "canonical bytes of the answer"),
            req("audience", Shape::Text, "the service that asks"),
        ],
        result: Shape::Object(&[
            req("valid", Shape::Bool, "whether to let them in"),
            req("did", Shape::Text, "who answered"),
            req("reason", Shape::Any, "why not, or null"),
        ]),
        errors: &[],
        example: r#"{"response_b64":"<login>","audience":"https://example.org"}"#,
        serve: Serve::Call(|cx, args| Box::pin(verify(cx, args))),
    },
];

const CHALLENGE: &[Field] = &[
    req("audience", Shape::Text, "the service"),
    req("did", Shape::Text, "who is to log in"),
    req("nonce", Shape::Id, "random, never used twice"),
    req("issued_ms", Shape::Int, "Unix milliseconds"),
    req("expires_ms", Shape::Int, "Unix milliseconds; at most five minutes later"),
    req("challenge_b64", Shape::B64, "canonical bytes: what is signed after the tag and the chain's id"),
];

fn needed(args: &mut Args, name: &str) -> Result<Address, Fault> {
    let address = args.address(name)?;
    args.need(name, address)
}

/// Reads a page's size and start.
fn page_of(args: &mut Args) -> Result<PageRequest, Fault> {
    let cursor = args
        .text("cursor")?
        .map(|text| {
            hex::decode(text).map_err(|_| Fault::invalid("cursor must be the next_cursor of an earlier page"))
        })
        .transpose()?;
    Ok(PageRequest { cursor, limit: limit_of(args)? })
}

fn page_json<T>(page: &PageOf<T>, show: impl Fn(&T) -> Value) -> Value {
    json!({
        "items": page.items.iter().map(show).collect::<Vec<_>>(),
        "next_cursor": page.next.as_ref().map(hex::encode),
    })
}

/// Where in time a question stands: the height as which things are told, and the block (height and time) in
/// which keys are looked at.
pub(super) struct Then {
    /// `None` for the latest.
    pub(super) height: Option<Height>,
    pub(super) block: (Height, u64),
}

/// Reads `at` and `at_time`.
pub(super) async fn moment(cx: &Context, args: &mut Args) -> Result<Then, Fault> {
    let at = match (args.has("at"), at_time(args)?) {
        (true, Some(_)) => return Err(Fault::invalid("give at or at_time, not both")),
        (false, Some(time_ms)) => {
            let height = cx.backend.height_at_time(time_ms).await?;
            BlockRef::Height(height.ok_or_else(|| Fault::not_found("a block at or before that time"))?)
        }
        (_, None) => args.block_ref("at")?,
    };
    let header = calls::header(cx, at).await?;
    Ok(match at {
        BlockRef::Latest => Then { height: None, block: (header.height.next(), header.time_ms) },
        _ => Then { height: Some(header.height), block: (header.height, header.time_ms) },
    })
}

/// RFC 3339, or Unix milliseconds.
fn at_time(args: &mut Args) -> Result<Option<u64>, Fault> {
    let Some(value) = args.take("at_time") else { return Ok(None) };
    let read = match &value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok().or_else(|| {
            let time: jiff::Timestamp = text.parse().ok()?;
            u64::try_from(time.as_millisecond()).ok()
        }),
        _ => None,
    };
    read.map(Some).ok_or_else(|| {
        Fault::invalid("at_time must be RFC 3339, for instance 2026-11-21T00:00:00Z, or Unix ms")
    })
}

async fn get(cx: Arc<Context>, mut args: Args) -> Result<Value, Fault> {
    let address = needed(&mut args, "did")?;
    let Then { height, block } = moment(&cx, &mut args).await?;
    let identity = cx.backend.identity(address, height).await?;
    let identity = identity.ok_or_else(|| Fault::UnknownIdentity {
        address,
        reason: match height {
            None => "it was never registered".into(),
            Some(height) => format!("it was not registered by height {height}"),
        },
    })?;
    let mut value = json::object(identity_json::did_document(&identity, block.0, block.1));
    value.insert("as_of_height".into(), height.unwrap_or_else(|| calls::latest(&cx)).get().into());
    if identity.entry.agent.is_some() && height.is_none() {
        value.insert("mandate_used".into(), cx.backend.agent_usage(address).await?.total.into());
    }
    Ok(Value::Object(value))
}

async fn history(cx: Arc<Context>, mut args: Args) -> Result<Value, Fault> {
    let address = needed(&mut args, "did")?;
    let page = cx.backend.identity_events(address, page_of(&mut args)?).await?;
    Ok(page_json(&page, |event: &IdentityEvent| Value::Object(identity_json::event(event))))
}

fn form_of(args: &mut Args) -> Result<ReceiptForm, Fault> {
    let forms = [ReceiptForm::Standalone, ReceiptForm::Checkpoint];
    let read = |name: &str| FORMS.iter().zip(forms).find(|(known, _)| **known == name).map(|(_, form)| form);
    Ok(args.one_of("form", FORMS, read)?.unwrap_or(ReceiptForm::Standalone))
}

/// A state document as the text that is kept.
pub(crate) async fn state_text(
    cx: &Context,
    subject: StateSubject,
    form: ReceiptForm,
) -> Result<String, Fault> {
    let text = cx.backend.state_document(subject, form).await?;
    text.ok_or_else(|| Fault::NotReady {
        reason: "no block above the genesis has a certificate of its own yet".into(),
        retry_after_ms: 1_000,
    })
}

async fn document(cx: &Context, subject: StateSubject, form: ReceiptForm) -> Result<Value, Fault> {
    super::proof::parse_own(&state_text(cx, subject, form).await?)
}

async fn identity_proof(cx: Arc<Context>, mut args: Args) -> Result<Value, Fault> {
    let address = needed(&mut args, "did")?;
    document(&cx, StateSubject::Identity(address), form_of(&mut args)?).await
}

async fn delegation_proof(cx: Arc<Context>, mut args: Args) -> Result<Value, Fault> {
    let principal = needed(&mut args, "principal")?;
    let delegate = needed(&mut args, "delegate")?;
    document(&cx, StateSubject::Delegation { principal, delegate }, form_of(&mut args)?).await
}

async fn delegation(cx: Arc<Context>, mut args: Args) -> Result<Value, Fault> {
    let principal = needed(&mut args, "principal")?;
    let delegate = needed(&mut args, "delegate")?;
    let now = moment(&cx, &mut args).await?.block;
    let found = cx.backend.delegation(principal, delegate).await?;
    let found =
        found.ok_or_else(|| Fault::not_found(format!("a delegation of {principal} to {delegate}")))?;
    Ok(identity_json::delegation(&found, now.0, now.1))
}

async fn delegations(cx: Arc<Context>, mut args: Args) -> Result<Value, Fault> {
    let address = needed(&mut args, "did")?;
    let sides = [Side::Given, Side::Received];
    let read = |name: &str| SIDES.iter().zip(sides).find(|(known, _)| **known == name).map(|(_, side)| side);
    let side = args.one_of("side", SIDES, read)?.unwrap_or(Side::Given);
    let now = moment(&cx, &mut args).await?.block;
    let page = cx.backend.delegations(address, side, page_of(&mut args)?).await?;
    Ok(page_json(&page, |found| identity_json::delegation(found, now.0, now.1)))
}

async fn registered(cx: &Context, address: Address) -> Result<cairn_types::identity::Identity, Fault> {
    let found = cx.backend.identity(address, None).await?;
    found.ok_or_else(|| Fault::UnknownIdentity { address, reason: "it was never registered".into() })
}

async fn multisig(cx: Arc<Context>, mut args: Args) -> Result<Value, Fault> {
    let now = moment(&cx, &mut args).await?.block;
    match (args.address("address")?, args.id("id")?) {
        (None, None) => Err(Fault::invalid("name a proposal by id, or an identity by address")),
        (Some(address), None) => {
            let identity = registered(&cx, address).await?;
            let keys: Vec<_> = identity
                .keys_at(now.0, now.1)
                .map(|(index, entry, _)| {
                    json!({
                        "index": index,
                        "key_address": entry.address.to_string(),
                        "purposes": crate::control_json::purposes_json(entry.purposes),
                        "expires_ms": entry.expires_ms,
                    })
                })
                .collect();
            Ok(json!({
                "account": json::did(&address),
                "threshold": identity.entry.threshold,
                "keys": keys,
                "open_proposals": identity.entry.proposals.iter().map(ToString::to_string).collect::<Vec<_>>(),
            }))
        }
        (account, Some(id)) => {
            let missing = || Fault::not_found(format!("proposal {id}"));
            let account = match account {
                Some(account) => account,
                None => {
                    let carrier = cx.backend.transaction(id).await?.and_then(|found| found.signed);
                    carrier.ok_or_else(missing)?.transaction.sender
                }
            };
            let found = cx.backend.proposal(account, id).await?.ok_or_else(missing)?;
            let threshold = registered(&cx, account).await?.entry.threshold;
            Ok(identity_json::proposal(&found, Some(threshold), now.1))
        }
    }
}

async fn pending(cx: Arc<Context>, mut args: Args) -> Result<Value, Fault> {
    let address = needed(&mut args, "address")?;
    let all = match args.take("all") {
        None => false,
        Some(Value::Bool(all)) => all,
        Some(_) => return Err(Fault::invalid("all must be true or false")),
    };
    let now = moment(&cx, &mut args).await?.block;
    let entry = registered(&cx, address).await?.entry;
    let threshold = Some(entry.threshold);
    if all {
        let page = cx.backend.proposals(address, page_of(&mut args)?).await?;
        return Ok(page_json(&page, |found| identity_json::proposal(found, threshold, now.1)));
    }
    // At most 32 are open, so they always fit a page.
    let mut items = Vec::new();
    for id in entry.proposals {
        let found = cx.backend.proposal(address, id).await?;
        items.extend(
            found
                .filter(|found| found.entry.expires_ms > now.1)
                .map(|found| identity_json::proposal(&found, threshold, now.1)),
        );
    }
    Ok(json!({ "items": items, "next_cursor": null }))
}

fn audience_of(args: &mut Args) -> Result<String, Fault> {
    let audience = args.text("audience")?;
    let audience = args.need("audience", audience)?;
    match audience.len() {
        1..=AUDIENCE_BYTES_MAX => Ok(audience),
        got => Err(Fault::invalid(format!(
            "audience has {got} bytes; expected 1 to {AUDIENCE_BYTES_MAX}: the service's address, for instance https://example.org"
        ))),
    }
}

fn challenge_json(challenge: &LoginChallenge) -> Value {
    json!({
        "audience": challenge.audience,
        "did": json::did(&challenge.address),
        "nonce": hex::encode(challenge.nonce),
        "issued_ms": challenge.issued_ms,
        "expires_ms": challenge.expires_ms,
        "challenge_b64": STANDARD.encode(encode(challenge)),
    })
}

async fn challenge(cx: Arc<Context>, mut args: Args) -> Result<Value, Fault> {
    let address = needed(&mut args, "did")?;
    let audience = audience_of(&mut args)?;
    Ok(challenge_json(&cx.backend.login_challenge(audience, address).await?))
}

async fn verify(cx: Arc<Context>, mut args: Args) -> Result<Value, Fault> {
    let bytes = args.b64("response_b64")?;
    let bytes = args.need("response_b64", bytes)?;
    let audience = audience_of(&mut args)?;
    let response: LoginResponse =
        decode(&bytes).map_err(|error| Fault::invalid(format!("response_b64 is {error}")))?;
    let who = json::did(&response.challenge.address);
    let outcome = cx.backend.login(audience, response).await?;
    Ok(json!({ "valid": outcome.is_ok(), "did": who, "reason": outcome.err() }))
}
