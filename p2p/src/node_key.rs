//! The Ed25519 key of one network, in a file only its owner may read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use libp2p::identity::Keypair;

use crate::fault::P2pFault;

/// Far above the size of an encoded Ed25519 key.
const KEY_FILE_BYTES_MAX: u64 = 1_024;

/// Reads the key of `path`, or makes one there.
pub(crate) fn load_or_make(path: &Path) -> Result<Keypair, P2pFault> {
    let fault = |why: String| P2pFault::NodeKey { path: path.to_owned(), why };
    match fs::metadata(path) {
        Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => {
            Err(fault("others may read it; expected mode 0600 (chmod 600)".to_owned()))
        }
        Ok(metadata) if metadata.len() > KEY_FILE_BYTES_MAX => {
            Err(fault(format!("{} bytes, far more than a key has", metadata.len())))
        }
        Ok(_) => {
            let bytes = fs::read(path).map_err(|source| fault(source.to_string()))?;
            Keypair::from_protobuf_encoding(&bytes).map_err(|why| fault(format!("not a node key: {why}")))
        }
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
            let key = Keypair::generate_ed25519();
            let bytes = key.to_protobuf_encoding().map_err(|why| fault(why.to_string()))?;
            write_private(path, &bytes).map_err(|source| fault(source.to_string()))?;
            Ok(key)
        }
        Err(source) => Err(fault(source.to_string())),
    }
}

/// Writes a file of mode 0600, whole or not at all, replacing what was there.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let fresh = directory.join(name);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_private_and_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys/mesh.key");
        let made = load_or_make(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(load_or_make(&path).unwrap().public(), made.public());
    }

    #[test]
    fn a_readable_or_damaged_key_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mesh.key");
        load_or_make(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(load_or_make(&path).unwrap_err().to_string().contains("0600"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, b"not a key").unwrap();
        assert!(load_or_make(&path).unwrap_err().to_string().contains("not a node key"));
    }
}
