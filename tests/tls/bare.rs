//! A machine that trusts no authority at all, as in a small container: what needs no TLS works.

use super::{PATIENCE, REST};
use crate::support::process::Spinor;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_any_authority_on_the_machine_everything_without_tls_works() {
    let mut spinor = Spinor::new(REST);
    spinor.set("SSL_CERT_FILE", "nothing.pem").set("SSL_CERT_DIR", "nothing");
    let mut process = spinor.start(&["up"]);
    process.says("spinor is up", PATIENCE).await;
    spinor.run(&["publish", "noop", "--wait", "--timeout", "60s"]).await.expect_success();
    let args = r#"{"url": "https://localhost:1/"}"#;
    let failed = spinor.run(&["publish", "http", "--wait", "--timeout", "60s", "--args", args]).await;
    assert_eq!(failed.code(), 1, "{failed:?}");
    process.terminate();
    assert_eq!(process.wait(PATIENCE).await.code(), Some(0), "{}", process.stderr());
}
