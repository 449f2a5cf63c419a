//! Claims: one execution for each attempt.

use spinor_consumers::state::{Claimed, LOST, ended};
use uuid::Uuid;

use super::{Site, race};

pub async fn the_first_execution_has_the_claim_and_a_second_is_told_whose_it_is(site: &Site) {
    let (state, other) = (site.open().await, site.open().await);
    let key = (Uuid::now_v7(), 0, 1);
    let (first, second) = (Uuid::now_v7(), Uuid::now_v7());
    assert_eq!(state.claim(key, first, false).await, Ok(Claimed::Yes));
    assert_eq!(other.claim(key, second, false).await, Ok(Claimed::Taken { by: first }));
    // Asked again, because the answer was lost.
    assert_eq!(state.claim(key, first, false).await, Ok(Claimed::Yes));
}

pub async fn an_attempt_is_claimed_apart_from_other_attempts_and_replays(site: &Site) {
    let state = site.open().await;
    let job = Uuid::now_v7();
    for key in [(job, 0, 1), (job, 0, 2), (job, 1, 1), (Uuid::now_v7(), 0, 1)] {
        assert_eq!(state.claim(key, Uuid::now_v7(), false).await, Ok(Claimed::Yes));
    }
}

pub async fn who_takes_over_has_the_claim_and_who_had_it_has_not(site: &Site) {
    let state = site.open().await;
    let key = (Uuid::now_v7(), 0, 3);
    let (first, second) = (Uuid::now_v7(), Uuid::now_v7());
    assert_eq!(state.claim(key, first, true).await, Ok(Claimed::Yes));
    assert_eq!(state.claim(key, second, true).await, Ok(Claimed::Yes));
    assert_eq!(state.claim(key, first, false).await, Ok(Claimed::Taken { by: second }));
    assert_eq!(state.claim(key, second, false).await, Ok(Claimed::Yes));
}

pub async fn of_fifty_who_want_one_claim_exactly_one_has_it(site: &Site) {
    let key = (Uuid::now_v7(), 0, 1);
    let got = race(site, 50, |state, _| async move {
        let execution = Uuid::now_v7();
        (execution, state.claim(key, execution, false).await.expect("an answer"))
    })
    .await;
    let winners: Vec<_> = got.iter().filter(|(_, claimed)| *claimed == Claimed::Yes).collect();
    assert_eq!(winners.len(), 1);
    let by = winners[0].0;
    assert!(got.iter().all(|(execution, claimed)| *execution == by || *claimed == Claimed::Taken { by }));
}

pub async fn a_claim_is_passed_on_once_by_who_has_it_and_by_nobody_else(site: &Site) {
    let (state, other) = (site.open().await, site.open().await);
    let key = (Uuid::now_v7(), 0, 1);
    let execution = Uuid::now_v7();
    assert_eq!(state.claim(key, execution, false).await, Ok(Claimed::Yes));
    assert_eq!(other.pass_claim(key, execution, execution).await, Ok(true), "it keeps it");
    assert_eq!(other.pass_claim(key, Uuid::now_v7(), LOST).await, Ok(false), "another has it");
    assert_eq!(other.pass_claim(key, execution, LOST).await, Ok(true));
    // Asked again, because the answer was lost.
    assert_eq!(other.pass_claim(key, execution, LOST).await, Ok(true));
    assert_eq!(state.pass_claim(key, execution, ended(execution)).await, Ok(false));
    assert_eq!(state.claim(key, Uuid::now_v7(), false).await, Ok(Claimed::Taken { by: LOST }));
    // As old as that, or in a store that was emptied: nobody gave it up.
    let forgotten = (Uuid::now_v7(), 0, 1);
    assert_eq!(state.pass_claim(forgotten, execution, ended(execution)).await, Ok(true));
    assert_eq!(other.pass_claim(forgotten, execution, LOST).await, Ok(false));
}
