//! Folders to files.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// Folders within folders, at most: deeper ones are a loop.
const DEPTH_MAX: usize = 64;

/// The files named, and in place of each folder every file below it, in the order of their names. Receipts
/// are left out, and so are symbolic links: each would be another name for something.
///
/// # Errors
/// When a folder cannot be read, holds nothing, or there are too many files.
pub(super) fn files(named: &[PathBuf], files_max: usize) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in named {
        if path.is_dir() {
            let before = files.len();
            below(path, 0, files_max, &mut files)?;
            if files.len() == before {
                bail!("there is no file to stamp below {}", path.display());
            }
        } else {
            files.push(path.clone());
        }
        if files.len() > files_max {
            bail!(
                "more than {files_max} files; one batch takes at most that, or --digests any number of digests"
            );
        }
    }
    Ok(files)
}

fn below(folder: &Path, depth: usize, files_max: usize, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    if depth > DEPTH_MAX {
        bail!("{} lies more than {DEPTH_MAX} folders deep", folder.display());
    }
    let shown = || format!("the folder {}", folder.display());
    let mut entries =
        std::fs::read_dir(folder).with_context(shown)?.collect::<Result<Vec<_>, _>>().with_context(shown)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let (path, kind) = (entry.path(), entry.file_type().with_context(shown)?);
        let receipt = path.extension().is_some_and(|extension| extension == cairn_receipt::EXTENSION);
        if kind.is_dir() {
            below(&path, depth + 1, files_max, files)?;
        } else if kind.is_file() && !receipt {
            files.push(path);
        }
        if files.len() > files_max {
            return Ok(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gives_its_files_in_order_without_receipts_and_links() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        std::fs::create_dir_all(at("d/e")).unwrap();
        for name in ["d/b", "d/a", "d/a.cairn", "d/e/c"] {
            std::fs::write(at(name), name).unwrap();
        }
        std::os::unix::fs::symlink(at("d"), at("d/loop")).unwrap();
        assert_eq!(files(&[at("d")], 10).unwrap(), [at("d/a"), at("d/b"), at("d/e/c")]);
        assert_eq!(files(&[at("d/a.cairn")], 10).unwrap(), [at("d/a.cairn")], "named files are as named");
        assert!(files(&[at("d")], 2).is_err());
        std::fs::create_dir(at("empty")).unwrap();
        assert!(files(&[at("empty")], 2).unwrap_err().to_string().contains("no file"));
    }
}
