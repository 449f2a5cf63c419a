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
    api::{KindLimits, KindRow, KindSchema},
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
            trouble(row),
        ]);
    }
    table.text("no kind is served")
}

fn trouble(row: &KindRow) -> String {
    let of_schemas =
        row.schemas.iter().filter(|told| !told.consumers.is_empty()).filter_map(|told| told.trouble.as_ref());
    let mut all = row.troubles.iter().map(|trouble| clean(&trouble.why));
    let first_of_schemas = || of_schemas.map(|why| format!("its schema makes no sense: {}", clean(why))).next();
    all.next().or_else(first_of_schemas).unwrap_or_default()
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
    // What nobody says any more is told only when nobody says anything.
    let nobody = row.consumers.is_empty();
    let told = row.schemas.iter().enumerate();
    let told = told.filter(|(place, schema)| !schema.consumers.is_empty() || (nobody && *place == 0));
    let told: Vec<_> = told.map(|(_, schema)| schema).collect();
    for schema in &told {
        schema_text(schema, told.len() > 1, &mut text);
    }
    if row.schemas.is_empty() {
        // Of a kind that comes with Spinor nobody tells one.
        schema_text(&KindSchema { schema: row.schema.clone(), ..KindSchema::default() }, false, &mut text);
    }
    text
}

fn schema_text(told: &KindSchema, one_of_many: bool, text: &mut String) {
    let of = if one_of_many {
        format!(" of {}, served by {}", clean(&told.program), told.consumers.join(", "))
    } else {
        String::new()
    };
    let Some(schema) = &told.schema else {
        if one_of_many {
            let _ = writeln!(text, "args{of}: any");
        }
        return;
    };
    let _ = writeln!(text, "args{of}\n{}", serde_json::to_string_pretty(schema).unwrap_or_default());
    if let Some(trouble) = &told.trouble {
        let _ = writeln!(text, "this schema makes no sense and is not heeded: {}", clean(trouble));
    }
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
