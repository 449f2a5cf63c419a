//! Who changed what of triggers, in both dialects: written with the change, and what a person made stays.

use spinor_consumers::results::{By, Change, Results};

use super::store::given;
use crate::recorder::Record;

pub const fn by(who: &str) -> By<'_> {
    By { who, why: Some("to see") }
}

async fn told(results: &Results, name: &str) -> Vec<String> {
    let state = |change: &Change| {
        let of = |was: Option<&spinor_consumers::results::Was>| {
            was.map_or_else(|| "-".to_owned(), |was| format!("{} {}", was.state, was.asked.text()))
        };
        format!("{} by {}: {} > {}", change.what, change.by, of(change.old.as_ref()), of(change.new.as_ref()))
    };
    results.trigger_changes(name, 1000).await.expect("changes").iter().rev().map(state).collect()
}

#[tokio::test]
async fn each_change_of_a_trigger_is_kept_with_who_made_it_and_what_it_was_before_also_after_its_end() {
    for record in [Record::sqlite().await, Record::server().await] {
        let results = &record.results;
        let (one, two) = (&given(&[("a", 1)])[0], &given(&[("a", 2)])[0]);
        results.put_trigger(one, false, by("ann")).await.expect("added");
        results.put_trigger(two, true, by("bob")).await.expect("edited");
        results.pause_trigger("a", by("cem")).await.expect("paused");
        results.pause_trigger("a", by("dan")).await.expect("it is paused already");
        results.resume_trigger("a", false, by("eve")).await.expect("resumed");
        results.put_trigger(one, false, by("fay")).await.expect_err("it is there");
        results.remove_trigger("a", by("gus")).await.expect("removed");
        let hours = |hours: u64| format!("{{\"every\":{{\"ms\":{}}}}}", hours * 3_600_000);
        let (one, two) = (hours(1), hours(2));
        let expected = [
            format!("added by ann: - > active {one}"),
            format!("edited by bob: active {one} > active {two}"),
            format!("paused by cem: active {two} > paused {two}"),
            format!("resumed by eve: paused {two} > active {two}"),
            format!("removed by gus: active {two} > -"),
        ];
        assert_eq!(told(results, "a").await, expected);
        results.register_triggers(&given(&[("b", 1)]), 1, "host:1").await.expect("registered");
        results.register_triggers(&given(&[("b", 1)]), 2, "host:1").await.expect("it says the same");
        results.register_triggers(&given(&[("b", 2)]), 3, "host:2").await.expect("replaced");
        results.register_triggers(&[], 4, "host:3").await.expect("retired");
        let expected = [
            format!("added by host:1: - > active {one}"),
            format!("edited by host:2: active {one} > active {two}"),
            format!("retired by host:3: active {two} > retired {two}"),
        ];
        assert_eq!(told(results, "b").await, expected);
        // It is bounded.
        for _ in 0..60 {
            results.register_triggers(&given(&[("c", 1)]), 5, "x").await.expect("registered");
            results.pause_trigger("c", by("x")).await.expect("paused");
            results.resume_trigger("c", false, by("x")).await.expect("resumed");
        }
        let kept = told(results, "c").await.len();
        assert!((90..=110).contains(&kept), "{kept} of 121");
        record.end().await;
    }
}

#[tokio::test]
async fn a_trigger_that_a_person_paused_or_resumed_stays_so_until_its_file_says_something_else_of_that() {
    for record in [Record::sqlite().await, Record::server().await] {
        let results = &record.results;
        let register = async |hours: u64, paused: bool, stamp: i64| {
            let mut given = given(&[("a", hours)]);
            given[0].spec.paused = paused;
            results.register_triggers(&given, stamp, "test").await.expect("it is registered");
            results.trigger("a").await.expect("an answer").expect("a trigger").state
        };
        assert_eq!(register(1, false, 1).await, "active");
        results.pause_trigger("a", by("ann")).await.expect("paused");
        assert_eq!(register(2, false, 2).await, "paused");
        assert_eq!(register(2, true, 3).await, "paused");
        results.resume_trigger("a", false, by("ann")).await.expect("resumed");
        assert_eq!(register(3, true, 4).await, "active");
        assert_eq!(register(3, false, 5).await, "active");
        assert_eq!(register(3, true, 6).await, "paused");
        record.end().await;
    }
}
