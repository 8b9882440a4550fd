//! Passphrases: from a file or from the terminal, never from the command line, where every user of the
//! machine could read them.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use cairn_crypto::{KeyPair, Keystore, KeystoreFault, Passphrase};
use zeroize::Zeroizing;

/// Longest passphrase file. A longer one is some other file.
const FILE_BYTES_MAX: u64 = 4_096;
/// How often a mistyped passphrase may be typed again.
const ATTEMPTS_MAX: usize = 3;

/// Where a passphrase is to come from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Source {
    /// The file that holds it; none = ask on the terminal.
    pub(crate) file: Option<PathBuf>,
    /// Whether the key is to be left unprotected. Only for new keys.
    pub(crate) none: bool,
}

impl Source {
    /// From this file, or from the terminal.
    pub(crate) fn file_or_prompt(file: Option<PathBuf>) -> Self {
        Self { file, none: false }
    }

    /// Opens a keystore. One that was made without a passphrase opens without asking.
    ///
    /// # Errors
    /// A wrong passphrase, an unreadable file, or no terminal to ask on.
    pub(crate) fn open(&self, keystore: &Keystore, name: &str) -> anyhow::Result<KeyPair> {
        if let Some(file) = &self.file {
            let opened = keystore.open(&read_file(file)?);
            return opened.with_context(|| format!("{name}, with the passphrase from {}", file.display()));
        }
        if let Ok(key) = keystore.open(&Passphrase::none()) {
            return Ok(key);
        }
        require_terminal(
            name,
            " (a running node: keys.passphrase_file in config.toml, or CAIRN_KEYS__PASSPHRASE_FILE)",
        )?;
        for attempt in 1..=ATTEMPTS_MAX {
            let typed = prompt(&format!("Passphrase of {name}: "))?;
            match keystore.open(&typed) {
                Err(KeystoreFault::WrongPassphrase) if attempt < ATTEMPTS_MAX => {
                    eprintln!("Wrong passphrase, try again.");
                }
                opened => return opened.with_context(|| name.to_owned()),
            }
        }
        Err(KeystoreFault::WrongPassphrase.into())
    }

    /// The passphrase for a new key: from the file, or typed twice.
    ///
    /// # Errors
    /// An unreadable or empty file, two different passphrases, or no terminal to ask on.
    pub(crate) fn choose(&self, name: &str) -> anyhow::Result<Passphrase> {
        if self.none {
            return Ok(Passphrase::none());
        }
        if let Some(file) = &self.file {
            return read_file(file);
        }
        require_terminal(name, "")?;
        let first = prompt_text(&format!("New passphrase for {name}: "))?;
        let second = prompt_text("The same again: ")?;
        if first != second {
            bail!("the two passphrases differ; nothing was written");
        }
        Ok(Passphrase::new(first.to_string())?)
    }
}

/// Reads a passphrase file: all of it, without the line break at its end.
fn read_file(path: &Path) -> anyhow::Result<Passphrase> {
    let fault = || format!("cannot read the passphrase file {}", path.display());
    let file = File::open(path).with_context(fault)?;
    let mode = file.metadata().with_context(fault)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        eprintln!(
            "warning: the passphrase file {} may be read by others (mode {mode:03o}); run: chmod 600 {}",
            path.display(),
            path.display()
        );
    }
    let mut text = Zeroizing::new(String::new());
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).with_context(fault)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        bail!("{} has more than {FILE_BYTES_MAX} bytes, which is no passphrase file", path.display());
    }
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    Passphrase::new(line.to_owned()).map_err(|_| {
        anyhow!("the passphrase file {} is empty; write the passphrase into it as one line", path.display())
    })
}

/// `elsewhere` says where else the passphrase may be named.
fn require_terminal(name: &str, elsewhere: &str) -> anyhow::Result<()> {
    if std::io::stdin().is_terminal() {
        return Ok(());
    }
    bail!(
        "{name} needs a passphrase, and there is no terminal to ask on; give --passphrase-file FILE{elsewhere}"
    )
}

fn prompt(text: &str) -> anyhow::Result<Passphrase> {
    Ok(Passphrase::new(prompt_text(text)?.to_string())?)
}

fn prompt_text(text: &str) -> anyhow::Result<Zeroizing<String>> {
    rpassword::prompt_password(text)
        .map(Zeroizing::new)
        .context("cannot ask for a passphrase on this terminal")
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_types::Scheme;

    fn file_with(text: &str) -> (tempfile::TempDir, Source) {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("passphrase");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        (scratch, Source::file_or_prompt(Some(path)))
    }

    #[test]
    fn a_line_break_at_the_end_is_not_part_of_the_passphrase() {
        let key = KeyPair::generate(Scheme::MlDsa65);
        let keystore = Keystore::seal(&key, &Passphrase::new("open sesame ".into()).unwrap()).unwrap();
        for text in ["open sesame ", "open sesame \n", "open sesame \r\n"] {
            let (_scratch, source) = file_with(text);
            assert_eq!(source.open(&keystore, "the key").unwrap().address(), key.address(), "{text:?}");
        }
        let (_scratch, source) = file_with("open sesame");
        let said = format!("{:#}", source.open(&keystore, "the key").expect_err("wrong"));
        assert!(
            said.contains("the key, with the passphrase from") && said.contains("wrong passphrase"),
            "{said}"
        );
    }

    #[test]
    fn an_empty_or_overlong_file_is_refused() {
        let missing = Source::file_or_prompt(Some("/nowhere/passphrase".into()));
        let said = missing.choose("a key").map(|_| ()).expect_err("missing").to_string();
        assert!(said.contains("cannot read") && said.contains("/nowhere/passphrase"), "{said}");
        let (_scratch, source) = file_with("\n");
        let said = source.choose("a key").map(|_| ()).expect_err("empty").to_string();
        assert!(said.contains("is empty"), "{said}");
        let (_scratch, source) = file_with(&"x".repeat(5_000));
        let said = source.choose("a key").map(|_| ()).expect_err("too long").to_string();
        assert!(said.contains("more than 4096 bytes"), "{said}");
    }

    #[test]
    fn an_unprotected_key_opens_without_a_source() {
        let key = KeyPair::generate(Scheme::MlDsa65);
        let keystore = Keystore::seal(&key, &Passphrase::none()).unwrap();
        assert_eq!(Source::default().open(&keystore, "it").unwrap().address(), key.address());
    }
}
