//! One consumer over a real broker: what becomes of a job, whatever it is.
//!
//! The same cases run on each broker; executors are small closures, so that a case decides how a
//! job ends. What the reports become in a database is the recorder's tests.

mod agreed;
mod backlog;
mod life;
pub mod stage;
mod starting;
mod stopping;
mod wrong;

/// Every case on one broker: `consumer::NAME::CASE`.
macro_rules! suite {
    ($name:ident, $fixture:ty) => {
        mod $name {
            suite! { @cases $fixture,
                backlog: [
                    beyond_the_bound_of_the_reports_nothing_is_taken_until_they_are_recorded,
                ]
                life: [
                    a_job_runs_and_its_report_arrives,
                    a_failed_job_is_retried_by_policy_and_then_failed,
                    an_asked_retry_comes_back_and_keeps_unknown_headers,
                    a_discarded_job_is_not_retried,
                    a_reply_reaches_the_one_who_asked,
                    steps_arrive_before_the_report_of_their_job,
                    long_jobs_are_each_delivered_once,
                    long_jobs_in_three_lanes_are_each_delivered_once,
                    thousands_of_short_jobs_run_once_each,
                    thousands_of_short_jobs_in_three_lanes_run_once_each,
                ]
                wrong: [
                    a_panic_fails_its_job_and_the_next_one_runs,
                    rubbish_becomes_a_dead_letter_with_its_reason,
                    a_kinds_bounds_reach_its_processes,
                    an_unknown_kind_waits_and_is_dead_after_the_grace,
                    an_expired_job_does_not_run,
                    a_message_without_an_id_gets_one_and_runs_once,
                    a_job_past_its_limit_is_ended,
                ]
                stopping: [
                    a_drain_waits_for_what_runs_and_hands_back_the_rest,
                    a_drain_past_its_grace_gives_the_job_back,
                    a_second_signal_is_immediate,
                    a_job_of_a_lost_consumer_runs_again_and_is_marked,
                    a_redelivered_job_that_has_ended_is_not_run,
                ]
                agreed: [
                    a_job_cancelled_before_it_starts_does_not_run,
                    a_running_job_is_cancelled_by_its_own_wish_and_by_its_runs,
                    a_paused_queue_is_left_alone_until_it_is_resumed,
                    slots_follow_their_mark_down_and_up,
                    a_drain_mark_ends_the_consumer_and_the_next_one_goes_on,
                    a_limit_holds_over_two_consumers_and_follows_its_mark,
                    a_rate_lets_only_so_many_start,
                    a_copy_of_a_claimed_attempt_does_not_run,
                    an_at_most_once_job_of_a_lost_consumer_is_lost_and_runs_no_second_time,
                    an_at_most_once_job_that_was_given_up_as_lost_stays_lost_when_it_ends_after_all,
                    an_at_most_once_job_answers_though_its_claim_was_forgotten,
                    an_at_most_once_job_that_comes_back_while_state_is_away_is_lost_and_not_forgotten,
                    a_unique_key_is_free_when_its_job_has_ended,
                    without_state_jobs_that_need_it_wait_and_others_go_on,
                    a_consumer_says_what_it_runs_and_leaves,
                ]
            }
        }
    };
    (@cases $fixture:ty, $($module:ident: [$($case:ident,)*])*) => {
        $($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                crate::conformance::fixture::bounded(crate::consumer::$module::$case::<$fixture>()).await;
            }
        )*)*
    };
}

suite!(embedded, crate::conformance::on_embedded::OnEmbedded);
suite!(rabbitmq, crate::conformance::on_rabbitmq::OnRabbitMq);
