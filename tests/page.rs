//! The page: its assets are what its sources make, a browser gets in by the link and no other way, and a person can do
//! what they came for in a real Chromium.

use std::{path::Path, time::Duration};

use reqwest::{StatusCode, header};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::{
    process::{Process, Spinor},
    scratch::Scratch,
};

const SOON: Duration = Duration::from_secs(60);
const BUILD: Duration = Duration::from_secs(300);

/// `deploy/page.sh`, with what it says when it fails.
async fn build(arguments: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/page.sh");
    let done = tokio::time::timeout(BUILD, Command::new(script).args(arguments).output());
    let done = done.await.expect("the page is built in time").expect("deploy/page.sh starts");
    assert!(
        done.status.success(),
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
}

/// A Spinor with all parts, and the page's address as it told it.
async fn up(spinor: &Spinor, more: &[&str]) -> (Process, String, String) {
    let process = spinor.start(&[&["up", "--json", "--listen", "127.0.0.1:0"], more].concat());
    process.says("\"page\"", SOON).await;
    let told: Value = serde_json::from_str(&process.stdout()).expect("up tells JSON");
    let page = told["page"].as_str().expect("it tells where the page is").to_owned();
    let (base, _) = page.split_once("/#").unwrap_or((page.trim_end_matches('/'), ""));
    (process, base.to_owned(), page.clone())
}

/// What asks in a browser's place, with headers of its own.
fn http() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().expect("a client")
}

#[tokio::test]
async fn the_assets_are_what_their_sources_make() {
    let scratch = Scratch::new("page");
    build(&[scratch.path().to_str().expect("a path of text")]).await;
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/page/assets");
    let mut whole = 0;
    for name in ["index.html", "app.js", "app.css"] {
        let (checked_in, built) = (std::fs::read(assets.join(name)), std::fs::read(scratch.join(name)));
        let (checked_in, built) = (checked_in.expect("it is checked in"), built.expect("it is built"));
        assert!(checked_in == built, "{name} is not what src/page makes: run deploy/page.sh and commit the assets");
        whole += built.len();
    }
    assert!(whole < 300_000, "the page has {whole} bytes");
}

#[tokio::test]
async fn a_browser_gets_in_by_the_token_and_changes_nothing_from_another_page() {
    let spinor = Spinor::new("data = 'data'\n[api]\ntoken = 'open-sesame'\n");
    let (_process, base, page) = up(&spinor, &[]).await;
    assert!(!page.contains("open-sesame"), "a token that somebody keeps is told to nobody: {page}");
    let http = http();

    let index = http.get(&base).send().await.expect("an answer");
    assert_eq!(index.status(), StatusCode::OK);
    let policy = index.headers()[header::CONTENT_SECURITY_POLICY].to_str().expect("text").to_owned();
    assert!(policy.contains("default-src 'self'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(index.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    let (tag, text) = (index.headers()[header::ETAG].clone(), index.text().await.expect("a page"));
    let again = http.get(&base).header(header::IF_NONE_MATCH, tag).send().await.expect("an answer");
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    let script = text.split('"').find(|part| part.ends_with(".js")).expect("the page names its script");
    let script = http.get(format!("{base}{script}")).send().await.expect("an answer");
    assert!(script.headers()[header::CACHE_CONTROL].to_str().expect("text").contains("immutable"));

    let status = format!("{base}/api/v1/status");
    let session = format!("{base}/api/v1/session");
    assert_eq!(http.get(&status).send().await.expect("an answer").status(), StatusCode::UNAUTHORIZED);
    let wrong = http.post(&session).json(&json!({"token": "open-barley"})).send().await.expect("an answer");
    assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
    assert!(!wrong.headers().contains_key(header::SET_COOKIE));
    let foreign =
        http.post(&session).header(header::ORIGIN, "http://evil.example").json(&json!({"token": "open-sesame"}));
    assert_eq!(foreign.send().await.expect("an answer").status(), StatusCode::FORBIDDEN);

    let right = http.post(&session).json(&json!({"token": "open-sesame"})).send().await.expect("an answer");
    assert_eq!(right.status(), StatusCode::CREATED);
    let cookie = right.headers()[header::SET_COOKIE].to_str().expect("text").to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    assert!(!cookie.contains("open-sesame"));
    let cookie = cookie.split(';').next().expect("a value").to_owned();

    let read = http.get(&status).header(header::COOKIE, &cookie).send().await.expect("an answer");
    assert_eq!(read.status(), StatusCode::OK);
    let publish =
        || http.post(format!("{base}/api/v1/jobs")).header(header::COOKIE, &cookie).json(&json!({"kind": "noop"}));
    assert_eq!(
        publish().send().await.expect("an answer").status(),
        StatusCode::FORBIDDEN,
        "it does not say that it is the page"
    );
    let forged = publish().header("X-Spinor", "1").header(header::ORIGIN, "http://127.0.0.1:1").send().await;
    assert_eq!(forged.expect("an answer").status(), StatusCode::FORBIDDEN, "another page");
    let pulse = http.get(format!("{base}/api/v1/pulse")).header(header::COOKIE, &cookie).send();
    let mut pulse = pulse.await.expect("an answer");
    let ours = publish().header("X-Spinor", "1").send().await.expect("an answer");
    assert_eq!(ours.status(), StatusCode::CREATED);
    let mut heard = String::new();
    let counted = tokio::time::timeout(SOON, async {
        while !heard.contains("\"succeeded\":1") {
            let more = pulse.chunk().await.expect("a stream").expect("it goes on");
            heard.push_str(&String::from_utf8_lossy(&more));
        }
    });
    assert!(counted.await.is_ok(), "a job that is over in no time is counted: {heard}");
    assert!(heard.contains("event: beat") && heard.contains("\"link\":\"up\""), "{heard}");
    let altered = cookie.replacen('=', "=9", 1);
    let altered = http.get(&status).header(header::COOKIE, altered).send().await.expect("an answer");
    assert_eq!(altered.status(), StatusCode::UNAUTHORIZED, "a cookie that lasts longer than was signed");
}

#[tokio::test]
async fn up_listens_for_the_page_with_a_token_of_its_own_unless_it_is_told_not_to() {
    let spinor = Spinor::new("data = 'data'\n");
    let process = spinor.start(&["up", "--json"]);
    process.says("\"page\"", SOON).await;
    let told: Value = serde_json::from_str(&process.stdout()).expect("up tells JSON");
    // What is no terminal may be a log: it gets the place of the token, not the token.
    let base = told["page"].as_str().expect("it tells where the page is").trim_end_matches('/');
    assert!(!base.contains("token"), "{base}");
    let place = told["token_file"].as_str().expect("it tells where its token is");
    assert_eq!(std::fs::canonicalize(place).ok(), std::fs::canonicalize(spinor.join("data/api.token")).ok());
    let token = std::fs::read_to_string(spinor.join("data/api.token")).expect("the token is kept");
    let token = token.trim();
    let asked = http().get(format!("{base}/api/v1/status"));
    assert_eq!(asked.bearer_auth(token).send().await.expect("an answer").status(), StatusCode::OK);

    let quiet = Spinor::new("data = 'data'\n[api]\npage = false\n");
    let process = quiet.start(&["up", "--json"]);
    process.says("listening", SOON).await;
    assert!(!process.stdout().contains("http://"), "{}", process.stdout());
}

/// What a person does is in `tests/page/person.mjs`; it says what it was doing when something was not as expected.
#[tokio::test]
async fn a_person_finds_the_failure_watches_a_job_and_steers_from_the_page() {
    build(&["--install"]).await;
    let scratch = Scratch::new("browser");
    let spinor = Spinor::new(
        "data = 'data'\n[api]\ntoken = 'open-sesame'\n[consumer]\nslots = 4\n[triggers.nightly]\ncron = '0 3 * * *'\njob = { kind = 'noop' }\n",
    );
    let (_process, base, _) = up(&spinor, &[]).await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page/person.mjs");
    let mut command = Command::new("node");
    command.arg(script).arg(&base).arg("open-sesame").arg(scratch.path()).kill_on_drop(true);
    let done = tokio::time::timeout(BUILD, command.output());
    let done = done.await.expect("the person ends in time").expect("node starts");
    let (said, wrong) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{said}\n{wrong}");
    assert!(said.contains("all done"), "{said}\n{wrong}");
}
