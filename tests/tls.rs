//! TLS to servers whose certificates a private authority signed: it carries jobs, and what is wrong
//! with it is said at once, with the key to mend and without a secret.
//!
//! The servers speak TLS themselves; nothing stands in for them.

mod bare;
mod broker;
mod results;
mod search;
mod state;

use std::time::Duration;

use serde_json::Value;

use crate::support::{authority::Authority, eventually, process::Spinor};

/// A bound against hanging, no measure.
const PATIENCE: Duration = Duration::from_secs(90);

/// The address by which the certificates of these tests know their servers.
const NAME: &str = "IP:127.0.0.1";

/// What every configuration here says, besides its servers.
const REST: &str = "data = 'data'\n[consumer]\nslots = 2\nkinds = ['*']\n";

/// A configuration with these keys, each an address or a file.
fn installation(keys: &[(&str, &str)]) -> Spinor {
    let lines: String = keys.iter().map(|(key, value)| format!("{key} = {value:?}\n")).collect();
    Spinor::new(&format!("{lines}{REST}"))
}

fn file(authority: &Authority) -> String {
    authority.file().display().to_string()
}

/// The same server by a name that its certificate does not hold.
fn by_another_name(url: &str) -> String {
    url.replace("127.0.0.1", "localhost")
}

/// The password within an address.
fn password(url: &str) -> &str {
    url.split('@').next().and_then(|user| user.rsplit(':').next()).expect("a password")
}

/// A job goes through: published, run, recorded; and what else is to hold while all is up.
async fn assert_carries_a_job(spinor: &Spinor, also: impl AsyncFnOnce()) {
    let mut process = spinor.start(&["up"]);
    process.says("spinor is up", PATIENCE).await;
    let publish = ["publish", "command", "--wait", "--timeout", "60s", "--json", "--", "echo", "hello"];
    let done = spinor.run(&publish).await.expect_success();
    let published: Value = serde_json::from_str(&done.stdout).expect("JSON");
    let id = published["id"].as_str().expect("an id");
    // Its end is told as it happens, and recorded a moment later.
    eventually("its end to be recorded", PATIENCE, async || {
        let shown = spinor.run(&["jobs", "show", id, "--json"]).await.expect_success();
        serde_json::from_str::<Value>(&shown.stdout).expect("JSON")["state"] == "succeeded"
    })
    .await;
    also().await;
    let doctor = spinor.run(&["doctor"]).await;
    assert_eq!(doctor.code(), 0, "{doctor:?}");
    process.terminate();
    assert_eq!(process.wait(PATIENCE).await.code(), Some(0), "{}", process.stderr());
    assert!(!process.stderr().contains(r#""level":"ERROR""#), "{}", process.stderr());
}

/// `up` ends by itself with the code for a wrong configuration, says all of this, and no secret.
async fn assert_refuses(spinor: &Spinor, says: &[&str], secret: &str) {
    let done = spinor.start(&["up"]).finish(PATIENCE).await;
    assert_eq!(done.code(), 2, "{done:?}");
    for part in says {
        assert!(done.stderr.contains(part), "{part}: {done:?}");
    }
    assert!(!format!("{done:?}").contains(secret), "{done:?}");
    let looked = spinor.start(&["doctor"]).finish(PATIENCE).await;
    assert_eq!(looked.code(), 1, "{looked:?}");
    assert!(says.iter().all(|part| looked.stdout.contains(part)), "{looked:?}");
    assert!(!format!("{looked:?}").contains(secret), "{looked:?}");
}
