//! One suite over the `Broker` contract, run on each broker (P10).
//!
//! A broker joins with a [`fixture::Fixture`] and one line of `suite!`. The cases know nothing of
//! any broker: what only one of them can do is tested elsewhere.

mod close;
mod consume;
mod delay;
mod events;
pub mod fixture;
mod lanes;
mod publish;
mod redelivery;
mod reports;
mod settle;
mod whole;

pub mod on_embedded;
pub mod on_rabbitmq;

/// Every case on one broker: `conformance::NAME::CASE`.
macro_rules! suite {
    ($name:ident, $fixture:ty) => {
        mod $name {
            suite! { @cases $fixture,
                publish: [
                    a_publish_is_delivered_as_it_was_sent,
                    a_batch_has_a_result_for_each_item_in_order,
                    an_empty_batch_has_no_results,
                    an_unroutable_publish_names_the_queues_that_exist,
                    a_message_over_the_limit_is_refused_and_its_neighbours_are_not,
                    a_message_at_the_limit_is_carried,
                    every_property_and_header_survives,
                    binary_and_empty_bodies_survive,
                    declaring_twice_changes_nothing,
                    two_messages_may_have_the_same_id,
                ]
                consume: [
                    a_waiting_consumer_gets_what_is_published_later,
                    a_queue_that_does_not_exist_cannot_be_consumed,
                    never_more_than_the_credit_is_in_hand,
                    a_credit_of_zero_pauses_and_more_resumes,
                    a_lower_credit_holds_once_the_old_deliveries_are_answered,
                    a_higher_credit_brings_more_in_hand,
                    a_queue_keeps_its_order,
                    queues_do_not_mix,
                    many_are_taken_at_once,
                    a_cancelled_subscription_ends,
                    next_is_cancel_safe,
                    two_subscriptions_share_a_queue,
                    stats_count_what_is_ready_and_who_consumes,
                ]
                settle: [
                    an_acked_delivery_does_not_come_again,
                    a_handed_back_delivery_comes_again_near_its_old_place,
                    what_a_settle_publishes_arrives,
                    a_dead_letter_and_a_follow_up_arrive_on_their_internal_queues,
                    a_settle_whose_publish_fails_is_not_acked_and_comes_again,
                    a_failed_settle_does_not_hold_its_neighbours,
                    a_reply_reaches_its_queue,
                    a_reply_to_nowhere_does_not_hold_the_settle,
                    a_settle_may_end_after_its_subscription_was_cancelled,
                    a_receipt_may_be_dropped,
                    a_message_that_a_settle_publishes_over_the_limit_fails_it,
                ]
                delay: [
                    a_delayed_message_comes_and_never_early,
                    a_delay_of_a_queue_that_does_not_exist_is_unroutable,
                    a_delayed_message_survives_a_restart,
                    delays_do_not_hold_each_other,
                ]
                redelivery: [
                    what_a_lost_consumer_had_in_hand_comes_again_marked,
                    what_was_acked_before_a_loss_does_not_come_again,
                    what_was_not_taken_out_of_a_dropped_subscription_goes_back,
                    a_dropped_delivery_goes_back,
                    a_delivery_dropped_after_its_subscription_goes_back,
                    what_was_answered_does_not_go_back,
                    a_first_delivery_is_not_marked,
                ]
                reports: [
                    the_lines_of_a_settle_arrive_packed,
                    a_pack_has_at_most_500_lines,
                    a_pack_has_at_most_a_mebibyte_and_a_large_line_goes_alone,
                    reports_without_a_delivery_arrive,
                    the_search_copy_gets_the_same_lines,
                ]
                events: [
                    a_listener_hears_its_topic_and_no_other,
                    events_from_before_are_not_heard,
                    a_slow_listener_never_blocks_the_caster,
                    every_listener_hears_control,
                    who_waits_and_who_records_hear_each_other_and_nobody_else_does,
                ]
                lanes: [
                    a_high_job_published_last_comes_among_the_first,
                    no_lane_starves_while_high_ones_keep_coming,
                    a_large_credit_is_shared_by_the_same_weights,
                    an_empty_lane_takes_no_turns_from_the_others,
                    a_queue_without_priorities_has_no_lanes,
                    stats_add_the_lanes_up_and_show_them_apart,
                    a_lane_that_appears_later_is_consumed,
                    a_retry_returns_to_its_lane,
                    what_is_handed_back_returns_to_its_lane,
                    what_a_lost_consumer_had_in_hand_stays_in_its_lane,
                    never_more_than_the_credit_is_in_hand_over_all_lanes,
                    a_credit_may_change_with_lanes,
                    lanes_are_there_after_a_restart,
                    a_name_of_a_lane_is_no_queue,
                    a_priority_to_nowhere_is_unroutable,
                ]
                close: [
                    a_close_gives_back_what_is_in_hand,
                    what_was_confirmed_is_there_after_a_close,
                    a_settle_under_way_is_finished_by_a_close,
                    a_closed_broker_says_so,
                    the_link_is_up_and_then_closed,
                ]
                whole: [
                    five_thousand_messages_are_each_acked_once,
                    five_thousand_messages_of_all_lanes_are_each_acked_once,
                    a_pipeline_of_settles_loses_nothing,
                ]
            }
        }
    };
    (@cases $fixture:ty, $($module:ident: [$($case:ident,)*])*) => {
        $($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                crate::conformance::fixture::bounded(crate::conformance::$module::$case::<$fixture>()).await;
            }
        )*)*
    };
}

suite!(embedded, crate::conformance::on_embedded::OnEmbedded);
suite!(rabbitmq, crate::conformance::on_rabbitmq::OnRabbitMq);
