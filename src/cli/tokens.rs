//! `spinor tokens`: what programs show in the place of a password.

use clap::{Args, Subcommand};
use spinor_consumers::results::TokenRow;

use super::{
    Failure,
    ask::Global,
    output::Output,
    steer::Why,
    table::{Table, maybe, moment},
};
use crate::api::NewToken;

/// What to do with tokens.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum Tokens {
    /// List them; what they are nobody can tell
    Ls(Ls),
    /// Make one; it is printed once
    New(New),
    /// Remove one
    Rm(Rm),
}

const EXAMPLES: &str = "Examples:\n  spinor tokens new shop --role 'publisher:mail.*' --lasts 90d\n  spinor tokens ls\n  spinor tokens rm shop\n\nA program sends it as `Authorization: Bearer TOKEN`. A role is ROLE, ROLE:QUEUES or ROLE:QUEUES:KINDS.";

/// Flags of `tokens ls`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  spinor tokens ls\n  spinor tokens ls --json")]
pub struct Ls {}

/// Flags of `tokens new`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct New {
    /// Its name
    name: String,
    /// What may be done with it; may be given several times
    #[arg(long = "role", value_name = "ROLE[:QUEUES[:KINDS]]", required = true)]
    roles: Vec<String>,
    /// It holds so long [default: until it is removed]
    #[arg(long, value_name = "DURATION")]
    lasts: Option<String>,
}

/// Flags of `tokens rm`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  spinor tokens rm shop")]
pub struct Rm {
    /// Its name
    name: String,
}

impl Tokens {
    pub(super) async fn run(self, global: &Global, output: Output) -> Result<u8, Failure> {
        let client = global.client()?;
        match self {
            Self::Ls(Ls {}) => output.value(&client.tokens().await?, |tokens| text(tokens)),
            Self::New(New { name, roles, lasts }) => {
                let new = NewToken { name, roles, lasts, by: Why::default().asked().by };
                let made = client.add_token(&new).await?;
                super::publish::note(&format!("`{}` may: {}; nobody can show it again", made.row.name, made.row.roles));
                output.value(&made, |made| made.token.clone())
            }
            Self::Rm(Rm { name }) => {
                let gone = client.remove_token(&name, &Why::default().asked()).await?;
                output.value(&gone, |gone| format!("the token `{}` is removed", gone.name))
            }
        }
    }
}

fn text(tokens: &[TokenRow]) -> String {
    let mut table = Table::new(&["TOKEN", "ROLES", "UNTIL", "SINCE", "MADE BY"]);
    for TokenRow { name, roles, created, created_by, expires } in tokens {
        let row = [name.clone(), roles.to_string(), maybe(*expires), moment(*created), created_by.clone()];
        table.row(row.to_vec());
    }
    table.text("no tokens; `spinor tokens new NAME --role ROLE` makes one")
}
