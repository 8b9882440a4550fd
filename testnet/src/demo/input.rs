//! What the demonstration anchors: the checksums of every package in a `Cargo.lock`, and the BLAKE3 digests
//! of the files of the source tree around it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use cairn_client::{Algorithm, hash_file};
use cairn_types::Hash;
use serde::Deserialize;

/// Files of one source tree, at most: the demonstration writes a receipt for each.
const FILES_MAX: usize = 20_000;
/// Directories that hold no source.
const SKIPPED: [&str; 3] = ["target", ".git", ".testnet"];

/// One digest to anchor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item {
    /// What it is the digest of.
    pub name: String,
    /// `sha256` for packages, `blake3` for files.
    pub algorithm: &'static str,
    /// The digest.
    pub digest: Hash,
}

#[derive(Deserialize)]
struct Lock {
    #[serde(default)]
    package: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    checksum: Option<String>,
}

/// All items of the source tree in `dir`: packages first, then files by path.
///
/// # Errors
/// When there is no `Cargo.lock` or no file.
pub fn collect(dir: &Path) -> Result<Vec<Item>> {
    let mut items = packages(&dir.join("Cargo.lock"))?;
    items.extend(files(dir)?);
    ensure!(!items.is_empty(), "{} holds neither packages nor files to anchor", dir.display());
    Ok(items)
}

fn packages(lock: &Path) -> Result<Vec<Item>> {
    let text = fs::read_to_string(lock)
        .with_context(|| format!("reading {}: --source must name a Rust project", lock.display()))?;
    let lock: Lock = toml::from_str(&text).with_context(|| format!("{} is no lock file", lock.display()))?;
    // Packages of the project itself have no checksum: their files are digested one by one.
    let with_checksum = lock.package.into_iter().filter_map(|p| Some((p.checksum?, p.name, p.version)));
    with_checksum
        .map(|(checksum, name, version)| {
            let digest = Hash::from_hex(&checksum)
                .with_context(|| format!("the checksum of {name} {version} is not 64 hex digits"))?;
            Ok(Item { name: format!("{name}-{version}.crate"), algorithm: "sha256", digest })
        })
        .collect()
}

fn files(dir: &Path) -> Result<Vec<Item>> {
    let mut paths = match tracked(dir) {
        Some(paths) => paths,
        None => walk(dir)?,
    };
    paths.sort();
    if paths.len() > FILES_MAX {
        bail!("{} holds {} files; at most {FILES_MAX} are anchored at once", dir.display(), paths.len());
    }
    paths
        .into_iter()
        .filter(|path| dir.join(path).is_file())
        .map(|path| {
            let whole = dir.join(&path);
            let digest = hash_file(Algorithm::Blake3, &whole)?;
            Ok(Item { name: path.to_string_lossy().into_owned(), algorithm: "blake3", digest })
        })
        .collect()
}

/// The files git knows, when `dir` is the top of a work tree and git is there.
fn tracked(dir: &Path) -> Option<Vec<PathBuf>> {
    if !dir.join(".git").exists() {
        return None;
    }
    let output = Command::new("git").arg("-C").arg(dir).args(["ls-files", "-z"]).output().ok()?;
    if !output.status.success() {
        return None;
    }
    let names = output.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Some(names.map(|name| PathBuf::from(String::from_utf8_lossy(name).into_owned())).collect())
}

fn walk(top: &Path) -> Result<Vec<PathBuf>> {
    let (mut found, mut open) = (Vec::new(), vec![top.to_owned()]);
    while let Some(dir) = open.pop() {
        let entries = fs::read_dir(&dir).with_context(|| format!("reading {}", dir.display()))?;
        for entry in entries {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() && !SKIPPED.contains(&entry.file_name().to_string_lossy().as_ref()) {
                open.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path().strip_prefix(top)?.to_owned());
            }
            ensure!(found.len() <= FILES_MAX, "{} holds more than {FILES_MAX} files", top.display());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_and_files_of_a_tree_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let sum = "ab".repeat(32);
        let lock = format!(
            "version = 4\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nchecksum = \"{sum}\"\n\
             [[package]]\nname = \"ours\"\nversion = \"0.1.0\"\n"
        );
        fs::write(dir.path().join("Cargo.lock"), &lock).unwrap();
        fs::create_dir_all(dir.path().join("src")).unwrap();
        fs::write(dir.path().join("src/lib.rs"), "x").unwrap();
        fs::create_dir_all(dir.path().join("target")).unwrap();
        fs::write(dir.path().join("target/built"), "y").unwrap();
        let items = collect(dir.path()).unwrap();
        let names: Vec<&str> = items.iter().map(|item| item.name.as_str()).collect();
        assert_eq!(names, ["a-1.0.0.crate", "Cargo.lock", "src/lib.rs"]);
        assert_eq!(items[0].digest.to_string(), sum);
        assert_eq!(items[2].digest, hash_file(Algorithm::Blake3, &dir.path().join("src/lib.rs")).unwrap());
    }

    #[test]
    fn a_directory_without_a_lock_file_is_refused_with_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let said = format!("{:#}", collect(dir.path()).unwrap_err());
        assert!(said.contains("Cargo.lock") && said.contains("--source"), "{said}");
    }

    #[test]
    fn a_damaged_checksum_names_its_package() {
        let dir = tempfile::tempdir().unwrap();
        let lock = "[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nchecksum = \"zz\"\n";
        fs::write(dir.path().join("Cargo.lock"), lock).unwrap();
        assert!(collect(dir.path()).unwrap_err().to_string().contains("a 1.0.0"));
    }
}
