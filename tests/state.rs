//! State: one suite over every store. What must be agreed on before a job runs is agreed on by
//! many at once, outlives its server, and ends by itself when its owner is gone.

mod claims;
mod faults;
mod keys;
mod leases;
mod marks;
mod permits;
mod presence;
mod retention;

use std::{future::Future, time::Duration};

use spinor_consumers::state::{State, StateTarget};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::{
    recorder::{admin, with_database},
    support::{scratch::Scratch, servers},
};

/// How long anything may take before a case fails: a bound against hanging, not a measure.
const SOON: Duration = Duration::from_secs(20);
/// Longer than any case.
const LONG: Duration = Duration::from_secs(3600);

/// One store of one test.
pub struct Site {
    target: StateTarget,
    _scratch: Option<Scratch>,
    database: Option<(String, String)>,
}

impl Site {
    async fn sqlite() -> Self {
        let scratch = Scratch::new("state");
        let target = StateTarget::Sqlite(scratch.join("state.db"));
        Self { target, _scratch: Some(scratch), database: None }
    }

    async fn server() -> Self {
        Self::server_at(&servers::mysql_url()).await
    }

    /// On a server that may be the test's own.
    async fn server_at(url: &str) -> Self {
        let name = format!("spinor_{}", Uuid::now_v7().simple());
        admin(url, &format!("CREATE DATABASE {name}")).await;
        let target = StateTarget::MySql(with_database(url, &name));
        Self { target, _scratch: None, database: Some((url.to_owned(), name)) }
    }

    async fn redis() -> Self {
        Self::redis_at(&servers::redis_url())
    }

    fn redis_at(url: &str) -> Self {
        let prefix = format!("t{}", Uuid::now_v7().simple());
        let target = StateTarget::Redis { url: url.to_owned(), prefix, ca_file: None };
        Self { target, _scratch: None, database: None }
    }

    /// A handle, as a process of its own has it.
    async fn open(&self) -> State {
        State::open(&self.target).await.expect("the store opens")
    }

    async fn end(self) {
        if let Some((url, name)) = &self.database {
            admin(url, &format!("DROP DATABASE {name}")).await;
        }
    }
}

/// Runs `count` tasks at once, over three handles, and collects what each got.
async fn race<T, F>(site: &Site, count: usize, run: impl Fn(State, usize) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let handles = [site.open().await, site.open().await, site.open().await];
    let mut tasks = JoinSet::new();
    for at in 0..count {
        tasks.spawn(run(handles[at % handles.len()].clone(), at));
    }
    let got = tasks.join_all().await;
    for handle in handles {
        handle.close().await;
    }
    got
}

/// Each case on each store.
macro_rules! on_every_store {
    ($($file:ident: $($case:ident),+ $(,)?;)+) => {
        mod sqlite { $($( #[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $case() {
            super::bounded(super::Site::sqlite(), super::$file::$case).await;
        } )+)+ }
        mod server { $($( #[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $case() {
            super::bounded(super::Site::server(), super::$file::$case).await;
        } )+)+ }
        mod redis { $($( #[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $case() {
            super::bounded(super::Site::redis(), super::$file::$case).await;
        } )+)+ }
    };
}

async fn bounded(site: impl Future<Output = Site>, case: impl AsyncFnOnce(&Site)) {
    let site = site.await;
    tokio::time::timeout(4 * SOON, case(&site)).await.expect("the case ends in time");
    site.end().await;
}

on_every_store! {
    claims:
        the_first_execution_has_the_claim_and_a_second_is_told_whose_it_is,
        an_attempt_is_claimed_apart_from_other_attempts_and_replays,
        who_takes_over_has_the_claim_and_who_had_it_has_not,
        a_claim_is_passed_on_once_by_who_has_it_and_by_nobody_else,
        of_fifty_who_want_one_claim_exactly_one_has_it;
    marks:
        a_mark_is_read_back_with_who_when_and_why,
        a_mark_that_is_set_again_has_a_newer_version_and_one_row,
        a_cleared_mark_is_told_once_and_holds_no_more,
        clearing_what_is_not_set_changes_nothing,
        marks_of_one_kind_are_listed_without_the_others,
        who_starts_later_gets_all_that_holds,
        a_version_of_another_store_is_answered_with_everything,
        who_follows_the_versions_misses_no_change_that_many_make_at_once;
    keys:
        a_key_belongs_to_the_first_job_until_it_is_freed_by_it,
        a_job_is_never_its_own_duplicate,
        a_key_that_is_replaced_belongs_to_the_new_job_and_the_old_cannot_free_it,
        a_key_ends_at_its_time,
        of_fifty_who_want_one_key_exactly_one_has_it,
        of_fifty_who_replace_each_other_each_was_in_place_once,
        keys_are_listed_by_prefix_and_page,
        a_long_key_is_told_from_another_that_begins_alike;
    permits:
        so_many_at_once_are_admitted_and_no_more,
        a_permit_that_is_released_goes_to_another,
        who_has_a_permit_asks_again_and_counts_once,
        all_limits_admit_or_none_counts,
        a_rate_admits_so_many_and_says_how_long_to_wait,
        a_rate_admits_again_when_its_time_has_come,
        asking_again_uses_up_no_rate,
        of_fifty_who_want_seven_permits_exactly_seven_have_one,
        who_races_for_two_limits_in_any_order_gets_both_or_none,
        a_permit_whose_owner_is_gone_is_free_when_its_lease_ends,
        a_permit_that_is_renewed_outlives_its_first_lease,
        who_lost_its_permit_is_told_when_it_renews,
        what_counts_against_each_limit_is_listed;
    leases:
        a_lease_has_one_owner_and_an_epoch_for_each,
        a_lease_that_ends_goes_to_another_with_the_next_epoch,
        of_fifty_who_want_one_lease_exactly_one_has_it;
    presence:
        a_consumer_that_beats_is_present_with_what_it_says,
        a_consumer_that_leaves_is_gone_at_once;
    retention:
        what_is_over_is_pruned_and_what_holds_stays;
}
