//! Reading parameters: by name or as an array, unknown names refused, every complaint naming the field,
//! what it held and what was expected.

use std::net::{IpAddr, Ipv4Addr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cairn_types::id::Id;
use cairn_types::{Address, Hash, Height};
use serde_json::{Map, Value};

use crate::config::WAIT_MS_DEFAULT;
use crate::fault::Fault;
use crate::method::Field;
use crate::suggest::nearest;

/// Values longer than this are cut when an error repeats them.
const ECHO_CHARS_MAX: usize = 40;

/// Digits of the largest height.
const HEIGHT_DIGITS_MAX: usize = 20;

/// How a caller names a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BlockRef {
    Latest,
    Earliest,
    Height(Height),
    Id(cairn_types::BlockId),
}

/// Named values that were checked against the names known.
#[derive(Debug)]
pub(crate) struct Args {
    /// Where the values stand, for error messages: empty for parameters, else `proofs[2]` and the like.
    place: String,
    values: Map<String, Value>,
    caller: IpAddr,
}

impl Args {
    /// Reads the parameters of a call.
    ///
    /// # Errors
    /// When they are neither object nor array, or name something unknown, or leave out something required.
    pub(crate) fn read(params: Option<&str>, fields: &[Field]) -> Result<Self, Fault> {
        let value = match params.map(str::trim).filter(|text| !text.is_empty()) {
            None => Value::Null,
            Some(text) => serde_json::from_str(text)
                .map_err(|error| Fault::invalid(format!("the parameters are not JSON: {error}")))?,
        };
        let values = match value {
            Value::Null => Map::new(),
            Value::Object(values) => values,
            Value::Array(items) => by_position(items, fields)?,
            _ => return Err(Fault::invalid("params must be an object (by name) or an array (by position)")),
        };
        let known: Vec<&str> = fields.iter().map(|field| field.name).collect();
        let args = Self::checked(String::new(), values, &known)?;
        match fields.iter().find(|field| field.required && !args.values.contains_key(field.name)) {
            Some(missing) => Err(args.missing(missing.name)),
            None => Ok(args),
        }
    }

    /// Reads a nested object whose fields are all `known`.
    ///
    /// # Errors
    /// When `value` is no object, or names something unknown.
    pub(crate) fn nested(place: &str, value: Value, known: &[&str]) -> Result<Self, Fault> {
        match value {
            Value::Object(values) => Self::checked(place.to_owned(), values, known),
            other => Err(Fault::invalid(format!("{place} must be an object, not {}", echo(&other)))),
        }
    }

    fn checked(place: String, mut values: Map<String, Value>, known: &[&str]) -> Result<Self, Fault> {
        if let Some(unknown) = values.keys().find(|name| !known.contains(&name.as_str())) {
            let shown: String = unknown.chars().take(ECHO_CHARS_MAX).collect();
            let list = if known.is_empty() { "there are none".to_owned() } else { known.join(", ") };
            let at = if place.is_empty() { String::new() } else { format!(" in {place}") };
            return Err(Fault::InvalidParams {
                reason: format!("unknown field `{shown}`{at}; known: {list}"),
                hint: nearest(unknown, known.iter().copied()).map(|name| format!("did you mean `{name}`?")),
            });
        }
        values.retain(|_, value| !value.is_null());
        Ok(Self { place, values, caller: IpAddr::V4(Ipv4Addr::UNSPECIFIED) })
    }

    /// Remembers who calls, for methods that charge by their content.
    pub(crate) fn called_by(mut self, caller: IpAddr) -> Self {
        self.caller = caller;
        self
    }

    /// Who calls.
    pub(crate) fn caller(&self) -> IpAddr {
        self.caller
    }

    fn path(&self, name: &str) -> String {
        if self.place.is_empty() { name.to_owned() } else { format!("{}.{name}", self.place) }
    }

    fn wrong(&self, name: &str, got: &Value, expected: &str) -> Fault {
        Fault::invalid(format!("{} is {}; expected {expected}", self.path(name), echo(got)))
    }

    /// The complaint about a value that must be there.
    pub(crate) fn missing(&self, name: &str) -> Fault {
        Fault::invalid(format!("{} is missing", self.path(name)))
    }

    /// The time the call itself asks for: `timeout_ms`, or the default where the method waits for finality.
    pub(crate) fn asked_wait_ms(&self) -> u64 {
        let waits = ["tx", "txs"].iter().any(|name| self.has(name));
        match self.values.get("timeout_ms").and_then(Value::as_u64) {
            Some(asked) => asked,
            None if waits => WAIT_MS_DEFAULT,
            None => 0,
        }
    }

    /// Whether a value of this name was given.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// Takes a value as it is.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.values.remove(name)
    }

    pub(crate) fn text(&mut self, name: &str) -> Result<Option<String>, Fault> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(name, &other, "a string")),
        }
    }

    /// An unsigned integer; a decimal string serves too, for languages whose numbers end at 2^53.
    pub(crate) fn int(&mut self, name: &str) -> Result<Option<u64>, Fault> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let read = match &value {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        read.map(Some).ok_or_else(|| self.wrong(name, &value, "an integer from 0 to 2^64 - 1"))
    }

    pub(crate) fn hash(&mut self, name: &str) -> Result<Option<Hash>, Fault> {
        let Some(value) = self.take(name) else { return Ok(None) };
        value
            .as_str()
            .and_then(Hash::from_hex)
            .map(Some)
            .ok_or_else(|| self.wrong(name, &value, "64 hex digits"))
    }

    /// A digest with or without `prefix` before it, as the proof server's client writes its own ids.
    pub(crate) fn hash_after(&mut self, prefix: &str, name: &str) -> Result<Option<Hash>, Fault> {
        if let Some(Value::String(text)) = self.values.get_mut(name)
            && let Some(bare) = text.strip_prefix(prefix)
        {
            *text = bare.to_owned();
        }
        self.hash(name)
    }

    pub(crate) fn id<K>(&mut self, name: &str) -> Result<Option<Id<K>>, Fault> {
        Ok(self.hash(name)?.map(Id::new))
    }

    /// An address as hex, or as `did:cairn:<hex>`.
    pub(crate) fn address(&mut self, name: &str) -> Result<Option<Address>, Fault> {
        let Some(value) = self.take(name) else { return Ok(None) };
        value
            .as_str()
            .and_then(parse_address)
            .map(Some)
            .ok_or_else(|| self.wrong(name, &value, "64 hex digits or did:cairn:<64 hex digits>"))
    }

    pub(crate) fn b64(&mut self, name: &str) -> Result<Option<Vec<u8>>, Fault> {
        let Some(value) = self.take(name) else { return Ok(None) };
        value
            .as_str()
            .and_then(|text| STANDARD.decode(text).ok())
            .map(Some)
            .ok_or_else(|| self.wrong(name, &value, "padded base64"))
    }

    /// Hex bytes of any length up to `bytes_max`.
    pub(crate) fn hex(&mut self, name: &str, bytes_max: usize) -> Result<Option<Vec<u8>>, Fault> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let digits = value.as_str().map(|text| text.strip_prefix("0x").unwrap_or(text));
        digits
            .filter(|text| text.len() / 2 <= bytes_max)
            .and_then(|text| hex::decode(text).ok())
            .map(Some)
            .ok_or_else(|| self.wrong(name, &value, &format!("hex of at most {bytes_max} bytes")))
    }

    pub(crate) fn list(&mut self, name: &str, items_max: usize) -> Result<Option<Vec<Value>>, Fault> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(items)) if items.len() <= items_max => Ok(Some(items)),
            Some(Value::Array(items)) => Err(Fault::invalid(format!(
                "{} has {} items; expected at most {items_max}",
                self.path(name),
                items.len()
            ))),
            Some(other) => Err(self.wrong(name, &other, "an array")),
        }
    }

    /// One of a table's names.
    pub(crate) fn one_of<T>(
        &mut self,
        name: &str,
        known: &[&str],
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, Fault> {
        let Some(value) = self.take(name) else { return Ok(None) };
        if let Some(found) = value.as_str().and_then(read) {
            return Ok(Some(found));
        }
        let hint = value
            .as_str()
            .and_then(|text| nearest(text, known.iter().copied()))
            .map(|near| format!("did you mean `{near}`?"));
        Err(Fault::InvalidParams {
            reason: format!("{} is {}; expected one of: {}", self.path(name), echo(&value), known.join(", ")),
            hint,
        })
    }

    /// A block reference; absent is the latest.
    pub(crate) fn block_ref(&mut self, name: &str) -> Result<BlockRef, Fault> {
        let Some(value) = self.take(name) else { return Ok(BlockRef::Latest) };
        parse_block_ref(&value).ok_or_else(|| {
            self.wrong(name, &value, "a height, \"latest\", \"earliest\" or a block id of 64 hex digits")
        })
    }

    /// The value of `name`, which the method's table row marks as required.
    pub(crate) fn need<T>(&self, name: &str, value: Option<T>) -> Result<T, Fault> {
        value.ok_or_else(|| self.missing(name))
    }
}

/// Gives an array's items the names of the fields in order.
fn by_position(items: Vec<Value>, fields: &[Field]) -> Result<Map<String, Value>, Fault> {
    if items.len() > fields.len() {
        return Err(Fault::invalid(format!(
            "{} parameters given; expected at most {}: {}",
            items.len(),
            fields.len(),
            fields.iter().map(|field| field.name).collect::<Vec<_>>().join(", ")
        )));
    }
    Ok(fields.iter().map(|field| field.name.to_owned()).zip(items).collect())
}

/// An address as hex, or as `did:cairn:<hex>`.
pub(crate) fn parse_address(text: &str) -> Option<Address> {
    Address::from_hex(text.strip_prefix("did:cairn:").unwrap_or(text))
}

fn parse_block_ref(value: &Value) -> Option<BlockRef> {
    match value {
        Value::Number(number) => number.as_u64().map(|height| BlockRef::Height(Height::new(height))),
        Value::String(text) => parse_block_ref_text(text),
        _ => None,
    }
}

/// A block reference as text, the form used in URLs.
pub(crate) fn parse_block_ref_text(text: &str) -> Option<BlockRef> {
    match text {
        "latest" => Some(BlockRef::Latest),
        "earliest" => Some(BlockRef::Earliest),
        // An id may happen to be all decimal digits: its length tells them apart.
        _ if text.len() <= HEIGHT_DIGITS_MAX => {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|_| digits).map(|height| BlockRef::Height(Height::new(height)))
        }
        _ => cairn_types::BlockId::from_hex(text).map(BlockRef::Id),
    }
}

/// A value as an error message repeats it: short, and never the whole of something long.
fn echo(value: &Value) -> String {
    match value {
        Value::String(text) if text.chars().count() > ECHO_CHARS_MAX => {
            format!("a string of {} characters", text.chars().count())
        }
        Value::Array(items) => format!("an array of {} items", items.len()),
        Value::Object(_) => "an object".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
