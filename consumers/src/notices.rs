//! Sends notices to a web-hook: what ended badly, each sort of it once in a window of time.
//!
//! Owns the loop of one receiver: it reads what the recorder wrote down, posts it, and marks it sent, so that a
//! notice is sent at least once, whoever is killed in between. One process at a time does it, by a lease. A
//! receiver that is away is tried again with a growing pause and given up after a day. Refuses to keep anybody
//! waiting: recorder and other receivers know nothing of it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use spinor_executors::State;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    install_tls_provider,
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
    url: String,
    http: reqwest::Client,
    results: Results,
    state: StateCell,
}

/// What the loop remembers.
struct Memory {
    owner: Uuid,
    leads: Option<Instant>,
    quiet: bool,
}

impl Notices {
    /// To the web-hook `url`, whose name is `name`; an error when no client can be made.
    pub fn new(name: String, url: String, results: Results, state: StateCell) -> Result<Self, String> {
        let http = client(&url)?;
        Ok(Self { name, url, http, results, state })
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
            match post(&self.http, &self.url, &notice).await {
                Ok(()) => {
                    self.results.notice_sent(&notice).await?;
                    if std::mem::take(&mut memory.quiet) {
                        tracing::info!(notify = self.name, "The web-hook takes notices again.");
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
                            "The web-hook takes no notice; they are kept and tried again."
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
pub async fn try_out(name: &str, url: &str) -> Result<(), String> {
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
    post(&client(url)?, url, &notice).await
}

fn client(url: &str) -> Result<reqwest::Client, String> {
    install_tls_provider();
    let mut builder = reqwest::Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none());
    if !url.starts_with("https://") {
        // The machine's authorities are not missed where there are none.
        builder = builder.tls_certs_only([]);
    }
    builder.build().map_err(|error| error.to_string())
}

async fn post(http: &reqwest::Client, url: &str, notice: &Notice) -> Result<(), String> {
    let key = format!("{}-{}-{}-{}", notice.name, notice.state.word(), notice.fingerprint, notice.since.as_second());
    let request = http.post(url).header("Idempotency-Key", key).json(notice);
    // The address may hold a secret.
    let answer = request.send().await.map_err(|error| {
        if error.is_timeout() { "no answer in time".to_owned() } else { error.without_url().to_string() }
    })?;
    let status = answer.status();
    if status.is_success() { Ok(()) } else { Err(format!("it answered {status}")) }
}

/// The pause after one more failure; none when it is given up.
fn again(notice: &Notice, now: Timestamp) -> Option<Duration> {
    let wait = FIRST.saturating_mul(1 << notice.tries.min(20)).min(LONGEST);
    (now.duration_since(notice.at) < GIVE_UP).then_some(wait)
}
