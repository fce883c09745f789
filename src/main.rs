//! Arguments in, exit code out.

use std::process::ExitCode;

/// Calls are made of many small allocations that end on another thread than they began on.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    open_aiops::cli::main()
}
