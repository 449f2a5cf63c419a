//! Fan-out: the run of an instant, with a job for each item.
//!
//! Owns how an item becomes a member: its name follows from the item, and so does the id of its job, which is the
//! same whoever fires the instant. Refuses to publish jobs: a run is driven like every other.

use std::collections::BTreeMap;

use spinor_executors::Json;
use uuid::Uuid;

use super::{args, fire::expire};
use crate::{
    message::MAX_BODY,
    next::{Member, NewRun, OnFailure},
    results::Tick,
};

/// The longest text that names its item as it is.
const LONGEST_NAME: usize = 100;

/// The run of an instant, with a note of why it has fewer items than there are.
pub fn run(tick: &Tick, items: &[Json], note: Option<String>) -> Result<NewRun, String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut members = Vec::with_capacity(items.len());
    let mut bytes = 0;
    for item in items {
        let name = name(item);
        let count = counts.entry(name.clone()).and_modify(|count| *count += 1).or_insert(1);
        let name = if *count == 1 { name } else { format!("{name}#{count}") };
        let mut job = tick.spec.job.clone();
        job.args = args::fill(&job.args, tick, Some(item))?;
        // Before they are made, not after: they may be many.
        bytes += job.args.bytes().len();
        if bytes > MAX_BODY {
            return Err(format!("the args of its jobs have more than {MAX_BODY} bytes together"));
        }
        // From the instant, however late it fires.
        job.created = tick.instant;
        expire(&mut job, tick.spec.expires_ms);
        members.push(Member {
            name,
            needs: Vec::new(),
            job,
            delay_ms: None,
            expires_ms: None,
            bare: false,
            compensate: None,
        });
    }
    Ok(NewRun {
        run: tick.job,
        name: format!("{} {}", tick.name, tick.instant),
        on_failure: OnFailure::GoOn,
        started: tick.instant,
        members,
        then: None,
        finally: None,
        note,
    })
}

/// Short text names itself, everything else is named by its digest.
fn name(item: &Json) -> String {
    let text: Option<String> = item.read().ok();
    let short = text.filter(|text| {
        (1..=LONGEST_NAME).contains(&text.chars().count()) && !text.contains('#') && !text.chars().any(char::is_control)
    });
    short.unwrap_or_else(|| Uuid::new_v5(&Uuid::NAMESPACE_OID, item.bytes()).to_string())
}
