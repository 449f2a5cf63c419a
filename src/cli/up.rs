//! `spinor up`: everything in this process.

use clap::Args;

use super::{Failure, ask::Global, output::Output};

/// Flags of `up`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  spinor up")]
pub struct Up {}

impl Up {
    pub(super) async fn run(self, _global: &Global, _output: Output) -> Result<u8, Failure> {
        Err(Failure::failed("not wired yet"))
    }
}
