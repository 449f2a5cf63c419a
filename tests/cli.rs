//! The command line from outside: every command, its help, its JSON, and bad weather.

use std::time::Duration;

use serde_json::Value;

use crate::support::{eventually_some, process::Spinor};

const NOBODY: &str = "0198f1d2-0000-7000-8000-000000000000";

/// Every command that people type.
const COMMANDS: &[&[&str]] = &[
    &[],
    &["up"],
    &["run"],
    &["publish"],
    &["status"],
    &["doctor"],
    &["bench"],
    &["jobs"],
    &["jobs", "ls"],
    &["jobs", "show"],
    &["jobs", "wait"],
    &["jobs", "why"],
    &["jobs", "cancel"],
    &["jobs", "replay"],
    &["failures"],
    &["failures", "ls"],
    &["failures", "show"],
    &["failures", "replay"],
    &["failures", "replays"],
    &["failures", "stop"],
    &["dead"],
    &["dead", "ls"],
    &["dead", "show"],
    &["dead", "replay"],
    &["dead", "rm"],
    &["queues"],
    &["queues", "ls"],
    &["queues", "pause"],
    &["queues", "resume"],
    &["consumers"],
    &["consumers", "ls"],
    &["consumers", "show"],
    &["consumers", "groups"],
    &["consumers", "drain"],
    &["consumers", "slots"],
    &["consumers", "scale"],
    &["kinds"],
    &["kinds", "ls"],
    &["kinds", "show"],
    &["broker"],
    &["broker", "show"],
    &["locks"],
    &["locks", "ls"],
    &["locks", "limit"],
    &["locks", "unlimit"],
    &["locks", "free"],
    &["users"],
    &["users", "ls"],
    &["users", "add"],
    &["users", "passwd"],
    &["users", "role"],
    &["users", "rm"],
    &["tokens"],
    &["tokens", "ls"],
    &["tokens", "new"],
    &["tokens", "rm"],
    &["audit"],
    &["audit", "ls"],
    &["runs"],
    &["runs", "ls"],
    &["runs", "show"],
    &["runs", "analyze"],
    &["runs", "cancel"],
    &["data"],
    &["data", "prune"],
    &["data", "backup"],
    &["data", "restore"],
    &["config"],
    &["config", "init"],
    &["config", "check"],
    &["config", "show"],
    &["notify"],
    &["notify", "ls"],
    &["notify", "test"],
    &["completions"],
    &["man"],
];

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn installation(rest: &str) -> Spinor {
    Spinor::new(&format!("data = 'data'\n{rest}"))
}

#[tokio::test]
async fn every_help_has_examples() {
    let spinor = installation("");
    for command in COMMANDS {
        let help = spinor.run(&[*command, &["--help"]].concat()).await.expect_success();
        assert!(help.stdout.contains("Examples:\n"), "{command:?}: {}", help.stdout);
    }
}

#[tokio::test]
async fn shells_complete_every_verb_and_each_has_a_manual_page() {
    let spinor = installation("");
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let text = spinor.run(&["completions", shell]).await.expect_success().stdout;
        assert!(text.contains("publish") && text.contains("config"), "{shell}: {text}");
    }
    spinor.run(&["man", "pages"]).await.expect_success();
    for command in COMMANDS {
        let name = [&["spinor"], *command].concat().join("-");
        let page = std::fs::read_to_string(spinor.join("pages").join(format!("{name}.1"))).expect(&name);
        assert!(page.contains(".SH EXTRA") || page.contains("Examples"), "{name}: {page}");
    }
    std::fs::write(spinor.join("file"), "").unwrap();
    let wrong = spinor.run(&["man", "file/pages"]).await;
    assert!(wrong.code() == 1 && wrong.stderr.contains("file/pages"), "{wrong:?}");
}

#[tokio::test]
async fn what_one_attaches_to_an_issue_says_what_runs_and_holds_no_secret() {
    let spinor = installation(
        "[api]\nlisten = '127.0.0.1:0'\ntoken = 'hush-token'\n[notify.ops]\nurl = 'http://127.0.0.1:9/hush-hook'\n\
         [kinds.'image.*']\nrun = ['cat', '--password=hush-run']\nenv.DATABASE = 'mysql://u:hush-env@db/shop'\n\
         [triggers.nightly]\ncron = '@daily'\njob = { kind = 'noop', args = { password = 'hush-args' } }\n",
    );
    let mut up = spinor.start(&["up"]);
    up.says("spinor is up", Duration::from_secs(30)).await;
    spinor.run(&["doctor", "--report", "report"]).await;
    let report = std::fs::read_to_string(spinor.join("report")).unwrap();
    let version = spinor.run(&["--version"]).await.expect_success().stdout;
    for part in [version.trim(), "triggers.nightly.cron", "\"link\"", "default", "data directory"] {
        assert!(report.contains(part), "no {part} in {report}");
    }
    assert!(!report.contains("hush"), "{report}");
    let again = spinor.run(&["doctor", "--report", "report"]).await;
    assert!(again.code() == 1 && again.stderr.contains("name another file"), "{again:?}");
    up.terminate();
    up.wait(Duration::from_secs(30)).await;
}

#[tokio::test]
async fn a_job_is_published_run_and_looked_at_and_every_answer_is_json() {
    let spinor = installation("");
    let mut up = spinor.start(&["up"]);
    up.says("spinor is up", Duration::from_secs(30)).await;
    let done =
        spinor.run(&["publish", "command", "--wait", "--json", "--", "sh", "-c", "echo hello"]).await.expect_success();
    let published = json(&done.stdout);
    assert_eq!(published["report"]["state"], "succeeded");
    assert_eq!(published["report"]["stdout"]["head"], "hello\n");
    let id = published["id"].as_str().unwrap();
    for command in [
        vec!["status"],
        vec!["doctor"],
        vec!["jobs", "ls"],
        vec!["jobs", "show", id],
        vec!["jobs", "wait", id],
        vec!["jobs", "why", id],
        vec!["queues", "ls"],
        vec!["consumers", "ls"],
        vec!["consumers", "groups"],
        vec!["broker", "show"],
        vec!["locks", "ls"],
        vec!["runs", "ls"],
        vec!["config", "init"],
        vec!["config", "check"],
        vec!["config", "show"],
    ] {
        json(&spinor.run(&[command, vec!["--json"]].concat()).await.expect_success().stdout);
    }
    let failed = spinor.run(&["publish", "command", "--wait", "--", "false"]).await;
    assert_eq!(failed.code(), 1);
    let second = spinor.run(&["up"]).await;
    assert_eq!(second.code(), 1);
    assert!(second.stderr.contains(&format!("process {} serves", up.id())), "{}", second.stderr);
    up.terminate();
    assert!(up.wait(Duration::from_secs(30)).await.success());
    assert!(!spinor.join("data/spinor.sock").exists());
}

#[tokio::test]
async fn many_jobs_are_waited_for_and_counted() {
    let spinor = installation("");
    let mut up = spinor.start(&["up"]);
    up.says("spinor is up", Duration::from_secs(30)).await;
    let done = spinor.run(&["publish", "noop", "--count", "200", "--wait"]).await.expect_success();
    assert_eq!(done.stdout.trim_end(), "200 jobs: 200 succeeded, 0 failed");
    let failed = spinor.run(&["publish", "command", "--count", "3", "--wait", "--json", "--", "false"]).await;
    assert_eq!(failed.code(), 1, "{}{}", failed.stdout, failed.stderr);
    let counted = json(&failed.stdout);
    assert_eq!((&counted["jobs"], &counted["succeeded"], &counted["failed"]), (&3.into(), &0.into(), &3.into()));
    assert_eq!(counted["failed_ids"].as_array().map(Vec::len), Some(3));
    let refused = spinor.run(&["publish", "noop", "--count", "2", "--wait", "--queue", "nowhere"]).await;
    assert_eq!(refused.code(), 1);
    assert!(refused.stdout.contains("2 refused") && refused.stderr.contains("nowhere"), "{refused:?}");
    up.terminate();
    assert!(up.wait(Duration::from_secs(30)).await.success());
}

#[tokio::test]
async fn a_wait_that_breaks_off_tells_the_id_of_the_accepted_job() {
    let spinor = installation("");
    let mut up = spinor.start(&["up"]);
    up.says("spinor is up", Duration::from_secs(30)).await;
    let waiting = spinor.start(&["publish", "wait", "--args", r#"{"seconds": 600}"#, "--wait"]);
    let id = eventually_some("the job to be listed", Duration::from_secs(30), async || {
        let page = json(&spinor.run(&["jobs", "ls", "--json"]).await.expect_success().stdout);
        page["rows"][0]["id"].as_str().map(str::to_owned)
    })
    .await;
    up.kill9();
    up.wait(Duration::from_secs(30)).await;
    let broken_off = waiting.finish(Duration::from_secs(30)).await;
    assert_eq!(broken_off.code(), 3, "{broken_off:?}");
    assert!(broken_off.stderr.contains(&format!("spinor jobs wait {id}")), "{broken_off:?}");
}

#[tokio::test]
async fn a_local_run_beside_a_running_spinor_is_in_its_record_and_leaves_no_directory() {
    let spinor = installation("");
    spinor_write(&spinor, "site.yaml", "- jobs:\n  - RUN: echo hello\n  - RUN: exit 3\n");
    let mut up = spinor.start(&["up", "--node", "node-1"]);
    up.says("spinor is up", Duration::from_secs(30)).await;
    let done = spinor.run(&["run", "--local", "2", "site.yaml", "--data", "data"]).await;
    assert_eq!(done.code(), 1, "the second step fails: {done:?}");
    assert!(done.stderr.contains(&format!("in use by process {}", up.id())), "{done:?}");
    let (_, show) = done.stderr.split_once("the same record: `spinor ").unwrap_or_else(|| panic!("{done:?}"));
    let show: Vec<&str> = show.split('`').next().unwrap().split(' ').collect();
    let shown = json(&spinor.run(&[show, vec!["--json"]].concat()).await.expect_success().stdout);
    assert_eq!((&shown["members"], &shown["steps"], &shown["succeeded"]), (&2.into(), &4.into(), &false.into()));
    assert_eq!(std::fs::read_dir(spinor.join("data/local")).unwrap().count(), 0, "the directory is left");
    up.terminate();
    assert!(up.wait(Duration::from_secs(30)).await.success());
}

#[tokio::test]
async fn a_wait_for_a_job_that_nobody_takes_says_why() {
    let spinor = installation("[queues.lonely]\njournal = 'full'\n");
    let mut up = spinor.start(&["up"]);
    up.says("spinor is up", Duration::from_secs(30)).await;
    for more in [&["--count", "1"][..], &["--count", "2"]] {
        let waiting = spinor.start(&[&["publish", "noop", "--queue", "lonely", "--wait"], more].concat());
        waiting.says("no consumer is on the queue `lonely`", Duration::from_secs(30)).await;
    }
    let left = spinor.start(&["publish", "noop", "--queue", "lonely", "--wait"]);
    left.says("no consumer is on the queue", Duration::from_secs(30)).await;
    left.terminate();
    let left = left.finish(Duration::from_secs(10)).await;
    assert_eq!(left.code(), 3);
    assert!(left.stderr.contains("it goes on; `spinor jobs wait"), "{}", left.stderr);
    up.terminate();
    assert!(up.wait(Duration::from_secs(30)).await.success());
}

#[tokio::test]
async fn bad_weather_has_its_exit_code_and_shows_no_secret() {
    let spinor = installation(
        "broker = 'amqp://u:hush@127.0.0.1:1/v'\nresults = 'mysql://u:hush@127.0.0.1:1/s'\n[api]\ntoken = 'hush'\n",
    );
    spinor_write(&spinor, "wrong.toml", "broker = 'ampq://u:hush@mq'\n[consumer]\nslots = 'many'\n");
    spinor_write(&spinor, "args.json", "{\n  \"a\": ]\n");
    spinor_write(&spinor, "wrong.yaml", "- jobs:\n  - RUN: [\n");
    let table: &[(&[&str], i32, &str)] = &[
        (&["status"], 3, "no Spinor answers at unix:"),
        (&["jobs", "show", NOBODY], 3, "spinor up"),
        (&["--api", "http://127.0.0.1:1", "status"], 3, "http://127.0.0.1:1"),
        (&["--api", "nonsense", "status"], 2, "expected an address"),
        (&["jobs", "show", "nobody"], 2, "`nobody` is no id; ids are UUIDs"),
        (&["jobs", "ls", "--state", "asleep"], 2, "expected one of queued"),
        (&["nonsense"], 2, "nonsense"),
        (&["publish", "noop", "--args", "{"], 2, "this is no JSON"),
        (&["publish", "noop", "--args", "@args.json"], 2, "args.json:2:8"),
        (&["publish", "noop", "--args", "@missing.json"], 2, "missing.json"),
        (&["publish", "noop", "--", "echo"], 2, "kind `command`"),
        (&["publish", "command"], 2, "needs its program"),
        (&["publish", "noop", "--on-conflict", "replace"], 2, "--unique"),
        (&["jobs", "cancel"], 2, "ID"),
        (&["consumers", "drain"], 2, "--group"),
        (&["consumers", "scale", "g"], 2, "--replicas"),
        (&["locks", "limit", "mail"], 2, "--at-once"),
        (&["run", "missing.yaml"], 2, "missing.yaml"),
        (&["run", "wrong.yaml"], 2, "wrong.yaml"),
        (&["config", "check"], 2, "consumer.kinds"),
        (&["config", "check", "--config", "wrong.toml"], 2, "2 problems"),
        (&["config", "check", "--config", "missing.toml"], 2, "missing.toml"),
        (&["doctor"], 1, ""),
        (&["up", "--only", "api", "--broker", "embedded"], 2, "--only"),
        (&["up", "--listen", "0.0.0.0:1", "--kinds", "*"], 2, "TLS"),
    ];
    for (command, code, part) in table {
        let done = spinor.run(command).await;
        assert_eq!(done.code(), *code, "{command:?}: {}{}", done.stdout, done.stderr);
        let all = format!("{}{}", done.stdout, done.stderr);
        assert!(all.contains(part), "{command:?}: {part} not in {all}");
        assert!(!all.contains("hush") && !all.contains("panicked"), "{command:?}: {all}");
        // Before a `--`, where words become the job's.
        let at = command.iter().position(|word| *word == "--").unwrap_or(command.len());
        let asked = [&command[..at], &["--json"], &command[at..]].concat();
        let told = json(&spinor.run(&asked).await.stdout);
        assert!(told["exit_code"] == *code || command == &["doctor"], "{asked:?}: {told}");
    }
    let shown = spinor.run(&["config", "show", "--origin"]).await.expect_success();
    assert!(shown.stdout.contains("amqp://u:***@127.0.0.1:1/v") && !shown.stdout.contains("hush"), "{}", shown.stdout);
}

fn spinor_write(spinor: &Spinor, name: &str, text: &str) {
    std::fs::write(spinor.join(name), text).unwrap();
}
