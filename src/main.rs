//! Arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    open_aiops::cli::main()
}
