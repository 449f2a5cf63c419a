//! `spinor openapi`: the document of the API.

use clap::Args;

use super::{Failure, output::Output};
use crate::api;

/// Flags of `openapi`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  spinor openapi > openapi.json\n  spinor openapi | jq '.paths | keys'\n\nA running Spinor serves the same at /api/v1/openapi.json."
)]
pub struct OpenApi {}

impl OpenApi {
    pub(super) fn run(self, output: Output) -> Result<u8, Failure> {
        let Self {} = self;
        output.text(api::openapi().trim_end())
    }
}
