//! The figures of a run, out of its step reports.
//!
//! Owns the definitions (`docs/orchestrations.md` tells them to people): the twelve of Directord,
//! then what they leave out. Pure: no clock, no database; the order of the steps does not matter,
//! so async orchestrations come out right.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;
use spinor_executors::{StepReport, StepState};
use uuid::Uuid;

/// So many of the slowest steps are named.
const SLOWEST: usize = 5;

/// The figures of one run. Times in seconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Analysis {
    /// The run.
    pub id: Uuid,
    /// From the announcement to the end of the step that ended last.
    pub actual_runtime: f64,
    /// All steps' times added up.
    pub combined_execution_time: f64,
    /// The node whose steps' times add up to the least.
    pub fastest_node_execution: Option<NodeTime>,
    /// From the announcement to the end of the node's last step: the shortest.
    pub fastest_node_roundtrip: Option<NodeTime>,
    /// The node whose steps' times add up to the most.
    pub slowest_node_execution: Option<NodeTime>,
    /// From the announcement to the end of the node's last step: the longest.
    pub slowest_node_roundtrip: Option<NodeTime>,
    /// `combined_execution_time` for each job of the file, over all its nodes.
    pub total_avg_execution_time: f64,
    /// Steps that failed or were interrupted.
    pub total_failures: usize,
    /// Jobs of the file that had a step anywhere.
    pub total_jobs: usize,
    /// Nodes that had a step.
    pub total_node_count: usize,
    /// Steps that succeeded.
    pub total_successes: usize,
    /// Steps that did not run because one before them failed.
    pub total_skipped: usize,
    /// Half of the steps took no longer.
    pub step_p50: f64,
    /// 95 of 100 steps took no longer.
    pub step_p95: f64,
    /// 99 of 100 steps took no longer.
    pub step_p99: f64,
    /// The steps that took longest, longest first.
    pub slowest_steps: Vec<SlowStep>,
}

/// A node and a time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeTime {
    /// The node.
    pub node: String,
    /// Its time.
    pub seconds: f64,
}

/// A step that took long.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SlowStep {
    /// Where.
    pub node: String,
    /// The orchestration, from 0.
    pub part: u32,
    /// The job in it, from 0.
    pub item: u32,
    /// What.
    pub name: String,
    /// How long.
    pub seconds: f64,
}

/// The figures of a run that was announced at `announced`. Skipped steps took no time and are in
/// no figure but their own.
pub fn analyse(run: Uuid, announced: Timestamp, steps: &[StepReport]) -> Analysis {
    let mut ran: Vec<&StepReport> = steps.iter().filter(|step| step.state != StepState::Skipped).collect();
    ran.sort_by(|one, other| other.micros.cmp(&one.micros).then_with(|| key(one).cmp(&key(other))));
    let mut execution: BTreeMap<&str, f64> = BTreeMap::new();
    let mut roundtrip: BTreeMap<&str, f64> = BTreeMap::new();
    for step in &ran {
        *execution.entry(&step.node).or_default() += seconds(step.micros);
        let end = since(announced, step);
        roundtrip.entry(&step.node).and_modify(|last| *last = last.max(end)).or_insert(end);
    }
    let jobs: BTreeSet<(u32, u32)> = steps.iter().map(|step| (step.part, step.item)).collect();
    let nodes: BTreeSet<&str> = steps.iter().map(|step| step.node.as_str()).collect();
    let combined = seconds(ran.iter().map(|step| step.micros).sum());
    let count = |wanted: &[StepState]| steps.iter().filter(|step| wanted.contains(&step.state)).count();
    Analysis {
        id: run,
        actual_runtime: roundtrip.values().copied().fold(0.0, f64::max),
        combined_execution_time: combined,
        fastest_node_execution: shortest(&execution),
        fastest_node_roundtrip: shortest(&roundtrip),
        slowest_node_execution: longest(&execution),
        slowest_node_roundtrip: longest(&roundtrip),
        total_avg_execution_time: if jobs.is_empty() { 0.0 } else { combined / jobs.len() as f64 },
        total_failures: count(&[StepState::Failed, StepState::Interrupted]),
        total_jobs: jobs.len(),
        total_node_count: nodes.len(),
        total_successes: count(&[StepState::Succeeded]),
        total_skipped: count(&[StepState::Skipped]),
        step_p50: share(&ran, 50),
        step_p95: share(&ran, 95),
        step_p99: share(&ran, 99),
        slowest_steps: ran.iter().take(SLOWEST).map(|step| slow(step)).collect(),
    }
}

const fn key(step: &StepReport) -> (u32, u32) {
    (step.part, step.item)
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

/// From the announcement to the step's end. Two machines' clocks may differ: never below 0.
fn since(announced: Timestamp, step: &StepReport) -> f64 {
    let start = step.started.as_microsecond() - announced.as_microsecond();
    (start as f64 / 1e6 + seconds(step.micros)).max(0.0)
}

/// The smallest time that so many of a hundred steps did not exceed; the steps are longest first.
fn share(longest_first: &[&StepReport], percent: usize) -> f64 {
    let rank = (longest_first.len() * percent).div_ceil(100);
    longest_first.len().checked_sub(rank.max(1)).map_or(0.0, |index| seconds(longest_first[index].micros))
}

fn shortest(times: &BTreeMap<&str, f64>) -> Option<NodeTime> {
    times.iter().min_by(|one, other| one.1.total_cmp(other.1)).map(node_time)
}

fn longest(times: &BTreeMap<&str, f64>) -> Option<NodeTime> {
    times.iter().max_by(|one, other| one.1.total_cmp(other.1)).map(node_time)
}

fn node_time((node, seconds): (&&str, &f64)) -> NodeTime {
    NodeTime { node: (*node).to_owned(), seconds: *seconds }
}

fn slow(step: &StepReport) -> SlowStep {
    SlowStep {
        node: step.node.clone(),
        part: step.part,
        item: step.item,
        name: step.name.clone(),
        seconds: seconds(step.micros),
    }
}

impl Analysis {
    /// The figures for people: a line each, the twelve first, by the same names in capitals.
    pub fn table(&self) -> String {
        let node = |time: &Option<NodeTime>| {
            time.as_ref().map_or_else(|| "-".to_owned(), |time| format!("{:.3} s  {}", time.seconds, time.node))
        };
        // Where nothing ran there is nothing to measure: a 0 would be a figure.
        let ran = self.total_successes + self.total_failures > 0;
        let time = |seconds: f64| if ran { format!("{seconds:.3} s") } else { "-".to_owned() };
        let fine = |seconds: f64| if ran { format!("{:.2} ms", seconds * 1e3) } else { "-".to_owned() };
        let mut rows = vec![
            ("ID".to_owned(), self.id.to_string()),
            ("ACTUAL_RUNTIME".to_owned(), time(self.actual_runtime)),
            ("COMBINED_EXECUTION_TIME".to_owned(), time(self.combined_execution_time)),
            ("FASTEST_NODE_EXECUTION".to_owned(), node(&self.fastest_node_execution)),
            ("FASTEST_NODE_ROUNDTRIP".to_owned(), node(&self.fastest_node_roundtrip)),
            ("SLOWEST_NODE_EXECUTION".to_owned(), node(&self.slowest_node_execution)),
            ("SLOWEST_NODE_ROUNDTRIP".to_owned(), node(&self.slowest_node_roundtrip)),
            ("TOTAL_AVG_EXECUTION_TIME".to_owned(), fine(self.total_avg_execution_time)),
            ("TOTAL_FAILURES".to_owned(), self.total_failures.to_string()),
            ("TOTAL_JOBS".to_owned(), self.total_jobs.to_string()),
            ("TOTAL_NODE_COUNT".to_owned(), self.total_node_count.to_string()),
            ("TOTAL_SUCCESSES".to_owned(), self.total_successes.to_string()),
            ("TOTAL_SKIPPED".to_owned(), self.total_skipped.to_string()),
            ("STEP_P50 / P95 / P99".to_owned(), [self.step_p50, self.step_p95, self.step_p99].map(fine).join(" / ")),
        ];
        for (index, step) in self.slowest_steps.iter().enumerate() {
            let label = if index == 0 { "SLOWEST_STEPS" } else { "" };
            rows.push((label.to_owned(), format!("{}  {}  {}", fine(step.seconds), step.node, step.name)));
        }
        let width = rows.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
        rows.iter().map(|(label, value)| format!("{label:width$}  {value}\n")).collect()
    }
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};
    use spinor_executors::{Output, StepReport, StepState};
    use uuid::Uuid;

    use super::{Analysis, analyse};

    /// A step that started so many ms after the announcement (at 1000 s) and took so many.
    fn step(node: &str, part: u32, item: u32, start_ms: i64, took_ms: u64, state: StepState) -> StepReport {
        StepReport {
            job: Uuid::nil(),
            run: None,
            node: node.to_owned(),
            step: item,
            part,
            item,
            name: format!("{node} {part}/{item}"),
            verb: "RUN".to_owned(),
            state,
            failure: None,
            exit: None,
            stdout: Output::default(),
            stderr: Output::default(),
            started: announced() + SignedDuration::from_millis(start_ms),
            micros: took_ms * 1000,
        }
    }

    fn announced() -> Timestamp {
        Timestamp::from_second(1000).unwrap()
    }

    fn figures(steps: &[StepReport]) -> Analysis {
        analyse(Uuid::nil(), announced(), steps)
    }

    #[test]
    fn a_run_without_steps_has_figures_of_nothing() {
        let figures = figures(&[]);
        assert_eq!((figures.actual_runtime, figures.total_jobs, figures.step_p99), (0.0, 0, 0.0));
        assert_eq!((figures.fastest_node_execution, figures.total_avg_execution_time), (None, 0.0));
    }

    #[test]
    fn where_nothing_ran_the_table_has_no_times() {
        for steps in [vec![], vec![step("a", 0, 0, 0, 0, StepState::Skipped)]] {
            let table = figures(&steps).table();
            assert!(!table.contains("0.0"), "{table}");
            let dashes: Vec<_> = table.lines().filter(|line| line.contains("  -")).collect();
            assert_eq!(dashes.len(), 8, "{table}");
            assert!(table.contains("STEP_P50 / P95 / P99      - / - / -\n"), "{table}");
        }
    }

    #[test]
    fn one_step_is_every_figure() {
        let figures = figures(&[step("a", 0, 0, 20, 500, StepState::Succeeded)]);
        assert_eq!((figures.actual_runtime, figures.combined_execution_time), (0.52, 0.5));
        assert_eq!((figures.step_p50, figures.step_p95, figures.step_p99), (0.5, 0.5, 0.5));
        assert_eq!(figures.fastest_node_roundtrip, figures.slowest_node_roundtrip);
        assert_eq!((figures.total_jobs, figures.total_node_count, figures.total_successes), (1, 1, 1));
    }

    #[test]
    fn steps_side_by_side_count_once_for_the_runtime_and_each_for_the_sum() {
        // Listed last first: the order of the list means nothing.
        let figures = figures(&[
            step("b", 1, 0, 0, 3000, StepState::Succeeded),
            step("b", 0, 0, 0, 1000, StepState::Succeeded),
            step("a", 1, 0, 500, 500, StepState::Succeeded),
            step("a", 0, 0, 0, 1000, StepState::Succeeded),
        ]);
        assert_eq!((figures.actual_runtime, figures.combined_execution_time), (3.0, 5.5));
        let told = |time: &Option<super::NodeTime>| time.as_ref().map(|time| (time.node.clone(), time.seconds));
        assert_eq!(told(&figures.fastest_node_execution), Some(("a".to_owned(), 1.5)));
        assert_eq!(told(&figures.slowest_node_execution), Some(("b".to_owned(), 4.0)));
        assert_eq!(told(&figures.fastest_node_roundtrip), Some(("a".to_owned(), 1.0)));
        assert_eq!(told(&figures.slowest_node_roundtrip), Some(("b".to_owned(), 3.0)));
        // Two jobs of the file, on two nodes each.
        assert_eq!((figures.total_jobs, figures.total_avg_execution_time), (2, 2.75));
        assert_eq!(figures.slowest_steps[0].name, "b 1/0");
    }

    #[test]
    fn failed_interrupted_and_skipped_steps_are_told_apart() {
        let figures = figures(&[
            step("a", 0, 0, 0, 10, StepState::Succeeded),
            step("a", 0, 1, 10, 10, StepState::Failed),
            step("a", 0, 2, 9000, 0, StepState::Skipped),
            step("a", 1, 0, 20, 10, StepState::Interrupted),
        ]);
        assert_eq!((figures.total_successes, figures.total_failures, figures.total_skipped), (1, 2, 1));
        // The skipped step is no work: neither the runtime nor the percentiles know it.
        assert_eq!((figures.actual_runtime, figures.step_p50), (0.03, 0.01));
        assert_eq!(figures.total_jobs, 4);
    }

    #[test]
    fn percentiles_are_those_of_the_nearest_rank() {
        let steps: Vec<_> = (1..=100).map(|ms| step("a", 0, ms, 0, ms.into(), StepState::Succeeded)).collect();
        let figures = figures(&steps);
        assert_eq!((figures.step_p50, figures.step_p95, figures.step_p99), (0.05, 0.095, 0.099));
        assert_eq!(figures.slowest_steps.len(), 5);
    }

    #[test]
    fn the_table_has_the_twelve_names_and_json_the_same_in_small() {
        let figures = figures(&[step("a", 0, 0, 0, 10, StepState::Succeeded)]);
        let table = figures.table();
        let json = serde_json::to_value(&figures).unwrap();
        let names = [
            "ID",
            "ACTUAL_RUNTIME",
            "COMBINED_EXECUTION_TIME",
            "FASTEST_NODE_EXECUTION",
            "FASTEST_NODE_ROUNDTRIP",
            "SLOWEST_NODE_EXECUTION",
            "SLOWEST_NODE_ROUNDTRIP",
            "TOTAL_AVG_EXECUTION_TIME",
            "TOTAL_FAILURES",
            "TOTAL_JOBS",
            "TOTAL_NODE_COUNT",
            "TOTAL_SUCCESSES",
        ];
        for (line, name) in table.lines().zip(names) {
            assert_eq!(line.split_whitespace().next(), Some(name));
            assert!(json.get(name.to_lowercase()).is_some(), "{name}");
        }
    }
}
