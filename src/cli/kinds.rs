//! `spinor kinds`: the catalogue. What can be run, by whom, and what args it takes.

use std::fmt::Write as _;

use clap::{Args, Subcommand};

use super::{
    Failure,
    ask::Global,
    output::Output,
    table::{Table, clean, moment},
};
use crate::{
    api::{KindLimits, KindRow},
    config::duration_text,
};

/// What to do with kinds.
#[derive(Debug, Subcommand)]
#[command(
    after_help = "Examples:\n  spinor kinds ls\n  spinor kinds show image.resize\n  spinor kinds ls --json | jq '.[].kind'"
)]
pub enum Kinds {
    /// List those that are served, and those that were
    Ls(Ls),
    /// One of them, with the schema of its args
    Show(Show),
}

/// Flags of `kinds ls`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  spinor kinds ls\n  spinor kinds ls --json")]
pub struct Ls {}

/// Flags of `kinds show`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  spinor kinds show image.resize\n  spinor kinds show image.resize --json | jq .schema"
)]
pub struct Show {
    /// Its name
    kind: String,
}

impl Kinds {
    pub(super) async fn run(self, global: &Global, output: Output) -> Result<u8, Failure> {
        let client = global.client()?;
        match self {
            Self::Ls(Ls {}) => output.value(&client.kinds().await?, |rows| list_text(rows)),
            Self::Show(Show { kind }) => output.value(&client.kind(&kind).await?, show_text),
        }
    }
}

fn list_text(rows: &[KindRow]) -> String {
    let mut table = Table::new(&["KIND", "PROGRAM", "CONSUMERS", "GROUPS", "VERSIONS", "SCHEMA", "SEEN", "TROUBLE"]);
    for row in rows {
        table.row(vec![
            row.kind.clone(),
            row.program.clone().unwrap_or_else(|| "-".to_owned()),
            row.consumers.len().to_string(),
            row.groups.join(", "),
            row.versions.join(", "),
            if row.schema.is_some() { "yes" } else { "-" }.to_owned(),
            row.last_seen.map_or_else(|| "-".to_owned(), moment),
            row.troubles.first().map_or_else(String::new, |trouble| clean(&trouble.why)),
        ]);
    }
    table.text("no kind is served")
}

fn show_text(row: &KindRow) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<12}{}", clean(value));
    };
    line("kind", &row.kind);
    for (name, value) in [("program", &row.program), ("description", &row.description)] {
        if let Some(value) = value {
            line(name, value);
        }
    }
    let served = if row.consumers.is_empty() { "nobody now".to_owned() } else { row.consumers.join(", ") };
    line("served by", &served);
    line("groups", &row.groups.join(", "));
    line("versions", &row.versions.join(", "));
    line("seen", &row.last_seen.map_or_else(|| "-".to_owned(), moment));
    for trouble in &row.troubles {
        line("trouble", &format!("{}: {}", trouble.consumer, trouble.why));
    }
    limits(&row.limits, line);
    if let Some(schema) = &row.schema {
        let _ = writeln!(text, "args\n{}", serde_json::to_string_pretty(schema).unwrap_or_default());
    }
    text
}

fn limits(limits: &KindLimits, mut line: impl FnMut(&str, &str)) {
    if let Some(timeout) = limits.timeout {
        line("timeout", &format!("{}, then {}", duration_text(timeout.soft), duration_text(timeout.hard)));
    }
    line("retries", &limits.retry.map_or(0, |retry| retry.max()).to_string());
    if let Some(memory) = limits.memory {
        line("memory", &format!("{} MiB", memory >> 20));
    }
    if let Some(files) = limits.files {
        line("files", &files.to_string());
    }
    if !limits.limits.is_empty() {
        line("limits", &limits.limits.join(", "));
    }
    if limits.at_most_once {
        line("at most once", "yes");
    }
}
