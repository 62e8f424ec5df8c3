//! The binary: everything is in `doorward::cli`.

use std::process::ExitCode;

/// PERF: a proxy allocates on every request; measured against the system's allocator in `benches/`.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    doorward::cli::main()
}
