//! Log lines: for people on a terminal, JSON elsewhere; always to standard error.
//!
//! Owns the set-up, once a process. Refuses per-module filters: one level, and the libraries we
//! use stay one step quieter. The clients of broker and database are heard only when everything is
//! asked for: what is an error to them is mostly an answer to us ("no such queue"), and of a server
//! that is away our own two lines tell, one at the loss and one at the return.

use std::io::IsTerminal as _;

use tracing::{Level, Metadata, subscriber::set_global_default};
use tracing_subscriber::{Layer, Registry, filter::FilterFn, fmt, layer::SubscriberExt as _};

use crate::config::LogConfig;

/// Starts logging; a second call changes nothing.
pub fn start(config: &LogConfig) {
    let level: Level = config.level.parse().unwrap_or(Level::INFO);
    let human = match config.format.as_str() {
        "human" => true,
        "json" => false,
        _ => std::io::stderr().is_terminal(),
    };
    let lines = fmt::layer().with_writer(std::io::stderr);
    let filter = FilterFn::new(move |of: &Metadata<'_>| shown(level, of)).with_max_level_hint(level);
    let ansi = human && std::io::stderr().is_terminal();
    // Refused when a test or a library has set one: then theirs counts.
    let _ = if human {
        set_global_default(Registry::default().with(lines.with_target(false).with_ansi(ansi).with_filter(filter)))
    } else {
        set_global_default(Registry::default().with(lines.json().flatten_event(true).with_filter(filter)))
    };
}

/// Ours at the level asked for; others' only when it matters, or when everything is asked for.
fn shown(level: Level, of: &Metadata<'_>) -> bool {
    let ours = of.target().starts_with("spinor");
    if !ours && level != Level::TRACE {
        let client = ["lapin", "sqlx"].iter().any(|name| of.target().starts_with(name));
        return !client && level.min(Level::WARN) >= *of.level();
    }
    level >= *of.level()
}
