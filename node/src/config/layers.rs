//! The raw layers and their merge. Each value keeps the name of the layer it came from.

use std::path::Path;

use cairn_state::{BLOCK_CACHE_MIB, Role};
use figment::value::{Dict, Map, Value};
use figment::{Error as FigmentError, Figment, Metadata, Profile, Provider};
use serde::{Deserialize, Deserializer, Serialize};

use super::{ConfigFault, KEYS, Setting, did_you_mean};

/// Environment variables with this prefix and `__` in their name are configuration.
const PREFIX: &str = "CAIRN_";

/// A value given by a flag.
#[derive(Clone, Debug)]
pub(crate) struct Override {
    /// The key it sets.
    pub(crate) key: &'static str,
    /// The flag as typed, for instance `--rpc-listen`.
    pub(crate) flag: &'static str,
    /// Its value.
    pub(crate) value: Value,
}

/// All keys as they stand in the file, before validation.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Raw {
    pub(crate) rpc: RawRpc,
    pub(crate) p2p: RawP2p,
    pub(crate) keys: RawKeys,
    pub(crate) state: RawState,
    pub(crate) snapshots: RawSnapshots,
    pub(crate) log: RawLog,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawRpc {
    pub(crate) listen: String,
    pub(crate) grpc_listen: String,
    pub(crate) metrics_listen: String,
}

impl Default for RawRpc {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:26657".to_owned(),
            grpc_listen: "127.0.0.1:26658".to_owned(),
            metrics_listen: "127.0.0.1:26660".to_owned(),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawP2p {
    pub(crate) public_listen: String,
    pub(crate) mesh_listen: String,
    #[serde(deserialize_with = "list")]
    pub(crate) public_external: Vec<String>,
    #[serde(deserialize_with = "list")]
    pub(crate) mesh_external: Vec<String>,
    #[serde(deserialize_with = "list")]
    pub(crate) bootstrap: Vec<String>,
    #[serde(deserialize_with = "list")]
    pub(crate) mesh_peers: Vec<String>,
    pub(crate) quic: bool,
}

impl Default for RawP2p {
    fn default() -> Self {
        Self {
            public_listen: "127.0.0.1:26656".to_owned(),
            mesh_listen: "127.0.0.1:26655".to_owned(),
            public_external: Vec::new(),
            mesh_external: Vec::new(),
            bootstrap: Vec::new(),
            mesh_peers: Vec::new(),
            quic: false,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawKeys {
    pub(crate) validator: String,
    pub(crate) validator_next: String,
    pub(crate) passphrase_file: String,
}

impl Default for RawKeys {
    fn default() -> Self {
        Self {
            validator: "keys/validator.json".to_owned(),
            validator_next: "keys/validator-next.json".to_owned(),
            passphrase_file: String::new(),
        }
    }
}

/// Blocks that a prover or validator keeps whole unless told otherwise: about a day at one block a second.
const KEEP_BLOCKS: u64 = 100_000;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawState {
    pub(crate) cache_mib: u64,
    pub(crate) role: String,
    pub(crate) keep_blocks: u64,
}

impl Default for RawState {
    fn default() -> Self {
        Self {
            cache_mib: BLOCK_CACHE_MIB as u64,
            role: Role::default().name().to_owned(),
            keep_blocks: KEEP_BLOCKS,
        }
    }
}

/// Blocks from one snapshot to the next unless told otherwise: under load some ten minutes, on an idle chain a week,
/// and fewer than anybody minds to replay.
const EVERY_BLOCKS: u64 = 10_000;
/// Snapshots kept unless told otherwise: whoever is fetching the one before finds it whole.
const KEEP_SNAPSHOTS: u64 = 2;

/// Blocks that a new node would replay rather than begin with a snapshot unless told otherwise: seconds to
/// minutes of work, by what is in them.
const JOIN_BLOCKS: u64 = 10_000;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawSnapshots {
    pub(crate) every_blocks: u64,
    pub(crate) keep: u64,
    pub(crate) join_blocks: u64,
}

impl Default for RawSnapshots {
    fn default() -> Self {
        Self { every_blocks: EVERY_BLOCKS, keep: KEEP_SNAPSHOTS, join_blocks: JOIN_BLOCKS }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawLog {
    pub(crate) level: String,
    pub(crate) format: String,
}

impl Default for RawLog {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: "pretty".to_owned() }
    }
}

/// A list in the file; in the environment a list, or one text with commas between its items.
fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a list of texts, or one text with commas between its items")]
    enum Either {
        Many(Vec<String>),
        Joined(String),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::Many(items) => items,
        Either::Joined(text) => {
            text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
        }
    })
}

/// What the layers give together.
pub(crate) struct Merged {
    /// The value of every key.
    pub(crate) raw: Raw,
    /// The same with origins.
    pub(crate) settings: Vec<Setting>,
}

/// One layer for figment: values under the name that `cairn config show --origin` prints.
struct Layer {
    origin: String,
    values: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, FigmentError> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

/// Lays defaults, the file's text, the environment and flags over each other.
pub(crate) fn merge(
    path: &Path,
    text: &str,
    environment: impl IntoIterator<Item = (String, String)>,
    flags: &[Override],
) -> Result<Merged, ConfigFault> {
    let defaults = Layer { origin: "default".to_owned(), values: dict(&Raw::default())? };
    let mut figment = Figment::from(defaults).merge(file_layer(path, text)?);
    for (name, value) in environment {
        if let Some(layer) = variable_layer(&name, &value)? {
            figment = figment.merge(layer);
        }
    }
    for flag in flags {
        figment =
            figment.merge(Layer { origin: flag.flag.to_owned(), values: nest(flag.key, flag.value.clone()) });
    }
    let raw: Raw = figment.extract().map_err(|error| type_fault(&figment, &error))?;
    let settings = settings(&figment, &raw);
    Ok(Merged { raw, settings })
}

fn dict<T: Serialize>(values: &T) -> Result<Dict, ConfigFault> {
    let value = Value::serialize(values).map_err(|error| ConfigFault::Type(error.to_string()))?;
    value.into_dict().ok_or_else(|| ConfigFault::Type("expected sections with keys".to_owned()))
}

fn file_layer(path: &Path, text: &str) -> Result<Layer, ConfigFault> {
    let table: toml::Table = toml::from_str(text)
        .map_err(|error| ConfigFault::Syntax { path: path.to_owned(), error: error.to_string() })?;
    let origin = path.display().to_string();
    for (section, value) in &table {
        match value {
            toml::Value::Table(entries) => {
                for name in entries.keys() {
                    check_known(&format!("{section}.{name}"), &origin)?;
                }
                if entries.is_empty() && !sections().any(|known| known == section) {
                    return Err(unknown(section, &origin, sections()));
                }
            }
            _ if sections().any(|known| known == section) => {
                return Err(ConfigFault::Type(format!(
                    "`{section}` in {origin} is a section: write [{section}] and its keys below it"
                )));
            }
            _ => check_known(section, &origin)?,
        }
    }
    Ok(Layer { origin, values: dict(&table)? })
}

fn variable_layer(name: &str, value: &str) -> Result<Option<Layer>, ConfigFault> {
    // CAIRN_HOME, CAIRN_URL and the like are no keys: only `__` makes one.
    let Some((section, key)) = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once("__")) else {
        return Ok(None);
    };
    let key = format!("{}.{}", section.to_ascii_lowercase(), key.to_ascii_lowercase());
    let origin = format!("${name}");
    check_known(&key, &origin)?;
    // Figment reads numbers, booleans and [lists]; everything else is text.
    let parsed: Value = value.parse().unwrap_or_else(|never| match never {});
    Ok(Some(Layer { origin, values: nest(&key, parsed) }))
}

fn nest(key: &str, value: Value) -> Dict {
    match key.split_once('.') {
        Some((section, name)) => {
            Dict::from([(section.to_owned(), Value::from(Dict::from([(name.to_owned(), value)])))])
        }
        None => Dict::from([(key.to_owned(), value)]),
    }
}

fn sections() -> impl Iterator<Item = &'static str> {
    ["rpc", "p2p", "keys", "state", "snapshots", "log"].into_iter()
}

fn check_known(key: &str, origin: &str) -> Result<(), ConfigFault> {
    let known = KEYS.iter().map(|known| known.name);
    if known.clone().any(|known| known == key) { Ok(()) } else { Err(unknown(key, origin, known)) }
}

fn unknown(key: &str, origin: &str, known: impl Iterator<Item = &'static str>) -> ConfigFault {
    let names: Vec<&'static str> = known.collect();
    // A key under a wrong section is the other common slip: compare the last part as well.
    let last = key.rsplit('.').next().unwrap_or(key);
    let moved = || names.iter().copied().find(|name| name.rsplit('.').next() == Some(last));
    let hint = match did_you_mean(key, names.iter().copied()).or_else(moved) {
        Some(near) => format!("; did you mean `{near}`?"),
        None => "; `cairn config show` lists every key".to_owned(),
    };
    ConfigFault::UnknownKey { key: key.to_owned(), origin: origin.to_owned(), hint }
}

fn type_fault(figment: &Figment, error: &FigmentError) -> ConfigFault {
    let key = error.path.join(".");
    let origin = error
        .metadata
        .as_ref()
        .map(|metadata| metadata.name.to_string())
        .or_else(|| figment.find_metadata(&key).map(|metadata| metadata.name.to_string()))
        .unwrap_or_else(|| "the configuration".to_owned());
    ConfigFault::Type(format!("`{key}` (from {origin}): {}", error.kind))
}

fn settings(figment: &Figment, raw: &Raw) -> Vec<Setting> {
    let values = serde_json::to_value(raw).unwrap_or_default();
    let setting = |key: &super::keys::Key| {
        let value = values.pointer(&format!("/{}", key.name.replace('.', "/"))).cloned().unwrap_or_default();
        let origin = figment
            .find_metadata(key.name)
            .map_or_else(|| "default".to_owned(), |metadata| metadata.name.to_string());
        Setting { key: key.name, value, origin }
    };
    KEYS.iter().map(setting).collect()
}

/// The default of a key as TOML text, for the template.
pub(crate) fn default_toml(key: &str) -> String {
    let values = serde_json::to_value(Raw::default()).unwrap_or_default();
    let value = values.pointer(&format!("/{}", key.replace('.', "/")));
    // JSON's texts, numbers, booleans and lists of texts are written the same way in TOML.
    value.map_or_else(|| "\"\"".to_owned(), ToString::to_string)
}
