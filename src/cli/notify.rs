//! `spinor notify`: do notices reach who wants to hear of what ended badly?
//!
//! Sends from here, by the configuration that counts here; no Spinor needs to run.

use clap::{Args, Subcommand};
use serde::Serialize;
use spinor_consumers::notices;

use super::{Failure, ask::Global, output::Output};

/// Verbs of `notify`.
#[derive(Debug, Subcommand)]
#[command(
    after_help = "Examples:\n  spinor notify test ops\n  spinor notify test ops --config /etc/spinor/config.toml"
)]
pub enum Notify {
    /// Send a made-up notice to a receiver of the configuration, now and from here
    Test(Test),
}

/// Flags of `notify test`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  spinor notify test ops\n\nExit codes: 0 the receiver took it; 1 it did not; 2 no receiver has this name."
)]
pub struct Test {
    /// The receiver: NAME of `[notify.NAME]`
    name: String,
}

#[derive(Serialize)]
struct Sent {
    sent: String,
}

impl Notify {
    pub(super) async fn run(self, global: &Global, output: Output) -> Result<u8, Failure> {
        let Self::Test(Test { name }) = self;
        let config = global.load()?.config;
        let Some(of) = config.notify.get(&name) else {
            let known: Vec<&str> = config.notify.keys().map(String::as_str).collect();
            let known = if known.is_empty() {
                "none is configured".to_owned()
            } else {
                format!("there are {}", known.join(", "))
            };
            return Err(Failure::usage(format!("no receiver of notices is named `{name}`; {known}")));
        };
        notices::try_out(&name, &of.url)
            .await
            .map_err(|why| Failure::failed(format!("`{name}` did not take the notice: {why}")))?;
        output.value(&Sent { sent: name }, |sent| format!("`{}` took a made-up notice", sent.sent))
    }
}
