//! Users and their sessions: in, out, with another password, and while the database does not answer.

use std::time::Duration;

use reqwest::{Method, header};
use serde_json::json;
use spinor::api::{Asked, NewPassword, NewRoles, NewToken, NewUser};

use spinor_consumers::results::AuditFilter;

use super::{Stage, cookie, told};
use crate::support::eventually;

fn user(name: &str, password: &str, role: &str) -> NewUser {
    NewUser { name: name.to_owned(), password: password.to_owned(), roles: vec![role.to_owned()], by: None }
}

#[tokio::test]
async fn a_user_is_in_by_the_password_until_it_logs_out_or_gets_another_one_though_the_database_is_down() {
    let stage = Stage::new(&[]).await;
    let client = &stage.front.client;
    client.add_user(&user("ann", "correct horse", "operator")).await.unwrap();
    assert!(client.add_user(&user("ann", "another one", "viewer")).await.is_err(), "the name is taken");
    for (wrong, field) in [
        (user("a b", "correct horse", "viewer"), "name"),
        (user("bob", "short", "viewer"), "password"),
        (user("bob", "correct horse", "king"), "roles[0]"),
    ] {
        let refused = client.add_user(&wrong).await.unwrap_err().to_string();
        assert!(refused.contains(field), "{refused}");
    }
    let log_in = async |name: &str, password: &str| {
        let login = stage.ask(Method::POST, "/api/v1/session").json(&json!({"user": name, "password": password}));
        login.send().await.unwrap()
    };
    for (name, password) in [("ann", "correct house"), ("bob", "correct horse")] {
        let refused = log_in(name, password).await;
        assert!(!refused.headers().contains_key(header::SET_COOKIE));
        assert_eq!(told(refused).await.0, 401, "{name} {password}");
    }
    let as_one = async |cookie: &str, method: Method, path: &str| {
        let request = stage.ask(method, path).header(header::COOKIE, cookie).header("X-Spinor", "1");
        told(request.send().await.unwrap()).await
    };
    let first = log_in("ann", "correct horse").await;
    assert_eq!(first.status(), 201);
    let (first, second) = (cookie(&first), cookie(&log_in("ann", "correct horse").await));
    let (status, oneself) = as_one(&first, Method::GET, "/api/v1/session").await;
    assert_eq!((status, oneself), (200, json!({"name": "ann", "how": "session", "roles": ["operator"]})));
    let (_, paused) = as_one(&first, Method::POST, "/api/v1/queues/default/pause").await;
    assert_eq!(paused["paused"]["by"], json!("ann"));
    assert_eq!(as_one(&first, Method::GET, "/api/v1/users").await.0, 403);

    // Out: the cookie counts no more, even for who kept it; the other session goes on.
    assert_eq!(as_one(&first, Method::DELETE, "/api/v1/session").await.0, 204);
    assert_eq!(as_one(&first, Method::GET, "/api/v1/session").await.0, 401);
    assert_eq!(as_one(&second, Method::GET, "/api/v1/session").await.0, 200);
    // Other roles count for those who are in.
    let roles = NewRoles { roles: vec!["viewer".to_owned()], by: None };
    client.set_roles("ann", &roles).await.unwrap();
    assert_eq!(as_one(&second, Method::POST, "/api/v1/queues/default/resume").await.0, 403);
    // Another password ends what was.
    let new = NewPassword { password: "battery staple".to_owned(), by: None };
    client.set_password("ann", &new).await.unwrap();
    assert_eq!(as_one(&second, Method::GET, "/api/v1/session").await.0, 401);
    let third = cookie(&log_in("ann", "battery staple").await);

    let token = NewToken { name: "shop".into(), roles: vec!["publisher".into()], lasts: Some("1h".into()), by: None };
    let made = client.add_token(&token).await.unwrap();
    let listed = serde_json::to_string(&client.tokens().await.unwrap()).unwrap();
    assert!(listed.contains("shop") && !listed.contains(&made.token), "{listed}");
    let past = NewToken { name: "past".into(), lasts: Some("1ms".into()), ..token };
    let past = client.add_token(&past).await.unwrap().token;
    let shown = |token: &str| stage.ask(Method::GET, "/api/v1/session").bearer_auth(token).send();
    assert_eq!(told(shown(&made.token).await.unwrap()).await.1["name"], json!("shop"));
    assert_eq!(shown(&past).await.unwrap().status(), 401, "its time is over");
    assert_eq!(shown(&made.token.replace('a', "b")).await.unwrap().status(), 401);
    client.remove_token("shop", &Asked::default()).await.unwrap();
    assert_eq!(shown(&made.token).await.unwrap().status(), 401);

    let (who, action) = (Some("ann".to_owned()), Some("logIn".to_owned()));
    let logins = AuditFilter { who, action, ..AuditFilter::default() };
    eventually("her three logins to be written down", Duration::from_secs(20), async || {
        client.actions(&logins).await.is_ok_and(|page| page.rows.len() == 3)
    })
    .await;

    stage.front.results.close().await;
    assert_eq!(as_one(&third, Method::GET, "/api/v1/jobs").await.0, 503, "the record is away");
    assert_eq!(as_one(&third, Method::GET, "/api/v1/session").await.0, 200, "who is in stays in");
    assert_eq!(log_in("ann", "battery staple").await.status(), 201, "and who knows the password gets in");
}

#[tokio::test]
async fn who_guesses_a_password_has_to_wait_and_nobody_else() {
    let stage = Stage::new(&[]).await;
    for name in ["ann", "bob"] {
        stage.front.client.add_user(&user(name, "correct horse", "viewer")).await.unwrap();
    }
    let log_in = async |name: &str, password: &str| {
        let login = stage.ask(Method::POST, "/api/v1/session").json(&json!({"user": name, "password": password}));
        login.send().await.unwrap().status().as_u16()
    };
    for _ in 0..10 {
        assert_eq!(log_in("ann", "correct house").await, 401);
    }
    assert_eq!(log_in("ann", "correct horse").await, 429);
    assert_eq!(log_in("bob", "correct horse").await, 201);
    stage.front.client.remove_user("bob", &Asked::default()).await.unwrap();
    assert_eq!(log_in("bob", "correct horse").await, 401);
}
