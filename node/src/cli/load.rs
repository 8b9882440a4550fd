//! `cairn load`: the load generator of the testnet crate.

use cairn_testnet::load;

use crate::cli::Common;
use crate::cli::rpc::block_on_all_cores;
use crate::exit::Exit;

/// `cairn load`.
pub(crate) type LoadArgs = load::LoadArgs;

pub(crate) fn run(common: &Common, args: LoadArgs) -> anyhow::Result<Exit> {
    block_on_all_cores(load::run(args, common.json))?;
    Ok(Exit::Yes)
}
