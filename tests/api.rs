//! The HTTP API over its real sockets, with a real embedded broker and record behind it.

mod repeated;

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::fs::PermissionsExt,
    time::Duration,
};

use jiff::Timestamp;
use serde_json::{Value, json};
use spinor::{
    api::{EventFilter, FiguresQuery, listen, new_job::NewJob},
    client::{Client, ClientError},
    config::Ask,
};
use spinor_consumers::{
    broker::{Address, Broker, Event, Settlement, Topic, Verdict},
    results::JobFilter,
    state::{Beat, StateTarget},
};
use spinor_executors::{Json, Origin, Outcome, Report, State};
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::support::{
    front::{Front, exchange},
    scratch::Scratch,
};

const TOKEN: &str = "hush-hush";

/// A Spinor without consumers, served on both sockets.
struct Stage(Front);

impl std::ops::Deref for Stage {
    type Target = Front;

    fn deref(&self) -> &Front {
        &self.0
    }
}

impl Stage {
    async fn new() -> Self {
        let scratch = Scratch::new("api");
        let target = StateTarget::Sqlite(scratch.join("state.db"));
        let api = format!("[api]\nlisten = '127.0.0.1:0'\ntoken = '{TOKEN}'\nmax_body = '64KiB'\n");
        Self(Front::start(scratch, &api, target).await)
    }

    /// Takes the next job of a queue and answers it with this outcome, as a consumer would.
    async fn work(&self, queue: &str, outcome: Outcome) -> Report {
        self.0.work(queue, outcome).await.1
    }

    /// A raw request over TCP: status and body.
    async fn raw(&self, request: &[u8]) -> (u16, Value) {
        let stream = TcpStream::connect(self.tcp().trim_start_matches("http://")).await.unwrap();
        exchange(stream, request).await
    }

    fn tcp(&self) -> &str {
        &self.addresses[1]
    }

    async fn end(self) {
        self.0.end().await;
    }
}

#[tokio::test]
async fn a_published_job_is_listed_at_once_and_waited_for_to_its_end() {
    let stage = Stage::new().await;
    let mut job = NewJob::new("noop");
    (job.args, job.correlation_id) = (Some(Json::new(r#"{"a": [1]}"#).unwrap()), Some("mine".to_owned()));
    let accepted = stage.client.publish(&job).await.unwrap();
    let record = stage.client.job(accepted.id).await.unwrap();
    assert_eq!((record.row.state, record.row.queue.as_str()), (State::Queued, "default"));
    let published = record.job.unwrap();
    assert_eq!((published.args.text(), published.correlation_id.as_deref()), (r#"{"a": [1]}"#, Some("mine")));
    let page = stage.client.jobs(&JobFilter { state: Some(State::Queued), ..JobFilter::default() }).await.unwrap();
    assert_eq!(page.rows.len(), 1);
    let (waited, report) = tokio::join!(
        stage.client.wait(accepted.id, Duration::from_secs(20), true),
        stage.work("default", Outcome::Succeeded(Json::new("7").unwrap())),
    );
    let waited = waited.unwrap();
    assert!(waited.ended);
    assert_eq!(
        waited.report.map(|report| (report.execution, report.state)),
        Some((report.execution, State::Succeeded))
    );
    stage.end().await;
}

#[tokio::test]
async fn a_wait_that_runs_out_says_so_and_an_unknown_id_is_not_found() {
    let stage = Stage::new().await;
    let accepted = stage.client.publish(&NewJob::new("noop")).await.unwrap();
    let waited = stage.client.wait(accepted.id, Duration::from_millis(100), true).await.unwrap();
    assert!(!waited.ended && waited.report.is_none());
    let nobody = Uuid::now_v7();
    for problem in [
        stage.client.job(nobody).await.map(|_| ()),
        stage.client.wait(nobody, Duration::from_secs(20), false).await.map(|_| ()),
        stage.client.run(nobody).await.map(|_| ()),
    ] {
        assert!(matches!(problem, Err(ClientError::Refused(problem)) if problem.status == 404));
    }
    stage.end().await;
}

#[tokio::test]
async fn a_wait_without_its_event_is_answered_by_the_record() {
    let stage = Stage::new().await;
    let accepted = stage.client.publish(&NewJob::new("noop")).await.unwrap();
    let report = stage.work("default", Outcome::failed("no")).await;
    // The event has been cast before anybody waits.
    let waited = stage.client.wait(accepted.id, Duration::from_secs(20), true).await.unwrap();
    assert_eq!(waited.report.map(|waited| waited.execution), Some(report.execution));
    stage.end().await;
}

#[tokio::test]
async fn the_end_of_a_job_that_somebody_waits_for_is_told_once_it_is_in_the_record() {
    let stage = Stage::new().await;
    let [one, other] =
        [stage.client.publish(&NewJob::new("noop")).await, stage.client.publish(&NewJob::new("noop")).await]
            .map(|accepted| accepted.unwrap().id);
    let mut told = stage.broker.listen(Topic::Recorded).await.unwrap();
    let ask = async {
        loop {
            // Lossy: the recorder may not listen yet.
            stage.broker.cast(Event::Watch { jobs: vec![one] });
            tokio::task::yield_now().await;
        }
    };
    let watched = tokio::select! { watched = told.next() => watched, () = ask => unreachable!() };
    assert_eq!(watched, Some(Event::Watched { jobs: vec![one] }));
    for _ in [one, other] {
        stage.work("default", Outcome::failed("no")).await;
    }
    assert_eq!(told.next().await, Some(Event::Recorded { jobs: vec![one] }));
    assert!(stage.results.ending(one).await.unwrap().is_some(), "it was told before it was recorded");
    stage.end().await;
}

#[tokio::test]
async fn a_wait_is_not_answered_before_a_list_has_the_end() {
    let stage = Stage::new().await;
    let accepted = stage.client.publish(&NewJob::new("noop")).await.unwrap();
    let record = stage.client.job(accepted.id).await.unwrap();
    let origin = Origin { consumer: "c-1".into(), group: "default".into(), host: "here".into() };
    let mut report = Report::of(&record.job.unwrap(), &origin, Uuid::now_v7(), Timestamp::now());
    report.end(Outcome::Succeeded(Json::null()));
    // The consumer says that it ended; its report is still on its way.
    let cast_on = async {
        loop {
            stage.broker.cast(Event::Ended { report: Box::new(report.clone()) });
            tokio::task::yield_now().await;
        }
    };
    let wait = stage.client.wait(accepted.id, Duration::from_millis(200), true);
    let waited = tokio::select! { waited = wait => waited.unwrap(), () = cast_on => unreachable!() };
    assert!(!waited.ended, "{waited:?}");
    stage.end().await;
}

#[tokio::test]
async fn many_are_waited_for_in_one_request_and_those_that_ended_are_told() {
    let stage = Stage::new().await;
    let answer = stage.client.publish_batch(&vec![NewJob::new("noop"); 40]).await.unwrap();
    let ids: Vec<Uuid> = answer.jobs.iter().map(|job| job.id).collect();
    let work = async |count: usize| {
        for _ in 0..count {
            stage.work("default", Outcome::Succeeded(Json::null())).await;
        }
    };
    work(1).await;
    stage.client.wait(ids[0], Duration::from_secs(20), true).await.unwrap();
    let some = stage.client.wait_many(&ids, Duration::from_millis(1)).await.unwrap().ended;
    assert_eq!(some.iter().map(|end| (end.id, end.state)).collect::<Vec<_>>(), [(ids[0], State::Succeeded)]);
    let (all, ()) = tokio::join!(stage.client.wait_many(&ids, Duration::from_secs(60)), work(39));
    let all: BTreeSet<Uuid> = all.unwrap().ended.into_iter().map(|end| end.id).collect();
    assert_eq!(all, ids.iter().copied().collect());
    let ask = |ids: &[Uuid]| serde_json::to_vec(&json!({ "jobs": ids, "reports": true })).unwrap();
    let (_, with) = stage.local("POST", "/api/v1/jobs/wait", &ask(&ids[..2])).await;
    let reports: BTreeSet<String> =
        with["ended"].as_array().unwrap().iter().map(|end| end["report"]["job"].as_str().unwrap().to_owned()).collect();
    assert_eq!(reports, ids[..2].iter().map(Uuid::to_string).collect());
    let (status, problem) = stage.local("POST", "/api/v1/jobs/wait", &ask(&vec![Uuid::nil(); 201])).await;
    assert_eq!((status, problem["field"].as_str()), (422, Some("jobs")));
    let too_many = stage.client.wait_many(&vec![Uuid::nil(); 1001], Duration::ZERO).await;
    assert!(matches!(&too_many, Err(ClientError::Refused(problem)) if problem.field.as_deref() == Some("jobs")));
    stage.end().await;
}

#[tokio::test]
async fn a_wait_outlasts_a_record_that_does_not_answer_and_its_event_ends_it() {
    let stage = Stage::new().await;
    let accepted = stage.client.publish(&NewJob::new("noop")).await.unwrap();
    stage.results.close().await;
    let problem = stage.client.wait(accepted.id, Duration::from_millis(100), true).await;
    assert!(matches!(&problem, Err(ClientError::Refused(problem)) if problem.status == 503), "{problem:?}");
    let report = stage.work("default", Outcome::failed("no")).await;
    let wait = stage.client.wait(accepted.id, Duration::from_secs(30), true);
    let cast_on = async {
        loop {
            // Events are lossy: nobody may listen yet.
            stage.broker.cast(Event::Ended { report: Box::new(report.clone()) });
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::select! { waited = wait => waited.unwrap(), () = cast_on => unreachable!() };
    assert_eq!(waited.report.map(|waited| waited.execution), Some(report.execution));
    stage.end().await;
}

#[tokio::test]
async fn a_batch_has_a_result_for_each_and_a_wrong_field_refuses_it_whole() {
    let stage = Stage::new().await;
    let mut nowhere = NewJob::new("noop");
    nowhere.queue = Some("nowhere".to_owned());
    let answer = stage.client.publish_batch(&[NewJob::new("noop"), nowhere, NewJob::new("noop")]).await.unwrap();
    let problems: Vec<_> = answer.jobs.iter().map(|job| job.problem.as_ref().map(|problem| problem.status)).collect();
    assert_eq!(problems, [None, Some(422), None]);
    assert!(answer.jobs[1].problem.as_ref().unwrap().known.contains(&"default".to_owned()));
    let (status, problem) =
        stage.local("POST", "/api/v1/jobs", br#"[{"kind":"noop"},{"kind":"noop","priority":11}]"#).await;
    assert_eq!((status, &problem["field"]), (422, &json!("[1].priority")));
    let ready =
        stage.client.queues().await.unwrap().into_iter().find(|row| row.stats.name == "default").unwrap().stats.ready;
    assert_eq!(ready, 2, "nothing of the refused batch was published");
    stage.end().await;
}

#[tokio::test]
async fn rubbish_is_answered_with_a_problem_that_names_it() {
    let stage = Stage::new().await;
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    let large = vec![b' '; 100 << 10];
    let table: [(&str, &str, &[u8], u16); 12] = [
        ("POST", "/api/v1/jobs", b"\xff\xfe\x00", 400),
        ("POST", "/api/v1/jobs", b"", 400),
        ("POST", "/api/v1/jobs", br#"{"kind":7}"#, 422),
        ("POST", "/api/v1/jobs", deep.as_bytes(), 422),
        ("POST", "/api/v1/jobs", &large, 413),
        ("POST", "/api/v1/runs", br#"{"name":"x","plans":[]}"#, 422),
        ("GET", "/api/v1/jobs?limit=many", b"", 400),
        ("GET", "/api/v1/jobs?cursor=foo", b"", 400),
        ("GET", "/api/v1/runs?cursor=foo", b"", 400),
        ("GET", "/api/v1/jobs/nobody", b"", 422),
        ("GET", "/api/v1/nothing", b"", 404),
        ("DELETE", "/api/v1/jobs", b"", 405),
    ];
    for (method, path, body, expected) in table {
        let (status, problem) = stage.local(method, path, body).await;
        assert_eq!(status, expected, "{method} {path}: {problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{method} {path}: {problem}");
        if let Some((field, _)) = path.split_once('?').and_then(|(_, query)| query.split_once('=')) {
            assert_eq!(problem["field"], field, "{path}: {problem}");
            assert!(!problem["detail"].as_str().unwrap().contains("deserialize"), "{path}: {problem}");
        }
        if status == 413 {
            assert!(problem["detail"].as_str().unwrap().contains("api.max_body"), "{problem}");
        }
    }
    let args = format!(r#"{{"kind":"noop","args":{deep}}}"#);
    assert_eq!(stage.local("POST", "/api/v1/jobs", args.as_bytes()).await.0, 201, "deep args are args");
    stage.end().await;
}

#[tokio::test]
async fn over_tcp_nothing_is_answered_without_the_token_and_a_host_of_this_machine() {
    let stage = Stage::new().await;
    let get =
        |path: &str, headers: &str| format!("GET {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n").into_bytes();
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    let table = [
        (get("/api/v1/status", "Host: localhost\r\n"), 401),
        (get("/api/v1/status", "Host: localhost\r\nAuthorization: Bearer wrong\r\n"), 401),
        (get("/api/v1/status", &format!("Host: evil.example\r\n{bearer}")), 403),
        (get("/metrics", "Host: localhost\r\n"), 401),
        (get("/healthz", "Host: evil.example\r\n"), 403),
        (get("/healthz", "Host: localhost\r\n"), 200),
        (get("/api/v1/status", &format!("Host: 127.0.0.1:1\r\n{bearer}")), 200),
    ];
    for (request, expected) in table {
        let (status, body) = stage.raw(&request).await;
        assert_eq!(status, expected, "{}", String::from_utf8_lossy(&request));
        assert!(!body.to_string().contains(TOKEN));
    }
    let by_token = Client::http(stage.tcp(), Some(TOKEN.to_owned())).unwrap();
    assert_eq!(by_token.status().await.unwrap().link.state, "up");
    stage.end().await;
}

#[tokio::test]
async fn the_socket_is_private_taken_over_when_stale_and_refused_when_live() {
    let stage = Stage::new().await;
    let path = stage.scratch.join("data/spinor.sock");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(stage.scratch.join("data")).unwrap().permissions().mode() & 0o777, 0o700);
    let ask = Ask { file: Some(stage.scratch.join("spinor.toml")), ..Ask::default() };
    let config = ask.load().unwrap().config;
    let refused = listen::bind(&config).await.map(|_| ()).unwrap_err().to_string();
    assert!(
        refused.contains(&format!("process {}", std::process::id())) && refused.contains("spinor.sock"),
        "{refused}"
    );
    // A second one that is refused must not take the first one's socket away.
    assert_eq!(stage.client.status().await.unwrap().info.pid, std::process::id());

    let other = Scratch::new("stale");
    let stale = other.join("spinor.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    let file = other.write("spinor.toml", format!("data = {:?}", other.path()));
    let config = Ask { file: Some(file), ..Ask::default() }.load().unwrap().config;
    drop(listen::bind(&config).await.unwrap());
    assert!(!stale.exists());
    stage.end().await;
}

#[tokio::test]
async fn a_taken_port_is_a_clear_error() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let scratch = Scratch::new("port");
    let address = taken.local_addr().unwrap();
    let file = scratch
        .write("spinor.toml", format!("data = {:?}\n[api]\nlisten = '{address}'\ntoken = 't'", scratch.join("data")));
    let config = Ask { file: Some(file), ..Ask::default() }.load().unwrap().config;
    let refused = listen::bind(&config).await.map(|_| ()).unwrap_err().to_string();
    assert!(refused.starts_with(&format!("cannot listen on {address} (`api.listen`): ")), "{refused}");
    assert!(!scratch.join("data/spinor.sock").exists());
}

#[tokio::test]
async fn why_names_the_one_reason() {
    let stage = Stage::new().await;
    let reason = async |id| stage.client.why(id).await.unwrap();
    let unknown = reason(Uuid::now_v7()).await;
    assert_eq!(unknown.reason, "unknown");
    let accepted = stage.client.publish(&NewJob::new("noop")).await.unwrap();
    let nobody = reason(accepted.id).await;
    assert_eq!(nobody.reason, "no_consumer");
    assert!(nobody.detail.contains("`default`"), "{}", nobody.detail);
    stage.work("default", Outcome::failed("out of paper")).await;
    stage.client.wait(accepted.id, Duration::from_secs(20), true).await.unwrap();
    crate::support::eventually("the end is recorded", Duration::from_secs(20), async || {
        reason(accepted.id).await.reason == "ended"
    })
    .await;
    assert!(reason(accepted.id).await.detail.contains("out of paper"));
    let strange = stage.client.publish(&NewJob::new("nosuch")).await.unwrap();
    let mut subscription = stage.broker.consume(&Address::Work("default".to_owned()), 1).await.unwrap();
    let in_hand = subscription.next().await.unwrap();
    // Who serves what is not known: nothing is guessed from it.
    assert_eq!(reason(strange.id).await.reason, "starting");
    let (queues, kinds) = (vec!["default".to_owned()], vec!["noop".to_owned()]);
    stage.state.beat(&Beat { consumer: "g@h-1".into(), queues, kinds, ..Beat::default() }).await.unwrap();
    let unserved = reason(strange.id).await;
    assert_eq!(unserved.reason, "kind", "{}", unserved.detail);
    assert!(unserved.detail.contains("serves the kind `nosuch`"), "{}", unserved.detail);
    drop(stage.broker.settle(in_hand, Settlement { verdict: Verdict::HandBack, ..Settlement::default() }));
    stage.end().await;
}

#[tokio::test]
async fn a_quiet_queue_lists_nothing_until_the_end() {
    let stage = Stage::new().await;
    let mut job = NewJob::new("noop");
    job.queue = Some("quiet".to_owned());
    let accepted = stage.client.publish(&job).await.unwrap();
    let missing = stage.client.job(accepted.id).await;
    assert!(matches!(missing, Err(ClientError::Refused(_))));
    let (waited, _) = tokio::join!(
        stage.client.wait(accepted.id, Duration::from_secs(20), true),
        stage.work("quiet", Outcome::Succeeded(Json::null())),
    );
    assert!(waited.unwrap().ended);
    stage.end().await;
}

#[tokio::test]
async fn events_are_streamed_until_the_server_stops() {
    let stage = Stage::new().await;
    let accepted = stage.client.publish(&NewJob::new("noop")).await.unwrap();
    let mut events = stage.client.events(EventFilter { job: Some(accepted.id), run: None }).await.unwrap();
    stage.work("default", Outcome::Succeeded(Json::null())).await;
    assert!(matches!(events.next().await.unwrap(), Some(Event::Ended { report }) if report.job == accepted.id));
    stage.end().await;
    assert!(events.next().await.unwrap().is_none());
}

#[tokio::test]
async fn metrics_figures_and_health_tell_what_is() {
    let stage = Stage::new().await;
    for _ in 0..2 {
        let accepted = stage.client.publish(&NewJob::new("noop")).await.unwrap();
        stage.work("default", Outcome::Succeeded(Json::null())).await;
        stage.client.wait(accepted.id, Duration::from_secs(20), true).await.unwrap();
    }
    stage.client.publish(&NewJob::new("noop")).await.unwrap();
    let figures = stage.client.figures(&FiguresQuery::default()).await.unwrap();
    let [noop] = &figures.kinds[..] else { panic!("{figures:?}") };
    assert_eq!((noop.kind.as_str(), &noop.counts.ended), ("noop", &BTreeMap::from([(State::Succeeded, 2)])));
    assert!(noop.counts.ran.is_some() && noop.counts.waited.is_some(), "{noop:?}");
    let succeeded = figures.points.iter().filter_map(|point| point.counts.ended.get(&State::Succeeded)).sum::<u64>();
    assert_eq!((figures.step, figures.points.len(), succeeded), (60, 60, 2));
    for (query, field) in [("since=73h", "since"), ("step=0s", "step"), ("since=x", "since"), ("since=2h&of=a", "of")] {
        let (status, problem) = stage.local("GET", &format!("/api/v1/figures?{query}"), b"").await;
        assert!((400..=422).contains(&status) && problem.to_string().contains(field), "{query}: {status} {problem}");
    }
    let (status, body) = stage.local("GET", "/metrics", b"").await;
    let text = body.as_str().unwrap();
    assert_eq!(status, 200);
    for line in [
        "spinor_jobs_published_total 3",
        "spinor_jobs_ended_total{kind=\"noop\",state=\"succeeded\"} 2",
        "spinor_job_run_seconds_count{kind=\"noop\"} 2",
        "spinor_job_wait_seconds_bucket{kind=\"noop\",le=\"+Inf\"} 2",
        "spinor_broker_link_up 1",
        "spinor_queue_ready{queue=\"default\"} 1",
        "spinor_recorder_up 1",
    ] {
        assert!(text.lines().any(|other| other == line), "{line}\n{text}");
    }
    assert_eq!(stage.local("GET", "/readyz", b"").await.0, 200);
    stage.broker.close().await;
    let (status, problem) = stage.local("GET", "/readyz", b"").await;
    assert_eq!((status, &problem["title"]), (503, &json!("Not ready")));
    assert_eq!(stage.local("GET", "/healthz", b"").await.0, 200);
    stage.end().await;
}
