//! `cairn`: the node and every tool around it, in one binary.

mod audit;
mod cli;
mod config;
mod exit;
mod home;
mod logging;
mod passphrase;
mod running;
mod snapshots;

/// Tens of threads allocate blocks and free them on others: the system's allocator keeps several times what
/// is in use then.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    cli::main().into()
}
