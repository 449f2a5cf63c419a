//! Leases: one leader for each name, and an epoch that never comes again.

use std::time::Duration;

use uuid::Uuid;

use super::{LONG, SOON, Site, race};
use crate::support::eventually;

pub async fn a_lease_has_one_owner_and_an_epoch_for_each(site: &Site) {
    let (state, other) = (site.open().await, site.open().await);
    let (first, second) = (Uuid::now_v7(), Uuid::now_v7());
    assert_eq!(state.lease("schedules", first, LONG).await, Ok(Some(1)));
    assert_eq!(other.lease("schedules", second, LONG).await, Ok(None));
    assert_eq!(state.lease("schedules", first, LONG).await, Ok(Some(1)), "renewed by the same owner");
    assert_eq!(other.lease("timers", second, LONG).await, Ok(Some(1)));
    other.give_up("schedules", second).await.unwrap();
    assert_eq!(other.lease("schedules", second, LONG).await, Ok(None), "it was not its own to give up");
    state.give_up("schedules", first).await.unwrap();
    assert_eq!(other.lease("schedules", second, LONG).await, Ok(Some(2)));
    other.give_up("schedules", second).await.unwrap();
    assert_eq!(state.lease("schedules", first, LONG).await, Ok(Some(3)));
}

pub async fn a_lease_that_ends_goes_to_another_with_the_next_epoch(site: &Site) {
    let state = site.open().await;
    let (first, second) = (Uuid::now_v7(), Uuid::now_v7());
    assert_eq!(state.lease("x", first, Duration::from_millis(300)).await, Ok(Some(1)));
    eventually("the lease to end", SOON, async || state.lease("x", second, LONG).await == Ok(Some(2))).await;
    assert_eq!(state.lease("x", first, LONG).await, Ok(None));
}

pub async fn of_fifty_who_want_one_lease_exactly_one_has_it(site: &Site) {
    let won = async |epoch| {
        let got = race(site, 50, |state, _| async move {
            let owner = Uuid::now_v7();
            (owner, state.lease("x", owner, LONG).await.expect("an answer"))
        })
        .await;
        let winners: Vec<_> = got.into_iter().filter(|(_, epoch)| epoch.is_some()).collect();
        assert_eq!(winners.len(), 1);
        assert_eq!(winners[0].1, Some(epoch));
        winners[0].0
    };
    let first = won(1).await;
    site.open().await.give_up("x", first).await.unwrap();
    won(2).await;
}
