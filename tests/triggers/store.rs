//! The tables of triggers in both dialects: who leads, and which file counts.

use spinor_consumers::{
    results::{Given, Lead, Results},
    schedule::{Misfire, Overlap, Spec, Timing},
};
use spinor_executors::{Job, Json};
use uuid::Uuid;

use crate::recorder::Record;

pub fn given(names: &[(&str, u64)]) -> Vec<Given> {
    let spec = |hours: u64| Spec::new(Timing::Every { ms: hours * 3_600_000 }, Job::new("noop", "q", Json::null()));
    let stable = |mut spec: Spec| {
        (spec.job.id, spec.job.created) = (Uuid::nil(), jiff::Timestamp::UNIX_EPOCH);
        spec.asked = Json::of(&spec.timing).expect("JSON");
        spec
    };
    names.iter().map(|(name, hours)| Given { name: (*name).to_owned(), spec: stable(spec(*hours)) }).collect()
}

async fn states(results: &Results) -> Vec<(String, String, u32, String)> {
    let rows = results.triggers().await.expect("the triggers");
    rows.into_iter().map(|row| (row.name, row.state, row.revision, row.asked.text().to_owned())).collect()
}

fn row(name: &str, state: &str, revision: u32, hours: u64) -> (String, String, u32, String) {
    (name.to_owned(), state.to_owned(), revision, format!("{{\"every\":{{\"ms\":{}}}}}", hours * 3_600_000))
}

#[tokio::test]
async fn of_two_files_the_newer_one_counts_and_what_it_does_not_name_is_retired() {
    for record in [Record::sqlite().await, Record::server().await] {
        let results = &record.results;
        let register = async |names: &[(&str, u64)], stamp| {
            results.register_triggers(&given(names), stamp, "test").await.expect("it is registered");
            states(results).await
        };
        assert_eq!(register(&[("a", 1)], 10).await, [row("a", "active", 1, 1)]);
        assert_eq!(register(&[("a", 2)], 5).await, [row("a", "active", 1, 1)]);
        assert_eq!(register(&[("a", 1)], 11).await, [row("a", "active", 1, 1)]);
        assert_eq!(register(&[("a", 2)], 11).await, [row("a", "active", 2, 2)]);
        assert_eq!(register(&[("b", 1)], 20).await, [row("a", "retired", 3, 2), row("b", "active", 1, 1)]);
        assert_eq!(register(&[("a", 2)], 19).await, [row("a", "retired", 3, 2), row("b", "active", 1, 1)]);
        assert_eq!(register(&[("a", 2), ("b", 1)], 21).await, [row("a", "active", 4, 2), row("b", "active", 1, 1)]);
        record.end().await;
    }
}

#[tokio::test]
async fn one_process_leads_until_it_gives_up_and_who_led_before_decides_nothing() {
    for record in [Record::sqlite().await, Record::server().await] {
        let results = &record.results;
        let lead = |alone| Lead { owner: Uuid::now_v7(), who: "test:1".to_owned(), alone };
        let (one, two, alone) = (lead(false), lead(false), lead(true));
        let epoch = async |lead: &Lead| results.take_turn(lead).await.expect("a turn").epoch;
        assert_eq!(epoch(&one).await, Some(1));
        assert_eq!(epoch(&two).await, None);
        assert!(results.look_to_fire(&two).await.expect("a look").led);
        assert_eq!(epoch(&one).await, Some(1));
        results.give_up_lead(two.owner).await.expect("nothing happens");
        assert_eq!(epoch(&two).await, None);
        results.give_up_lead(one.owner).await.expect("it is given up");
        assert_eq!(epoch(&two).await, Some(2));
        assert_eq!(epoch(&one).await, None);
        // The owner of a directory knows that whoever led has ended.
        assert_eq!(epoch(&alone).await, Some(3));
        assert_eq!(epoch(&two).await, None);
        assert_eq!(results.leader().await.expect("a leader").map(|leader| leader.epoch), Some(3));
        record.end().await;
    }
}

#[tokio::test]
async fn after_a_downtime_of_some_periods_each_policy_fires_what_it_says_and_writes_down_what_it_does_not() {
    for record in [Record::sqlite().await, Record::server().await] {
        let results = &record.results;
        let lead = Lead { owner: Uuid::now_v7(), who: "test:1".to_owned(), alone: false };
        let policies = [("skip", Misfire::Skip, 0), ("once", Misfire::Once, 1), ("all", Misfire::All, 4)];
        let mut given = given(&policies.map(|(name, ..)| (name, 1)));
        for (given, (_, misfire, _)) in given.iter_mut().zip(policies) {
            (given.spec.misfire, given.spec.overlap) = (misfire, Overlap::Allow);
        }
        results.register_triggers(&given, 1, "test").await.expect("they are registered");
        assert!(results.take_turn(&lead).await.expect("a turn").due.is_empty());
        // As if nobody had been there for four instants.
        let back = "last_instant = last_instant - 14400000000, next_instant = next_instant - 14400000000, \
                    fire_at = fire_at - 14400000000";
        record.execute(&format!("UPDATE schedules SET {back}")).await;
        let due = results.take_turn(&lead).await.expect("a turn").due;
        assert!(results.take_turn(&lead).await.expect("a turn").due.is_empty());
        for (name, _, fires) in policies {
            let row = results.trigger(name).await.expect("an answer").expect("a trigger");
            let ticks = results.ticks(row.id, 10).await.expect("its instants");
            let due: Vec<_> = due.iter().filter(|tick| tick.name == name).map(|tick| tick.instant).collect();
            let skipped: Vec<_> = ticks.iter().filter(|tick| tick.state == "skipped").collect();
            // The last of the four is in time when this runs within a minute of a full hour.
            assert!([fires, (fires + 1).min(4)].contains(&due.len()), "{name}: {due:?}");
            assert_eq!(ticks.len(), due.len() + skipped.len(), "{name}: {ticks:#?}");
            let told = format!("missed: {} instants from", 4 - due.len());
            assert_eq!(skipped.len(), usize::from(due.len() < 4), "{name}: {ticks:#?}");
            assert!(
                skipped.iter().all(|tick| tick.note.as_ref().is_some_and(|note| note.starts_with(&told))),
                "{ticks:#?}"
            );
            assert!(row.next > due.last().copied() && row.next > skipped.last().map(|tick| tick.instant), "{row:?}");
        }
        record.end().await;
    }
}
