//! `spinor broker`: what is on the broker beside what is wanted there.

use clap::{Args, Subcommand};
use spinor_consumers::broker::{BrokerObject, ObjectKind, ObjectState};

use super::{
    Failure,
    ask::Global,
    output::Output,
    table::{Table, clean},
};
use crate::api::{BrokerShown, EmbeddedFiles};

/// What to do with the broker.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum Broker {
    /// Our queues, exchanges and bindings, and whether they are as they are wanted
    Show(Show),
}

/// Flags of `broker show`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Show {}

const EXAMPLES: &str = "Examples:\n  spinor broker show\n  spinor broker show --json\n\nIt changes nothing on what exists. What the broker does not tell reads `not known` (null with --json).";

impl Broker {
    pub(super) async fn run(self, global: &Global, output: Output) -> Result<u8, Failure> {
        let Self::Show(Show {}) = self;
        output.value(&global.client()?.broker().await?, text)
    }
}

fn text(shown: &BrokerShown) -> String {
    let why = shown.link.why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
    let mut text = clean(&format!("{}: {}{why}", shown.broker, shown.link.state));
    text.push('\n');
    if let Some(files) = &shown.embedded {
        text += &files_text(files);
        return text;
    }
    let Some(objects) = &shown.objects else {
        let problem = shown.problem.as_deref().unwrap_or("the broker does not tell");
        return text + &clean(&format!("our objects: not known: {problem}")) + "\n";
    };
    let mut table = Table::new(&["OBJECT", "NAME", "STATE", "READY", "CONSUMERS"]);
    for one in objects {
        table.row(vec![
            kind(one).to_owned(),
            one.name.clone(),
            state(one).to_owned(),
            number(one, one.ready),
            number(one, one.consumers),
        ]);
    }
    text += &table.text("no objects");
    for why in objects.iter().filter_map(|one| one.why.as_ref()) {
        text += &format!("{}\n", clean(why));
    }
    text
}

fn kind(one: &BrokerObject) -> &'static str {
    match one.kind {
        ObjectKind::Queue => "queue",
        ObjectKind::ForeignQueue => "foreign queue",
        ObjectKind::Exchange => "exchange",
        ObjectKind::Binding => "binding",
    }
}

fn state(one: &BrokerObject) -> &'static str {
    match one.state {
        ObjectState::InForce => "in force",
        ObjectState::Missing => "missing",
        ObjectState::Differs => "differs",
        ObjectState::NotKnown => "not known",
    }
}

/// An exchange or a binding holds nothing.
fn number(one: &BrokerObject, value: Option<u64>) -> String {
    let none = if matches!(one.kind, ObjectKind::Exchange | ObjectKind::Binding) { "-" } else { "not known" };
    value.map_or_else(|| none.to_owned(), |value| value.to_string())
}

fn files_text(files: &EmbeddedFiles) -> String {
    let bytes = |value: Option<u64>| value.map_or_else(|| "not known".to_owned(), |value| format!("{value} bytes"));
    let lines =
        [("file", files.file_bytes), ("write-ahead log", files.wal_bytes), ("free disk", files.disk_free_bytes)];
    lines.into_iter().map(|(name, value)| format!("{name}: {}\n", bytes(value))).collect()
}
