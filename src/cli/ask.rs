//! What every command shares: where the configuration is, and whom to ask.

use std::path::PathBuf;

use clap::Args;

use super::Failure;
use crate::{
    client::Client,
    config::{Ask, Config, Loaded},
};

/// Flags every command takes.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// Configuration file [default: the first of $SPINOR_CONFIG, ./spinor.toml, the usual places]
    #[arg(long, global = true, value_name = "FILE", display_order = 100)]
    pub config: Option<PathBuf>,
    /// Data directory; its socket is how a running Spinor is reached
    #[arg(long, global = true, value_name = "DIR", display_order = 100)]
    pub data: Option<String>,
    /// Ask a Spinor at this address (http://127.0.0.1:PORT) instead of the socket; needs `api.token`
    #[arg(long, global = true, value_name = "URL", display_order = 100)]
    pub api: Option<String>,
    /// Print one JSON document
    #[arg(long, global = true, display_order = 100)]
    pub json: bool,
}

impl Global {
    /// What to load: the shared flags, on top of file and environment.
    pub fn ask(&self) -> Ask {
        let mut ask = Ask::here(self.config.clone());
        ask.flags.extend(self.data.clone().map(|data| ("data", data, "--data")));
        ask
    }

    /// The flags that make another command ask the same Spinor, each after a blank.
    pub fn again(&self) -> String {
        let config = self.config.as_ref().map(|file| format!(" --config {}", file.display()));
        let data = self.data.as_ref().map(|data| format!(" --data {data}"));
        [config, data].into_iter().flatten().collect()
    }

    /// The configuration, for a command that asks a running Spinor.
    pub fn load(&self) -> Result<Loaded, Failure> {
        Ok(self.ask().load()?)
    }

    /// The client for the Spinor that is meant.
    pub fn client(&self) -> Result<Client, Failure> {
        let config = self.load()?.config;
        self.client_of(&config)
    }

    /// The same, with a configuration at hand.
    pub fn client_of(&self, config: &Config) -> Result<Client, Failure> {
        match &self.api {
            Some(address) if !address.starts_with("http://") && !address.starts_with("https://") => {
                Err(Failure::usage(format!("--api {address}: expected an address such as http://127.0.0.1:7070")))
            }
            Some(address) => Ok(Client::http(address, config.api.token.clone())?),
            None => Ok(Client::unix(config.socket())?),
        }
    }
}
