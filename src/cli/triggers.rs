//! `spinor triggers`: what fires when; add, edit, pause, fire, remove.
//!
//! `next` works without a running Spinor, for an expression that is being written.

mod backfill;
mod next;
mod text;

pub(super) use text::leader;

use clap::{ArgGroup, Args, Subcommand};
use spinor_consumers::schedule::{Misfire, Overlap};
use spinor_executors::Json;

use super::{Failure, ask::Global, output::Output, steer::Why};
use crate::api::{NewTrigger, new_job::NewJob, new_trigger::CountsFrom};

/// What to do with triggers.
#[derive(Debug, Subcommand)]
#[command(
    after_help = "Examples:\n  spinor triggers ls\n  spinor triggers add nightly --cron '0 3 * * *' --zone Europe/Paris --kind image.sweep\n  spinor triggers next --cron '0 3 * * *' --zone Europe/Paris\n  spinor triggers show nightly\n  spinor triggers fire nightly"
)]
pub enum Triggers {
    /// List them
    #[command(after_help = "Examples:\n  spinor triggers ls\n  spinor triggers ls --json")]
    Ls,
    /// One trigger with its coming and its last instants
    Show(Show),
    /// The coming instants of a trigger, or of an expression
    Next(next::NextInstants),
    /// Add one
    Add(Box<Add>),
    /// Change one that a command added; what is not said stays
    Edit(Box<Edit>),
    /// Let it fire nothing
    Pause(One),
    /// Let it go on, from now
    Resume(Resume),
    /// Fire it now, beside its schedule
    Fire(One),
    /// Fire what did not fire of a span that is past
    Backfill(backfill::BackfillCommand),
    /// Remove it with its history; jobs that it fired go on
    Rm(One),
}

/// Flags of `triggers show`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  spinor triggers show nightly\n  spinor triggers show nightly --limit 100 --json")]
pub struct Show {
    /// Its name
    name: String,
    /// So many coming and so many past instants
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
}

/// One trigger.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  spinor triggers pause nightly --why 'the disk is full'\n  spinor triggers resume nightly\n  spinor triggers fire nightly\n  spinor triggers rm nightly"
)]
pub struct One {
    /// Its name
    name: String,
    #[command(flatten)]
    why: Why,
}

/// Flags of `triggers resume`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  spinor triggers resume nightly\n  spinor triggers resume nightly --free")]
pub struct Resume {
    /// Its name
    name: String,
    /// Forget the job that the next one may not overlap: its end never came
    #[arg(long)]
    free: bool,
    #[command(flatten)]
    why: Why,
}

/// Flags of `triggers add`.
#[derive(Args, Debug)]
#[command(
    group = ArgGroup::new("when").required(true).args(["cron", "every", "at"]),
    group = ArgGroup::new("what").required(true).args(["job", "kind"]),
    after_help = "Examples:\n  spinor triggers add nightly --cron '0 3 * * *' --zone Europe/Paris --kind image.sweep --queue images\n  spinor triggers add poll --every 30s --job '{\"kind\": \"poll\", \"args\": {\"since\": {\"$trigger\": \"previous.value\"}}}'\n  spinor triggers add once --at 2030-01-31T12:00:00Z --kind noop --misfire all\n  spinor triggers add clean --every 1h --from last-end --kind clean --blackout 'sat,sun 00:00-24:00'\n  spinor triggers add sites --cron @daily --each '[\"north\", \"south\"]' --kind sweep --args '{\"site\": {\"$item\": \".\"}}'"
)]
pub struct Add {
    /// Its name
    name: String,
    #[command(flatten)]
    flags: Flags,
}

/// Flags of `triggers edit`.
#[derive(Args, Debug)]
#[command(
    group = ArgGroup::new("when").args(["cron", "every", "at"]),
    group = ArgGroup::new("what").args(["job", "kind"]),
    after_help = "Examples:\n  spinor triggers edit nightly --cron '0 4 * * *'\n  spinor triggers edit nightly --overlap queue --jitter 30s"
)]
pub struct Edit {
    /// Its name
    name: String,
    #[command(flatten)]
    flags: Flags,
}

/// What a trigger is made of.
#[derive(Args, Debug)]
pub struct Flags {
    /// A cron expression of five fields, or six with the seconds first
    #[arg(long, value_name = "EXPRESSION")]
    cron: Option<String>,
    /// Its time zone, and that of the blackouts, such as Europe/Berlin [default: UTC]
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// An interval
    #[arg(long, value_name = "DURATION")]
    every: Option<String>,
    /// From where it counts: from 1970, or from the end of the job before [default: 1970]
    #[arg(long, value_parser = ["1970", "last-end"])]
    from: Option<String>,
    /// One moment
    #[arg(long, value_name = "INSTANT")]
    at: Option<String>,
    /// The job, as `POST /jobs` takes it
    #[arg(long, value_name = "JSON")]
    job: Option<String>,
    /// The kind of the job
    #[arg(long)]
    kind: Option<String>,
    /// Its queue [default: default]
    #[arg(long, requires = "kind")]
    queue: Option<String>,
    /// Its arguments
    #[arg(long, value_name = "JSON", requires = "kind")]
    args: Option<String>,
    /// A job for each item of this list; `{"$item": "."}` in the args is the item, `{"$item": "a"}` a field of it
    #[arg(long, value_name = "JSON")]
    each: Option<String>,
    /// What was missed: nothing, the last of it, or each fires [default: once]
    #[arg(long, value_parser = ["skip", "once", "all"])]
    misfire: Option<String>,
    /// While an earlier job runs: both run, it is skipped, or one waits [default: skip]
    #[arg(long, value_parser = ["allow", "skip", "queue"])]
    overlap: Option<String>,
    /// Nothing before this instant
    #[arg(long, value_name = "INSTANT")]
    start: Option<String>,
    /// And nothing after this one
    #[arg(long, value_name = "INSTANT")]
    end: Option<String>,
    /// A window in which nothing fires, such as 22:00-06:00 or 'sat,sun 00:00-24:00'; may be repeated
    #[arg(long, value_name = "WINDOW")]
    blackout: Vec<String>,
    /// No window any more
    #[arg(long, conflicts_with = "blackout")]
    no_blackout: bool,
    /// Put each instant off by up to so long
    #[arg(long, value_name = "DURATION")]
    jitter: Option<String>,
    /// End after so many jobs
    #[arg(long, value_name = "N")]
    max_runs: Option<u64>,
    /// Begin paused
    #[arg(long)]
    paused: bool,
    #[command(flatten)]
    why: Why,
}

impl Flags {
    /// These in the place of what a trigger was.
    fn over(self, mut new: NewTrigger) -> Result<NewTrigger, Failure> {
        let job = self.job()?;
        if self.cron.is_some() || self.every.is_some() || self.at.is_some() {
            new.from = None;
            (new.cron, new.every, new.at) = (self.cron, self.every, self.at);
        }
        if self.no_blackout || !self.blackout.is_empty() {
            new.blackout = self.blackout;
        }
        let word_of = [("1970", CountsFrom::Epoch), ("last-end", CountsFrom::LastEnd)];
        new.from = word(self.from, &word_of).or(new.from);
        let zoned = new.cron.is_some() || !new.blackout.is_empty();
        new.zone = self.zone.or(new.zone.filter(|_| zoned));
        new.job = job.or(new.job);
        if let Some(text) = &self.each {
            let why = |error| Failure::usage(format!("--each: is no list: {error}"));
            new.each = Some(Json::new(text.clone()).map_err(why)?);
        }
        new.misfire = word(self.misfire, &[("skip", Misfire::Skip), ("once", Misfire::Once), ("all", Misfire::All)])
            .or(new.misfire);
        new.overlap =
            word(self.overlap, &[("allow", Overlap::Allow), ("skip", Overlap::Skip), ("queue", Overlap::Queue)])
                .or(new.overlap);
        new.start = self.start.or(new.start);
        new.end = self.end.or(new.end);
        new.jitter = self.jitter.or(new.jitter);
        new.max_runs = self.max_runs.or(new.max_runs);
        new.paused |= self.paused;
        let asked = self.why.asked();
        (new.by, new.why) = (asked.by, asked.why);
        Ok(new)
    }

    fn job(&self) -> Result<Option<Json>, Failure> {
        let json = |flag: &str, text: &String| {
            Json::new(text.clone()).map_err(|error| Failure::usage(format!("{flag}: is no JSON: {error}")))
        };
        if let Some(text) = &self.job {
            return json("--job", text).map(Some);
        }
        let Some(kind) = &self.kind else { return Ok(None) };
        let mut job = NewJob { queue: self.queue.clone(), ..NewJob::new(kind.as_str()) };
        job.args = self.args.as_ref().map(|text| json("--args", text)).transpose()?;
        Json::of(&job).map(Some).map_err(|error| Failure::failed(error.to_string()))
    }
}

fn word<T: Copy>(text: Option<String>, words: &[(&str, T)]) -> Option<T> {
    let text = text?;
    words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value)
}

impl Triggers {
    pub(super) async fn run(self, global: &Global, output: Output) -> Result<u8, Failure> {
        let client = || global.client();
        match self {
            Self::Next(next) => next.run(global, output).await,
            Self::Backfill(backfill) => backfill.run(global, output).await,
            Self::Ls => output.value(&client()?.triggers().await?, text::list),
            Self::Show(Show { name, limit }) => output.value(&client()?.trigger(&name, limit).await?, text::shown),
            Self::Add(add) => {
                let Add { name, flags } = *add;
                let new = flags.over(NewTrigger { name: Some(name), ..NewTrigger::default() })?;
                output.value(&client()?.add_trigger(&new).await?, text::one)
            }
            Self::Edit(edit) => {
                let Edit { name, flags } = *edit;
                let client = client()?;
                let asked = client.trigger(&name, 1).await?.trigger.asked;
                let was: NewTrigger = asked.read().map_err(|error| Failure::failed(error.to_string()))?;
                output.value(&client.edit_trigger(&name, &flags.over(was)?).await?, text::one)
            }
            Self::Pause(One { name, why }) => {
                output.value(&client()?.pause_trigger(&name, &why.asked()).await?, text::one)
            }
            Self::Resume(Resume { name, free, why }) => {
                output.value(&client()?.resume_trigger(&name, free, &why.asked()).await?, text::one)
            }
            Self::Fire(One { name, why }) => {
                output.value(&client()?.fire_trigger(&name, &why.asked()).await?, |fired| fired.job.to_string())
            }
            Self::Rm(One { name, why }) => output.value(&client()?.remove_trigger(&name, &why.asked()).await?, |row| {
                format!("{} is removed; it had fired {} jobs", row.name, row.fired)
            }),
        }
    }
}
