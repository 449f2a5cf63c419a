//! Entries of jobs' lives, drawn from a seed.

use jiff::{SignedDuration, Timestamp};
use spinor_consumers::entry::Entry;
use spinor_executors::{Cause, Failure, Job, Json, Origin, Report, State};
use uuid::Uuid;

/// A small generator: the same seed, the same numbers (xorshift64*).
pub struct Draw(u64);

impl Draw {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let mixed = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(mixed).expect("31 bits fit") % limit
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}

pub fn job() -> Job {
    let mut job = Job::new("image.resize", "images", Json::new(r#"{"width":[1,2],"name":"ä😀"}"#).unwrap());
    // As the wire carries it.
    job.created = Timestamp::from_microsecond(job.created.as_microsecond()).unwrap();
    job
}

pub fn report(job: &Job, state: State) -> Report {
    let origin = Origin { consumer: "c-1".into(), group: "images".into(), host: "host-1".into() };
    let started =
        job.created + SignedDuration::from_millis(i64::from(job.attempt) * 100 + i64::from(job.replay) * 5000);
    let mut report = Report::of(job, &origin, Uuid::now_v7(), started);
    report.state = state;
    report.ended = started + SignedDuration::from_millis(7);
    match state {
        State::Succeeded => report.value = Some(Json::new("{\"ok\":true}").unwrap()),
        State::Retrying => {
            report.retry_at = Some(report.ended + SignedDuration::from_secs(1));
            report.failure = Some(Failure { cause: Cause::Error, message: "try again\nsecond line".into() });
        }
        _ => report.failure = Some(Failure { cause: Cause::Timeout, message: "too slow\nsecond line".into() }),
    }
    report
}

/// Everything said of one job: each replay has retries and one final state, some executions happen
/// twice, some reports carry the whole job.
pub fn life(draw: &mut Draw) -> Vec<Entry> {
    let mut job = job();
    let mut entries = Vec::new();
    for replay in 0..=u32::try_from(draw.below(3)).unwrap() {
        job.replay = replay;
        job.attempt = 1;
        job.args = Json::new(format!("{{\"replay\":{replay}}}")).unwrap();
        if draw.below(4) > 0 {
            entries.push(Entry::Queued(Box::new(job.clone())));
        }
        for attempt in 1..=u32::try_from(draw.below(4)).unwrap() {
            job.attempt = attempt;
            entries.push(Entry::Report(Box::new(report(&job, State::Retrying))));
        }
        job.attempt += u32::from(!entries.is_empty());
        let end = State::ALL[3 + draw.below(7)];
        let mut last = report(&job, end);
        if draw.below(3) == 0 {
            last.whole = Some(Box::new(job.clone()));
        }
        entries.push(Entry::Report(Box::new(last)));
    }
    entries
}
