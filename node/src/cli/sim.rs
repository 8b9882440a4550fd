//! `cairn sim`: clusters of this very software in virtual time.

use crate::cli::Common;
use crate::exit::Exit;

/// `cairn sim ...`.
pub(crate) type SimArgs = cairn_sim::SimArgs;

pub(crate) fn run(common: &Common, args: &SimArgs) -> anyhow::Result<Exit> {
    Ok(if cairn_sim::cli::run(args, common.json)? { Exit::Yes } else { Exit::No })
}
