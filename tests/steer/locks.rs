//! Limits and unique keys over the API.

use std::time::Duration;

use spinor::api::{Asked, LockFilter, NewLimit, NewUnique, new_job::NewJob};
use spinor_consumers::state::{Admission, Limit, OnTaken};
use uuid::Uuid;

use super::stage::{SOON, Stage, refused};

#[tokio::test]
async fn a_limit_says_where_its_bounds_come_from_and_what_is_in_use() {
    let stage = Stage::new().await;
    let rows = async || stage.client.locks(&LockFilter::default()).await.unwrap().limits;
    let mail = rows().await.remove(0);
    assert_eq!((mail.name.as_str(), mail.at_once, mail.rate.as_deref()), ("mail", Some(3), Some("100/1m")));
    assert_eq!((mail.from.as_str(), mail.in_use, mail.full), ("configuration", 0, false));
    let limit = [Limit { key: "mail:blue".into(), at_once: Some(3), rate: None }];
    assert_eq!(stage.state.acquire(&limit, Uuid::now_v7(), SOON).await, Ok(Admission::Granted));
    let new = NewLimit { at_once: Some(1), by: Some("ann".to_owned()), ..NewLimit::default() };
    let set = stage.client.set_limit("mail", &new).await.unwrap();
    assert_eq!(set.configured.as_deref(), Some("3 at once, 100/1m"), "what it counts in place of");
    assert_eq!(
        (set.at_once, set.rate, set.from.as_str(), set.set.unwrap().by),
        (Some(1), None, "command", "ann".into())
    );
    // One that nobody bounds is listed while somebody has it.
    let (free, owner) = ([Limit { key: "free".into(), at_once: Some(1), rate: None }], Uuid::now_v7());
    assert_eq!(stage.state.acquire(&free, owner, SOON).await, Ok(Admission::Granted));
    assert_eq!(rows().await[0].name, "free");
    stage.state.release(owner).await.unwrap();
    let told: Vec<_> = rows().await.into_iter().map(|row| (row.name, row.at_once, row.in_use, row.full)).collect();
    assert_eq!(told, [("mail".to_owned(), Some(1), 0, false), ("mail:blue".to_owned(), Some(1), 1, true)]);

    let mut job = NewJob::new("noop");
    job.limits = vec!["mail:blue".to_owned()];
    let id = stage.queued(job).await;
    let why = stage.client.why(id).await.unwrap();
    assert_eq!((why.reason.as_str(), why.detail.contains("`mail:blue`")), ("limit", true), "{}", why.detail);

    let back = stage.client.clear_limit("mail", &Asked::default()).await.unwrap();
    assert_eq!((back.at_once, back.from.as_str()), (Some(3), "configuration"));
    assert_eq!(stage.client.why(id).await.unwrap().reason, "no_consumer");
    let twice = refused(stage.client.clear_limit("mail", &Asked::default()).await);
    assert!(twice.status == 404 && twice.detail.contains("limits.mail"), "{twice}");
    stage.end().await;
}

#[tokio::test]
async fn a_limit_that_bounds_nothing_or_has_a_wrong_name_is_refused() {
    let stage = Stage::new().await;
    stage
        .refuses(&[
            ("PUT", "/api/v1/limits/db", "", 422, "at_once"),
            ("PUT", "/api/v1/limits/db", r#"{"rate":"often"}"#, 422, r#""field":"rate""#),
            ("PUT", "/api/v1/limits/db", r#"{"at_once":-1}"#, 422, "u32"),
            ("PUT", "/api/v1/limits/d%20b", r#"{"at_once":1}"#, 422, "name"),
            ("PUT", "/api/v1/limits/db:", r#"{"at_once":1}"#, 422, "name"),
            ("DELETE", "/api/v1/limits/db", "", 404, "no limit `db`"),
            ("GET", "/api/v1/locks?limit=1001", "", 400, "limit"),
        ])
        .await;
    let none = stage.client.set_limit("db:a b/c", &NewLimit { at_once: Some(0), ..NewLimit::default() }).await.unwrap();
    assert_eq!((none.name.as_str(), none.full), ("db:a b/c", true));
    stage.end().await;
}

#[tokio::test]
async fn keys_are_listed_by_page_and_freed_by_name() {
    let stage = Stage::new().await;
    let long = Duration::from_secs(3600);
    for key in ["a/1", "a/2 ä", "a/3", "b"] {
        stage.state.take_key(key, Uuid::now_v7(), long, OnTaken::Keep).await.unwrap();
    }
    let list = async |after: Option<String>| {
        let filter = LockFilter { prefix: "a/".to_owned(), after, limit: 2 };
        let locks = stage.client.locks(&filter).await.unwrap();
        (locks.keys.into_iter().map(|row| row.key).collect::<Vec<_>>(), locks.next)
    };
    assert_eq!(list(None).await, (vec!["a/1".to_owned(), "a/2 ä".to_owned()], Some("a/2 ä".to_owned())));
    assert_eq!(list(Some("a/2 ä".to_owned())).await, (vec!["a/3".to_owned()], None));
    let mut job = NewJob::new("noop");
    job.unique = Some(NewUnique::new("a/2 ä"));
    let holder = refused(stage.client.publish(&job).await).job;
    let freed = stage.client.free_key("a/2 ä", &Asked::default()).await.unwrap();
    assert_eq!(Some(freed.job), holder);
    stage.client.publish(&job).await.unwrap();
    assert_eq!(refused(stage.client.free_key("a/2", &Asked::default()).await).status, 404);
    stage.end().await;
}
