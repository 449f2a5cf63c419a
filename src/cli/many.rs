//! `spinor publish --count` and `--batch`: many jobs, and how all of them went.
//!
//! Owns the batches they are published in, the count of how they ended and the progress on a
//! terminal. Refuses to keep their reports: the record has them, and here only ids stay.

use std::{
    collections::BTreeSet,
    io::IsTerminal as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use spinor_executors::State;
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    Failure,
    failure::{DONE, FAILED, UNREACHABLE},
    output::Output,
    publish::{Patience, Reasons, told},
};
use crate::{
    api::{
        BatchItem, Problem,
        new_job::{self, NewJob},
    },
    client::{Client, ClientError},
};

/// So many jobs are published in one request.
const BATCH: usize = 1000;
/// So many jobs are waited for in one request.
const CHUNK: usize = 1000;
/// So many such requests at a time.
const WAITS: usize = 4;
/// A request that ran so long is answered with what has ended, for the eyes.
const SIGHT: Duration = Duration::from_secs(2);

/// What was published.
#[derive(Debug, Serialize)]
pub struct Many {
    published: usize,
    refused: usize,
    jobs: Vec<BatchItem>,
}

/// How all of them went.
#[derive(Debug, Default, Serialize)]
struct Ended {
    jobs: usize,
    succeeded: usize,
    failed: usize,
    /// The broker did not take them.
    refused: usize,
    /// Accepted, and not known to have ended.
    pending: usize,
    failed_ids: Vec<Uuid>,
    pending_ids: BTreeSet<Uuid>,
}

impl Many {
    /// Publishes so many jobs alike.
    pub async fn publish(client: &Client, job: &NewJob, count: u32) -> Result<Self, Failure> {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        // They are alike: which of them it is says nothing.
        let named = |problem: Problem, _| {
            let field = place_of(&problem).map(|(_, field)| field).or(problem.field);
            ClientError::Refused(Box::new(Problem { field, ..problem })).into()
        };
        Self::publish_each(client, count, |places| places.map(|_| job.clone()).collect(), named).await
    }

    /// Publishes the jobs of a file; what is wrong with one of them is told with its line.
    pub async fn publish_all(client: &Client, lines: &Lines) -> Result<Self, Failure> {
        let named = |problem: Problem, sent: usize| match place_of(&problem) {
            Some((place, field)) => {
                let line = lines.numbers.get(sent + place).copied().unwrap_or_default();
                Failure::usage(format!("{}:{line}: `{field}`: {}", lines.file.display(), problem.detail))
            }
            None => ClientError::Refused(Box::new(problem)).into(),
        };
        Self::publish_each(client, lines.jobs.len(), |places| lines.jobs[places].to_vec(), named).await
    }

    async fn publish_each(
        client: &Client,
        count: usize,
        of: impl Fn(std::ops::Range<usize>) -> Vec<NewJob>,
        named: impl Fn(Problem, usize) -> Failure,
    ) -> Result<Self, Failure> {
        let mut jobs: Vec<BatchItem> = Vec::new();
        while jobs.len() < count {
            let alike = of(jobs.len()..count.min(jobs.len() + BATCH));
            let answer = told(client, client.publish_batch(&alike)).await.map_err(|error| {
                let failure = match error {
                    ClientError::Refused(problem) => named(*problem, jobs.len()),
                    error => error.into(),
                };
                let message = match jobs.as_slice() {
                    [] => failure.message,
                    [first, ..] => format!(
                        "{}\n{} of {count} jobs were sent before that, from {} on; `spinor jobs ls` lists them",
                        failure.message,
                        jobs.len(),
                        first.id
                    ),
                };
                Failure { code: failure.code, message }
            })?;
            if answer.jobs.len() != alike.len() {
                let (asked, got) = (alike.len(), answer.jobs.len());
                return Err(Failure::failed(format!(
                    "{asked} jobs were sent, and {got} answered; `spinor jobs ls` lists them"
                )));
            }
            jobs.extend(answer.jobs);
        }
        let refused = jobs.iter().filter(|job| job.problem.is_some()).count();
        Ok(Self { published: jobs.len() - refused, refused, jobs })
    }

    /// Prints what was published; an error when the broker refused some.
    pub fn tell(&self, output: Output) -> Result<u8, Failure> {
        output.value(self, |many| format!("{} jobs published", many.published))?;
        self.first_refusal().map_or(Ok(DONE), |problem| {
            let (refused, all) = (self.refused, self.jobs.len());
            Err(Failure::failed(format!("{refused} of {all} jobs were refused; the first: {problem}")))
        })
    }

    fn first_refusal(&self) -> Option<&Problem> {
        self.jobs.iter().find_map(|job| job.problem.as_ref())
    }

    /// Waits for the end of all and prints how they went; done only when all succeeded.
    pub async fn wait(&self, client: &Client, timeout: Option<Duration>, output: Output) -> Result<u8, Failure> {
        let end = timeout.map(|timeout| Instant::now() + timeout);
        let ids = self.jobs.iter().filter(|job| job.problem.is_none()).map(|job| job.id);
        let ended = Ended {
            jobs: self.jobs.len(),
            refused: self.refused,
            pending_ids: ids.clone().collect(),
            ..Ended::default()
        };
        let bar = progress(self.published);
        let ids: Vec<Uuid> = ids.collect();
        let ended = Mutex::new(ended);
        let waits = stream::iter(ids.chunks(CHUNK).enumerate()).map(|(place, chunk)| {
            // One speaks for all.
            let mut reasons = (place == 0).then(Reasons::default);
            let (ended, bar) = (&ended, &bar);
            async move {
                chunk_ended(client, chunk, end, &mut reasons, |id, state| {
                    lock(ended).count(id, state);
                    bar.inc(1);
                })
                .await
            }
        });
        let lost = waits.buffer_unordered(WAITS).try_collect::<()>().await.err();
        let mut ended = ended.into_inner().unwrap_or_else(PoisonError::into_inner);
        bar.finish_and_clear();
        ended.pending = ended.pending_ids.len();
        output.value(&ended, Ended::text)?;
        if let Some(problem) = self.first_refusal() {
            eprintln!("spinor: {} jobs were refused; the first: {problem}", self.refused);
        }
        match lost {
            None => Ok(if ended.succeeded == ended.jobs { DONE } else { FAILED }),
            Some(error) => {
                eprintln!(
                    "spinor: {} jobs were accepted, but how they went is not known: {error}\n\
                     Do not publish them again; `spinor jobs wait ID` waits for one, `spinor jobs ls` lists them",
                    ended.pending
                );
                Ok(UNREACHABLE)
            }
        }
    }
}

/// `[7].args.path` as the seventh and `args.path`.
fn place_of(problem: &Problem) -> Option<(usize, String)> {
    let (place, field) = problem.field.as_deref()?.strip_prefix('[')?.split_once(']')?;
    Some((place.parse().ok()?, field.trim_start_matches('.').to_owned()))
}

/// The jobs of a file, and the line that each is in.
pub struct Lines {
    file: PathBuf,
    jobs: Vec<NewJob>,
    numbers: Vec<usize>,
}

/// Reads a file with a job in each line; the first wrong field is named with its line.
pub fn read(file: &Path) -> Result<Lines, Failure> {
    let place = file.display();
    let text = std::fs::read(file).map_err(|error| Failure::usage(format!("--batch {place}: {error}")))?;
    let (mut jobs, mut numbers) = (Vec::new(), Vec::new());
    for (line, text) in text.split(|byte| *byte == b'\n').enumerate() {
        if text.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let wrong = |problem: Problem| {
            let field = problem.field.map(|field| format!("`{field}`: ")).unwrap_or_default();
            Failure::usage(format!("{place}:{}: {field}{}", line + 1, problem.detail))
        };
        match new_job::read(text).map_err(wrong)? {
            (mut job, false) => {
                jobs.append(&mut job);
                numbers.push(line + 1);
            }
            (_, true) => {
                return Err(Failure::usage(format!("{place}:{}: found a list, expected one job a line", line + 1)));
            }
        }
    }
    if jobs.is_empty() {
        return Err(Failure::usage(format!("--batch {place}: there is no job in it")));
    }
    Ok(Lines { file: file.to_owned(), jobs, numbers })
}

impl Ended {
    fn count(&mut self, id: Uuid, state: State) {
        self.pending_ids.remove(&id);
        if matches!(state, State::Succeeded) {
            self.succeeded += 1;
        } else {
            self.failed += 1;
            self.failed_ids.push(id);
        }
    }

    fn text(&self) -> String {
        let mut text = format!("{} jobs: {} succeeded, {} failed", self.jobs, self.succeeded, self.failed);
        for (number, word) in [(self.refused, "refused"), (self.pending, "not known to have ended")] {
            if number > 0 {
                text.push_str(&format!(", {number} {word}"));
            }
        }
        for (ids, word) in [(self.failed_ids.first(), "failed"), (self.pending_ids.first(), "pending")] {
            if let Some(id) = ids {
                text.push_str(&format!("\nfirst {word}: {id}"));
            }
        }
        text
    }
}

/// Waits until all of these have ended or the time is over. A record that does not answer for a while
/// is waited for as well.
async fn chunk_ended(
    client: &Client,
    jobs: &[Uuid],
    end: Option<Instant>,
    reasons: &mut Option<Reasons>,
    mut each: impl FnMut(Uuid, State),
) -> Result<(), ClientError> {
    let mut going: BTreeSet<Uuid> = jobs.iter().copied().collect();
    let mut patience = Patience::default();
    while !going.is_empty() {
        let left = end.map_or(SIGHT, |end| end.saturating_duration_since(Instant::now()));
        let asked: Vec<Uuid> = going.iter().copied().collect();
        let waited = client.wait_many(&asked, left.min(SIGHT)).await;
        let over = end.is_some_and(|end| Instant::now() >= end);
        let before = going.len();
        for job in patience.after(waited, over, "these jobs").await?.unwrap_or_default().ended {
            if going.remove(&job.id) {
                each(job.id, job.state);
            }
        }
        if over {
            break;
        }
        if let (Some(reasons), Some(first), true) = (reasons.as_mut(), going.first(), going.len() == before) {
            reasons.ask(client, *first).await;
        }
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A bar on a terminal, nothing elsewhere; standard output carries the result alone.
fn progress(jobs: usize) -> ProgressBar {
    let target =
        if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template("[{bar:24}] {pos}/{len} jobs ended")
        .map_or_else(|_| ProgressStyle::default_bar(), |style| style.progress_chars("=> "));
    ProgressBar::with_draw_target(Some(jobs as u64), target).with_style(style)
}
