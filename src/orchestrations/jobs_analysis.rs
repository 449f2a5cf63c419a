//! The figures of a run of jobs: how long, and along which way.
//!
//! Owns the definition of the critical path: from the member that ended last back over the need that ended
//! last of each. Pure.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::Serialize;
use spinor_consumers::results::{JobRow, RunRecord};
use uuid::Uuid;

/// So many of the slowest are named.
const SLOWEST: usize = 5;

/// The figures of one run of jobs. Times in seconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JobAnalysis {
    /// The run.
    pub id: Uuid,
    /// From its announcement to the end of the job that ended last.
    pub actual_runtime: f64,
    /// What its jobs ran for, added up.
    pub combined_execution_time: f64,
    /// Jobs that succeeded.
    pub total_successes: usize,
    /// Jobs that ended otherwise.
    pub total_failures: usize,
    /// Members that were never started.
    pub total_skipped: usize,
    /// The members one after the other that took the time, the first first.
    pub critical_path: Vec<OnPath>,
    /// What of the runtime they ran for; the rest was waiting.
    pub critical_path_execution_time: f64,
    /// The jobs that ran longest, longest first.
    pub slowest: Vec<OnPath>,
}

/// A member with its times.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OnPath {
    /// Its name.
    pub member: String,
    /// From the end of what it needed, or the announcement, to its own start.
    pub waited: f64,
    /// From its start to its end; of its last execution.
    pub ran: f64,
}

/// The figures, out of the record.
pub fn of_jobs(record: &RunRecord) -> JobAnalysis {
    let jobs: HashMap<Uuid, &JobRow> = record.jobs.iter().map(|(_, row)| (row.id, row)).collect();
    let places: HashMap<&str, usize> =
        record.member_list.iter().enumerate().map(|(place, member)| (member.name.as_str(), place)).collect();
    let times = |place: usize| {
        let row = jobs.get(&record.member_list[place].job)?;
        Some((row.started?, row.ended?))
    };
    // What follows all the members has no needs of its own.
    let last_of =
        |of: &mut dyn Iterator<Item = usize>| of.filter_map(|at| Some((times(at)?.1, at))).max().map(|(_, at)| at);
    let before = |place: usize| {
        let member = &record.member_list[place];
        match member.name.as_str() {
            "then" | "finally" => {
                let (start, _) = times(place)?;
                last_of(
                    &mut (0..record.member_list.len())
                        .filter(|at| *at != place && times(*at).is_some_and(|(_, end)| end <= start)),
                )
            }
            _ => last_of(&mut member.needs.iter().filter_map(|need| places.get(need.as_str()).copied())),
        }
    };
    let on_path = |place: usize, since: Timestamp| {
        let (start, end) = times(place).unwrap_or((since, since));
        OnPath {
            member: record.member_list[place].name.clone(),
            waited: seconds(since, start),
            ran: seconds(start, end),
        }
    };
    let since = |place: usize| before(place).and_then(times).map_or(record.row.started, |(_, end)| end);
    let mut way = Vec::new();
    let mut at = last_of(&mut (0..record.member_list.len()));
    while let Some(place) = at.filter(|_| way.len() <= record.member_list.len()) {
        way.push(on_path(place, since(place)));
        at = before(place);
    }
    way.reverse();
    let mut all: Vec<OnPath> = (0..record.member_list.len())
        .filter(|place| times(*place).is_some())
        .map(|place| on_path(place, since(place)))
        .collect();
    all.sort_by(|one, other| other.ran.total_cmp(&one.ran).then_with(|| one.member.cmp(&other.member)));
    let count = |test: &dyn Fn(&str) -> bool| record.member_list.iter().filter(|member| test(&member.state)).count();
    let last = (0..record.member_list.len()).filter_map(|place| Some(times(place)?.1)).max();
    JobAnalysis {
        id: record.row.id,
        actual_runtime: last.map_or(0.0, |last| seconds(record.row.started, last)),
        combined_execution_time: all.iter().map(|one| one.ran).sum(),
        total_successes: count(&|state| state == "succeeded"),
        total_failures: count(&|state| !["succeeded", "skipped", "waiting", "due", "published"].contains(&state)),
        total_skipped: count(&|state| state == "skipped"),
        critical_path_execution_time: way.iter().map(|one| one.ran).sum(),
        critical_path: way,
        slowest: all.into_iter().take(SLOWEST).collect(),
    }
}

/// Two machines' clocks may differ: never below 0.
fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    ((to.as_microsecond() - from.as_microsecond()) as f64 / 1e6).max(0.0)
}

impl JobAnalysis {
    /// For people.
    pub fn table(&self) -> String {
        let mut text = format!(
            "run {}\n\nactual runtime            {:.3} s\ncombined execution time   {:.3} s\nsucceeded                 {}\n\
             failed                    {}\nskipped                   {}\n\ncritical path: {:.3} s of it running\n",
            self.id,
            self.actual_runtime,
            self.combined_execution_time,
            self.total_successes,
            self.total_failures,
            self.total_skipped,
            self.critical_path_execution_time
        );
        let line =
            |one: &OnPath| format!("  {:<24} waited {:>9.3} s, ran {:>9.3} s\n", one.member, one.waited, one.ran);
        text.extend(self.critical_path.iter().map(line));
        text.push_str("slowest\n");
        text.extend(self.slowest.iter().map(line));
        text
    }
}

#[cfg(test)]
mod tests {
    use spinor_consumers::results::{MemberRow, RunRow};
    use spinor_executors::State;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000 + millis).unwrap()
    }

    fn record(members: &[(&str, &[&str], i64, i64)]) -> RunRecord {
        let row = RunRow {
            id: Uuid::nil(),
            name: "r".into(),
            members: 4,
            steps: 0,
            replay: 0,
            started: at(0),
            ended: Some(at(1000)),
            succeeded: Some(true),
            problems: Vec::new(),
            cancel_requested: None,
        };
        let job = |place: usize| Uuid::from_u128(place as u128 + 1);
        let jobs = members.iter().enumerate().map(|(place, (name, _, start, end))| {
            let row = JobRow {
                id: job(place),
                kind: "noop".into(),
                queue: "q".into(),
                state: State::Succeeded,
                attempt: 1,
                replay: 0,
                created: at(0),
                started: Some(at(*start)),
                ended: Some(at(*end)),
                retry_at: None,
                error: None,
                run: None,
                consumer: None,
                version: None,
                fingerprint: None,
                cancel_requested: None,
            };
            ((*name).to_owned(), row)
        });
        let rows = members.iter().enumerate().map(|(place, (name, needs, ..))| MemberRow {
            name: (*name).to_owned(),
            job: job(place),
            state: "succeeded".into(),
            replay: 0,
            needs: needs.iter().map(|need| (*need).to_owned()).collect(),
            error: None,
        });
        RunRecord { row, jobs: jobs.collect(), member_list: rows.collect() }
    }

    #[test]
    fn the_critical_path_goes_back_over_the_need_that_ended_last() {
        let record = record(&[
            ("a", &[], 10, 100),
            ("slow", &[], 10, 400),
            ("b", &["a", "slow"], 450, 500),
            ("idle", &["a"], 110, 120),
            ("finally", &[], 510, 600),
        ]);
        let analysis = of_jobs(&record);
        let way: Vec<&str> = analysis.critical_path.iter().map(|one| one.member.as_str()).collect();
        assert_eq!(way, ["slow", "b", "finally"]);
        assert!((analysis.actual_runtime - 0.6).abs() < 1e-9);
        assert!((analysis.critical_path[1].waited - 0.05).abs() < 1e-9);
        assert_eq!(analysis.slowest[0].member, "slow");
        assert_eq!((analysis.total_successes, analysis.total_failures), (5, 0));
    }
}
