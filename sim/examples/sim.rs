//! The simulator alone, without the node: compiles no RocksDB and no networking.
//!
//! `cargo run --release -p cairn-sim --example sim -- seeds --count 100`

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(name = "sim")]
struct Cli {
    #[command(flatten)]
    sim: cairn_sim::SimArgs,
    /// Answer as JSON on standard output
    #[arg(long, global = true)]
    json: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cairn_sim::cli::run(&cli.sim, cli.json) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
