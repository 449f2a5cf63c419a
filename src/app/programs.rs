//! The programs of the configuration become executors; the jobs that their jobs publish are read as
//! the API reads jobs.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde_json::value::RawValue;
use spinor_executors::{
    KindPattern, Registry,
    programs::{Draft, Drafts, Places, Program, Programs},
};

use crate::{
    api::new_job::{self, Checked},
    config::{Config, Journal, ProgramConfig},
};

/// Registers the programs that serve a kind which may run here. Nothing is started.
pub fn register(config: &Config, registry: &mut Registry) -> anyhow::Result<()> {
    let slots = config.consumer.slots;
    let places = Places::new(slots);
    let mut programs: Vec<(&ProgramConfig, Vec<KindPattern>)> = Vec::new();
    for (text, kind) in &config.kinds {
        let (Some(program), Ok(pattern)) = (&kind.program, KindPattern::new(text.as_str())) else { continue };
        if !may_run(config, &pattern) {
            continue;
        }
        match programs.iter_mut().find(|(other, _)| other.is_same(program)) {
            Some((_, patterns)) => patterns.push(pattern),
            None => programs.push((program, vec![pattern])),
        }
    }
    for (of, kinds) in programs {
        let mut program = Program::new(of.run.clone(), kinds.clone());
        (program.env, program.cwd) = (of.env.clone(), of.cwd.clone());
        // Its processes have the bound of all its kinds: the widest, and none if one has none.
        let files = kinds.iter().map(|pattern| config.limits_of(pattern.text().trim_end_matches('*')).files);
        program.files = files.reduce(|one, other| one.zip(other).map(|(one, other)| one.max(other))).flatten();
        let processes = of.processes;
        (program.min, program.max) = (processes.min, processes.max.unwrap_or(slots).min(slots));
        (program.recycle_jobs, program.recycle_memory) = (processes.recycle_jobs, processes.recycle_memory);
        (program.idle, program.start_timeout) = (processes.idle, processes.start_timeout);
        let executor = Arc::new(Programs::new(program, &places));
        for pattern in kinds {
            registry.add_pattern(pattern, Arc::clone(&executor) as _)?;
        }
    }
    Ok(())
}

/// Is one of the kinds of a pattern among those that may run here?
fn may_run(config: &Config, pattern: &KindPattern) -> bool {
    let meet = |one: &KindPattern, other: &KindPattern| {
        one.matches(other.text().trim_end_matches('*')) || other.matches(one.text().trim_end_matches('*'))
    };
    config.consumer.kinds.as_ref().is_none_or(|allowed| allowed.iter().any(|other| meet(pattern, other)))
}

/// Reads the jobs that jobs publish.
pub struct FromJobs(pub Arc<Config>);

impl Drafts for FromJobs {
    fn read(&self, jobs: &[u8]) -> Result<Vec<Draft>, String> {
        let text = with_delays(jobs).map_err(|error| format!("jobs: {error}"))?;
        let (jobs, _) = new_job::read(&text).map_err(|problem| problem.told("jobs"))?;
        let now = Timestamp::now();
        let drafts = jobs.into_iter().enumerate().map(|(place, job)| {
            let place = format!("[{place}]");
            let checked =
                job.check(now).and_then(Checked::not_kept).map_err(|problem| problem.within(&place).told("jobs"))?;
            self.draft(checked).map_err(|why| format!("{place}.{why}"))
        });
        drafts.collect()
    }
}

impl FromJobs {
    fn draft(&self, checked: Checked) -> Result<Draft, String> {
        let Checked { job, delay, wanted, .. } = checked;
        if wanted.is_some() {
            return Err("unique: a key cannot be taken from inside a job; publish this one through the API".to_owned());
        }
        // What cannot be routed would keep the answer of the job that publishes it from leaving.
        let (ours, listed) = (&self.0.queues, &self.0.consumer.queues);
        if !ours.contains_key(&job.queue) && !listed.contains(&job.queue) {
            let mut known: Vec<&str> = ours.keys().chain(listed).map(String::as_str).collect();
            known.sort_unstable();
            known.dedup();
            let known = known.join(", ");
            return Err(format!(
                "queue: `{}` is no queue of the consumer's configuration; there are {known}",
                job.queue
            ));
        }
        let (size, most) = (job.args.bytes().len(), self.0.max_args);
        if size > most {
            return Err(format!("args: {size} bytes, more than the limit of {most}, `max_args`"));
        }
        let journaled = self.0.queue(&job.queue).journal == Journal::Full;
        Ok(Draft { job, delay, journaled })
    }
}

/// A program may give a delay as a number of seconds; the API takes durations.
fn with_delays(jobs: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    let mut jobs: Vec<BTreeMap<String, Box<RawValue>>> = serde_json::from_slice(jobs)?;
    for job in &mut jobs {
        if let Some(delay) = job.get_mut("delay")
            && let Ok(seconds) = serde_json::from_str::<f64>(delay.get())
        {
            *delay = serde_json::value::to_raw_value(&format!("{:.0}ms", seconds * 1000.0))?;
        }
    }
    serde_json::to_vec(&jobs)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use spinor_executors::programs::Drafts;

    use super::FromJobs;
    use crate::config::Ask;

    #[test]
    fn what_a_job_publishes_is_checked_as_the_api_checks_and_the_field_is_named() {
        let flags = vec![("data", "/tmp/none".to_owned(), "--data")];
        let config = Ask { flags, ..Ask::default() }.load().expect("the defaults are right").config;
        let reader = FromJobs(Arc::new(config));
        let read = |text: &str| reader.read(text.as_bytes());
        let drafts = read(r#"[{"kind":"a","args":{"x": 1.0}},{"kind":"b","delay":1.5},{"kind":"c","delay":"1m"}]"#)
            .expect("jobs");
        assert_eq!(drafts[0].job.args.text(), r#"{"x": 1.0}"#);
        let delays = drafts.iter().map(|draft| draft.delay.map(|delay| delay.as_millis()));
        assert_eq!(delays.collect::<Vec<_>>(), [None, Some(1500), Some(60_000)]);
        for (jobs, word) in [
            ("{}", "jobs: "),
            (r#"[{"kind":"a"},{"kind":"b c"}]"#, "[1].kind: "),
            (r#"[{"kind":"a","queue":"elsewhere"}]"#, "[0].queue: `elsewhere`"),
            (r#"[{"kind":"a","unique":{"key":"k"}}]"#, "[0].unique: "),
            (r#"[{"kind":"a","knid":1}]"#, "[0].knid: "),
            (r#"[{"kind":"a","delay":-1}]"#, "[0].delay: "),
        ] {
            let why = read(jobs).map(|_| ()).expect_err(jobs);
            assert!(why.starts_with(word), "{jobs}: {why}");
        }
    }
}
