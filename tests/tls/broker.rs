//! `amqps://`.

use super::{NAME, assert_carries_a_job, assert_refuses, by_another_name, file, installation, password};
use crate::support::{authority::Authority, servers::PrivateServer};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_goes_through_a_broker_with_tls_and_what_is_wrong_with_its_certificate_is_said() {
    let (ours, stranger) = (Authority::new(), Authority::new());
    let server = PrivateServer::start_with("rabbitmq", &["--tls", &ours.certificate(NAME)]).await;
    let url = server.detail("tls_url").expect("a TLS address");
    let secret = password(url);
    let (ca, wrong) = (file(&ours), file(&stranger));
    assert_carries_a_job(&installation(&[("broker", url), ("broker_ca", &ca)]), async || {}).await;

    let unsigned = ["certificate is refused", "PEM file", "`broker_ca`"];
    assert_refuses(&installation(&[("broker", url), ("broker_ca", &wrong)]), &unsigned, secret).await;
    assert_refuses(&installation(&[("broker", url)]), &unsigned, secret).await;
    let other = by_another_name(url);
    let named = ["not valid for name \"localhost\"", "127.0.0.1", "in `broker`"];
    assert_refuses(&installation(&[("broker", &other), ("broker_ca", &ca)]), &named, secret).await;
    let plain = server.url().replace("amqp://", "amqps://");
    let silent = ["does not speak TLS on this port", "`broker`"];
    assert_refuses(&installation(&[("broker", &plain), ("broker_ca", &ca)]), &silent, secret).await;
}

#[tokio::test]
async fn a_file_of_an_authority_that_cannot_be_used_is_a_problem_of_the_configuration() {
    let ours = Authority::new();
    let ca = file(&ours);
    let key = ca.replace("ca.pem", "ca.key");
    for (keys, part) in [
        ([("broker", "amqps://u:hush@mq/v"), ("broker_ca", "gone.pem")], "`broker_ca`: gone.pem: No such file"),
        ([("broker", "amqps://u:hush@mq/v"), ("broker_ca", key.as_str())], "there is no certificate in it"),
        ([("broker", "amqp://u:hush@mq/v"), ("broker_ca", ca.as_str())], "make it amqps://"),
        ([("search", "http://es:9200"), ("search_ca", ca.as_str())], "make it https://"),
        ([("results", "mysql://u:hush@db/x?ssl-mode=REQUIRED"), ("results_ca", ca.as_str())], "keep one"),
    ] {
        let done = installation(&keys).run(&["config", "check"]).await;
        assert_eq!(done.code(), 2, "{done:?}");
        assert!(done.stderr.contains(part) && done.stderr.contains("spinor.toml:2"), "{part}: {done:?}");
        assert!(!format!("{done:?}").contains("hush"), "{done:?}");
    }
}
