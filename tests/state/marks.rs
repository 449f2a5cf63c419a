//! Marks: durable facts, in an order that nobody who follows it misses.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};
use spinor_consumers::state::{Changes, Kind, State, Subject};
use tokio::sync::watch;
use uuid::Uuid;

use super::{Site, race};

pub async fn a_mark_is_read_back_with_who_when_and_why(site: &Site) {
    let state = site.open().await;
    let subject = Subject::Pause("images".into());
    let version = state.set_mark(&subject, json!({"until": "later"}), "ann", Some("the disk is full")).await.unwrap();
    let marks = site.open().await.marks(Kind::Pause).await.unwrap();
    assert_eq!(marks.len(), 1);
    let mark = &marks[0];
    assert_eq!((&mark.subject, mark.version), (&subject, version));
    assert_eq!(mark.value, Some(json!({"until": "later"})));
    assert_eq!((mark.by.as_str(), mark.why.as_deref()), ("ann", Some("the disk is full")));
    assert!(Timestamp::now().duration_since(mark.at).abs() < jiff::SignedDuration::from_hours(1));
}

pub async fn a_mark_that_is_set_again_has_a_newer_version_and_one_row(site: &Site) {
    let state = site.open().await;
    let subject = Subject::Slots("images".into());
    let first = state.set_mark(&subject, json!(4), "ann", None).await.unwrap();
    let second = state.set_mark(&subject, json!(8), "bob", None).await.unwrap();
    assert!(second > first);
    let marks = state.marks(Kind::Slots).await.unwrap();
    assert_eq!(
        marks.iter().map(|mark| (mark.version, mark.value.clone())).collect::<Vec<_>>(),
        [(second, Some(json!(8)))]
    );
    let changes = state.marks_since(first).await.unwrap();
    assert_eq!((changes.version, changes.whole, changes.marks), (second, false, marks));
}

pub async fn a_cleared_mark_is_told_once_and_holds_no_more(site: &Site) {
    let state = site.open().await;
    let subject = Subject::Pause("q".into());
    let set = state.set_mark(&subject, Value::Null, "ann", None).await.unwrap();
    assert_eq!(state.marks(Kind::Pause).await.unwrap()[0].value, Some(Value::Null), "set, to nothing in particular");
    let cleared = state.clear_mark(&subject, "bob", Some("done")).await.unwrap().expect("it was set");
    assert!(cleared > set);
    assert_eq!(state.marks(Kind::Pause).await.unwrap(), []);
    let changes = state.marks_since(set).await.unwrap();
    assert_eq!((changes.version, changes.whole, changes.marks.len()), (cleared, false, 1));
    let mark = &changes.marks[0];
    assert_eq!((&mark.subject, &mark.value, mark.by.as_str()), (&subject, &None, "bob"));
    assert_eq!(mark.why.as_deref(), Some("done"));
    let after = state.marks_since(cleared).await.unwrap();
    assert_eq!(after, Changes { version: cleared, whole: false, marks: Vec::new() });
    let again = state.set_mark(&subject, json!(1), "ann", None).await.unwrap();
    assert!(again > cleared);
    assert_eq!(state.marks(Kind::Pause).await.unwrap().len(), 1);
}

pub async fn clearing_what_is_not_set_changes_nothing(site: &Site) {
    let state = site.open().await;
    let version = state.set_mark(&Subject::Drain("a".into()), json!(true), "ann", None).await.unwrap();
    assert_eq!(state.clear_mark(&Subject::Drain("b".into()), "ann", None).await, Ok(None));
    state.clear_mark(&Subject::Drain("a".into()), "ann", None).await.unwrap().expect("it was set");
    assert_eq!(state.clear_mark(&Subject::Drain("a".into()), "ann", None).await, Ok(None), "twice");
    assert_eq!(state.marks_since(version).await.unwrap().version, version + 1);
}

pub async fn marks_of_one_kind_are_listed_without_the_others(site: &Site) {
    let state = site.open().await;
    let id = Uuid::now_v7();
    let subjects = [
        Subject::Cancel(id),
        Subject::CancelRun(id),
        Subject::Pause("x".into()),
        Subject::Drain("x".into()),
        Subject::Slots("x".into()),
        Subject::Replicas("x".into()),
        Subject::Limit("x".into()),
        Subject::Served { kind: "x".into(), form: id },
    ];
    for subject in &subjects {
        state.set_mark(subject, json!(1), "ann", None).await.unwrap();
    }
    for subject in subjects {
        let marks = state.marks(subject.kind()).await.unwrap();
        assert_eq!(marks.into_iter().map(|mark| mark.subject).collect::<Vec<_>>(), [subject]);
    }
}

pub async fn who_starts_later_gets_all_that_holds(site: &Site) {
    let state = site.open().await;
    let empty = state.marks_since(0).await.unwrap();
    assert_eq!(empty, Changes { version: 0, whole: true, marks: Vec::new() });
    for at in 0..5 {
        state.set_mark(&Subject::Pause(format!("q{at}")), json!(at), "ann", None).await.unwrap();
    }
    state.clear_mark(&Subject::Pause("q1".into()), "ann", None).await.unwrap();
    let all = site.open().await.marks_since(0).await.unwrap();
    assert_eq!((all.version, all.whole), (6, true));
    let names: Vec<_> = all.marks.iter().map(|mark| mark.subject.to_string()).collect();
    assert_eq!(names, ["pause:q0", "pause:q2", "pause:q3", "pause:q4"]);
}

pub async fn a_version_of_another_store_is_answered_with_everything(site: &Site) {
    let state = site.open().await;
    state.set_mark(&Subject::Pause("q".into()), json!(1), "ann", None).await.unwrap();
    // As after a restore of an older copy.
    let all = state.marks_since(1000).await.unwrap();
    assert_eq!((all.version, all.whole, all.marks.len()), (1, true, 1));
}

/// What somebody knows who follows the changes.
async fn follow(state: State, mut done: watch::Receiver<bool>) -> BTreeMap<String, Value> {
    let (mut version, mut known) = (0, BTreeMap::new());
    loop {
        // Seen before the last look: then that look sees everything.
        let last = *done.borrow_and_update();
        let changes = state.marks_since(version).await.expect("an answer");
        assert!(changes.version >= version, "versions go back");
        version = changes.version;
        if changes.whole {
            known.clear();
        }
        for mark in changes.marks {
            match mark.value {
                Some(value) => known.insert(mark.subject.to_string(), value),
                None => known.remove(&mark.subject.to_string()),
            };
        }
        if last {
            return known;
        }
        tokio::task::yield_now().await;
    }
}

pub async fn who_follows_the_versions_misses_no_change_that_many_make_at_once(site: &Site) {
    let (done, seen) = watch::channel(false);
    let follower = site.open().await;
    // The first look is a whole one; all others must live from changes alone.
    follower.set_mark(&Subject::Limit("first".into()), json!(0), "ann", None).await.unwrap();
    let following = tokio::task::JoinSet::from_iter([follow(follower, seen)]);
    let versions = race(site, 12, |state, at| async move {
        let mut versions = Vec::new();
        for turn in 0..10 {
            let subject = Subject::Limit(format!("{}", (at + turn) % 7));
            versions.push(state.set_mark(&subject, json!([at, turn]), "ann", None).await.expect("an answer"));
            if turn % 3 == 2 {
                versions.extend(state.clear_mark(&subject, "ann", None).await.expect("an answer"));
            }
        }
        versions
    })
    .await;
    let mut versions: Vec<u64> = versions.into_iter().flatten().collect();
    versions.sort_unstable();
    assert!(versions.windows(2).all(|pair| pair[0] < pair[1]), "no version was given twice");
    done.send_replace(true);
    let known = following.join_all().await.remove(0);
    let holds = site.open().await.marks(Kind::Limit).await.unwrap();
    let holds = holds.into_iter().map(|mark| (mark.subject.to_string(), mark.value.unwrap())).collect();
    assert_eq!(known, holds);
}
