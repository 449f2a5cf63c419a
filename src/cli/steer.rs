//! What every command that steers says beside its wish: who and why.

use clap::Args;

use crate::api::Asked;

/// Why, in the words of who asks.
#[derive(Args, Clone, Debug, Default)]
pub struct Why {
    /// Why; shown to everybody who looks
    #[arg(long, value_name = "TEXT")]
    why: Option<String>,
}

impl Why {
    /// With the name of who asks: `$USER`, else the number the system knows this user by.
    pub fn asked(&self) -> Asked {
        let name = ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok().filter(|name| !name.is_empty()));
        let by = name.unwrap_or_else(|| format!("user {}", rustix::process::getuid().as_raw()));
        Asked { by: Some(by), why: self.why.clone() }
    }
}
