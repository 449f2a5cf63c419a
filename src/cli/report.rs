//! What one attaches to an issue: versions, configuration, status and checks in one file of text.
//!
//! Refuses what may hold a secret that no form tells: environments, command lines, and the args of jobs are left
//! out, beside the passwords that no list of settings shows. Refuses to write over a file.

use std::{
    fmt::Write as _,
    fs::OpenOptions,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use jiff::Timestamp;

use super::{Failure, table::Table};
use crate::{client::Client, config::Loaded};

/// Parts of a key whose values are somebody's own words.
const OWN: [&str; 5] = ["env", "run", "command", "job", "each"];

/// The text: what the checks found, and what is known beside it.
pub async fn text(checks: &str, loaded: Option<(&Loaded, &Client)>) -> String {
    let mut text = format!("spinor {}, {}\n", env!("CARGO_PKG_VERSION"), Timestamp::now());
    let system = rustix::system::uname();
    let [name, release, machine] =
        [system.sysname(), system.release(), system.machine()].map(|of| of.to_string_lossy());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let _ = writeln!(text, "{name} {release} {machine}, {cores} cores\n\n== checks\n{}", checks.trim_end());
    let Some((loaded, client)) = loaded else { return text };
    let _ = writeln!(text, "\n== configuration (no secrets, environments, command lines, args)");
    for line in &loaded.shown {
        let own = line.key.split('.').any(|part| OWN.contains(&part));
        let value = if own { "left out" } else { &line.value };
        let _ = writeln!(text, "{} = {value}    # {}", line.key, line.origin);
    }
    let _ = writeln!(text, "\n== status");
    match client.status().await {
        Ok(status) => {
            let mut table = Table::new(&["QUEUE", "READY", "UNACKED", "CONSUMERS", "PAUSED"]);
            for row in &status.queues {
                table.row(vec![
                    row.stats.name.clone(),
                    row.stats.ready.to_string(),
                    row.stats.unacked.map_or_else(|| "not known".to_owned(), |count| count.to_string()),
                    row.stats.consumers.to_string(),
                    if row.paused.is_some() { "yes".to_owned() } else { String::new() },
                ]);
            }
            let whole = serde_json::to_string_pretty(&status).unwrap_or_else(|error| error.to_string());
            let _ = writeln!(text, "{}\n{whole}", table.text("no queues").trim_end());
        }
        Err(error) => _ = writeln!(text, "none: {error}"),
    }
    text
}

/// Writes it for its owner only, to a file that was not there.
pub fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| {
        let next = if error.kind() == io::ErrorKind::AlreadyExists { "; name another file" } else { "" };
        Failure::failed(format!("{}: {error}{next}", path.display()))
    })
}
