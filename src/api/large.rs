//! Large args and values at the edge of the API: put away before a publish, given back whole by a read.
//!
//! Owns the bound of what is taken, and of what one answer gives back. Who asks for a job sees its args
//! and values wherever they lie, or why not.

use std::collections::BTreeMap;

use spinor_consumers::{
    blobs::{BlobError, Blobs},
    results::JobRecord,
};
use spinor_executors::Report;

use super::{ApiState, Problem, new_job::Checked};

/// One answer gives back no more than this of what is large.
const MOST: u64 = 128 << 20;

/// Stores the args that are large before their jobs are published; the problems of those that cannot be, by place.
pub(super) async fn put_away(state: &ApiState, jobs: &mut [Checked]) -> BTreeMap<usize, Problem> {
    let mut refused = BTreeMap::new();
    for (place, checked) in jobs.iter_mut().enumerate() {
        if let Err(error) = state.blobs.put_args(&mut checked.job).await {
            refused.insert(place, Problem::from(error));
        }
    }
    refused
}

/// The record with args and values in it, newest executions first until the answer is large enough.
pub(super) async fn whole(blobs: &Blobs, mut record: JobRecord) -> JobRecord {
    let mut room = MOST;
    let mut unread = Vec::new();
    if let Some(job) = record.job.take() {
        room = room.saturating_sub(job.args_ref.map_or(0, |blob| blob.size));
        record.job = Some(blobs.fetch(job.clone()).await.unwrap_or_else(|error| {
            unread.push(error.to_string());
            job
        }));
    }
    for attempt in record.attempts.iter_mut().rev() {
        let Some(blob) = attempt.report.value_ref else { continue };
        if blob.size > room {
            unread.push(format!(
                "the value of attempt {} is left out: the answer is large enough",
                attempt.report.attempt
            ));
            continue;
        }
        room -= blob.size;
        if let Some(why) = fill(blobs, &mut attempt.report).await {
            unread.push(why);
        }
    }
    record.unread.extend(unread);
    record
}

/// Puts the value into a report; tells why not.
pub(super) async fn fill(blobs: &Blobs, report: &mut Report) -> Option<String> {
    match blobs.fetch_value(report).await {
        Ok(()) => None,
        Err(error) => Some(error.to_string()),
    }
}

impl From<BlobError> for Problem {
    fn from(error: BlobError) -> Self {
        let detail = error.to_string();
        match error {
            BlobError::TooLarge { .. } => {
                Self { field: Some("args".to_owned()), ..Self::new(413, "The job is too large", detail) }
            }
            BlobError::Unavailable(_) | BlobError::Misconfigured(_) => {
                Self::new(503, "Not accepted now", format!("{detail}; nothing was published, try again"))
            }
            BlobError::Wrong(_) => Self::new(500, "The blob store cannot be used", detail),
        }
    }
}
