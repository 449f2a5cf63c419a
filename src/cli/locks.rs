//! `spinor locks`: limits and unique keys, which hold jobs back across all consumers.

use clap::{ArgGroup, Args, Subcommand};

use super::{
    Failure,
    ask::Global,
    output::Output,
    steer::Why,
    table::{Table, clean, moment},
};
use crate::api::{Asked, LimitRow, LockFilter, Locks as Listed, NewLimit};

/// What to do with limits and keys.
#[derive(Debug, Subcommand)]
#[command(
    after_help = "Examples:\n  spinor locks ls\n  spinor locks limit mail --at-once 3 --rate 100/1m\n  spinor locks unlimit mail\n  spinor locks free order-7"
)]
pub enum Locks {
    /// List limits with what counts against them, and unique keys with their jobs
    Ls(Ls),
    /// Bound a limit, in place of what the configuration says
    Limit(Limit),
    /// Take that back: the configuration counts again
    Unlimit(Unlimit),
    /// Give a unique key back in the place of its job, which goes on
    Free(Free),
}

/// Flags of `locks ls`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  spinor locks ls\n  spinor locks ls --prefix order- --limit 1000 --json")]
pub struct Ls {
    /// Only keys that start so
    #[arg(long, default_value = "")]
    prefix: String,
    /// Keys after this one
    #[arg(long, value_name = "KEY")]
    after: Option<String>,
    /// At most so many keys
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
}

/// Flags of `locks limit`.
#[derive(Args, Debug)]
#[command(
    group = ArgGroup::new("bounds").required(true).multiple(true).args(["at_once", "rate"]),
    after_help = "Examples:\n  spinor locks limit mail --at-once 3\n  spinor locks limit tenant:blue --rate 100/1m --why 'they asked'"
)]
pub struct Limit {
    /// Its name; `name:key` for one key alone
    name: String,
    /// So many jobs that name it run at once; 0 = none
    #[arg(long, value_name = "N")]
    at_once: Option<u32>,
    /// So many start in each such time
    #[arg(long, value_name = "N/DURATION")]
    rate: Option<String>,
    #[command(flatten)]
    why: Why,
}

/// Flags of `locks unlimit`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  spinor locks unlimit mail")]
pub struct Unlimit {
    /// Its name
    name: String,
    #[command(flatten)]
    why: Why,
}

/// Flags of `locks free`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  spinor locks free order-7")]
pub struct Free {
    /// The key
    key: String,
    #[command(flatten)]
    why: Why,
}

impl Locks {
    pub(super) async fn run(self, global: &Global, output: Output) -> Result<u8, Failure> {
        let client = global.client()?;
        match self {
            Self::Ls(Ls { prefix, after, limit }) => {
                output.value(&client.locks(&LockFilter { prefix, after, limit }).await?, list_text)
            }
            Self::Limit(Limit { name, at_once, rate, why }) => {
                let Asked { by, why } = why.asked();
                let row = client.set_limit(&name, &NewLimit { at_once, rate, by, why }).await?;
                output.value(&row, limit_text)
            }
            Self::Unlimit(Unlimit { name, why }) => {
                output.value(&client.clear_limit(&name, &why.asked()).await?, limit_text)
            }
            Self::Free(Free { key, why }) => output.value(&client.free_key(&key, &why.asked()).await?, |freed| {
                clean(&format!("the key `{}` is free; it belonged to job {}", freed.key, freed.job))
            }),
        }
    }
}

fn bounds(row: &LimitRow) -> (String, String) {
    let dash = || "-".to_owned();
    (row.at_once.map_or_else(dash, |most| most.to_string()), row.rate.clone().unwrap_or_else(dash))
}

fn limit_text(row: &LimitRow) -> String {
    let (at_once, rate) = bounds(row);
    let mut text =
        format!("{}: at once {at_once}, rate {rate}, {} in use, set by {}", row.name, row.in_use, origin(row));
    if let Some(configured) = &row.configured {
        let again = format!("`spinor locks unlimit {}`", row.name);
        text += &format!("; this counts in place of the configuration ({configured}) until {again}");
    }
    clean(&text)
}

fn origin(row: &LimitRow) -> String {
    match &row.set {
        Some(wish) => format!("command {wish}"),
        None => row.from.clone(),
    }
}

fn list_text(locks: &Listed) -> String {
    let mut limits = Table::new(&["LIMIT", "AT ONCE", "RATE", "IN USE", "FULL", "SET BY"]);
    for row in &locks.limits {
        let (at_once, rate) = bounds(row);
        let full = if row.full { "yes" } else { "no" };
        limits.row(vec![row.name.clone(), at_once, rate, row.in_use.to_string(), full.to_owned(), origin(row)]);
    }
    let mut keys = Table::new(&["KEY", "JOB", "UNTIL"]);
    for row in &locks.keys {
        keys.row(vec![row.key.clone(), row.job.to_string(), moment(row.until)]);
    }
    let more = locks.next.as_ref().map(|next| format!("more: --after '{}'\n", clean(next))).unwrap_or_default();
    format!("{}\n{}{more}", limits.text("no limits"), keys.text("no unique keys"))
}
