//! `spinor config`: write, check, show.

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{Failure, ask::Global, failure::DONE, output::Output, table::Table};
use crate::config::{document, keys::KEYS};

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
#[command(
    after_help = "Examples:\n  spinor config init > spinor.toml\n  spinor config check\n  spinor config show --origin"
)]
pub enum Configure {
    /// Print a file with every key and its meaning
    Init(Init),
    /// Report every problem at once
    Check(Check),
    /// What counts, after file, environment and flags
    Show(Show),
}

/// Flags of `config init`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  spinor config init > spinor.toml")]
pub struct Init {}

/// Flags of `config check`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  spinor config check\n  spinor config check --config /etc/spinor/config.toml")]
pub struct Check {}

/// Flags of `config show`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  spinor config show\n  spinor config show --origin")]
pub struct Show {
    /// Say where each value comes from
    #[arg(long)]
    origin: bool,
}

#[derive(Serialize)]
struct Line {
    key: &'static str,
    default: &'static str,
    expected: String,
    meaning: &'static str,
}

#[derive(Serialize)]
struct Checked {
    file: Option<String>,
    problems: [(); 0],
}

impl Configure {
    pub(super) fn run(self, global: &Global, output: Output) -> Result<u8, Failure> {
        match self {
            Self::Init(Init {}) => {
                let line = |key: &'static crate::config::keys::Key| Line {
                    key: key.path,
                    default: key.default,
                    expected: key.form.expected(),
                    meaning: key.meaning,
                };
                let lines: Vec<Line> = KEYS.iter().map(line).collect();
                output.value(&lines, |_| document::file())
            }
            Self::Check(Check {}) => {
                let mut ask = global.ask();
                ask.consumes = true;
                let file = ask.load()?.file.map(|file| file.display().to_string());
                let checked = Checked { file, problems: [] };
                output.value(&checked, |checked| match &checked.file {
                    Some(file) => format!("{file}: nothing wrong"),
                    None => "no configuration file, the defaults count; nothing wrong".to_owned(),
                })
            }
            Self::Show(Show { origin }) => {
                let shown = global.load()?.shown;
                if output.is_json() {
                    return output.value(&shown, |_| String::new());
                }
                if origin {
                    let mut table = Table::new(&["KEY", "VALUE", "FROM"]);
                    for line in &shown {
                        table.row(vec![line.key.clone(), line.value.clone(), line.origin.clone()]);
                    }
                    return output.text(&table.text("nothing"));
                }
                for line in &shown {
                    output.text(&format!("{} = {}", line.key, line.value))?;
                }
                Ok(DONE)
            }
        }
    }
}
