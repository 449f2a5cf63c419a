//! `spinor users`: who may log in, and what each may do.

use std::io::{BufRead as _, IsTerminal as _};

use clap::{Args, Subcommand};
use spinor_consumers::results::UserRow;

use super::{
    Failure,
    ask::Global,
    output::Output,
    steer::Why,
    table::{Table, moment},
};
use crate::api::{NewPassword, NewRoles, NewUser};

/// What to do with users.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum Users {
    /// List them
    Ls(Ls),
    /// Add one; the password is the first line of standard input
    Add(Add),
    /// Another password, which ends the user's sessions
    Passwd(Passwd),
    /// Other roles, in the place of those there are
    Role(Role),
    /// Remove one, and end its sessions
    Rm(Rm),
}

const EXAMPLES: &str = "Examples:\n  spinor users add ann --role operator\n  pass show spinor/bob | spinor users add bob --role viewer --role 'publisher:mail.*'\n  spinor users role bob viewer 'operator:*:image.*'\n  spinor users ls\n\nA role is ROLE, ROLE:QUEUES or ROLE:QUEUES:KINDS; ROLE is viewer, publisher, operator or admin, and * stands for any text.";

/// Flags of `users ls`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  spinor users ls\n  spinor users ls --json")]
pub struct Ls {}

/// Flags of `users add`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Add {
    /// The name
    name: String,
    /// What it may do; may be given several times
    #[arg(long = "role", value_name = "ROLE[:QUEUES[:KINDS]]", required = true)]
    roles: Vec<String>,
}

/// Flags of `users passwd`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  pass show spinor/bob | spinor users passwd bob")]
pub struct Passwd {
    /// The user
    name: String,
}

/// Flags of `users role`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  spinor users role bob viewer 'operator:*:image.*'")]
pub struct Role {
    /// The user
    name: String,
    /// What it may do from now on
    #[arg(value_name = "ROLE[:QUEUES[:KINDS]]", required = true)]
    roles: Vec<String>,
}

/// Flags of `users rm`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  spinor users rm bob")]
pub struct Rm {
    /// The user
    name: String,
}

impl Users {
    pub(super) async fn run(self, global: &Global, output: Output) -> Result<u8, Failure> {
        let client = global.client()?;
        let by = Why::default().asked().by;
        match self {
            Self::Ls(Ls {}) => output.value(&client.users().await?, |users| text(users)),
            Self::Add(Add { name, roles }) => {
                let new = NewUser { name, password: password()?, roles, by };
                output.value(&client.add_user(&new).await?, user_text)
            }
            Self::Passwd(Passwd { name }) => {
                let new = NewPassword { password: password()?, by };
                output.value(&client.set_password(&name, &new).await?, |user| {
                    format!("`{}` has another password; its sessions have ended", user.name)
                })
            }
            Self::Role(Role { name, roles }) => {
                output.value(&client.set_roles(&name, &NewRoles { roles, by }).await?, user_text)
            }
            Self::Rm(Rm { name }) => {
                let gone = client.remove_user(&name, &Why::default().asked()).await?;
                output.value(&gone, |gone| format!("`{}` is removed; its sessions have ended", gone.name))
            }
        }
    }
}

/// The first line of standard input. A password in the arguments could be seen by every user of the machine.
fn password() -> Result<String, Failure> {
    let input = std::io::stdin();
    if input.is_terminal() {
        super::publish::note("The password, and Enter; it is shown as you type:");
    }
    let mut line = String::new();
    let read = input.lock().read_line(&mut line);
    read.map_err(|error| Failure::usage(format!("standard input: {error}")))?;
    match line.trim_end_matches(['\n', '\r']) {
        "" => Err(Failure::usage("no password came on standard input")),
        password => Ok(password.to_owned()),
    }
}

fn user_text(user: &UserRow) -> String {
    format!("`{}` may: {}", user.name, user.roles)
}

fn text(users: &[UserRow]) -> String {
    let mut table = Table::new(&["USER", "ROLES", "SINCE", "ADDED BY"]);
    for UserRow { name, roles, created, created_by } in users {
        table.row(vec![name.clone(), roles.to_string(), moment(*created), created_by.clone()]);
    }
    table.text("no users; `spinor users add NAME --role ROLE` adds one")
}
