//! Compiles the gRPC description without a system protoc.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto/cairn.proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(true).open_file("cairn.proto")?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("cairn.bin"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure().compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
