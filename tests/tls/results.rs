//! `mysql://` with TLS.

use super::{NAME, assert_carries_a_job, assert_refuses, by_another_name, file, installation, password};
use crate::support::{authority::Authority, servers::PrivateServer};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_recorded_over_tls_and_what_is_wrong_with_it_is_said() {
    let (ours, stranger) = (Authority::new(), Authority::new());
    let server = PrivateServer::start_with("mariadb", &["--tls", &ours.certificate(NAME)]).await;
    let (url, secret) = (server.url(), password(server.url()));
    let (ca, wrong) = (file(&ours), file(&stranger));
    // The server takes no connection without TLS, so a record is proof of it.
    assert_carries_a_job(&installation(&[("results", url), ("results_ca", &ca)]), async || {}).await;

    let unsigned = ["certificate is refused", "PEM file", "`results_ca`"];
    assert_refuses(&installation(&[("results", url), ("results_ca", &wrong)]), &unsigned, secret).await;
    let unknown = format!("{url}?ssl-mode=VERIFY_IDENTITY");
    assert_refuses(&installation(&[("results", &unknown)]), &unsigned, secret).await;
    let other = by_another_name(url);
    let named = ["not valid for name \"localhost\"", "127.0.0.1", "in `results`"];
    assert_refuses(&installation(&[("results", &other), ("results_ca", &ca)]), &named, secret).await;
    // MariaDB refuses the user when the connection is not encrypted.
    let open = format!("{url}?ssl-mode=DISABLED");
    assert_refuses(&installation(&[("results", &open)]), &["Access denied", "in `results`"], secret).await;
}

#[tokio::test]
async fn a_server_without_tls_is_refused_when_an_authority_is_named() {
    let ours = Authority::new();
    let server = PrivateServer::start_with("mariadb", &["--set", "skip-ssl"]).await;
    let secret = password(server.url());
    let keys = [("results", server.url()), ("results_ca", &file(&ours))];
    assert_refuses(&installation(&keys), &["server does not support TLS", "`results_ca`"], secret).await;
}
