//! The method table as documentation: OpenRPC, Markdown, and the command line's help.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::fault::{FAULT_KINDS, FaultKind};
use crate::method::{Field, Method, Serve, Shape};
use crate::methods::{GROUPS, all, example, find};

/// The version of OpenRPC that the document follows.
const OPENRPC: &str = "1.3.2";

/// The table as an OpenRPC document; `version` is the software's.
pub fn openrpc(version: &str) -> Value {
    let methods: Vec<_> = GROUPS
        .iter()
        .flat_map(|group| group.methods.iter().map(move |method| openrpc_method(method, group.title)))
        .collect();
    json!({
        "openrpc": OPENRPC,
        "info": {
            "title": "Cairn",
            "version": version,
            "description": "Finalises Merkle roots and gives receipts that verify offline. `latest` is final.",
            "license": { "name": "MIT OR Apache-2.0" },
        },
        "methods": methods,
    })
}

fn openrpc_method(method: &Method, group: &str) -> Value {
    let params: Vec<_> = method
        .params
        .iter()
        .map(|field| {
            json!({
                "name": field.name,
                "description": field.doc,
                "required": field.required,
                "schema": field.shape.schema(),
            })
        })
        .collect();
    let errors: Vec<_> =
        method.errors.iter().map(|kind| json!({ "code": kind.code, "message": kind.kind })).collect();
    let shown: Vec<_> = match example(method, &[]) {
        Value::Object(values) => {
            values.into_iter().map(|(name, value)| json!({ "name": name, "value": value })).collect()
        }
        _ => Vec::new(),
    };
    let mut value = json!({
        "name": method.name,
        "description": method.doc,
        "tags": [{ "name": group }],
        "paramStructure": "either",
        "params": params,
        "result": { "name": "result", "schema": method.result.schema() },
        "errors": errors,
        "examples": [{ "name": "example", "params": shown }],
    });
    if let (Serve::Subscribe { notification, unsubscribe, .. }, Value::Object(members)) =
        (&method.serve, &mut value)
    {
        members.insert("x-notification".into(), (*notification).into());
        members.insert("x-unsubscribe".into(), (*unsubscribe).into());
    }
    value
}

/// `docs/API.md`.
pub fn markdown() -> String {
    let mut text = String::from(INTRODUCTION);
    for group in GROUPS {
        let _ = write!(text, "\n## {}\n\n{}\n", group.title, group.doc);
        for method in group.methods {
            markdown_method(&mut text, method);
        }
    }
    text.push_str("\n## Errors\n\n| code | kind | retryable | what to do |\n|---|---|---|---|\n");
    for kind in FAULT_KINDS {
        let retryable = if kind.retryable { "yes" } else { "no" };
        let _ = writeln!(text, "| {} | `{}` | {retryable} | {} |", kind.code, kind.kind, kind.hint);
    }
    text
}

fn markdown_method(text: &mut String, method: &Method) {
    let _ = write!(text, "\n### `{}`\n\n{}\n", method.name, method.doc);
    if let Serve::Subscribe { notification, unsubscribe, .. } = method.serve {
        let _ = write!(
            text,
            "\nGives a subscription id; notifications come as `{notification}`, `{unsubscribe}` with `[id]` ends it.\n"
        );
    }
    if !method.params.is_empty() {
        text.push_str("\n| parameter | | |\n|---|---|---|\n");
        markdown_fields(text, method.params);
    }
    if let Shape::Object(fields) = method.result {
        text.push_str("\n| result | | |\n|---|---|---|\n");
        markdown_fields(text, fields);
    }
    if !method.errors.is_empty() {
        let list: Vec<_> = method.errors.iter().map(|kind| format!("`{}`", kind.kind)).collect();
        let _ = write!(text, "\nErrors: {}.\n", list.join(", "));
    }
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": method.name, "params": example(method, &[]) });
    let _ = write!(text, "\n```json\n{call}\n```\n");
}

fn markdown_fields(text: &mut String, fields: &[Field]) {
    for field in fields {
        let optional = if field.required { "" } else { ", optional" };
        let _ = writeln!(text, "| `{}` | {}{optional} | {} |", field.name, field.shape.name(), field.doc);
    }
}

/// Every method with the first sentence of its description, for the command line.
pub fn method_list() -> Vec<(&'static str, &'static str)> {
    all().map(|method| (method.name, first_sentence(method.doc))).collect()
}

fn first_sentence(text: &str) -> &str {
    text.split_once(". ").map_or(text, |(first, _)| first).trim_end_matches('.')
}

/// The names of a method's parameters, in order; `None` for an unknown method.
pub fn parameter_names(method: &str) -> Option<Vec<&'static str>> {
    find(method).map(|method| method.params.iter().map(|field| field.name).collect())
}

/// The command line's help on one method; `None` for an unknown one.
pub fn help(name: &str) -> Option<String> {
    let method = find(name)?;
    let mut text = format!("{}\n\n{}\n", method.name, method.doc);
    for field in method.params {
        let optional = if field.required { "" } else { " (optional)" };
        let _ = write!(text, "\n  {}=<{}>{optional}\n      {}", field.name, field.shape.name(), field.doc);
    }
    if !method.errors.is_empty() {
        let list: Vec<_> =
            method.errors.iter().map(|FaultKind { code, kind, .. }| format!("{kind} ({code})")).collect();
        let _ = write!(text, "\n\nErrors: {}", list.join(", "));
    }
    let _ = write!(text, "\n\nExample: cairn rpc {}", method.name);
    if let Value::Object(values) = example(method, &[]) {
        for (name, value) in values {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let _ = write!(text, " {name}='{value}'");
        }
    }
    text.push('\n');
    Some(text)
}

/// The unknown method's nearest neighbour, for "did you mean".
pub fn nearest_method(name: &str) -> Option<&'static str> {
    crate::suggest::nearest(name, crate::methods::names())
}

const INTRODUCTION: &str = r#"# API

<!-- Made from the method table in `rpc/src/methods`; a test keeps it in step. -->

One port (default `127.0.0.1:26657`) speaks everything over HTTP:

| | |
|---|---|
| `POST /` | JSON-RPC 2.0, with `content-type: application/json`; batches of up to 20, each item counted; a call without `id` is answered 204 and does nothing |
| WebSocket `/` or `/websocket` | the same, and subscriptions (at most 8 on a connection) |
| `GET /livez` (`/health`) | 200 while the process serves |
| `GET /readyz` | 200 when the node can do its work, else 503 with the checks that fail |
| `GET /openrpc.json` | this table, machine readable (also `rpc.discover`) |
| `GET /v1/receipts/<proof id>` | a receipt, `application/vnd.cairn.receipt+json`; `?form=checkpoint` |
| `GET /v1/headers/<height>` | a final header |
| `GET /v1/events` | server-sent events: `?stream=blocks`, `proofs` or `identities`, `sender`, `kind`, `did`, `from_cursor`; `Last-Event-ID` resumes |
| `GET /` | a small page for people |

gRPC (`rpc/proto/cairn.proto`, with health and reflection) is on 26658, Prometheus on 26660 at `/metrics`. Over gRPC go canonical bytes
and texts that verify offline: transactions of every kind (`Submit`), records, receipts, bundles, state proofs of identities and delegations,
headers, blocks and their streams. Views made for reading (DID documents, histories, pages, proposals, chains of proofs, logins) are JSON alone.

Parameters go by name (an array is accepted, in the order listed); unknown names are refused. Ids and digests are
lower-case hex, `0x` is accepted. Bytes are base64 in fields ending in `_b64`. Times come as `time` (RFC 3339) and
`time_ms`. A block is named by its height, `"latest"`, `"earliest"` or its id; `latest` is final. Pages take
`limit` (at most 100) and `cursor`, and give `items` and `next_cursor`.

Errors ride on HTTP 200 with `data = {kind, retryable, retry_after_ms?, hint, ...}`; see the end.

A **signed transaction** is base64 of the canonical bytes of `SignedTransaction`, or this JSON form, from which
the node rebuilds those bytes (the signatures are over the bytes, never over JSON):

```json
{ "sender": "<hex or DID>", "nonce": 7, "expires_ms": 1790000000000,
  "keys": [ { "scheme": "dilithium3", "key_b64": "..." } ],
  "proofs": [ { "kind": "batch", "tree": "cairn-b3-v1", "root": "<hex>", "leaves": 3, "reference": "",
                "previous": null, "subject": null, "on_behalf_of": null, "metadata_b64": "" } ],
  "signatures_b64": [ "..." ] }
```

`version` (1) and `chain` (this chain) may be given. A key is `{"index": 0}` for a registered identity;
an inline key without `scheme` is `dilithium3`. In a proof only `root` is
required. In place of `proofs` stands one of:

```json
"identity":   { "op": "register" } | { "op": "register_agent", "owner": "<DID>" } | { "op": "deactivate" }
            | { "op": "add_key", "key": KEY, "purposes": ["assertion"], "key_expires_ms": 1790000000000 }
            | { "op": "rotate_key", "index": 0, "key": KEY } | { "op": "revoke_key", "index": 0 }
            | { "op": "set_threshold", "threshold": 2 } | { "op": "admit", "address": "<DID>" }
            | { "op": "recover", "threshold": 1, "keys": [ { "scheme": "...", "key_b64": "...", "purposes": [] } ] }
"delegation": { "op": "grant", "delegate": "<DID>", "terms": { "kinds": ["batch"], "tree": "cairn-b3-v1",
                "metadata_bytes_max": 1024, "proofs_max": 100, "rate": { "count": 5, "period_ms": 60000 },
                "expires_ms": 1790000000000 } }
            | { "op": "revoke", "delegate": "<DID>" } | { "op": "renounce", "principal": "<DID>" }
            | { "op": "set_agent", "agent": "<DID>", "mandate": { "kinds": ["work"], "rate": null } }
            | { "op": "retire_agent", "agent": "<DID>" }
"multisig":   { "op": "propose", "expires_ms": 1790000000000, and one of "proofs", "identity", "delegation" }
            | { "op": "approve", "proposal": "<tx id>" } | { "op": "cancel", "proposal": "<tx id>" }
```

`KEY` is `{"scheme", "key_b64"}`. What is left out of terms and mandates is not restricted; a key without `purposes` has the
four ordinary ones. See [IDENTITIES.md](IDENTITIES.md).
"#;
