//! The binary: hands over to the library.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match (args.next(), args.next()) {
        (Some(verb), Some(dir)) if verb == "shim" => horai::worker::shim::main(&PathBuf::from(dir)),
        _ => ExitCode::from(2),
    }
}
