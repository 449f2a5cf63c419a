//! `spinor data`: remove what is past its time, back up, restore.
//!
//! Owns who does it: a running Spinor when one answers, else this process on the directory itself. Refuses
//! to restore under a running one.

use std::{
    io::{IsTerminal as _, Write as _},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use serde::Serialize;
use spinor_consumers::{
    backup::{self, BackupError, Manifest, Restored},
    results::Pruned,
};
use spinor_executors::State;

use super::{Failure, ask::Global, failure::FAILED, output::Output, table::Table};
use crate::{
    api::{Prune, kept},
    client::{Client, ClientError},
    config,
};

/// What to do with what is kept.
#[derive(Debug, Subcommand)]
#[command(
    after_help = "Examples:\n  spinor data prune --dry-run\n  spinor data backup /backup/monday\n  spinor data restore /backup/monday"
)]
pub enum Data {
    /// Remove what is past its time now; without flags what `keep` says
    Prune(PruneFlags),
    /// Copy queues, results and state into a new directory; also while Spinor runs
    Backup(BackupFlags),
    /// Take a backup back
    Restore(RestoreFlags),
}

/// Flags of `data prune`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  spinor data prune --dry-run\n  spinor data prune --older-than 7d --state failed --state discarded"
)]
pub struct PruneFlags {
    /// Count, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// What ended longer ago than this, instead of what `keep` says
    #[arg(long, value_name = "DURATION", value_parser = older)]
    older_than: Option<String>,
    /// Only jobs that ended so; may be repeated. `dead` means dead letters, too
    #[arg(long = "state", value_name = "STATE", value_parser = ended)]
    states: Vec<State>,
}

/// Flags of `data backup`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  spinor data backup /backup/spinor-monday\n  spinor data backup ./copy --data /var/lib/spinor"
)]
pub struct BackupFlags {
    /// A directory that is not there yet
    #[arg(value_name = "DIR")]
    to: PathBuf,
}

/// Flags of `data restore`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  spinor data restore /backup/spinor-monday\n  spinor data restore ./copy --data /var/lib/spinor --force"
)]
pub struct RestoreFlags {
    /// A backup
    #[arg(value_name = "DIR")]
    from: PathBuf,
    /// Keep what is in the data directory under another name, and restore all the same
    #[arg(long)]
    force: bool,
}

#[derive(Serialize)]
struct PruneEnd {
    dry_run: bool,
    #[serde(flatten)]
    pruned: Pruned,
}

#[derive(Serialize)]
struct BackupEnd {
    to: PathBuf,
    running: bool,
    #[serde(flatten)]
    manifest: Manifest,
}

fn older(text: &str) -> Result<String, String> {
    config::duration(text).map(|_| text.to_owned()).ok_or_else(|| "expected a duration such as 12h or 30d".to_owned())
}

fn ended(text: &str) -> Result<State, String> {
    State::of(text).filter(|state| state.is_final()).ok_or_else(|| {
        let words: Vec<_> = State::ALL.iter().filter(|state| state.is_final()).map(|state| state.word()).collect();
        format!("expected one of {}", words.join(", "))
    })
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Refused(why) => Self::usage(why),
            BackupError::Failed(why) => Self::failed(why),
        }
    }
}

impl Data {
    pub(super) async fn run(self, global: &Global, output: Output) -> Result<u8, Failure> {
        match self {
            Self::Prune(flags) => prune(flags, &global.client()?, output).await,
            Self::Backup(BackupFlags { to }) => back_up(&to, global, output).await,
            Self::Restore(RestoreFlags { from, force }) => restore(&from, force, global, output).await,
        }
    }
}

async fn prune(flags: PruneFlags, client: &Client, output: Output) -> Result<u8, Failure> {
    let PruneFlags { dry_run, older_than, states } = flags;
    let mut ask = Prune { older_than, states, dry_run, from: None };
    let mut pruned = Pruned::default();
    let shown = !output.is_json() && std::io::stderr().is_terminal();
    loop {
        let slice = client.prune(&ask).await?;
        pruned += slice.pruned;
        ask.from = slice.next;
        if ask.from.is_none() {
            break;
        }
        if shown {
            // A line that is written over; nothing is lost with it.
            let _ = write!(std::io::stderr().lock(), "\r{} jobs ...", pruned.jobs);
        }
    }
    if shown {
        let _ = write!(std::io::stderr().lock(), "\r");
    }
    output.value(&PruneEnd { dry_run, pruned }, |end| {
        let mut table = Table::new(&[if end.dry_run { "WOULD GO" } else { "GONE" }, ""]);
        let Pruned { jobs, attempts, steps, runs, letters, replays, blobs, blob_bytes } = end.pruned;
        let rows = [
            ("jobs", jobs),
            ("executions", attempts),
            ("steps", steps),
            ("runs", runs),
            ("dead letters", letters),
            ("replays", replays),
        ];
        for (name, count) in rows {
            table.row(vec![name.to_owned(), count.to_string()]);
        }
        table.row(vec!["large args and values".to_owned(), format!("{blobs}, {blob_bytes} bytes")]);
        table.text("nothing")
    })
}

async fn back_up(to: &Path, global: &Global, output: Output) -> Result<u8, Failure> {
    let to = std::path::absolute(to).map_err(|error| Failure::usage(format!("{}: {error}", to.display())))?;
    let config = global.load()?.config;
    let (manifest, running) = match global.client_of(&config)?.back_up(&to).await {
        Ok(manifest) => (manifest, true),
        // Nobody runs: then its files lie still.
        Err(ClientError::Unreachable { .. }) if global.api.is_none() => {
            let kept = kept(&config);
            if !kept.data.exists() {
                return Err(Failure::usage(format!("{} is not there: nothing to back up", kept.data.display())));
            }
            let _held = backup::hold(&kept.data)?;
            (backup::back_up(&kept, &to, env!("CARGO_PKG_VERSION")).await?, false)
        }
        Err(error) => return Err(error.into()),
    };
    output.value(&BackupEnd { to, running, manifest }, |end| {
        let how = if end.running { "of the running Spinor" } else { "of a stopped Spinor" };
        format!("{}: a backup {how}\n{}", end.to.display(), files(&end.manifest))
    })
}

async fn restore(from: &Path, force: bool, global: &Global, output: Output) -> Result<u8, Failure> {
    let from = std::path::absolute(from).map_err(|error| Failure::usage(format!("{}: {error}", from.display())))?;
    let config = global.load()?.config;
    if global.api.is_some() {
        return Err(Failure::usage("--api: a backup is restored where its files will lie, with --data"));
    }
    if let Ok(status) = global.client_of(&config)?.status().await {
        let pid = status.info.pid;
        return Err(Failure {
            code: FAILED,
            message: format!("process {pid} runs on {}; stop it first", config.data.display()),
        });
    }
    let restored = backup::restore(&from, &kept(&config), force).await?;
    output.value(&restored, |Restored { manifest, data, aside }| {
        let aside: String = aside.iter().map(|path| format!("  what was there: {}\n", path.display())).collect();
        let made = super::table::moment(manifest.made);
        format!("{}: restored as it was at {made}\n{}{aside}", data.display(), files(manifest))
    })
}

/// The files, and what is elsewhere.
fn files(manifest: &Manifest) -> String {
    // Large args and values may be many.
    let (blobs, others): (Vec<_>, Vec<_>) = manifest.files.iter().partition(|file| file.path.starts_with("blobs/"));
    let mut text: String = others.iter().map(|file| format!("  {}, {} bytes\n", file.path, file.bytes)).collect();
    if !blobs.is_empty() {
        let bytes: u64 = blobs.iter().map(|file| file.bytes).sum();
        text.push_str(&format!("  blobs, {} files with {bytes} bytes\n", blobs.len()));
    }
    text + &manifest.elsewhere.iter().map(|line| format!("  not in it: {line}\n")).collect::<String>()
}
