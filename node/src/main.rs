//! `cairn`: the node and every tool around it, in one binary.

mod cli;
mod config;
mod exit;
mod home;
mod logging;
mod passphrase;
mod running;

fn main() -> std::process::ExitCode {
    cli::main().into()
}
