//! `cairn keys`: signing keys, always encrypted at rest.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use cairn_crypto::{KeyPair, Keystore};
use cairn_types::{PublicKey, Scheme};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::output::{pairs, table};
use crate::cli::{Common, sender};
use crate::exit::{Exit, WithExit};
use crate::home::{OPEN_MODE, replace};
use crate::passphrase::Source;

/// Keystores listed, at most: a directory with more is not a key directory.
const LISTED_MAX: usize = 1_000;

/// `cairn keys ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum KeysVerb {
    /// Make a key and write it encrypted
    New(NewArgs),
    /// List the keystores of the home, or of a directory
    List {
        /// Directory to look in [default: the home's keys/, and the sender key]
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Show a key's address and scheme; needs no passphrase
    Show {
        /// A keystore or public-key file
        file: PathBuf,
        /// Print the whole public key as well
        #[arg(long)]
        public_key: bool,
    },
    /// Write a copy of a key under another passphrase, or its public half
    Export(ExportArgs),
    /// Take in an exported key, after checking that it opens
    Import(ImportArgs),
}

/// `cairn keys new`.
#[derive(Debug, Args)]
pub(crate) struct NewArgs {
    /// Where to write it; never overwrites
    #[arg(long, value_name = "FILE", default_value = "validator.json")]
    out: PathBuf,
    /// dilithium3 or ml-dsa-65
    #[arg(long, default_value = "dilithium3", value_parser = parse_scheme)]
    scheme: Scheme,
    #[command(flatten)]
    passphrase: NewPassphrase,
}

/// Where the passphrase of a new keystore comes from.
#[derive(Debug, Args)]
pub(crate) struct NewPassphrase {
    /// File with the passphrase, one line [default: ask on the terminal]
    #[arg(long, value_name = "FILE", env = "CAIRN_PASSPHRASE_FILE", hide_env_values = true)]
    passphrase_file: Option<PathBuf>,
    /// Leave the key unprotected: whoever reads the file can sign
    #[arg(long, conflicts_with = "passphrase_file")]
    no_passphrase: bool,
}

impl NewPassphrase {
    fn source(&self) -> Source {
        Source { file: self.passphrase_file.clone(), none: self.no_passphrase }
    }
}

/// `cairn keys export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The keystore
    file: PathBuf,
    /// Where to write the copy
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Write only the public half, which needs no passphrase: what a genesis ceremony asks for
    #[arg(long)]
    public: bool,
    /// File with the keystore's passphrase
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// File with the copy's passphrase
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: Option<PathBuf>,
}

/// `cairn keys import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The exported keystore
    file: PathBuf,
    /// Where to write it
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// File with the exported keystore's passphrase
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// File with the passphrase it is to have here [default: the same]
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: Option<PathBuf>,
}

pub(crate) fn run(common: &Common, verb: &KeysVerb) -> anyhow::Result<Exit> {
    match verb {
        KeysVerb::New(args) => new(common, args),
        KeysVerb::List { dir } => list(common, dir.as_deref()),
        KeysVerb::Show { file, public_key } => show(common, file, *public_key),
        KeysVerb::Export(args) => export(common, args),
        KeysVerb::Import(args) => import(common, args),
    }?;
    Ok(Exit::Yes)
}

/// The scheme named on the command line.
pub(crate) fn parse_scheme(name: &str) -> Result<Scheme, String> {
    Scheme::from_name(name)
        .ok_or_else(|| format!("expected {}", Scheme::ALL.map(|scheme| scheme.name()).join(" or ")))
}

/// Seals a new key into `path`.
///
/// # Errors
/// When the file exists, no passphrase can be had, or the disk refuses.
pub(crate) fn create(path: &Path, scheme: Scheme, source: &Source, what: &str) -> anyhow::Result<KeyPair> {
    if path.exists() {
        bail!("{} exists already; a key is never overwritten", path.display());
    }
    let passphrase = source.choose(what)?;
    let key = KeyPair::generate(scheme);
    Keystore::seal(&key, &passphrase)?.create(path)?;
    Ok(key)
}

/// Reads the public key of a keystore or of a file that `keys export --public` wrote.
///
/// # Errors
/// When it cannot be read or is neither.
pub(crate) fn read_public(path: &Path) -> anyhow::Result<PublicKey> {
    let text = super::files::read_text(path, "key file")?;
    let not_a_key = || {
        format!(
            "{} is no key file: expected a keystore, or what `cairn keys export --public` writes",
            path.display()
        )
    };
    let file: Value = serde_json::from_str(&text).with_context(not_a_key)?;
    let field = |name: &str| file.get(name).and_then(Value::as_str).with_context(not_a_key);
    let scheme = parse_scheme(field("scheme")?)
        .map_err(|expected| anyhow::anyhow!("{}: unknown scheme; {expected}", path.display()))?;
    let bytes = hex::decode(field("public_key")?).with_context(not_a_key)?;
    let public = PublicKey::new(scheme, &bytes).with_context(|| {
        let expected = scheme.public_key_bytes();
        format!("{}: the public key has {} bytes, a {scheme} key {expected}", path.display(), bytes.len())
    })?;
    if field("address")? != public.address().to_string() {
        bail!("{}: the address is not that of the public key; the file was changed", path.display());
    }
    Ok(public)
}

fn describe(public: &PublicKey) -> Value {
    json!({
        "scheme": public.scheme().name(),
        "address": public.address().to_string(),
        "did": format!("did:cairn:{}", public.address()),
        "public_key": hex::encode(public.as_bytes()),
    })
}

fn facts(path: &Path, public: &PublicKey) -> Vec<(&'static str, String)> {
    vec![
        ("file", path.display().to_string()),
        ("scheme", public.scheme().name().to_owned()),
        ("address", public.address().to_string()),
        ("did", format!("did:cairn:{}", public.address())),
    ]
}

fn answer(common: &Common, path: &Path, public: &PublicKey, after: &str) {
    let mut value = describe(public);
    value["file"] = json!(path);
    common.output().show(&format!("{}{after}", pairs(facts(path, public))), &value);
}

fn new(common: &Common, args: &NewArgs) -> anyhow::Result<()> {
    let name = args.out.display().to_string();
    let key = create(&args.out, args.scheme, &args.passphrase.source(), &name)?;
    let after = "\nKeep a copy of the file and of its passphrase where a fire here does not reach them.";
    answer(common, &args.out, key.public(), after);
    Ok(())
}

fn list(common: &Common, dir: Option<&Path>) -> anyhow::Result<()> {
    let home_keys = common.home().join("keys");
    let look_in = dir.unwrap_or(&home_keys);
    let mut paths: Vec<PathBuf> = match std::fs::read_dir(look_in) {
        Ok(entries) => entries.filter_map(Result::ok).map(|entry| entry.path()).take(LISTED_MAX).collect(),
        Err(error) if dir.is_none() && error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot list {}", look_in.display())),
    };
    if dir.is_none() {
        paths.push(sender::default_path());
    }
    paths.sort();
    let found: Vec<(PathBuf, Keystore)> =
        paths.into_iter().filter_map(|path| Keystore::load(&path).ok().map(|store| (path, store))).collect();
    let value: Vec<Value> = found
        .iter()
        .map(|(path, store)| {
            let public = store.public();
            json!({ "file": path, "scheme": public.scheme().name(), "address": public.address().to_string() })
        })
        .collect();
    let row = |(path, store): &(PathBuf, Keystore)| {
        let public = store.public();
        vec![path.display().to_string(), public.scheme().name().to_owned(), public.address().to_string()]
    };
    let text = if found.is_empty() {
        format!("no keystores in {}; `cairn keys new` makes one", look_in.display())
    } else {
        table(&["file", "scheme", "address"], found.iter().map(row).collect())
    };
    common.output().show(&text, &json!({ "keys": value }));
    Ok(())
}

fn show(common: &Common, file: &Path, whole: bool) -> anyhow::Result<()> {
    let public = read_public(file)?;
    let after = match whole {
        true => format!("\n{}", hex::encode(public.as_bytes())),
        false => String::new(),
    };
    answer(common, file, &public, &after);
    Ok(())
}

fn export(common: &Common, args: &ExportArgs) -> anyhow::Result<()> {
    if args.public {
        let public = read_public(&args.file)?;
        let text = serde_json::to_string_pretty(&describe(&public))?;
        replace(&args.out, format!("{text}\n").as_bytes(), OPEN_MODE).exit_with(Exit::No)?;
        answer(common, &args.out, &public, "");
        return Ok(());
    }
    let source = Source::file_or_prompt(args.passphrase_file.clone());
    let key = open(&args.file, &source)?;
    let fresh = Source::file_or_prompt(args.new_passphrase_file.clone()).choose("the copy")?;
    Keystore::seal(&key, &fresh)?.create(&args.out)?;
    let after = "\nTwo nodes must never sign with one validator key: a copy is for safe keeping.";
    answer(common, &args.out, key.public(), after);
    Ok(())
}

fn import(common: &Common, args: &ImportArgs) -> anyhow::Result<()> {
    let source = Source::file_or_prompt(args.passphrase_file.clone());
    let store = Keystore::load(&args.file)?;
    let key = source.open(&store, &args.file.display().to_string())?;
    let sealed = match &args.new_passphrase_file {
        Some(_) => {
            let fresh = Source::file_or_prompt(args.new_passphrase_file.clone());
            Keystore::seal(&key, &fresh.choose("the imported key")?)?
        }
        None => store,
    };
    sealed.create(&args.out)?;
    answer(common, &args.out, key.public(), "");
    Ok(())
}

/// Loads and opens a keystore.
///
/// # Errors
/// When it cannot be read, others may read it, or the passphrase is wrong.
pub(crate) fn open(path: &Path, source: &Source) -> anyhow::Result<KeyPair> {
    source.open(&Keystore::load(path)?, &path.display().to_string())
}
