//! `cairn testnet`: networks of this very binary on this machine.

use anyhow::Context;

use crate::cli::Common;
use crate::cli::rpc::block_on_all_cores;
use crate::exit::Exit;

/// `cairn testnet ...`.
pub(crate) type TestnetArgs = cairn_testnet::TestnetArgs;

pub(crate) fn run(common: &Common, args: TestnetArgs) -> anyhow::Result<Exit> {
    let binary = std::env::current_exe().context("cannot find this program's own file")?;
    block_on_all_cores(cairn_testnet::cli::run(args, &binary, common.json))?;
    Ok(Exit::Yes)
}
