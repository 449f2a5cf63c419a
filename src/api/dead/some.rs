//! A removal by somebody who may not touch every dead letter: page by page, and what is left is counted.

use jiff::Timestamp;
use spinor_consumers::{access::Role, results::DeadFilter};

use super::{super::caller::Caller, ApiState, Problem, Removed};

/// Letters removed in one request; the next one goes on.
const REMOVED: u64 = 100_000;
const PAGE: u32 = 1000;

/// Removes what matches and the caller may remove, or counts it.
pub(super) async fn remove(
    state: &ApiState,
    caller: &Caller,
    filter: DeadFilter,
    dry_run: bool,
    now: Timestamp,
) -> Result<Removed, Problem> {
    // What dies meanwhile stays.
    let until = Some(filter.until.unwrap_or(now));
    let mut removed = Removed { letters: 0, left: 0, more: false, dry_run, until };
    let mut filter = DeadFilter { until, limit: PAGE, cursor: None, ..filter };
    loop {
        let page = state.results.dead(&filter).await?;
        let (may, left): (Vec<_>, Vec<_>) =
            page.rows.iter().partition(|letter| caller.may(Role::Operator, &letter.queue, &letter.kind).is_ok());
        removed.left += left.len() as u64;
        if dry_run {
            removed.letters += may.len() as u64;
        } else {
            let may: Vec<_> = may.iter().map(|letter| (letter.job, letter.replay)).collect();
            removed.letters += state.results.unbury(&may).await?;
        }
        filter.cursor = page.next;
        removed.more = filter.cursor.is_some() && removed.letters >= REMOVED;
        if filter.cursor.is_none() || removed.more {
            return Ok(removed);
        }
    }
}
