//! The `http` kind against a small server in the test itself.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use uuid::Uuid;

use super::Http;
use crate::{Cancelled, Cause, Context, Executor, Failure, Job, Json, Outcome};

fn context() -> Context {
    let mut context = Context::new(Uuid::now_v7(), None);
    context.keep_output = 20;
    context
}

async fn send(args: &str, context: &Context) -> Outcome {
    let job = Job::new("http", "default", Json::new(args.to_owned()).expect("JSON"));
    Http::new().expect("a client").run(&job, context).await
}

/// Sends to a server that gives one answer; returns the outcome and what the server was sent.
async fn exchange(args: &str, answer: &str) -> (Outcome, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://me:secret@{}/a/b?token=hidden", listener.local_addr().expect("bound"));
    let args = args.replace("URL", &url);
    let context = context();
    let serve = async {
        let (mut stream, _) = listener.accept().await.expect("one comes");
        let mut asked = Vec::new();
        while !asked.windows(4).any(|end| end == b"\r\n\r\n") || !asked.ends_with(b"\n") && !asked.ends_with(b"}") {
            assert!(stream.read_buf(&mut asked).await.expect("it reads") > 0);
        }
        stream.write_all(answer.as_bytes()).await.expect("it writes");
        String::from_utf8(asked).expect("text")
    };
    tokio::join!(send(&args, &context), serve)
}

fn failure(outcome: Outcome) -> Failure {
    match outcome {
        Outcome::Failed(failure) => failure,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_request_carries_what_it_was_given_and_the_answer_is_the_value() {
    let args =
        r#"{"url": "URL", "method": "put", "headers": {"x-mark": "7"}, "body": {"a": 1}, "expect": [201, [300, 310]]}"#;
    let (outcome, asked) = exchange(args, "HTTP/1.1 201 Created\r\ncontent-length: 4\r\n\r\nmade").await;
    let Outcome::Succeeded(value) = outcome else { panic!("{outcome:?}") };
    assert_eq!(value.text(), r#"{"status":201,"body":"made"}"#);
    assert!(asked.starts_with("PUT /a/b?token=hidden HTTP/1.1\r\n"), "{asked}");
    for line in ["x-mark: 7", "content-type: application/json", "{\"a\": 1}"] {
        assert!(asked.contains(line), "{asked}");
    }
}

#[tokio::test]
async fn a_long_body_is_cut_and_said_to_be() {
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{}", "x".repeat(50));
    let Outcome::Succeeded(value) = exchange(r#"{"url": "URL"}"#, &answer).await.0 else { panic!("200 is expected") };
    assert_eq!(value.text(), format!(r#"{{"status":200,"body":"{}","truncated":true}}"#, "x".repeat(20)));
}

#[tokio::test]
async fn a_status_that_is_not_expected_fails_and_tells_no_secret() {
    let answer = "HTTP/1.1 404 Not Found\r\ncontent-length: 8\r\n\r\nno such\n";
    let failure = failure(exchange(r#"{"url": "URL"}"#, answer).await.0);
    assert_eq!(failure.cause, Cause::Error);
    assert!(
        failure.message.ends_with("/a/b answered 404 Not Found, expected 200 to 299: no such"),
        "{}",
        failure.message
    );
    assert!(!failure.message.contains("secret") && !failure.message.contains("hidden"), "{}", failure.message);
}

#[tokio::test]
async fn nobody_listening_is_a_failure_that_names_the_place() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let failure = failure(send(&format!(r#"{{"url": "http://{address}/x"}}"#), &context()).await);
    assert_eq!(failure.cause, Cause::Error);
    assert!(
        failure.message.contains(&address.to_string()) && failure.message.contains("refused"),
        "{}",
        failure.message
    );
}

#[tokio::test]
async fn a_request_without_an_answer_ends_when_cancelled() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let args = format!(r#"{{"url": "http://{}/x"}}"#, listener.local_addr().expect("bound"));
    let context = context();
    let cancel = async {
        let held = listener.accept().await.expect("one comes");
        context.canceller().cancel(Cancelled::Timeout);
        held
    };
    let (outcome, _held) = tokio::join!(send(&args, &context), cancel);
    assert_eq!(failure(outcome).cause, Cause::Timeout);
}

#[tokio::test]
async fn arguments_that_do_not_fit_are_refused_with_the_field_named() {
    for (args, word) in [
        (r#"{"url": "x"}"#, "`url`"),
        (r#"{"url": 1}"#, "`url`: invalid type"),
        (r#"{"url": "http://h/", "headers": {"a": 1}}"#, "`headers.a`: invalid type"),
        (r#"{"url": "http://h/", "expect": 200}"#, "`expect`: invalid type"),
        (r#"{}"#, "missing field `url`"),
        (r#"{"url": "ftp://h/x"}"#, "`ftp:`"),
        (r#"{"url": "http://h/", "method": "G T"}"#, "`method`"),
        (r#"{"url": "http://h/", "headers": {"a b": "c"}}"#, "`a b`"),
        (r#"{"url": "http://h/", "timeout": 3}"#, "`timeout`"),
        (r#"{"url": "http://h/", "expect": ["ok"]}"#, "`expect`"),
    ] {
        let failure = failure(send(args, &context()).await);
        assert!(failure.cause == Cause::Args && failure.message.contains(word), "{args}: {}", failure.message);
    }
}
