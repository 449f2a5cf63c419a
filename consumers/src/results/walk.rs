//! Lists by several things at once, and by words: newest first, a stretch of one index after another, for a bounded time.
//!
//! Owns which index leads and when a walk ends. A walk whose time is over says how far it came, and goes on from there
//! when it is asked. Refuses to look at more rows than the time allows, however few of them match.

use std::time::Duration;

use spinor_executors::{Job, State};
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    JobFilter, JobRow, Page, ResultsError, Store,
    change::clip,
    database::{Column, Flavour, Value},
    read::{JOB_ROW, JOB_ROW_COLUMNS, Where, cursor, job_row, json, place_of, rows_asked, time},
};
use crate::hidden::Hidden;

/// A walk takes about so long.
pub const LASTS: Duration = Duration::from_millis(50);
/// Rows of the first stretch; the next ones are as long as the time that is left allows.
const FIRST: u64 = 500;
const LONGEST: u64 = 20_000;
/// Words that are looked for, the first ones.
const WORDS: usize = 8;
/// Which lead is the rarest is counted up to here.
const COUNTED: u64 = 10_000;

/// A test and its values.
#[derive(Clone)]
pub struct Test(pub String, pub Vec<Value>);

/// One test that an index answers, in the order of time.
pub struct Lead {
    /// The index.
    pub index: &'static str,
    /// The test; none: every row.
    pub test: Option<Test>,
}

/// Rows of a table in the order of an index.
pub struct Road {
    /// The table.
    pub table: &'static str,
    /// The column of the time.
    pub time: &'static str,
    /// The column that decides between rows of one instant.
    pub id: &'static str,
    /// What is read of a row.
    pub columns: String,
    /// What leads.
    pub lead: Lead,
    /// What holds for the time, of all stretches.
    pub within: Vec<Test>,
    /// What else must hold of a row.
    pub rest: Vec<Test>,
}

/// What a walk found.
pub struct Walked {
    /// The rows, at most as many as were asked for.
    pub rows: Vec<Column>,
    /// Where it goes on; none at the end.
    pub next: Option<(i64, Uuid)>,
    /// The time was over before enough rows were found.
    pub tired: bool,
}

impl Flavour {
    /// Makes a statement use this index.
    pub(super) fn by(self, index: &str) -> String {
        match self {
            Self::Sqlite => format!(" INDEXED BY {index}"),
            Self::MySql | Self::MariaDb => format!(" FORCE INDEX ({index})"),
        }
    }
}

impl Road {
    pub(super) fn asked(&self, from: Option<(i64, Uuid)>, to: Option<(i64, Uuid)>, rest: bool) -> Where {
        let (mut asked, Self { time, id, .. }) = (Where::default(), self);
        let rest = self.rest.iter().filter(|_| rest);
        for Test(test, values) in self.lead.test.iter().chain(&self.within).chain(rest) {
            asked.add(test, values.clone());
        }
        if let Some((at, last)) = from {
            asked.and(
                &format!("{time} <= ? AND ({time} < ? OR {id} < ?)"),
                [Value::Int(at), Value::Int(at), Value::Id(last)],
            );
        }
        if let Some((at, last)) = to {
            asked.and(
                &format!("{time} >= ? AND ({time} > ? OR {id} >= ?)"),
                [Value::Int(at), Value::Int(at), Value::Id(last)],
            );
        }
        asked
    }
}

impl Store {
    /// Walks a road from a place on, until there are `most` rows that `keeps`, or the time is over.
    pub(super) async fn walk(
        &self,
        road: &Road,
        from: Option<(i64, Uuid)>,
        most: usize,
        lasts: Duration,
        keeps: impl Fn(&Column) -> Result<bool, ResultsError>,
        place: impl Fn(&Column) -> Result<(i64, Uuid), ResultsError>,
    ) -> Result<Walked, ResultsError> {
        let (begun, mut length) = (Instant::now(), FIRST);
        let (mut rows, mut from) = (Vec::new(), from);
        loop {
            let before = begun.elapsed();
            // One index answers all: what is found first is what was asked for.
            let end = if road.rest.is_empty() { None } else { self.end_of(road, from, length).await? };
            let asked = road.asked(from, end, true);
            let Road { table, time, id, columns, lead, .. } = road;
            let by = self.database.flavour().by(lead.index);
            let left = most - rows.len() + 1;
            let sql = format!("SELECT {columns} FROM {table}{by}{asked} ORDER BY {time} DESC, {id} DESC LIMIT {left}");
            let found = self.database.ask(sql, asked.values).await?;
            let full = found.len() == left;
            let mut last = None;
            for row in found {
                last = Some(place(&row)?);
                if !keeps(&row)? {
                    continue;
                }
                if rows.len() == most {
                    let next = rows.last().map(&place).transpose()?;
                    return Ok(Walked { rows, next, tired: false });
                }
                rows.push(row);
            }
            from = match (full, end) {
                // Rows were left out that only looked as if they matched: the stretch is not at its end.
                (true, _) => last,
                (false, Some(end)) => Some(end),
                (false, None) => return Ok(Walked { rows, next: None, tired: false }),
            };
            let spent = begun.elapsed();
            // Too little time for another stretch is none.
            if spent >= lasts * 3 / 4 {
                return Ok(Walked { rows, next: from, tired: true });
            }
            length = next_length(length, spent - before, lasts - spent);
        }
    }

    /// The last row of the next stretch of so many rows; none when the road ends before it.
    pub(super) async fn end_of(
        &self,
        road: &Road,
        from: Option<(i64, Uuid)>,
        length: u64,
    ) -> Result<Option<(i64, Uuid)>, ResultsError> {
        let asked = road.asked(from, None, false);
        let (Road { table, time, id, .. }, by) = (road, self.database.flavour().by(road.lead.index));
        let sql = format!(
            "SELECT {time}, {id} FROM {table}{by}{asked} ORDER BY {time} DESC, {id} DESC LIMIT 1 OFFSET {}",
            length - 1
        );
        let rows = self.database.ask(sql, asked.values).await?;
        rows.first().map(|row| Ok((row.int(0)?, row.id(1)?))).transpose()
    }

    /// Jobs that must pass several tests, of which no index answers more than one.
    pub(super) async fn jobs_by_walk(
        &self,
        filter: &JobFilter,
        hidden: &Hidden,
        lasts: Duration,
    ) -> Result<Page<JobRow>, ResultsError> {
        let begun = Instant::now();
        let words = words(filter.text.as_deref().unwrap_or_default());
        let within = [("created >= ?", filter.since), ("created <= ?", filter.until)];
        let within = within
            .into_iter()
            .filter_map(|(test, at)| at.map(|at| Test(test.to_owned(), vec![Value::Int(at.as_microsecond())])));
        let within: Vec<Test> = within.collect();
        let mut leads = leads(filter);
        let chosen = self.rarest(&leads, &within).await?;
        let lead = if leads.is_empty() { Lead { index: "jobs_created", test: None } } else { leads.remove(chosen) };
        let rest = leads.into_iter().filter_map(|lead| lead.test).chain(words.iter().map(|word| holds(word))).collect();
        let job = if words.is_empty() { "NULL" } else { "jobs.job" };
        let columns = format!("{JOB_ROW}, {job}");
        let road = Road { table: "jobs", time: "created", id: "id", columns, lead, within, rest };
        let from = filter.cursor.as_deref().map(|text| {
            place_of(text)
                .ok_or_else(|| ResultsError::Misconfigured(format!("`{}` is no cursor of a list", clip(text, 80))))
        });
        let place = |row: &Column| job_row(row).map(|row| (row.created.as_microsecond(), row.id));
        let keeps = |row: &Column| is_seen(row, &words, hidden);
        let most = rows_asked(filter.limit) as usize;
        let Walked { rows, next, tired } =
            self.walk(&road, from.transpose()?, most, lasts.saturating_sub(begun.elapsed()), keeps, place).await?;
        let rows = rows.iter().map(job_row).collect::<Result<Vec<_>, _>>()?;
        let looked = next.filter(|_| tired).map(|(at, _)| time(at)).transpose()?;
        let next = next.map(|(at, id)| time(at).map(|at| cursor(at, id))).transpose()?;
        Ok(Page { rows, next, looked })
    }

    /// The lead with the fewest rows, as far as a short look tells.
    async fn rarest(&self, leads: &[Lead], within: &[Test]) -> Result<usize, ResultsError> {
        let (mut chosen, mut least) = (0, u64::MAX);
        if leads.len() < 2 {
            return Ok(chosen);
        }
        for (place, Lead { index, test }) in leads.iter().enumerate() {
            let mut asked = Where::default();
            test.iter().chain(within).for_each(|Test(test, values)| asked.add(test, values.clone()));
            let by = self.database.flavour().by(index);
            let sql = format!("SELECT COUNT(*) FROM (SELECT created FROM jobs{by}{asked} LIMIT {COUNTED}) AS some");
            let rows = self.database.ask(sql, asked.values).await?;
            let count = rows.first().map_or(Ok(0), |row| row.int(0))?.unsigned_abs();
            if count < least {
                (chosen, least) = (place, count);
            }
        }
        Ok(chosen)
    }
}

/// Rows of the next stretch: twice as many, if they fit into what is left of the time.
pub fn next_length(length: u64, took: Duration, left: Duration) -> u64 {
    let allowed = length as f64 * left.as_secs_f64() / took.as_secs_f64().max(1e-6) / 2.0;
    (length * 2).min(allowed as u64).clamp(FIRST / 2, LONGEST)
}

/// What an index leads to, the rarest by experience first.
fn leads(filter: &JobFilter) -> Vec<Lead> {
    let text = |name: &String| Value::Text(clip(name, 255));
    let state = filter.state.map(|state| Value::Text(state.word().to_owned()));
    // Most jobs succeed.
    let (few, most) = if filter.state == Some(State::Succeeded) { (None, state) } else { (state, None) };
    let tests = [
        ("jobs_run", "run = ?", filter.run.map(Value::Id)),
        ("jobs_fingerprint", "fingerprint = ?", filter.fingerprint.as_ref().map(text)),
        ("jobs_state", "state = ?", few),
        ("jobs_kind", "kind = ?", filter.kind.as_ref().map(text)),
        ("jobs_queue", "queue = ?", filter.queue.as_ref().map(text)),
        ("jobs_state", "state = ?", most),
    ];
    let lead = |(index, test, value): (&'static str, &str, Option<Value>)| {
        value.map(|value| Lead { index, test: Some(Test(test.to_owned(), vec![value])) })
    };
    tests.into_iter().filter_map(lead).collect()
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_lowercase).take(WORDS).collect()
}

/// Columns in which words are looked for.
const TEXTS: [&str; 6] = ["kind", "queue", "error", "member", "consumer", "job"];

fn holds(word: &str) -> Test {
    let tests: Vec<String> =
        TEXTS.iter().map(|column| format!("INSTR(LOWER(COALESCE({column}, '')), ?) > 0")).collect();
    Test(format!("({})", tests.join(" OR ")), vec![Value::Text(word.to_owned()); TEXTS.len()])
}

/// Are the words in what may be shown? A secret in the args is not found by whoever guesses it.
fn is_seen(row: &Column, words: &[String], hidden: &Hidden) -> Result<bool, ResultsError> {
    let Some(text) = row.maybe_text(JOB_ROW_COLUMNS)? else { return Ok(true) };
    let shown = job_row(row)?;
    if !hidden.has_some(&shown.kind) {
        return Ok(true);
    }
    let mut job: Job = json(&text)?;
    hidden.hide_in(&mut job);
    let job = serde_json::to_string(&job).unwrap_or_default();
    let texts = [Some(shown.kind), Some(shown.queue), shown.error, shown.consumer, Some(job)];
    let texts: Vec<String> = texts.into_iter().flatten().map(|text| text.to_lowercase()).collect();
    Ok(words.iter().all(|word| texts.iter().any(|text| text.contains(word.as_str()))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        entry::Entry,
        results::{Results, ResultsTarget},
    };
    use spinor_executors::Json;

    #[tokio::test]
    async fn a_walk_whose_time_is_over_says_how_far_it_came_and_goes_on_from_there() {
        let file = std::env::temp_dir().join(format!("spinor-walk-{}.db", Uuid::now_v7()));
        let results = Results::open(&ResultsTarget::Sqlite(file.clone())).await.unwrap();
        let queued = |number: usize| {
            let args = format!("{{\"note\":\"{}\"}}", if number == 3 { "Needle" } else { "hay" });
            Entry::Queued(Box::new(Job::new("image.resize", "images", Json::new(args).unwrap())))
        };
        results.store(&(0..1300).map(queued).collect::<Vec<_>>()).await.unwrap();
        let known = Hidden::default();
        let mut filter = JobFilter { text: Some("needle".to_owned()), ..JobFilter::default() };
        let (mut looks, mut found) = (Vec::new(), 0);
        loop {
            let page = results.0.jobs_by_walk(&filter, &known, Duration::ZERO).await.unwrap();
            found += page.rows.len();
            looks.extend(page.looked);
            assert_eq!(page.looked.is_some(), page.next.is_some());
            filter.cursor = page.next;
            if filter.cursor.is_none() {
                break;
            }
        }
        assert!(found == 1 && looks.len() == 2, "{found} {looks:?}");
        assert!(looks[0] > looks[1], "each goes further back: {looks:?}");
        let both =
            JobFilter { kind: Some("image.resize".to_owned()), state: Some(State::Failed), ..JobFilter::default() };
        let page = results.0.jobs_by_walk(&both, &known, Duration::ZERO).await.unwrap();
        assert_eq!((page.rows.len(), page.next), (0, None), "there are no failed ones, which is seen at once");
        results.close().await;
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{end}", file.display()));
        }
    }
}
