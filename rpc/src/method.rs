//! What one method is: the row of the table that registration, OpenRPC, the documentation, the command
//! line's help and the tests are all made from.

use std::sync::Arc;

use futures::future::BoxFuture;
use serde_json::{Map, Value, json};

use crate::args::Args;
use crate::context::Context;
use crate::fault::{Fault, FaultKind};

/// Answers a call whose parameter names were checked against the table.
pub(crate) type Handler = fn(Arc<Context>, Args) -> BoxFuture<'static, Result<Value, Fault>>;

/// What a call does.
#[derive(Clone, Copy)]
pub(crate) enum Serve {
    /// One answer.
    Call(Handler),
    /// A subscription on a WebSocket, ended by the method named here.
    Subscribe {
        /// Which events it gives.
        stream: crate::feed::Stream,
        /// The method of its notifications.
        notification: &'static str,
        /// The method that ends it.
        unsubscribe: &'static str,
    },
}

/// A row of the method table.
pub(crate) struct Method {
    pub(crate) name: &'static str,
    pub(crate) doc: &'static str,
    /// In the order in which an array of parameters is read.
    pub(crate) params: &'static [Field],
    pub(crate) result: Shape,
    /// The errors of its own, beside those any call may give.
    pub(crate) errors: &'static [FaultKind],
    /// Parameters of an example call, JSON. `<proof_id>` and the like stand for sample values.
    pub(crate) example: &'static str,
    pub(crate) serve: Serve,
}

/// A named value of parameters or results.
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) required: bool,
    pub(crate) doc: &'static str,
}

/// A field that is always there.
pub(crate) const fn req(name: &'static str, shape: Shape, doc: &'static str) -> Field {
    Field { name, shape, required: true, doc }
}

/// A field that may be left out.
pub(crate) const fn opt(name: &'static str, shape: Shape, doc: &'static str) -> Field {
    Field { name, shape, required: false, doc }
}

/// The JSON a value has.
#[derive(Clone, Copy)]
pub(crate) enum Shape {
    /// 32 bytes in lower-case hex.
    Id,
    /// An address in hex, or `did:cairn:<hex>`.
    Address,
    Int,
    Text,
    Bool,
    /// RFC 3339, UTC.
    Time,
    /// Padded base64.
    B64,
    /// A block: height, `latest`, `earliest` or id.
    At,
    /// A signed transaction: base64 of its canonical bytes, or its JSON form.
    Transaction,
    OneOf(&'static [&'static str]),
    List(&'static Shape),
    Object(&'static [Field]),
    /// An object described elsewhere (a receipt, a genesis file, an OpenRPC document).
    AnyObject,
    Any,
}

impl Shape {
    /// The JSON schema.
    pub(crate) fn schema(&self) -> Value {
        match self {
            Self::Id => json!({ "type": "string", "pattern": "^(0x)?[0-9a-fA-F]{64}$" }),
            Self::Address => {
                json!({ "type": "string", "pattern": "^(0x|did:cairn:)?[0-9a-fA-F]{64}$" })
            }
            Self::Int => json!({ "type": "integer", "minimum": 0 }),
            Self::Text => json!({ "type": "string" }),
            Self::Bool => json!({ "type": "boolean" }),
            Self::Time => json!({ "type": "string", "format": "date-time" }),
            Self::B64 => json!({ "type": "string", "contentEncoding": "base64" }),
            Self::At => json!({ "oneOf": [
                { "type": "integer", "minimum": 0 },
                { "type": "string", "description": "a height, `latest`, `earliest` or a block id" },
            ]}),
            Self::Transaction => json!({ "oneOf": [
                { "type": "string", "contentEncoding": "base64", "description": "canonical bytes of a signed transaction" },
                { "type": "object", "description": "the JSON form of a signed transaction" },
            ]}),
            Self::OneOf(names) => json!({ "type": "string", "enum": names }),
            Self::List(item) => json!({ "type": "array", "items": item.schema() }),
            Self::Object(fields) => object_schema(fields),
            Self::AnyObject => json!({ "type": "object" }),
            Self::Any => json!({}),
        }
    }

    /// A short name for documentation.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Id => "hex, 32 bytes".into(),
            Self::Address => "address or DID".into(),
            Self::Int => "integer".into(),
            Self::Text => "text".into(),
            Self::Bool => "true or false".into(),
            Self::Time => "RFC 3339".into(),
            Self::B64 => "base64".into(),
            Self::At => "block reference".into(),
            Self::Transaction => "signed transaction".into(),
            Self::OneOf(names) => names.join(" \\| "),
            Self::List(item) => format!("list of {}", item.name()),
            Self::Object(_) | Self::AnyObject => "object".into(),
            Self::Any => "any".into(),
        }
    }
}

fn object_schema(fields: &[Field]) -> Value {
    let mut properties = Map::new();
    for field in fields {
        let mut schema = field.shape.schema();
        if let Value::Object(schema) = &mut schema {
            schema.insert("description".into(), field.doc.into());
        }
        properties.insert(field.name.into(), schema);
    }
    let required: Vec<_> = fields.iter().filter(|field| field.required).map(|field| field.name).collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}
