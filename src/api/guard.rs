//! Who may call over TCP: those who show the token, under a name of this machine.
//!
//! The Unix socket needs none of this: its mode is the guard. The `Host` check keeps a web page
//! elsewhere from reaching the API through a browser on this machine.

use axum::{
    extract::{Request, State},
    http::{HeaderValue, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::Problem;

/// The token, shared by all requests.
#[derive(Clone)]
pub(super) struct Token(pub(super) std::sync::Arc<str>);

/// Lets a request pass, or answers it with the reason.
pub(super) async fn check(State(token): State<Token>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !is_local(host) {
        let host = super::clip(host);
        let detail = format!("the request is for the host `{host}`; this API answers to localhost and 127.0.0.1 only");
        return Problem::new(403, "Wrong host", detail).into_response();
    }
    // Supervisors ask for health without a token; it tells them nothing else.
    if matches!(request.uri().path(), "/healthz" | "/readyz") {
        return next.run(request).await;
    }
    let shown = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    match shown.and_then(|value| value.strip_prefix(b"Bearer ")) {
        Some(shown) if !token.0.is_empty() && same(shown, token.0.as_bytes()) => next.run(request).await,
        Some(_) => Problem::new(401, "Wrong token", "the token is not the one of `api.token`").into_response(),
        None => Problem::new(401, "No token", "send `Authorization: Bearer TOKEN`").into_response(),
    }
}

fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Compares in a time that depends on the lengths alone.
fn same(left: &[u8], right: &[u8]) -> bool {
    let differing = left.iter().zip(right).fold(0_u8, |differing, (a, b)| std::hint::black_box(differing | (a ^ b)));
    left.len() == right.len() && differing == 0
}

#[cfg(test)]
mod tests {
    use super::{is_local, same};

    #[test]
    fn only_names_of_this_machine_pass() {
        for host in ["localhost", "localhost:7070", "127.0.0.1:1", "127.9.9.9", "[::1]:7070", "LOCALHOST"] {
            assert!(is_local(host), "{host}");
        }
        for host in ["", "example.org", "127.0.0.1.example.org", "10.0.0.1:7070", "localhost.evil:80"] {
            assert!(!is_local(host), "{host}");
        }
    }

    #[test]
    fn tokens_are_the_same_only_when_every_byte_is() {
        assert!(same(b"abc", b"abc"));
        assert!(!same(b"abc", b"abd") && !same(b"ab", b"abc") && !same(b"abc", b"ab") && !same(b"", b"a"));
    }
}
