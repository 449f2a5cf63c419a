//! Answers that are given again: a key is claimed by one alone, answered for a day, and taken over when its claim ran out.

use spinor_consumers::results::{Claimed, Keyed};
use uuid::Uuid;

use super::Record;

both!(
    a_key_is_claimed_once_answered_afterwards_and_forgotten_after_a_day,
    what_was_begun_and_not_finished_is_done_again_only_where_that_is_allowed,
);

const KEYED: Keyed = Keyed { name: [7; 32], request: [1; 32] };

async fn a_key_is_claimed_once_answered_afterwards_and_forgotten_after_a_day(record: &Record) {
    let results = &record.results;
    let claim = async || results.claim_answer(&KEYED, Uuid::now_v7(), false).await.unwrap();
    let first = Uuid::now_v7();
    let claims = tokio::join!(results.claim_answer(&KEYED, first, false), claim());
    let mine = Claimed::Mine { seed: first, again: false };
    let (holder, other) = match claims {
        (Ok(one), other) if one == mine => (first, other),
        (Ok(other), Claimed::Mine { seed, again: false }) => (seed, other),
        claims => panic!("{claims:?}"),
    };
    assert_eq!(other, Claimed::InWork);
    assert!(results.renew_answer(&KEYED, holder).await.unwrap());
    let asked = Keyed { request: [2; 32], ..KEYED };
    assert_eq!(results.claim_answer(&asked, first, true).await.unwrap(), Claimed::Other);
    results.keep_answer(&KEYED, holder, 201, b"{}").await.unwrap();
    let answered = Claimed::Answered { status: 201, body: Some(b"{}".to_vec()) };
    assert_eq!(claim().await, answered);
    results.forget_answer(&KEYED, holder).await.unwrap();
    results.prune_answers().await.unwrap();
    assert_eq!(claim().await, answered, "what was answered stays");
    record.execute("UPDATE answers SET at = at - 86500000000, until = 1").await;
    let Claimed::Mine { seed: holder, again: false } = claim().await else { panic!("a day is over") };
    record.execute("UPDATE answers SET at = at - 86500000000, until = 1").await;
    results.prune_answers().await.unwrap();
    assert!(!results.renew_answer(&KEYED, holder).await.unwrap(), "it is gone");
    // What is too large is not kept, but that it was done is.
    let Claimed::Mine { seed, .. } = claim().await else { panic!("it is free") };
    results.keep_answer(&KEYED, seed, 207, " ".repeat(5 << 20).as_bytes()).await.unwrap();
    assert_eq!(claim().await, Claimed::Answered { status: 207, body: None });
}

async fn what_was_begun_and_not_finished_is_done_again_only_where_that_is_allowed(record: &Record) {
    let results = &record.results;
    let (first, second, third) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
    assert!(matches!(results.claim_answer(&KEYED, first, false).await.unwrap(), Claimed::Mine { .. }));
    // As if its process had died.
    record.execute("UPDATE answers SET until = 1").await;
    assert!(matches!(results.claim_answer(&KEYED, second, false).await.unwrap(), Claimed::Lost(_)));
    let again = Claimed::Mine { seed: first, again: true };
    assert_eq!(results.claim_answer(&KEYED, second, true).await.unwrap(), again);
    // Who was overtaken writes nothing.
    results.keep_answer(&KEYED, first, 201, b"{}").await.unwrap();
    assert!(!results.renew_answer(&KEYED, first).await.unwrap());
    assert_eq!(results.claim_answer(&KEYED, third, true).await.unwrap(), Claimed::InWork);
    results.give_answer_back(&KEYED, second).await.unwrap();
    assert_eq!(results.claim_answer(&KEYED, third, false).await.unwrap(), again);
    results.forget_answer(&KEYED, third).await.unwrap();
    assert_eq!(
        results.claim_answer(&KEYED, second, false).await.unwrap(),
        Claimed::Mine { seed: second, again: false }
    );
}
