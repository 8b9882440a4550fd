//! Snapshots on disk: one file each, in the home's `snapshots/` or wherever an operator carries them.

mod file;
mod folder;
mod stored;

pub(crate) use file::{Signatures, Writer, read_frame, read_head};
pub(crate) use folder::{Folder, Kept};
pub(crate) use stored::{Shelf, Stored};
