//! Unique keys: one job for each.

use std::{collections::BTreeSet, time::Duration};

use spinor_consumers::state::{KeyFilter, KeyTaken, OnTaken};
use uuid::Uuid;

use super::{LONG, SOON, Site, race};
use crate::support::eventually;

pub async fn a_key_belongs_to_the_first_job_until_it_is_freed_by_it(site: &Site) {
    let (state, other) = (site.open().await, site.open().await);
    let (first, second) = (Uuid::now_v7(), Uuid::now_v7());
    assert_eq!(state.take_key("import:7", first, LONG, OnTaken::Keep).await, Ok(KeyTaken::Mine));
    let taken = other.take_key("import:7", second, LONG, OnTaken::Keep).await.unwrap();
    assert!(matches!(taken, KeyTaken::By { job, .. } if job == first), "{taken:?}");
    assert_eq!(other.take_key("import:8", second, LONG, OnTaken::Keep).await, Ok(KeyTaken::Mine));
    assert_eq!(other.free_key("import:7", second).await, Ok(false), "it is not its own");
    assert_eq!(state.free_key("import:7", first).await, Ok(true));
    assert_eq!(state.free_key("import:7", first).await, Ok(false));
    assert_eq!(other.take_key("import:7", second, LONG, OnTaken::Keep).await, Ok(KeyTaken::Mine));
}

pub async fn a_job_is_never_its_own_duplicate(site: &Site) {
    let state = site.open().await;
    let job = Uuid::now_v7();
    for on_taken in [OnTaken::Keep, OnTaken::Keep, OnTaken::Replace] {
        assert_eq!(state.take_key("k", job, LONG, on_taken).await, Ok(KeyTaken::Mine));
    }
}

pub async fn a_key_that_is_replaced_belongs_to_the_new_job_and_the_old_cannot_free_it(site: &Site) {
    let state = site.open().await;
    let (old, new) = (Uuid::now_v7(), Uuid::now_v7());
    state.take_key("k", old, LONG, OnTaken::Replace).await.unwrap();
    assert_eq!(state.take_key("k", new, LONG, OnTaken::Replace).await, Ok(KeyTaken::Replaced { job: old }));
    assert_eq!(state.free_key("k", old).await, Ok(false));
    let taken = state.take_key("k", old, LONG, OnTaken::Keep).await.unwrap();
    assert!(matches!(taken, KeyTaken::By { job, .. } if job == new), "{taken:?}");
}

pub async fn a_key_ends_at_its_time(site: &Site) {
    let state = site.open().await;
    let (first, second) = (Uuid::now_v7(), Uuid::now_v7());
    state.take_key("k", first, Duration::from_millis(300), OnTaken::Keep).await.unwrap();
    eventually("the key to be free", SOON, async || {
        state.take_key("k", second, LONG, OnTaken::Keep).await == Ok(KeyTaken::Mine)
    })
    .await;
    let keys = state.keys(&KeyFilter::default()).await.unwrap();
    assert_eq!(keys.iter().map(|key| key.job).collect::<Vec<_>>(), [second]);
}

pub async fn of_fifty_who_want_one_key_exactly_one_has_it(site: &Site) {
    let got = race(site, 50, |state, _| async move {
        let job = Uuid::now_v7();
        (job, state.take_key("k", job, LONG, OnTaken::Keep).await.expect("an answer"))
    })
    .await;
    let winners: Vec<_> = got.iter().filter(|(_, taken)| *taken == KeyTaken::Mine).map(|(job, _)| *job).collect();
    assert_eq!(winners.len(), 1);
    for (own, taken) in got {
        assert!(own == winners[0] || matches!(taken, KeyTaken::By { job, .. } if job == winners[0]));
    }
}

pub async fn of_fifty_who_replace_each_other_each_was_in_place_once(site: &Site) {
    let got = race(site, 50, |state, _| async move {
        let job = Uuid::now_v7();
        (job, state.take_key("k", job, LONG, OnTaken::Replace).await.expect("an answer"))
    })
    .await;
    let jobs: BTreeSet<Uuid> = got.iter().map(|(job, _)| *job).collect();
    let replaced: Vec<Uuid> = got
        .iter()
        .filter_map(|(_, taken)| match taken {
            KeyTaken::Replaced { job } => Some(*job),
            _ => None,
        })
        .collect();
    assert_eq!(replaced.len(), 49, "all but the first");
    let last: Vec<_> = jobs.difference(&replaced.into_iter().collect()).copied().collect();
    let keys = site.open().await.keys(&KeyFilter::default()).await.unwrap();
    assert_eq!(keys.iter().map(|key| key.job).collect::<Vec<_>>(), last, "each was replaced once, but for the last");
}

pub async fn keys_are_listed_by_prefix_and_page(site: &Site) {
    let state = site.open().await;
    let job = Uuid::now_v7();
    for name in ["a", "b:1", "b:2", "b:3", "b_", "ba", "c", "b:\u{e4}"] {
        state.take_key(name, job, LONG, OnTaken::Keep).await.unwrap();
    }
    state.free_key("b:2", job).await.unwrap();
    let list = async |prefix: &str, after: Option<&str>, limit| -> Vec<String> {
        let filter = KeyFilter { prefix: prefix.to_owned(), after: after.map(str::to_owned), limit };
        state.keys(&filter).await.unwrap().into_iter().map(|key| key.name).collect()
    };
    assert_eq!(list("b:", None, 10).await, ["b:1", "b:3", "b:\u{e4}"]);
    assert_eq!(list("b:", None, 2).await, ["b:1", "b:3"]);
    assert_eq!(list("b:", Some("b:1"), 1).await, ["b:3"]);
    assert_eq!(list("", None, 100).await.len(), 7);
    assert_eq!(list("[b]*", None, 100).await, [] as [&str; 0], "a prefix is no pattern");
}

pub async fn a_long_key_is_told_from_another_that_begins_alike(site: &Site) {
    let state = site.open().await;
    let (first, second) = (Uuid::now_v7(), Uuid::now_v7());
    let long = "x".repeat(5000);
    assert_eq!(state.take_key(&long, first, LONG, OnTaken::Keep).await, Ok(KeyTaken::Mine));
    assert_eq!(state.take_key(&format!("{long}y"), second, LONG, OnTaken::Keep).await, Ok(KeyTaken::Mine));
    assert!(matches!(state.take_key(&long, second, LONG, OnTaken::Keep).await, Ok(KeyTaken::By { .. })));
    // Case and blanks at the end count.
    for name in ["k", "K", "k "] {
        assert_eq!(state.take_key(name, Uuid::now_v7(), LONG, OnTaken::Keep).await, Ok(KeyTaken::Mine), "{name:?}");
    }
}
