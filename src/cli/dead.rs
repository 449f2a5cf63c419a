//! `spinor dead`: dead letters, and the flags by which one job is started anew.

use std::{fmt::Write as _, time::Duration};

use clap::{Args, Subcommand};
use spinor_consumers::results::{DeadLetter, Page};
use tokio::time::sleep;
use uuid::Uuid;

use super::{
    Failure,
    ask::Global,
    jobs::id_of,
    output::Output,
    pages::{Which, more},
    publish::{args_of, code_of, until_ended},
    steer::Why,
    table::{Table, clean, moment},
};
use crate::{
    api::{DeadRecord, Letters, NewReplay, Removed, ReplayedJob},
    client::Client,
};

/// A record that is behind is looked at again after this long.
const BEHIND: Duration = Duration::from_millis(500);

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
#[command(
    after_help = "Examples:\n  spinor dead ls --queue images\n  spinor dead show ID\n  spinor dead replay ID --args @mended.json\n  \
                  spinor dead rm --reason 'the body is no JSON' --dry-run"
)]
pub enum Dead {
    /// List them, newest first
    Ls(Ls),
    /// One of them, whole
    Show(One),
    /// Start its job anew, as it was or mended
    Replay(Anew),
    /// Remove one, or all that match
    Rm(Rm),
}

/// Which dead letters.
#[derive(Args, Debug)]
struct Choice {
    /// From this queue
    #[arg(long)]
    queue: Option<String>,
    /// Of this kind
    #[arg(long)]
    kind: Option<String>,
    /// With this fingerprint
    #[arg(long)]
    fingerprint: Option<String>,
    /// Whose reason starts with this text
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Dead since this instant, or so long ago at most
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Dead until this instant, or so long ago at least
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

impl Choice {
    fn letters(self) -> Letters {
        let Self { queue, kind, fingerprint, reason, since, until } = self;
        Letters { queue, kind, fingerprint, reason, since, until, ..Letters::default() }
    }
}

/// Flags of `dead ls`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  spinor dead ls --since 2h\n  spinor dead ls --reason crashes: --json")]
pub struct Ls {
    #[command(flatten)]
    choice: Choice,
    #[command(flatten)]
    page: Which,
}

/// One dead letter.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  spinor dead show 0198f1d2-0000-7000-8000-000000000000")]
pub struct One {
    /// Its id
    #[arg(value_parser = id_of)]
    id: Uuid,
}

/// One job that is started anew.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  spinor jobs replay 0198f1d2-0000-7000-8000-000000000000 --wait\n  \
                  spinor dead replay 0198f1d2-0000-7000-8000-000000000000 --args '{\"width\": 300}'\n  \
                  spinor dead replay 0198f1d2-0000-7000-8000-000000000000 --kind image.resize --args @mended.json")]
pub struct Anew {
    /// Its id
    #[arg(value_parser = id_of)]
    id: Uuid,
    /// Other arguments: JSON, @FILE with JSON, or - for standard input
    #[arg(long, value_name = "JSON")]
    args: Option<String>,
    /// Another kind
    #[arg(long)]
    kind: Option<String>,
    /// Another queue
    #[arg(long)]
    queue: Option<String>,
    /// Wait for the end; 0 = it succeeded
    #[arg(long)]
    wait: bool,
}

/// Flags of `dead rm`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  spinor dead rm 0198f1d2-0000-7000-8000-000000000000\n  spinor dead rm --kind noop --dry-run\n  \
                  spinor dead rm --kind noop --yes"
)]
pub struct Rm {
    /// The id of one
    #[arg(value_parser = id_of, conflicts_with_all = ["queue", "kind", "fingerprint", "reason", "since", "until", "all"])]
    id: Option<Uuid>,
    #[command(flatten)]
    choice: Choice,
    /// All there are
    #[arg(long)]
    all: bool,
    /// Yes, remove all that match; without it they are counted
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,
    /// Only count
    #[arg(long)]
    dry_run: bool,
}

impl Dead {
    pub(super) async fn run(self, global: &Global, output: Output) -> Result<u8, Failure> {
        let client = global.client()?;
        match self {
            Self::Ls(Ls { choice, page: Which { limit, cursor } }) => {
                let page = client.dead(&Letters { limit, cursor, ..choice.letters() }).await?;
                output.value(&page, list_text)
            }
            Self::Show(One { id }) => output.value(&client.letter(id).await?, record_text),
            Self::Replay(anew) => anew.run(&client, output, true).await,
            Self::Rm(rm) => rm.run(&client, output).await,
        }
    }
}

impl Anew {
    /// Starts it anew; `dead`: out of its dead letter, which must be there.
    pub(super) async fn run(self, client: &Client, output: Output, dead: bool) -> Result<u8, Failure> {
        let Self { id, args, kind, queue, wait } = self;
        let args = args.as_deref().map(args_of).transpose()?;
        let new = NewReplay { kind, queue, args, by: Why::default().asked().by };
        let replayed = if dead { client.replay_dead(id, &new).await? } else { client.replay(id, &new).await? };
        if !wait {
            return output.value(&replayed, replayed_text);
        }
        super::publish::note(&replayed_text(&replayed));
        let mut report = until_ended(client, id, None, true).await?;
        // The end before, while the record is behind.
        while report.replay < replayed.replay {
            sleep(BEHIND).await;
            report = until_ended(client, id, None, true).await?;
        }
        let code = code_of(report.state);
        output.value(&report, |report| super::jobs::report_text(report))?;
        Ok(code)
    }
}

fn replayed_text(replayed: &ReplayedJob) -> String {
    format!("job {} starts anew on `{}`, replay {}", replayed.id, clean(&replayed.queue), replayed.replay)
}

impl Rm {
    async fn run(self, client: &Client, output: Output) -> Result<u8, Failure> {
        let Self { id, choice, all, yes, dry_run } = self;
        if let Some(id) = id {
            if dry_run {
                client.letter(id).await?;
                return output.value(&Removed { letters: 1, left: 0, more: false, dry_run, until: None }, removed_text);
            }
            return output.value(&client.remove_letter(id).await?, removed_text);
        }
        let mut letters = Letters { all, dry_run: !yes, ..choice.letters() };
        if letters == (Letters { dry_run: !yes, ..Letters::default() }) {
            return Err(Failure::usage("name one by its id, some by a flag such as --kind, or say --all"));
        }
        let mut removed = client.remove_letters(&letters).await?;
        // What dies while this goes on stays.
        letters.until = letters.until.or(removed.until.map(|until| until.to_string()));
        while yes && removed.more {
            let again = client.remove_letters(&letters).await?;
            removed = Removed { letters: removed.letters + again.letters, ..again };
        }
        output.value(&removed, removed_text)
    }
}

fn removed_text(removed: &Removed) -> String {
    let (count, more) = (removed.letters, if removed.more { " or more" } else { "" });
    let letters = if count == 1 { "dead letter" } else { "dead letters" };
    let left = match removed.left {
        0 => String::new(),
        left => format!("; {left} more match, which you may not remove"),
    };
    if removed.dry_run {
        format!("{count}{more} {letters} would be removed; --yes removes them{left}")
    } else {
        format!("{count} {letters} removed{left}")
    }
}

fn list_text(page: &Page<DeadLetter>) -> String {
    let mut table = Table::new(&["ID", "DEAD SINCE", "KIND", "QUEUE", "FINGERPRINT", "REASON"]);
    for letter in &page.rows {
        table.row(vec![
            letter.job.to_string(),
            moment(letter.at),
            letter.kind.clone(),
            letter.queue.clone(),
            letter.fingerprint.clone(),
            letter.reason.clone(),
        ]);
    }
    table.text("no dead letters") + &more(page)
}

fn record_text(record: &DeadRecord) -> String {
    let letter = &record.letter;
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "{name:<12}{}", clean(value));
        }
    };
    line("job", &letter.job.to_string());
    line("reason", &letter.reason);
    line("dead since", &moment(letter.at));
    line("kind", &letter.kind);
    line("queue", &letter.queue);
    line("attempt", &format!("{} of replay {}", letter.attempt, letter.replay));
    line("fingerprint", &letter.fingerprint);
    line("consumer", &letter.consumer);
    line("version", &letter.version);
    line("is a job", if record.is_job { "yes" } else { "no" });
    for (name, value) in &record.properties.headers {
        line("header", &format!("{name} = {value}"));
    }
    let body: String = record.body.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect();
    let _ = write!(text, "\n{body}\n");
    text
}
