//! Notices: what ended badly is told to a web-hook or by mail, once for what is alike, and is not lost when a process dies.

use std::{
    os::unix::fs::PermissionsExt as _,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::task::TaskTracker;

use crate::support::{eventually, process::Spinor};

const SOON: Duration = Duration::from_secs(60);

/// What a receiver answers.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Takes,
    Refuses,
    Hangs,
}

/// A receiver of notices: what it was sent, and how it answers from now on.
struct Hook {
    url: String,
    mood: watch::Sender<Mood>,
    heard: Arc<Mutex<Vec<Value>>>,
}

impl Hook {
    async fn start(mood: Mood) -> Self {
        let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook/s3cret", door.local_addr().unwrap());
        let hook = Self { url, mood: watch::Sender::new(mood), heard: Arc::default() };
        let (mood, heard) = (hook.mood.subscribe(), Arc::clone(&hook.heard));
        let guests = TaskTracker::new();
        guests.clone().spawn(async move {
            while let Ok((guest, _)) = door.accept().await {
                let (mood, heard) = (mood.clone(), Arc::clone(&heard));
                guests.spawn(async move { serve(guest, mood, &heard).await });
            }
        });
        hook
    }

    fn heard(&self) -> Vec<Value> {
        self.heard.lock().unwrap().clone()
    }
}

/// One request on a connection, which is then closed.
async fn serve(mut guest: TcpStream, mut mood: watch::Receiver<Mood>, heard: &Mutex<Vec<Value>>) -> Option<()> {
    let mut request = Vec::new();
    let body = loop {
        let mut piece = [0; 4096];
        let length = guest.read(&mut piece).await.ok().filter(|length| *length > 0)?;
        request.extend_from_slice(&piece[..length]);
        let text = String::from_utf8_lossy(&request);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?.parse::<usize>().ok()?;
        if body.len() >= length {
            break serde_json::from_str(body).ok()?;
        }
    };
    if *mood.borrow() == Mood::Hangs {
        // Until who asked has gone, or it has thought better of it: then the request is lost all the same.
        let _ = mood.changed().await;
        return None;
    }
    let takes = *mood.borrow() == Mood::Takes;
    if takes {
        heard.lock().unwrap().push(body);
    }
    let status = if takes { "204 No Content" } else { "503 Service Unavailable" };
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    guest.write_all(answer.as_bytes()).await.ok()
}

fn failing(count: usize, word: &str) -> String {
    let one = format!("{{\"kind\":\"command\",\"args\":{{\"argv\":[\"sh\",\"-c\",\"echo {word} >&2; exit 3\"]}}}}\n");
    one.repeat(count)
}

/// How many jobs are recorded as failed.
async fn failed(spinor: &Spinor) -> usize {
    let done = spinor.run(&["jobs", "ls", "--state", "failed", "--limit", "500", "--json"]).await.expect_success();
    let page: Value = serde_json::from_str(&done.stdout).expect("JSON");
    page["rows"].as_array().expect("rows").len()
}

/// The notices with this outcome.
async fn listed(spinor: &Spinor, outcome: &str) -> Value {
    let done = spinor.run(&["notify", "ls", "--outcome", outcome, "--json"]).await.expect_success();
    serde_json::from_str(&done.stdout).expect("JSON")
}

#[tokio::test]
async fn what_fails_alike_is_told_once_and_what_nobody_asked_for_is_not() {
    let hook = Hook::start(Mood::Takes).await;
    let spinor = Spinor::new(&format!(
        "data = 'data'\n[notify.ops]\nurl = '{}'\nkinds = ['command']\nqueues = ['default']\nwindow = '1h'\n",
        hook.url
    ));
    let up = spinor.start(&["up"]);
    eventually("it to answer", SOON, async || spinor.run(&["status"]).await.status.success()).await;
    std::fs::write(
        spinor.join("jobs"),
        failing(20, "paper") + "{\"kind\":\"http\",\"args\":{\"url\":\"http://127.0.0.1:9/\"}}\n",
    )
    .unwrap();
    spinor.run(&["publish", "--batch", "jobs"]).await.expect_success();
    eventually("all to be recorded", SOON, async || failed(&spinor).await >= 20).await;
    std::fs::write(spinor.join("jobs"), failing(1, "ink")).unwrap();
    spinor.run(&["publish", "--batch", "jobs"]).await.expect_success();
    let told = |hook: &Hook, word: &str| {
        hook.heard().iter().filter(|notice| notice["error"].as_str().is_some_and(|error| error.contains(word))).count()
    };
    eventually("the last to be told", SOON, async || told(&hook, "ink") == 1).await;
    // Within an hour they are one, unless the hour ended between two of them.
    assert!((1..=2).contains(&told(&hook, "paper")), "{:?}", hook.heard());
    let notice = &hook.heard()[0];
    assert_eq!([&notice["name"], &notice["state"], &notice["kind"]], ["ops", "failed", "command"]);
    assert!(notice["times"].as_u64() >= Some(1) && notice["job"].is_string(), "{notice}");
    assert!(hook.heard().iter().all(|notice| notice["kind"] == "command"), "{:?}", hook.heard());
    assert!(!up.stderr().contains("s3cret"), "{}", up.stderr());
    spinor.run(&["notify", "test", "ops"]).await.expect_success();
    assert_eq!(told(&hook, "nothing failed"), 1, "{:?}", hook.heard());
    let unknown = spinor.run(&["notify", "test", "nobody"]).await;
    assert!(unknown.code() == 2 && unknown.stderr.contains("ops"), "{unknown:?}");
    hook.mood.send_replace(Mood::Refuses);
    let refused = spinor.run(&["notify", "test", "ops"]).await;
    assert!(refused.code() == 1 && refused.stderr.contains("503") && !refused.stderr.contains("s3cret"), "{refused:?}");
    let shown = spinor.run(&["config", "show"]).await.expect_success();
    assert!(!shown.stdout.contains("s3cret"), "{}", shown.stdout);
}

#[tokio::test]
async fn a_receiver_that_hangs_keeps_nothing_from_being_recorded_and_hears_after_a_kill_what_it_missed() {
    let hook = Hook::start(Mood::Hangs).await;
    let spinor = Spinor::new(&format!("data = 'data'\n[notify.ops]\nurl = '{}'\nwindow = '1h'\n", hook.url));
    let mut up = spinor.start(&["up"]);
    eventually("it to answer", SOON, async || spinor.run(&["status"]).await.status.success()).await;
    std::fs::write(spinor.join("jobs"), failing(50, "paper")).unwrap();
    spinor.run(&["publish", "--batch", "jobs"]).await.expect_success();
    eventually("all to be recorded", SOON, async || failed(&spinor).await == 50).await;
    assert_eq!(hook.heard(), Vec::<Value>::new());
    up.kill9();
    up.wait(SOON).await;
    hook.mood.send_replace(Mood::Refuses);
    let again = spinor.start(&["up"]);
    again.says("takes no notice", SOON).await;
    let waiting = listed(&spinor, "waiting").await;
    assert!(waiting[0]["name"] == "ops" && waiting[0]["problem"].as_str().unwrap().contains("503"), "{waiting}");
    hook.mood.send_replace(Mood::Takes);
    eventually("what was missed to be told", SOON, async || !hook.heard().is_empty()).await;
    again.says("takes notices again", SOON).await;
    assert!(hook.heard()[0]["error"].as_str().unwrap().contains("paper"), "{:?}", hook.heard());
    let sent = listed(&spinor, "sent").await;
    assert!(sent[0]["times"].as_u64() >= Some(1) && sent[0]["problem"].is_null(), "{sent}");
}

/// A mail server that refuses who `refuses` asks for: letters it took.
async fn post_office(refuses: &'static str) -> (u16, Arc<Mutex<Vec<String>>>) {
    let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = door.local_addr().unwrap().port();
    let letters = Arc::<Mutex<Vec<String>>>::default();
    let kept = Arc::clone(&letters);
    let guests = TaskTracker::new();
    guests.clone().spawn(async move {
        while let Ok((guest, _)) = door.accept().await {
            let kept = Arc::clone(&kept);
            guests.spawn(async move { take_letters(guest, refuses, &kept).await });
        }
    });
    (port, letters)
}

async fn take_letters(guest: TcpStream, refuses: &str, kept: &Mutex<Vec<String>>) -> Option<()> {
    let mut guest = BufReader::new(guest);
    guest.write_all(b"220 office\r\n").await.ok()?;
    loop {
        let mut line = String::new();
        guest.read_line(&mut line).await.ok().filter(|length| *length > 0)?;
        let answer = match line.get(..4)?.to_ascii_uppercase().as_str() {
            "DATA" => {
                guest.write_all(b"354 go on\r\n").await.ok()?;
                let mut letter = String::new();
                while !letter.ends_with("\r\n.\r\n") {
                    guest.read_line(&mut letter).await.ok().filter(|length| *length > 0)?;
                }
                kept.lock().unwrap().push(letter);
                "250 taken"
            }
            "RCPT" if line.contains(refuses) => "550 nobody here has this name",
            "QUIT" => "221 bye",
            _ => "250 well",
        };
        guest.write_all(format!("{answer}\r\n").as_bytes()).await.ok()?;
    }
}

#[tokio::test]
async fn people_hear_by_mail_and_a_server_that_refuses_them_or_has_no_tls_for_a_password_is_told_of() {
    let (port, letters) = post_office("gone@").await;
    let spinor = Spinor::new(&format!(
        "data = 'data'\nsecrets = 'secrets.toml'\n\
         [notify.ops]\nmail = 'ops@shop.example, Night <night@shop.example>'\nfrom = 'spinor@shop.example'\nsmtp = 'smtp://127.0.0.1:{port}'\n\
         [notify.away]\nmail = 'gone@shop.example'\nfrom = 'spinor@shop.example'\nsmtp = 'smtp://127.0.0.1:{port}'\non = ['lost']\n\
         [notify.locked]\nmail = 'ops@shop.example'\nfrom = 'spinor@shop.example'\nsmtp = 'smtp://me@127.0.0.1:{port}'\non = ['lost']\n"
    ));
    std::fs::write(spinor.join("secrets.toml"), "notify_password = 's3cret'\n").unwrap();
    std::fs::set_permissions(spinor.join("secrets.toml"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let up = spinor.start(&["up"]);
    eventually("it to answer", SOON, async || spinor.run(&["status"]).await.status.success()).await;
    std::fs::write(spinor.join("jobs"), failing(3, "paper")).unwrap();
    spinor.run(&["publish", "--batch", "jobs"]).await.expect_success();
    eventually("a letter", SOON, async || !letters.lock().unwrap().is_empty()).await;
    let letter = letters.lock().unwrap()[0].clone();
    let parts = ["Subject: [spinor ops] command failed: ", "ops@shop.example", "Night <night@shop.example>"];
    let more = ["From: spinor@shop.example", "Message-ID: <ops-failed-", "Auto-Submitted: auto-generated", "paper"];
    for part in parts.into_iter().chain(more) {
        assert!(letter.contains(part), "no {part} in {letter}");
    }
    let refused = spinor.run(&["notify", "test", "away"]).await;
    assert!(refused.code() == 1 && refused.stderr.contains("nobody here has this name"), "{refused:?}");
    let bare = spinor.run(&["notify", "test", "locked"]).await;
    assert!(bare.code() == 1 && bare.stderr.contains("TLS") && !bare.stderr.contains("s3cret"), "{bare:?}");
    let shown = spinor.run(&["config", "show"]).await.expect_success();
    assert!(!(shown.stdout + &up.stderr()).contains("s3cret"));
}
