//! The rules one by one, on a single replica: what goes in, what comes out, where it then stands.

pub(crate) mod bench;
mod commits;
mod hostile;
mod restarts;
mod signatures;
mod views;
