//! How proofs name one another: chains along `previous`, and what others say about a proof through `subject`.

use std::sync::Arc;

use cairn_types::record::Naming;
use cairn_types::{Address, Height, ProofId, ProofKind, Record};
use serde_json::{Map, Value, json};

use super::identity::moment;
use super::limit_field;
use super::proof::limit_of;
use super::shapes::RECORD;
use crate::args::Args;
use crate::backend::RecordKey;
use crate::calls;
use crate::config::PAGE_ITEMS_MAX;
use crate::context::Context;
use crate::fault::{self, Fault};
use crate::json;
use crate::method::{Field, Method, Serve, Shape, opt, req};

/// Links that one `proof_chain` walks.
const CHAIN_LINKS_MAX: usize = 100;

const LINK: &[Field] = &[
    req("from", Shape::Id, "the proof that continues another"),
    req("to", Shape::Id, "the proof it names as `previous`"),
    req("ok", Shape::Bool, "whether the link holds"),
    req("problem", Shape::Any, "what is wrong with it, or null"),
    req(
        "same_author",
        Shape::Any,
        "whether both are of one author (the principal, else the sender); null when unknown",
    ),
];

pub(crate) const METHODS: &[Method] = &[
    Method {
        name: "proof_chain",
        doc: "A proof and those before it along `previous`, newest first, at most 100, with every link checked: the proof named must be anchored, and before the one that continues it. `valid` means that every link holds back to the start.",
        params: &[
            req("proof_id", Shape::Id, "where to begin"),
            opt("at", Shape::At, "as of this block; latest when left out"),
            opt("at_time", Shape::Text, "in place of `at`: as of this time, RFC 3339 or Unix ms"),
        ],
        result: Shape::Object(&[
            req("items", Shape::List(&Shape::Object(RECORD)), "records, newest first"),
            req("links", Shape::List(&Shape::Object(LINK)), "one per step of the walk, in the same order"),
            req("valid", Shape::Bool, "whether every link holds and the last item is the start"),
            req("complete", Shape::Bool, "whether the last item is the start of the chain"),
            req("missing", Shape::Any, "the id where the walk stopped for want of a record, or null"),
            req("continued_by", Shape::List(&Shape::Id), "proofs that continue the first item"),
            req("revoked", Shape::List(&Shape::Id), "items that their own author revoked"),
        ]),
        errors: &[fault::NOT_FOUND, fault::FUTURE_HEIGHT],
        example: r#"{"proof_id":"<proof_id>"}"#,
        serve: Serve::Call(|cx, args| Box::pin(chain(cx, args))),
    },
    Method {
        name: "proof_statements",
        doc: "What has been anchored about a proof through `subject`, by anyone: attestations, revocations, disputes and the rest, oldest first. None of it changes the proof itself; `by_author` says whether its own author speaks.",
        params: &[
            req("proof_id", Shape::Id, "the proof spoken about"),
            opt("kind", Shape::Text, "only of this kind, for instance attestation"),
            limit_field(),
            opt("cursor", Shape::Text, "next_cursor of the page before"),
        ],
        result: Shape::Object(&[
            req("items", Shape::List(&Shape::AnyObject), "records with `by_author`, oldest first"),
            req("next_cursor", Shape::Any, "text for the next page, or null after the last"),
        ]),
        errors: &[fault::NOT_FOUND],
        example: r#"{"proof_id":"<proof_id>"}"#,
        serve: Serve::Call(|cx, args| Box::pin(statements(cx, args))),
    },
];

/// In whose name a proof stands.
fn author(record: &Record) -> Address {
    record.on_behalf_of.unwrap_or(record.sender)
}

async fn first_record(cx: &Context, proof: ProofId, until: Height) -> Result<Option<Record>, Fault> {
    let found = cx.backend.records(RecordKey::Proof(proof)).await?.into_iter().next();
    Ok(found.filter(|record| record.height <= until))
}

/// Why the link from a record to the one it names does not hold.
fn problem(from: &Record, to: ProofId, found: Option<&Record>) -> Option<String> {
    match found {
        None => Some(format!("proof {to} is not anchored")),
        Some(previous) if previous.seq >= from.seq => Some(format!(
            "proof {to} was anchored at height {}, not before the proof that continues it (height {})",
            previous.height, from.height
        )),
        Some(_) => None,
    }
}

async fn chain(cx: Arc<Context>, mut args: Args) -> Result<Value, Fault> {
    let first = args.id("proof_id")?;
    let first = args.need("proof_id", first)?;
    let until = moment(&cx, &mut args).await?.height.unwrap_or_else(|| calls::latest(&cx));
    let start = first_record(&cx, first, until).await?;
    let mut at = Some(start.ok_or_else(|| Fault::not_found(format!("proof {first}")))?);
    let (mut items, mut links, mut revoked) = (Vec::new(), Vec::new(), Vec::new());
    let (mut complete, mut valid, mut missing) = (false, true, None);
    while let Some(record) = at.take() {
        if is_revoked(&cx, &record, until).await? {
            revoked.push(record.proof_id.to_string());
        }
        items.push(json::record(&record));
        match record.previous {
            None => complete = true,
            Some(previous) if items.len() >= CHAIN_LINKS_MAX => missing = Some(previous),
            Some(previous) => {
                let found = first_record(&cx, previous, until).await?;
                let problem = problem(&record, previous, found.as_ref());
                let same_author = found.as_ref().map(|found| author(found) == author(&record));
                links.push(json!({
                    "from": record.proof_id.to_string(),
                    "to": previous.to_string(),
                    "ok": problem.is_none(),
                    "problem": problem,
                    "same_author": same_author,
                }));
                valid &= problem.is_none();
                missing = found.is_none().then_some(previous);
                at = found;
            }
        }
    }
    let continued = cx.backend.records_naming(first, Naming::Continues, 0, PAGE_ITEMS_MAX).await?.0;
    let continued: Vec<_> = continued
        .iter()
        .filter(|record| record.height <= until)
        .map(|record| record.proof_id.to_string())
        .collect();
    Ok(json!({
        "items": items,
        "links": links,
        "valid": valid && complete,
        "complete": complete,
        "missing": missing.map(|id| id.to_string()),
        "continued_by": continued,
        "revoked": revoked,
    }))
}

/// Whether a proof's own author has revoked it.
async fn is_revoked(cx: &Context, record: &Record, until: Height) -> Result<bool, Fault> {
    let (said, _) = cx.backend.records_naming(record.proof_id, Naming::SpeaksOf, 0, PAGE_ITEMS_MAX).await?;
    Ok(said
        .iter()
        .any(|by| by.kind == ProofKind::Revocation && author(by) == author(record) && by.height <= until))
}

fn statement(by: &Record, about: &Record) -> Value {
    let mut value = json::record(by);
    value.insert("by_author".into(), (author(by) == author(about)).into());
    Value::Object(value)
}

async fn statements(cx: Arc<Context>, mut args: Args) -> Result<Value, Fault> {
    let proof = args.id("proof_id")?;
    let proof = args.need("proof_id", proof)?;
    let kind = super::kind_of(&mut args)?;
    let from = match args.text("cursor")? {
        None => 0,
        Some(cursor) => {
            cursor.parse().map_err(|_| Fault::invalid("cursor must be the next_cursor of an earlier page"))?
        }
    };
    let limit = limit_of(&mut args)?;
    let about = calls::records(&cx, RecordKey::Proof(proof)).await?;
    let Some(about) = about.first() else { return Err(Fault::not_found(format!("proof {proof}"))) };
    let (records, next) = cx.backend.records_naming(proof, Naming::SpeaksOf, from, limit).await?;
    let items: Vec<_> = records
        .iter()
        .filter(|record| kind.is_none_or(|kind| record.kind == kind))
        .map(|record| statement(record, about))
        .collect();
    Ok(json!({ "items": items, "next_cursor": next.map(|seq| seq.to_string()) }))
}

/// What `proof_get` tells of the statements about a proof: the first page of them, and whether its author
/// has revoked it.
pub(super) async fn said_about(
    cx: &Context,
    record: &Record,
    until: Height,
) -> Result<Map<String, Value>, Fault> {
    let (mut said, _) =
        cx.backend.records_naming(record.proof_id, Naming::SpeaksOf, 0, PAGE_ITEMS_MAX).await?;
    said.retain(|by| by.height <= until);
    let revoked = said.iter().any(|by| by.kind == ProofKind::Revocation && author(by) == author(record));
    let list: Vec<_> = said
        .iter()
        .map(|by| {
            json!({
                "proof_id": by.proof_id.to_string(),
                "kind": by.kind.name(),
                "sender": by.sender.to_string(),
                "on_behalf_of": by.on_behalf_of.map(|address| address.to_string()),
                "by_author": author(by) == author(record),
                "height": by.height.get(),
                "time": json::time(by.time_ms),
            })
        })
        .collect();
    Ok(json::object(json!({ "revoked": revoked, "statements": list })))
}
