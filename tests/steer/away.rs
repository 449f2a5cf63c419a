//! State is away: what must not go on without it waits and says so, and goes on by itself.

use std::time::Duration;

use super::{stage::SOON, whole::Site};
use crate::support::{eventually, servers::PrivateServer};

/// A consumer that starts waits 10 s for the marks.
const START: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_limit_and_a_replay_wait_for_a_state_that_is_away_at_the_start_and_say_so() {
    let redis = PrivateServer::start("redis").await;
    let mut site = Site::new(&format!("state = '{}'\n", redis.url())).await;
    site.done(&["locks", "limit", "mail", "--at-once", "0"]).await;
    let failed = site.publish(&["command", "--", "false"]).await;
    eventually("it to fail", SOON, async || site.state(&failed).await == "failed").await;
    redis.stop().await;
    let replay = site.spinor.run(&["failures", "replay", "--all"]).await;
    assert_eq!(replay.code(), 3, "{replay:?}");
    assert!(replay.stderr.contains("state does not answer") && replay.stderr.contains("by itself"), "{replay:?}");

    site.restart().await;
    let limited = site.publish(&["noop", "--limit", "mail"]).await;
    // It is behind the other on the queue; what needs no State runs.
    let free = site.publish(&["noop"]).await;
    eventually("the free one to run", START, async || site.state(&free).await == "succeeded").await;
    assert_eq!((site.reason(&limited).await.as_str(), site.state(&limited).await.as_str()), ("state", "queued"));

    redis.restart().await;
    eventually("the limit to be known", SOON, async || site.reason(&limited).await == "limit").await;
    assert_eq!(site.state(&limited).await, "queued");
    site.done(&["locks", "unlimit", "mail"]).await;
    site.done(&["jobs", "wait", &limited, "--timeout", "60s"]).await;
    let goes_on = async || site.told(&["failures", "replays"]).await["rows"][0]["state"] == "done";
    eventually("the replay to go on", START, goes_on).await;
    let shown = site.done(&["jobs", "show", &failed]).await;
    assert!(shown.contains("replay   1 (") && shown.contains("\nreplay 1, attempt 1 by "), "{shown}");
    site.stop().await;
}
