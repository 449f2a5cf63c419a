//! Permits: limits that hold across everybody, and give back what a dead owner held.

use std::time::Duration;

use spinor_consumers::state::{Admission, Limit, State};
use uuid::Uuid;

use super::{LONG, SOON, Site, race};
use crate::support::{eventually, eventually_some};

fn at_once(key: &str, count: u32) -> Limit {
    Limit { key: key.to_owned(), at_once: Some(count), rate: None }
}

fn rate(key: &str, count: u32, time: Duration) -> Limit {
    Limit { key: key.to_owned(), at_once: None, rate: Some((count, time)) }
}

async fn granted(state: &State, limits: &[Limit], owner: Uuid) -> bool {
    state.acquire(limits, owner, LONG).await.expect("an answer") == Admission::Granted
}

pub async fn so_many_at_once_are_admitted_and_no_more(site: &Site) {
    let (state, other) = (site.open().await, site.open().await);
    let limit = [at_once("db", 2)];
    assert!(granted(&state, &limit, Uuid::now_v7()).await);
    assert!(granted(&other, &limit, Uuid::now_v7()).await);
    let third = state.acquire(&limit, Uuid::now_v7(), LONG).await.unwrap();
    assert!(matches!(&third, Admission::Later { key, after } if key == "db" && !after.is_zero()), "{third:?}");
    assert!(granted(&state, &[at_once("other", 1)], Uuid::now_v7()).await);
    // A limit that was raised meanwhile.
    assert!(granted(&state, &[at_once("db", 3)], Uuid::now_v7()).await);
    assert!(!granted(&state, &[at_once("db", 0)], Uuid::now_v7()).await);
}

pub async fn a_permit_that_is_released_goes_to_another(site: &Site) {
    let state = site.open().await;
    let (first, second) = (Uuid::now_v7(), Uuid::now_v7());
    let limits = [at_once("a", 1), at_once("b", 1)];
    assert!(granted(&state, &limits, first).await);
    state.release(second).await.unwrap();
    assert!(!granted(&state, &limits, second).await, "who has none gives none back");
    state.release(first).await.unwrap();
    state.release(first).await.unwrap();
    assert!(granted(&state, &limits, second).await);
    assert!(!granted(&state, &limits, first).await, "given back twice is given back once");
}

pub async fn who_has_a_permit_asks_again_and_counts_once(site: &Site) {
    let state = site.open().await;
    let owner = Uuid::now_v7();
    let limit = [at_once("a", 2)];
    for _ in 0..3 {
        assert!(granted(&state, &limit, owner).await);
    }
    assert!(granted(&state, &limit, Uuid::now_v7()).await);
    assert!(granted(&state, &limit, owner).await, "full, and it has one");
    assert!(!granted(&state, &limit, Uuid::now_v7()).await);
}

pub async fn all_limits_admit_or_none_counts(site: &Site) {
    let state = site.open().await;
    assert!(granted(&state, &[at_once("b", 1)], Uuid::now_v7()).await);
    let hour = Duration::from_secs(3600);
    for _ in 0..3 {
        let both = [at_once("c", 1), at_once("b", 1), rate("a", 1, hour)];
        let refused = state.acquire(&both, Uuid::now_v7(), LONG).await.unwrap();
        assert!(matches!(&refused, Admission::Later { key, .. } if key == "b"), "{refused:?}");
    }
    assert!(granted(&state, &[rate("a", 1, hour), at_once("c", 1)], Uuid::now_v7()).await, "neither was used up");
}

pub async fn a_rate_admits_so_many_and_says_how_long_to_wait(site: &Site) {
    let state = site.open().await;
    let limit = [rate("r", 3, Duration::from_secs(3 * 3600))];
    for _ in 0..3 {
        let owner = Uuid::now_v7();
        assert!(granted(&state, &limit, owner).await);
        // A rate counts starts: an end gives nothing back.
        state.release(owner).await.unwrap();
    }
    let Admission::Later { after, .. } = state.acquire(&limit, Uuid::now_v7(), LONG).await.unwrap() else {
        panic!("a fourth was admitted");
    };
    assert!(after > Duration::from_secs(3000) && after <= Duration::from_secs(3600), "{after:?}");
}

pub async fn a_rate_admits_again_when_its_time_has_come(site: &Site) {
    let state = site.open().await;
    let limit = [rate("r", 2, Duration::from_millis(800))];
    for _ in 0..2 {
        state.acquire(&limit, Uuid::now_v7(), LONG).await.unwrap();
    }
    eventually("the rate to admit again", SOON, async || granted(&state, &limit, Uuid::now_v7()).await).await;
}

pub async fn asking_again_uses_up_no_rate(site: &Site) {
    let state = site.open().await;
    let limit = [rate("r", 2, Duration::from_secs(3600))];
    let owner = Uuid::now_v7();
    for _ in 0..5 {
        assert!(granted(&state, &limit, owner).await);
    }
    assert!(granted(&state, &limit, Uuid::now_v7()).await);
    assert!(!granted(&state, &limit, Uuid::now_v7()).await);
}

pub async fn of_fifty_who_want_seven_permits_exactly_seven_have_one(site: &Site) {
    let limits = [at_once("a", 7), rate("b", 1000, Duration::from_secs(1))];
    let (first, second) = (limits.clone(), limits);
    let ask = |limits: [Limit; 2]| {
        race(site, 50, move |state, _| {
            let limits = limits.clone();
            async move {
                let owner = Uuid::now_v7();
                (owner, granted(&state, &limits, owner).await)
            }
        })
    };
    let got = ask(first).await;
    let owners: Vec<Uuid> = got.into_iter().filter(|(_, granted)| *granted).map(|(owner, _)| owner).collect();
    assert_eq!(owners.len(), 7);
    let state = site.open().await;
    for owner in &owners[..3] {
        state.release(*owner).await.unwrap();
    }
    assert_eq!(ask(second).await.into_iter().filter(|(_, granted)| *granted).count(), 3);
}

pub async fn who_races_for_two_limits_in_any_order_gets_both_or_none(site: &Site) {
    let got = race(site, 50, |state, at| async move {
        let (owner, mut limits) = (Uuid::now_v7(), [at_once("a", 5), at_once("b", 9)]);
        if at % 2 == 0 {
            limits.reverse();
        }
        let granted = granted(&state, &limits, owner).await;
        if granted && at % 3 == 0 {
            state.release(owner).await.expect("released");
            return 0;
        }
        usize::from(granted)
    })
    .await;
    assert!(got.iter().sum::<usize>() <= 5);
    let state = site.open().await;
    let mut left = 0;
    while granted(&state, &[at_once("b", 9)], Uuid::now_v7()).await {
        left += 1;
    }
    assert_eq!(left, 9 - got.iter().sum::<usize>(), "who got one of the two kept neither");
}

pub async fn a_permit_whose_owner_is_gone_is_free_when_its_lease_ends(site: &Site) {
    let state = site.open().await;
    let limit = [at_once("a", 1)];
    let dead = Uuid::now_v7();
    assert_eq!(state.acquire(&limit, dead, Duration::from_millis(300)).await, Ok(Admission::Granted));
    state.close().await;
    let state = site.open().await;
    let owner = Uuid::now_v7();
    eventually("the lease to end", SOON, async || granted(&state, &limit, owner).await).await;
    assert!(!granted(&state, &limit, dead).await);
    assert!(!granted(&state, &limit, Uuid::now_v7()).await, "one was freed, and once");
}

pub async fn a_permit_that_is_renewed_outlives_its_first_lease(site: &Site) {
    let state = site.open().await;
    let (lasting, ending) = (Uuid::now_v7(), Uuid::now_v7());
    let limit = [at_once("a", 2)];
    for owner in [lasting, ending] {
        assert_eq!(state.acquire(&limit, owner, Duration::from_millis(1500)).await, Ok(Admission::Granted));
    }
    assert_eq!(state.renew(&[lasting], LONG).await, Ok(Vec::new()));
    // The other's end proves that the first lease is over for both.
    eventually("the other to end", SOON, async || granted(&state, &limit, Uuid::now_v7()).await).await;
    assert!(!granted(&state, &limit, Uuid::now_v7()).await);
}

pub async fn who_lost_its_permit_is_told_when_it_renews(site: &Site) {
    let state = site.open().await;
    let (lost, kept) = (Uuid::now_v7(), Uuid::now_v7());
    state.acquire(&[at_once("a", 1)], lost, Duration::from_millis(200)).await.unwrap();
    state.acquire(&[at_once("b", 1)], kept, LONG).await.unwrap();
    eventually("another to have it", SOON, async || granted(&state, &[at_once("a", 1)], Uuid::now_v7()).await).await;
    let gone = eventually_some("an answer", SOON, async || state.renew(&[kept, lost], LONG).await.ok()).await;
    assert_eq!(gone, [lost]);
}

pub async fn what_counts_against_each_limit_is_listed(site: &Site) {
    let state = site.open().await;
    assert_eq!(state.in_use(10).await.unwrap(), []);
    let (first, second) = (Uuid::now_v7(), Uuid::now_v7());
    assert!(granted(&state, &[at_once("db", 2), rate("mail", 2, LONG)], first).await);
    assert!(granted(&state, &[at_once("db", 2)], second).await);
    let ended = state.acquire(&[at_once("tenant:blue", 5)], first, Duration::from_millis(1)).await;
    assert_eq!(ended, Ok(Admission::Granted));
    let held = async || -> Vec<(String, u64)> {
        let in_use = state.in_use(10).await.unwrap();
        in_use.into_iter().map(|in_use| (in_use.key, in_use.held)).collect()
    };
    let of = |db, mail, blue| [("db", db), ("mail", mail), ("tenant:blue", blue)].map(|(name, n)| (name.to_owned(), n));
    eventually("the lease to end", SOON, async || held().await == of(2, 1, 0)).await;
    let in_use = state.in_use(10).await.unwrap();
    assert!(at_once("db", 2).is_full(&in_use[0]) && !at_once("db", 3).is_full(&in_use[0]));
    // One of two an hour was used: half an hour on.
    assert!(in_use[1].due_in > LONG / 4 && in_use[1].due_in <= LONG / 2, "{in_use:?}");
    assert!(!rate("mail", 2, LONG).is_full(&in_use[1]));
    assert!(granted(&state, &[rate("mail", 2, LONG)], second).await);
    assert!(rate("mail", 2, LONG).is_full(&state.in_use(10).await.unwrap()[1]));
    let mut holders = state.holders("db", 10).await.unwrap();
    holders.sort_unstable();
    assert_eq!((holders, state.holders("db", 1).await.unwrap().len()), (vec![first, second], 1));
    assert_eq!(state.holders("tenant:blue", 10).await.unwrap(), Vec::<Uuid>::new(), "the lease has ended");
    state.release(first).await.unwrap();
    assert_eq!(state.holders("db", 10).await.unwrap(), [second]);
    assert_eq!(held().await, of(1, 1, 0));
    assert_eq!(state.in_use(1).await.unwrap().len(), 1, "no more than asked for");
}
