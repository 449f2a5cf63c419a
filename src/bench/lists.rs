//! `spinor bench lists`: how long the Spinor that runs takes for each list, facet, group and figure.
//!
//! Owns the questions: those a person asks on the page or the command line, with words that the record really holds, the
//! most and the least common ones. Only reads. Refuses to judge anything but the time: what is over [`BOUND`] is marked.

use std::fmt;

use anyhow::{Result, bail};
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::client::{Client, ClientError};

/// No answer should take longer at the server.
const BOUND: f64 = 100.0;
const STATES: [&str; 8] = ["queued", "succeeded", "failed", "discarded", "cancelled", "expired", "dead", "lost"];

/// How long each question took.
#[derive(Clone, Debug, Serialize)]
pub struct Lists {
    /// A line for each.
    pub lists: Vec<ListTime>,
    /// How many took longer than they should, by their slowest answer but the first.
    pub slow: usize,
}

/// One question, asked again and again.
#[derive(Clone, Debug, Serialize)]
pub struct ListTime {
    /// What was asked: a path with its query.
    pub asked: String,
    /// The first answer, in milliseconds.
    pub first_ms: f64,
    /// The median of the others.
    pub median_ms: f64,
    /// The slowest of the others.
    pub most_ms: f64,
    /// The length of an answer in bytes.
    pub bytes: usize,
    /// What it was refused with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

impl ListTime {
    fn is_slow(&self) -> bool {
        self.most_ms > BOUND || self.refused.is_some()
    }
}

impl fmt::Display for Lists {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(to, "{:>9} {:>9} {:>9} {:>10}", "first ms", "median", "most", "bytes")?;
        for line in &self.lists {
            let ListTime { asked, first_ms, median_ms, most_ms, bytes, refused } = line;
            let mark = if line.is_slow() { "  <-" } else { "" };
            let why = refused.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            writeln!(to, "{first_ms:>9.1} {median_ms:>9.1} {most_ms:>9.1} {bytes:>10}  {asked}{why}{mark}")?;
        }
        writeln!(
            to,
            "{} of {} took more than {BOUND} ms, the first answer of each left out",
            self.slow,
            self.lists.len()
        )
    }
}

/// Asks everything so many times, and once more before.
pub async fn run(client: &Client, rounds: usize, only: Option<&str>) -> Result<Lists> {
    if rounds == 0 {
        bail!("--rounds 0 measures nothing");
    }
    let mut lists = Vec::new();
    for asked in questions(client).await? {
        if only.is_none_or(|only| asked.contains(only)) {
            lists.push(time(client, asked, rounds).await?);
        }
    }
    let slow = lists.iter().filter(|line| line.is_slow()).count();
    Ok(Lists { lists, slow })
}

async fn time(client: &Client, asked: String, rounds: usize) -> Result<ListTime> {
    let (mut times, mut bytes, mut refused) = (Vec::new(), 0, None);
    for _ in 0..=rounds {
        let begun = Instant::now();
        match client.read_raw(&asked).await {
            Ok(body) => bytes = body.len(),
            Err(ClientError::Refused(problem)) => refused = Some(problem.detail),
            Err(error) => return Err(error.into()),
        }
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    let first_ms = times.remove(0);
    times.sort_by(f64::total_cmp);
    let (median_ms, most_ms) = (times[times.len() / 2], times[times.len() - 1]);
    Ok(ListTime { asked, first_ms, median_ms, most_ms, bytes, refused })
}

/// The words of the record that the questions are made of.
struct Words {
    kinds: Vec<String>,
    queues: Vec<String>,
    job: String,
    run: Option<String>,
    group: Option<String>,
    dead: Option<String>,
}

async fn questions(client: &Client) -> Result<Vec<String>> {
    let words = Words::read(client).await?;
    let mut all: Vec<String> = [
        "/status",
        "/queues",
        "/kinds",
        "/consumers",
        "/consumers/groups",
        "/triggers",
        "/replays",
        "/audit",
        "/users",
        "/tokens",
        "/locks",
        "/nodes",
        "/figures?since=1h",
        "/figures?since=24h",
        "/figures?since=72h",
        "/jobs",
        "/jobs?limit=1000",
        "/jobs?since=1h",
        "/jobs?until=3d",
        "/jobs?kind=never.seen",
        "/jobs?queue=never-seen",
        "/delayed",
        "/delayed?kind=never.seen",
        "/delayed?queue=never-seen",
        "/failures",
        "/failures?limit=1000",
        "/failures?since=1h",
        "/failures?since=3d",
        "/failures?kind=never.seen",
        "/dead",
        "/dead?limit=1000",
        "/dead?kind=never.seen",
        "/dead?queue=never-seen",
        "/dead?reason=never%20seen",
        "/dead?since=1h",
        "/runs",
        "/runs?limit=1000",
    ]
    .map(str::to_owned)
    .into();
    all.push(format!("/figures?since=72h&kind={}", words.kinds[0]));
    all.push(format!("/jobs/{}", words.job));
    all.push(format!("/jobs/{}/why", words.job));
    for state in STATES {
        all.push(format!("/jobs?state={state}"));
        all.push(format!("/jobs?state={state}&until=3d"));
        for kind in &words.kinds {
            all.push(format!("/jobs?state={state}&kind={kind}"));
        }
        for queue in &words.queues {
            all.push(format!("/jobs?state={state}&queue={queue}"));
        }
        if !matches!(state, "queued" | "succeeded") {
            all.push(format!("/failures?state={state}"));
        }
    }
    for kind in &words.kinds {
        all.push(format!("/jobs?kind={kind}"));
        all.push(format!("/failures?kind={kind}"));
        all.push(format!("/dead?kind={kind}"));
        all.push(format!("/delayed?kind={kind}"));
        for queue in &words.queues {
            all.push(format!("/jobs?kind={kind}&queue={queue}"));
            all.push(format!("/jobs?state=failed&kind={kind}&queue={queue}"));
            all.push(format!("/jobs?state=succeeded&kind={kind}&queue={queue}"));
        }
    }
    for queue in &words.queues {
        all.push(format!("/jobs?queue={queue}"));
        all.push(format!("/failures?queue={queue}"));
        all.push(format!("/dead?queue={queue}"));
        all.push(format!("/delayed?queue={queue}"));
    }
    if let Some(group) = &words.group {
        all.push(format!("/failures/{group}"));
        all.push(format!("/jobs?fingerprint={group}"));
        all.push(format!("/jobs?fingerprint={group}&state=lost"));
        all.push(format!("/dead?fingerprint={group}"));
    }
    if let Some(run) = &words.run {
        all.push(format!("/runs/{run}"));
        all.push(format!("/jobs?run={run}"));
        all.push(format!("/jobs?run={run}&state=lost"));
    }
    all.extend(words.dead.map(|dead| format!("/dead/{dead}")));
    Ok(all)
}

impl Words {
    /// The kinds and queues of the newest jobs: the most and the least common, and one that is between.
    async fn read(client: &Client) -> Result<Self> {
        let jobs = rows(client, "/jobs?limit=1000&state=succeeded").await?;
        let Some(job) = jobs.first().map(|row| text(row, "id")) else {
            bail!("no job has succeeded here: `spinor bench seed` fills the record, then start `spinor up` on it");
        };
        let failed = rows(client, "/jobs?state=failed&limit=1").await?;
        Ok(Self {
            kinds: common(&jobs, "kind"),
            queues: common(&jobs, "queue"),
            job,
            run: rows(client, "/runs?limit=1").await?.first().map(|row| text(row, "id")),
            group: failed.first().map(|row| text(row, "fingerprint")),
            dead: rows(client, "/dead?limit=1").await?.first().map(|row| text(row, "job")),
        })
    }
}

async fn rows(client: &Client, path: &str) -> Result<Vec<Value>> {
    let page: Value = serde_json::from_slice(&client.read_raw(path).await?)?;
    Ok(page["rows"].as_array().cloned().unwrap_or_default())
}

fn text(row: &Value, field: &str) -> String {
    row[field].as_str().unwrap_or_default().to_owned()
}

/// The most common word, one between, and the least common.
fn common(rows: &[Value], field: &str) -> Vec<String> {
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    rows.iter().for_each(|row| *counts.entry(text(row, field)).or_default() += 1);
    let mut words: Vec<(usize, String)> = counts.into_iter().map(|(word, count)| (count, word)).collect();
    words.sort();
    let mut chosen: Vec<String> =
        [words.len() - 1, words.len() / 2, 0].into_iter().map(|place| words[place].1.clone()).collect();
    chosen.dedup();
    chosen
}
