//! `rediss://` with TLS.

use spinor_consumers::state::{State, StateError, StateTarget, Subject};

use super::{NAME, by_another_name, password};
use crate::support::{authority::Authority, servers::PrivateServer};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_is_kept_over_tls_and_what_is_wrong_with_it_is_said() {
    let (ours, stranger) = (Authority::new(), Authority::new());
    let server = PrivateServer::start_with("redis", &["--tls", &ours.certificate(NAME)]).await;
    let url = server.detail("tls_url").expect("it listens with TLS");
    let open = async |url: &str, authority: Option<&Authority>| {
        let ca_file = authority.map(Authority::file);
        State::open(&StateTarget::Redis { url: url.to_owned(), prefix: "x".to_owned(), ca_file }).await
    };
    let state = open(url, Some(&ours)).await.expect("it opens");
    state.set_mark(&Subject::Pause("q".to_owned()), 1.into(), "ann", None).await.expect("a mark");

    let by_name = by_another_name(url);
    for (url, authority, parts) in [
        (url, Some(&stranger), ["certificate is refused", "`state_ca`"]),
        (url, None, ["certificate is refused", "`state_ca`"]),
        (by_name.as_str(), Some(&ours), ["not valid for name \"localhost\"", "in `state`"]),
    ] {
        let refused = open(url, authority).await.map(drop);
        let Err(StateError::Misconfigured(why)) = &refused else { panic!("expected a refusal, got {refused:?}") };
        assert!(parts.iter().all(|part| why.contains(part)) && !why.contains(password(url)), "{why}");
    }
}
