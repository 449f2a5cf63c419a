//! The program: builds the async runtime and hands over to the command line.
//!
//! Returns an exit code, so that everything is closed first.

use std::{pin::Pin, process::ExitCode};

use spinor::cli::{self, Failure};

/// A job's way is many small allocations made on one thread and freed on another; this allocator is
/// made for that (docs/decisions/003-crates.md).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// All cores; built only by verbs that need it.
struct ManyThreads;

impl cli::Runtime for ManyThreads {
    fn run(&self, work: Pin<Box<dyn Future<Output = Result<u8, Failure>> + '_>>) -> Result<u8, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
        runtime.block_on(work)
    }
}

fn main() -> ExitCode {
    cli::main(std::env::args_os(), &ManyThreads)
}
