//! Reading what the user names: bounded, with the file's name in every error.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, bail};

/// Largest genesis, receipt or key file that is read whole. A receipt of 100 validators has 300 kB, a
/// genesis of 1,024 validators 4.3 MB, the longest receipt 32 MB.
const FILE_BYTES_MAX: u64 = 32 << 20;

/// Reads a text file that should be small.
///
/// # Errors
/// When it cannot be read, is too large or no UTF-8.
pub(crate) fn read_text(path: &Path, what: &str) -> anyhow::Result<String> {
    String::from_utf8(read_bytes(path, what)?)
        .ok()
        .with_context(|| format!("{} is no text, so it is no {what}", path.display()))
}

/// Reads a file that should be small.
///
/// # Errors
/// When it cannot be read or is too large.
pub(crate) fn read_bytes(path: &Path, what: &str) -> anyhow::Result<Vec<u8>> {
    let fault = || format!("cannot read the {what} {}", path.display());
    let file = File::open(path).with_context(fault)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).with_context(fault)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        bail!("{} has more than {} MiB, which is no {what}", path.display(), FILE_BYTES_MAX >> 20);
    }
    Ok(bytes)
}
