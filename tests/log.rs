//! Log lines as programs read them.

use std::time::Duration;

use serde_json::Value;

use crate::support::{eventually, process::Spinor};

const SOON: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_log_line_about_a_job_is_json_with_its_id_queue_and_attempt() {
    let spinor = Spinor::new("data = 'data'\n[log]\nformat = 'json'\n");
    let mut up = spinor.start(&["up"]);
    eventually("it to answer", SOON, async || spinor.run(&["status"]).await.status.success()).await;
    let published =
        spinor.run(&["publish", "command", "--json", "--", "sh", "-c", "touch began; exec sleep 600"]).await;
    let published = published.expect_success().stdout;
    eventually("it to begin", SOON, async || spinor.join("began").exists()).await;
    up.kill9();
    up.wait(SOON).await;
    let again = spinor.start(&["up"]);
    again.says("came back from a consumer that died", SOON).await;
    let text = again.stderr();
    let line = text.lines().find(|line| line.contains("came back from")).expect("it says so");
    let line: Value = serde_json::from_str(line).expect("JSON");
    assert_eq!(
        (&line["queue"], &line["attempt"], &line["level"]),
        (&"default".into(), &1.into(), &"WARN".into()),
        "{line}"
    );
    assert!(published.contains(line["job"].as_str().expect("an id")), "{published}{line}");
    assert!(
        text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok_and(|line| line["timestamp"].is_string())),
        "{text}"
    );
}
