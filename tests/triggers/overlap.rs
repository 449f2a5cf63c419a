//! What still runs, what an end decides, and what no end shall: in both dialects, where nobody records anything.

use jiff::{SignedDuration, Timestamp};
use spinor_consumers::{
    next::{End, Next},
    results::{Lead, TickRow, TriggerRow},
    schedule::{Misfire, Overlap, Timing, following_id, tick_id},
};
use spinor_executors::State;
use uuid::Uuid;

use super::store::given;
use crate::recorder::Record;

const HOUR: i64 = 3_600_000_000;

fn lead() -> Lead {
    Lead { owner: Uuid::now_v7(), who: "test:1".to_owned(), alone: false }
}

/// As if so much had passed.
async fn pass(record: &Record, micros: i64) {
    let back = format!(
        "last_instant = last_instant - {micros}, next_instant = next_instant - {micros}, fire_at = fire_at - {micros}"
    );
    record.execute(&format!("UPDATE schedules SET {back}")).await;
}

async fn shown(record: &Record, name: &str) -> (TriggerRow, Vec<TickRow>) {
    let row = record.results.trigger(name).await.expect("an answer").expect("a trigger");
    let ticks = record.results.ticks(row.id, 100).await.expect("its instants");
    (row, ticks)
}

async fn end(record: &Record, job: Uuid, ended: Timestamp) {
    let (state, value, value_ref, error) = (State::Succeeded, None, None, None);
    let end = End { run: None, job, replay: 0, state, value, value_ref, error, ended };
    record.results.follow(&[Next::End(Box::new(end))], &|_| None).await.expect("it is written down");
}

#[tokio::test]
async fn three_instants_during_a_long_run_are_treated_by_each_overlap_policy_with_no_recorder_there() {
    for record in [Record::sqlite().await, Record::server().await] {
        let (results, lead) = (&record.results, lead());
        let policies = [("allow", Overlap::Allow), ("queue", Overlap::Queue), ("skip", Overlap::Skip)];
        let mut given = given(&policies.map(|(name, _)| (name, 1)));
        for (given, (_, overlap)) in given.iter_mut().zip(policies) {
            (given.spec.misfire, given.spec.overlap) = (Misfire::All, overlap);
        }
        results.register_triggers(&given, 1, "test").await.expect("they are registered");
        results.take_turn(&lead).await.expect("a turn");
        let mut first = Vec::new();
        for (name, _) in policies {
            first.push(results.fire_trigger(name, super::changes::by("test")).await.expect("it fires"));
        }
        let marks: Vec<_> =
            first.iter().map(|tick| (tick.schedule, tick.instant.as_microsecond(), tick.time)).collect();
        results.ticks_published(&marks).await.expect("they are marked");
        // Three instants come while these run.
        pass(&record, 3 * HOUR).await;
        let turn = results.take_turn(&lead).await.expect("a turn");
        let due = |name: &str| turn.due.iter().filter(|tick| tick.name == name).count();
        assert_eq!((due("allow"), due("queue"), due("skip")), (3, 0, 0), "{:?}", turn.due);
        assert_eq!(turn.counted.overlap, 5);
        let states = async |name: &str| -> Vec<String> {
            let mut ticks = shown(&record, name).await.1;
            ticks.reverse();
            ticks.into_iter().map(|tick| tick.state).collect()
        };
        assert_eq!(states("queue").await, ["waiting", "skipped", "skipped", "published"]);
        assert_eq!(states("skip").await, ["skipped", "skipped", "skipped", "published"]);
        // The end of the first one lets the one go that waits, and nothing else.
        for tick in &first {
            end(&record, tick.job, Timestamp::now()).await;
        }
        assert_eq!(states("queue").await, ["due", "skipped", "skipped", "succeeded"]);
        assert_eq!(states("skip").await, ["skipped", "skipped", "skipped", "succeeded"]);
        let overdue = results.unpublished(false).await.expect("an answer");
        let waited: Vec<_> = overdue.iter().map(|tick| (tick.name.as_str(), tick.time)).collect();
        assert_eq!(waited, [("queue", None)]);
        record.end().await;
    }
}

#[tokio::test]
async fn an_interval_from_the_last_end_is_counted_from_there_however_often_that_is_told_and_never_overlaps() {
    for record in [Record::sqlite().await, Record::server().await] {
        let (results, lead) = (&record.results, lead());
        let mut given = given(&[("a", 1)]);
        given[0].spec.timing = Timing::AfterEnd { ms: 3_600_000 };
        results.register_triggers(&given, 1, "test").await.expect("it is registered");
        results.take_turn(&lead).await.expect("a turn");
        pass(&record, HOUR).await;
        let due = results.take_turn(&lead).await.expect("a turn").due;
        let (row, _) = shown(&record, "a").await;
        assert_eq!(due.iter().map(|tick| tick.job).collect::<Vec<_>>(), [tick_id(row.id, due[0].instant)]);
        // While it runs nothing is to come, and that is no end of the trigger.
        assert_eq!((row.state.as_str(), row.next, row.busy), ("active", None, Some(due[0].job)));
        // Told by a clock that is a day behind: it counts from now, and the job does not start again at once.
        let (begun, behind) = (Timestamp::now(), Timestamp::now() - SignedDuration::from_hours(24));
        let mut told = Vec::new();
        for _ in 0..2 {
            end(&record, due[0].job, behind).await;
            let (row, _) = shown(&record, "a").await;
            assert_eq!(row.busy, None);
            told.extend(row.next);
        }
        let hour = SignedDuration::from_hours(1);
        let least = begun + hour - SignedDuration::from_millis(1);
        assert!(told[0] == told[1] && told[0] >= least && told[0] <= Timestamp::now() + hour, "{told:?} {begun}");
        record.execute("UPDATE ticks SET instant = instant - 3600000000").await;
        pass(&record, HOUR).await;
        let second = results.take_turn(&lead).await.expect("a turn").due;
        assert_eq!(second.iter().map(|tick| tick.job).collect::<Vec<_>>(), [following_id(row.id, due[0].job)]);
        // An end by a clock that is a day ahead counts as now.
        end(&record, second[0].job, Timestamp::now() + SignedDuration::from_hours(24)).await;
        let (row, _) = shown(&record, "a").await;
        assert!(row.next.is_some_and(|next| next <= Timestamp::now() + SignedDuration::from_hours(1)), "{row:?}");
        // One that fires by hand puts the next one off.
        let by = super::changes::by("test");
        let tick = results.fire_trigger("a", by).await.expect("it fires");
        assert_eq!(shown(&record, "a").await.0.next, None);
        results.resume_trigger("a", true, by).await.expect("it is forgotten");
        let (row, _) = shown(&record, "a").await;
        assert!(row.next.is_some_and(|next| next > tick.instant), "{row:?}");
        record.end().await;
    }
}

#[tokio::test]
async fn an_instant_in_a_blackout_is_skipped_with_the_reason_and_the_next_one_is_after_it() {
    for record in [Record::sqlite().await, Record::server().await] {
        let (results, lead) = (&record.results, lead());
        let now = Timestamp::now();
        let moment = |hours: i64| {
            let at = now + SignedDuration::from_hours(hours);
            at.to_zoned(jiff::tz::TimeZone::UTC).strftime("%Y-%m-%dT%H:00").to_string()
        };
        let window = format!("{}/{}", moment(-3), moment(3));
        let mut given = given(&[("a", 1)]);
        (given[0].spec.blackout, given[0].spec.misfire) = (vec![window.clone()], Misfire::All);
        results.register_triggers(&given, 1, "test").await.expect("it is registered");
        results.take_turn(&lead).await.expect("a turn");
        pass(&record, HOUR).await;
        let turn = results.take_turn(&lead).await.expect("a turn");
        assert!(turn.due.is_empty() && turn.counted.blackout >= 2, "{turn:?}");
        let (row, ticks) = shown(&record, "a").await;
        let notes: Vec<_> =
            ticks.iter().map(|tick| (tick.state.as_str(), tick.note.clone().unwrap_or_default())).collect();
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].0 == "skipped" && notes[0].1.starts_with(&format!("blackout `{window}`: ")), "{notes:?}");
        let ends: Timestamp = format!("{}:00Z", moment(3)).parse().expect("a moment");
        assert_eq!(row.next, Some(ends));
        // Without the window it fires from now on, not from its end.
        given[0].spec.blackout = Vec::new();
        results.register_triggers(&given, 2, "test").await.expect("it is registered");
        let (row, _) = shown(&record, "a").await;
        assert!(row.next.is_some_and(|next| next <= Timestamp::now() + SignedDuration::from_hours(1)), "{row:?}");
        record.end().await;
    }
}
