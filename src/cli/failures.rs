//! `spinor failures`: what failed, in groups, and starting all that match anew.
//!
//! A replay goes on by itself once it is ordered: leaving this command does not end it.

use std::{collections::BTreeSet, fmt::Write as _, time::Duration};

use clap::{Args, Subcommand};
use spinor_consumers::results::{Failures as Groups, Page, ReplayRow, ReplayState};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{
    Failure,
    ask::Global,
    failure::{DONE, FAILED, UNREACHABLE},
    jobs::id_of,
    output::Output,
    pages::{Which, more},
    publish::{Patience, note},
    steer::Why,
    table::{Table, clean, maybe, moment},
};
use crate::{
    api::{FailureQuery, FailureRecord, Matched, NewReplays, OrderedReplay},
    client::Client,
    signals::Signals,
};

/// How far it has come is asked so often while somebody watches.
const LOOK: Duration = Duration::from_millis(500);
/// Without a job more for this long it is asked whether something is away.
const STILL: Duration = Duration::from_secs(5);

/// What to do with failures.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:\n  spinor failures ls --since 1d\n  spinor failures show 5b1d9c0e7a3f5e21\n  \
                  spinor failures replay --fingerprint 5b1d9c0e7a3f5e21 --rate 10/1s")]
pub enum Failures {
    /// Group them by what they have in common, the last seen first
    Ls(Ls),
    /// One group, with the newest of its jobs
    Show(Show),
    /// Start all that match anew
    Replay(Replay),
    /// List replays, newest first
    Replays(Replays),
    /// Stop a replay; what it has published stays
    Stop(Stop),
}

/// Which failures.
#[derive(Args, Debug)]
struct Choice {
    /// Of this kind
    #[arg(long)]
    kind: Option<String>,
    /// On this queue
    #[arg(long)]
    queue: Option<String>,
    /// Ended in these states: failed, discarded, expired, dead, lost [default: those five], cancelled, succeeded
    #[arg(long, value_name = "STATE", value_delimiter = ',')]
    state: Vec<String>,
    /// Ended since this instant, or so long ago at most
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Ended until this instant, or so long ago at least
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

/// Flags of `failures ls`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  spinor failures ls\n  spinor failures ls --queue images --since 1d --json")]
pub struct Ls {
    #[command(flatten)]
    choice: Choice,
    /// At most so many groups
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
}

/// Flags of `failures show`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  spinor failures show 5b1d9c0e7a3f5e21")]
pub struct Show {
    /// As `failures ls` lists it
    fingerprint: String,
}

/// Flags of `failures replay`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  spinor failures replay --fingerprint 5b1d9c0e7a3f5e21 --dry-run\n  \
                  spinor failures replay --kind image.resize --since 1d --rate 10/1s\n  \
                  spinor failures replay --state dead,lost --queue images\n\n\
                  Exit codes: 0 all were published anew, 1 some could not be or it was stopped, 3 it goes on\n\
                  without this command, or waits for the store of state.")]
pub struct Replay {
    #[command(flatten)]
    choice: Choice,
    /// With this fingerprint
    #[arg(long)]
    fingerprint: Option<String>,
    /// All there are
    #[arg(long)]
    all: bool,
    /// So many in each such time: 10/1s; as fast as it goes when absent
    #[arg(long, value_name = "N/TIME")]
    rate: Option<String>,
    /// Only count
    #[arg(long)]
    dry_run: bool,
}

/// Flags of `failures replays`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  spinor failures replays")]
pub struct Replays {
    #[command(flatten)]
    page: Which,
}

/// Flags of `failures stop`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  spinor failures stop 0198f1d2-0000-7000-8000-000000000000")]
pub struct Stop {
    /// The id of the replay
    #[arg(value_parser = id_of)]
    id: Uuid,
}

impl Failures {
    pub(super) async fn run(self, global: &Global, output: Output) -> Result<u8, Failure> {
        let client = global.client()?;
        match self {
            Self::Ls(Ls { choice: Choice { kind, queue, state, since, until }, limit }) => {
                let state = (!state.is_empty()).then(|| state.join(","));
                let query = FailureQuery { kind, queue, state, since, until, limit };
                output.value(&client.failures(&query).await?, list_text)
            }
            Self::Show(Show { fingerprint }) => {
                // It becomes part of a path.
                if !fingerprint.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                    return Err(Failure::usage(format!("`{}` is no fingerprint", clean(&fingerprint))));
                }
                output.value(&client.failure(&fingerprint).await?, record_text)
            }
            Self::Replay(replay) => replay.run(&client, output).await,
            Self::Replays(Replays { page: Which { limit, cursor } }) => {
                output.value(&client.replays(limit, cursor.as_deref()).await?, replays_text)
            }
            Self::Stop(Stop { id }) => output.value(&client.stop_replay(id).await?, replay_text),
        }
    }
}

impl Replay {
    async fn run(self, client: &Client, output: Output) -> Result<u8, Failure> {
        let Self { choice: Choice { kind, queue, state, since, until }, fingerprint, all, rate, dry_run } = self;
        let named = kind.is_some() || queue.is_some() || fingerprint.is_some() || since.is_some() || until.is_some();
        if !named && state.is_empty() && !all {
            return Err(Failure::usage("name some by a flag such as --fingerprint, --kind or --since, or say --all"));
        }
        let by = Why::default().asked().by;
        let new = NewReplays { kind, queue, fingerprint, states: state, since, until, all, rate, by, dry_run };
        if dry_run {
            let matched = client.count_replays(&new).await?;
            return output.value(&matched, matched_text);
        }
        let OrderedReplay { row: ordered, left } = client.order_replay(&new).await?;
        if left > 0 {
            note(&left_text(left));
        }
        note(&format!("replay {}; `spinor failures stop {}` stops it", ordered.id, ordered.id));
        follow(client, ordered, output).await
    }
}

fn matched_text(Matched { total, left }: &Matched) -> String {
    let text = match total {
        Some(1) => "1 job would start anew".to_owned(),
        Some(total) => format!("{total} jobs would start anew"),
        None => "more than a million jobs would start anew".to_owned(),
    };
    if *left == 0 { text } else { format!("{text}; {}", left_text(*left)) }
}

fn left_text(left: u64) -> String {
    format!("{left} more match, which you may not start anew")
}

/// Tells how far it has come until it has ended, or until the user leaves.
async fn follow(client: &Client, ordered: ReplayRow, output: Output) -> Result<u8, Failure> {
    let (mut signals, mut patience) = (Signals::listen(), Patience::default());
    let (id, mut row) = (ordered.id, ordered);
    let (mut told, mut moved) = (0, Instant::now());
    while row.state == ReplayState::Running {
        tokio::select! {
            () = sleep(LOOK) => {}
            () = signals.next() => {
                let message = format!("replay {id} goes on; `spinor failures replays` shows how far it is");
                return Err(Failure { code: UNREACHABLE, message });
            }
        }
        if let Some(now) = patience.after(client.replay_row(id).await, false, "the replay").await? {
            row = now;
        }
        if row.done + row.failed > told && row.state == ReplayState::Running {
            (told, moved) = (row.done + row.failed, Instant::now());
            note(&progress(&row));
        }
        if moved.elapsed() > STILL {
            moved = Instant::now();
            is_worked_on(client, &row).await?;
        }
    }
    let code = if row.state == ReplayState::Done && row.failed == 0 { DONE } else { FAILED };
    output.value(&row, replay_text)?;
    Ok(code)
}

/// Nothing moved for a while: a slow rate, or something that it waits for.
async fn is_worked_on(client: &Client, row: &ReplayRow) -> Result<(), Failure> {
    // Who does not answer is waited for elsewhere.
    let Ok(status) = client.status().await else { return Ok(()) };
    let Some(why) = status.state_problem else { return Ok(()) };
    Err(Failure::unreachable(format!(
        "replay {} is ordered, and waits: {why}. It goes on by itself once state answers ({}); \
         `spinor failures replays` shows how far it is, `spinor failures stop {}` stops it",
        row.id,
        progress(row),
        row.id
    )))
}

fn progress(row: &ReplayRow) -> String {
    let of = row.total.map(|total| format!(" of {total}")).unwrap_or_default();
    let failed = if row.failed > 0 { format!(", {} could not be", row.failed) } else { String::new() };
    format!("{}{of} started anew{failed}", row.done)
}

fn replay_text(row: &ReplayRow) -> String {
    let mut text = format!("replay {} is {}: {}\n", row.id, row.state.word(), progress(row));
    if let Some(error) = &row.error {
        let _ = writeln!(text, "the last that could not be: {}", clean(error));
    }
    text
}

fn some(words: &BTreeSet<String>) -> String {
    let named: Vec<&str> = words.iter().take(3).map(String::as_str).collect();
    let more =
        if words.len() > named.len() { format!(" and {} more", words.len() - named.len()) } else { String::new() };
    named.join(", ") + &more
}

fn list_text(failures: &Groups) -> String {
    let mut table = Table::new(&["FINGERPRINT", "COUNT", "LAST SEEN", "FIRST SEEN", "KIND", "VERSION", "EXAMPLE"]);
    for group in &failures.groups {
        table.row(vec![
            group.fingerprint.clone(),
            group.count.to_string(),
            moment(group.last),
            moment(group.first),
            group.kind.clone(),
            some(&group.versions),
            group.error.clone(),
        ]);
    }
    let capped = match (failures.capped, failures.looked) {
        (true, Some(looked)) => format!("there are more: what was created since {looked} is counted for certain\n"),
        (true, None) => "there are more; the counts are those of the newest\n".to_owned(),
        (false, _) => String::new(),
    };
    table.text("nothing failed") + &capped
}

fn record_text(record: &FailureRecord) -> String {
    let group = &record.group;
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<12}{}", clean(value));
    };
    line("fingerprint", &group.fingerprint);
    line("kind", &group.kind);
    line("error", &group.error);
    line("count", &group.count.to_string());
    line("ended", &group.states.iter().map(|state| state.word()).collect::<Vec<_>>().join(", "));
    line("first seen", &moment(group.first));
    line("last seen", &moment(group.last));
    line("queues", &some(&group.queues));
    line("consumers", &some(&group.consumers));
    line("versions", &some(&group.versions));
    let mut table = Table::new(&["ID", "STATE", "ATTEMPT", "REPLAY", "ENDED", "ERROR"]);
    for job in &record.jobs {
        table.row(vec![
            job.id.to_string(),
            job.state.word().to_owned(),
            job.attempt.to_string(),
            job.replay.to_string(),
            maybe(job.ended),
            job.error.clone().unwrap_or_default(),
        ]);
    }
    let _ = write!(text, "\n{}", table.text("no jobs"));
    text
}

fn replays_text(page: &Page<ReplayRow>) -> String {
    let mut table = Table::new(&["ID", "STATE", "DONE", "FAILED", "TOTAL", "BY", "ORDERED", "ENDED", "WHICH"]);
    for row in &page.rows {
        table.row(vec![
            row.id.to_string(),
            row.state.word().to_owned(),
            row.done.to_string(),
            row.failed.to_string(),
            row.total.map_or_else(|| "not known".to_owned(), |total| total.to_string()),
            row.by.clone(),
            moment(row.at),
            maybe(row.ended),
            serde_json::to_string(&row.filter).unwrap_or_default(),
        ]);
    }
    table.text("no replays") + &more(page)
}
