//! `spinor bench`: measures on this machine.

use clap::Args;

use super::{Failure, ask::Global, output::Output};

/// Flags of `bench`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  spinor bench")]
pub struct Bench {}

impl Bench {
    pub(super) async fn run(self, _global: &Global, _output: Output) -> Result<u8, Failure> {
        Err(Failure::failed("the benchmarks are not built into this program"))
    }
}
