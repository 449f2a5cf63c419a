//! The examples of the library: a consumer with an executor of its own, and a client that uses it.

use std::{path::PathBuf, time::Duration};

use crate::support::{eventually, process::Spinor};

const SOON: Duration = Duration::from_secs(60);

/// An example, built by `cargo test` or `cargo build --examples` beside this program.
fn example(name: &str) -> String {
    let tests = std::env::current_exe().expect("our own path");
    let built = tests.parent().and_then(|deps| deps.parent()).expect("target/PROFILE/deps").join("examples").join(name);
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("examples/{name}.rs"));
    let changed = |path: &PathBuf| path.metadata().and_then(|metadata| metadata.modified()).ok();
    let fresh = changed(&built).is_some_and(|built| Some(built) >= changed(&source));
    assert!(fresh, "{} is missing or old: `cargo build --workspace --examples` makes it", built.display());
    built.display().to_string()
}

#[tokio::test]
async fn the_examples_of_a_consumer_and_a_client_in_rust_work_together_and_stop_in_good_order() {
    let spinor = Spinor::new("data = 'data'\n[consumer]\ngrace = '5s'\n");
    let consumer = spinor.start_program(&example("consumer"), &[]);
    consumer.says("ready", SOON).await;
    let client = spinor.start_program(&example("client"), &["data"]).finish(SOON).await.expect_success();
    let said: Vec<&str> = client.stdout.lines().collect();
    let first = r#"succeeded: {"text":"hello Ada","last_attempt":true}"#;
    assert_eq!(said, [first, "succeeded", "succeeded", "discarded", "cancelled"], "{client:?}");
    // Typed args name what is wrong with them; kinds that the program did not name are not served by it.
    let wrong = spinor.run(&["publish", "greet", "--args", r#"{"name": 7}"#, "--wait"]).await;
    assert!(wrong.code() == 1 && wrong.stdout.contains("`name`: invalid type"), "{wrong:?}");
    let kinds = async || spinor.run(&["kinds", "ls", "--json"]).await.expect_success().stdout;
    eventually("its kinds to be told", SOON, async || kinds().await.contains("\"greet\"")).await;
    let kinds = kinds().await;
    assert!(kinds.contains("\"wait\"") && !kinds.contains("\"command\""), "{kinds}");
    consumer.terminate();
    let ended = consumer.finish(SOON).await.expect_success();
    assert!(ended.stdout.contains("ended in good order"), "{ended:?}");
}
