//! Sends notices to a web-hook or by mail: what ended badly, each sort of it once in a window of time.
//!
//! Owns the loop of one receiver: it reads what the recorder wrote down, posts it, and marks it sent, so that a
//! notice is sent at least once, whoever is killed in between. One process at a time does it, by a lease. A
//! receiver that is away is tried again with a growing pause and given up after a day. Refuses to keep anybody
//! waiting: recorder and other receivers know nothing of it.

mod hook;
mod mail;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use spinor_executors::State;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use mail::Mail;

use crate::{
    marks::StateCell,
    results::{Notice, Results, ResultsError},
};

/// Without a word of the recorder a look is taken after this long: another process may have recorded.
const LOOK: Duration = Duration::from_secs(5);
/// Who sends is the only one for this long.
const LEASE: Duration = Duration::from_secs(30);
/// A lease that is younger is not renewed.
const RENEW: Duration = Duration::from_secs(10);
/// A receiver that takes longer is away.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause after the first failure; each next one is twice as long.
const FIRST: Duration = Duration::from_secs(1);
/// No pause is longer.
const LONGEST: Duration = Duration::from_secs(900);
/// What is older is given up.
const GIVE_UP: SignedDuration = SignedDuration::from_hours(24);

/// The loop of one receiver.
pub struct Notices {
    name: String,
    sender: Sender,
    results: Results,
    state: StateCell,
}

/// Where notices go.
#[derive(Clone, PartialEq)]
pub enum Receiver {
    /// The address of a web-hook.
    Hook(String),
    /// People, by mail.
    Mail(Mail),
}

enum Sender {
    Hook(hook::Hook),
    Mail(Box<mail::Postman>),
}

/// What the loop remembers.
struct Memory {
    owner: Uuid,
    leads: Option<Instant>,
    quiet: bool,
}

impl Notices {
    /// To the receiver, whose name is `name`; an error when no client can be made.
    pub fn new(name: String, to: &Receiver, results: Results, state: StateCell) -> Result<Self, String> {
        let sender = Sender::new(to)?;
        Ok(Self { name, sender, results, state })
    }

    /// Sends until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let mut memory = Memory { owner: Uuid::now_v7(), leads: None, quiet: false };
        loop {
            // Before the look, so that what is recorded during it is not missed.
            let noticed = self.results.noticed();
            let wait = tokio::select! {
                () = stop.cancelled() => return,
                turn = self.turn(&mut memory) => turn.unwrap_or(LOOK),
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = noticed => {}
                () = sleep(wait) => {}
            }
        }
    }

    /// Sends what is due, up to the first that fails; tells when to come again.
    async fn turn(&self, memory: &mut Memory) -> Result<Duration, ResultsError> {
        if !self.lead(memory).await {
            return Ok(LOOK);
        }
        for notice in self.results.due_notices(&self.name).await? {
            match self.sender.send(&notice).await {
                Ok(()) => {
                    self.results.notice_sent(&notice).await?;
                    if std::mem::take(&mut memory.quiet) {
                        tracing::info!(notify = self.name, "The receiver takes notices again.");
                    }
                }
                Err(why) => {
                    let again = again(&notice, Timestamp::now());
                    self.results.notice_failed(&notice, again, &why).await?;
                    if again.is_none() {
                        tracing::warn!(notify = self.name, job = %notice.job, why, "A notice is given up.");
                    } else if !std::mem::replace(&mut memory.quiet, true) {
                        tracing::warn!(
                            notify = self.name,
                            why,
                            "The receiver takes no notice; they are kept and tried again."
                        );
                    }
                    return Ok(FIRST);
                }
            }
        }
        Ok(LOOK)
    }

    /// Takes the lease or renews it. While nobody says who has it, it is whose it was.
    async fn lead(&self, memory: &mut Memory) -> bool {
        if memory.leads.is_some_and(|since| since.elapsed() < RENEW) {
            return true;
        }
        let Some(state) = self.state.get() else { return memory.leads.is_some() };
        match state.lease(&format!("notices-{}", self.name), memory.owner, LEASE).await {
            Ok(epoch) => memory.leads = epoch.map(|_| Instant::now()),
            Err(error) => tracing::debug!(%error, notify = self.name, "Who sends notices is not known."),
        }
        memory.leads.is_some()
    }
}

/// Sends a made-up notice now, as a real one is sent; the error says why it was not taken.
pub async fn try_out(name: &str, to: &Receiver) -> Result<(), String> {
    let now = Timestamp::now();
    let notice = Notice {
        name: name.to_owned(),
        state: State::Failed,
        fingerprint: "test".to_owned(),
        since: now,
        kind: "noop".to_owned(),
        queue: "default".to_owned(),
        job: Uuid::nil(),
        at: now,
        error: "a test: nothing failed".to_owned(),
        times: 1,
        tries: 0,
    };
    Sender::new(to)?.send(&notice).await
}

impl Sender {
    fn new(to: &Receiver) -> Result<Self, String> {
        Ok(match to {
            Receiver::Hook(url) => Self::Hook(hook::Hook::new(url, PATIENCE)?),
            Receiver::Mail(mail) => Self::Mail(Box::new(mail::Postman::new(mail, PATIENCE)?)),
        })
    }

    async fn send(&self, notice: &Notice) -> Result<(), String> {
        let since = notice.since.as_second();
        let key = format!("{}-{}-{}-{since}", notice.name, notice.state.word(), notice.fingerprint);
        match self {
            Self::Hook(hook) => hook.send(notice, &key).await,
            // Each step has a bound of its own; a server that is slow in each is away, too.
            Self::Mail(postman) => match tokio::time::timeout(3 * PATIENCE, postman.send(notice, &key)).await {
                Ok(done) => done,
                Err(_) => Err("no answer in time".to_owned()),
            },
        }
    }
}

/// The pause after one more failure; none when it is given up.
fn again(notice: &Notice, now: Timestamp) -> Option<Duration> {
    let wait = FIRST.saturating_mul(1 << notice.tries.min(20)).min(LONGEST);
    (now.duration_since(notice.at) < GIVE_UP).then_some(wait)
}
