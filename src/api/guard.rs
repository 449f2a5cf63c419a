//! Who may call over TCP: those who show the token or the cookie it was given for, under a name of this machine.
//!
//! The Unix socket needs none of this: its mode is the guard. The checks of `Host` and `Origin` keep a web page
//! elsewhere from reaching the API through a browser on this machine; what changes something by cookie must also say
//! that it comes from our page.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{
    Access, ApiState, Problem,
    caller::{self, Caller, How},
    session::{self, Session},
};
use crate::config::{ApiConfig, Config};

/// The token of the configuration, shared by all requests.
#[derive(Clone)]
pub(super) struct Token(pub(super) std::sync::Arc<str>);

impl Token {
    /// The one of the configuration; empty when it has none.
    pub(super) fn of(config: &Config) -> Self {
        Self(config.api.token.clone().unwrap_or_default().into())
    }

    /// Is this it? Nothing is when there is none.
    pub(super) fn is(&self, shown: &[u8]) -> bool {
        !self.0.is_empty() && same(shown, self.0.as_bytes())
    }

    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

/// A header of our page; another page cannot send it here without asking first, which nobody answers.
const OURS: &str = "x-spinor";

/// Lets a request pass, or answers it with the reason.
pub(super) async fn check(State(state): State<ApiState>, mut request: Request, next: Next) -> Response {
    let headers = request.headers();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !answers_to(&state.config.api, host) {
        let detail = format!(
            "the request is for the host `{}`; this API answers to localhost, 127.0.0.1 and the names in `api.hosts`",
            super::clip(host)
        );
        return Problem::new(403, "Wrong host", detail).into_response();
    }
    if let Some(origin) = headers.get(header::ORIGIN)
        && !is_of(origin.as_bytes(), host)
    {
        let origin = super::clip(&String::from_utf8_lossy(origin.as_bytes()));
        let detail = format!("the request comes from a page of `{origin}`; only the page of this Spinor may ask");
        return Problem::new(403, "Wrong origin", detail).into_response();
    }
    let caller = known(&state, headers, request.method()).await;
    request.extensions_mut().insert(caller);
    next.run(request).await
}

/// Lets everybody pass: the mode of the socket's file is the guard.
pub(super) async fn trust(mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(Ok::<_, Problem>(Caller::admin(How::Socket)));
    next.run(request).await
}

/// Who asks; what is said of somebody who does not show who that is. Some operations answer everybody.
pub(super) async fn known(state: &ApiState, headers: &HeaderMap, method: &Method) -> Result<Caller, Problem> {
    let token = Token::of(&state.config);
    let shown = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    if let Some(shown) = shown.and_then(|value| value.strip_prefix(b"Bearer ")) {
        if token.is(shown) {
            return Ok(Caller::admin(How::Configured));
        }
        state.access.refresh(&state.tasks).await;
        let found = std::str::from_utf8(shown).ok().and_then(|shown| state.access.token(shown.trim()));
        let wrong = "the token is neither `api.token` nor one that `spinor tokens ls` lists, or it has run out";
        return found.map(|found| found.caller(How::Token)).ok_or_else(|| Problem::new(401, "Wrong token", wrong));
    }
    let session = session::of(headers, &token).ok_or_else(caller::unknown)?;
    state.access.refresh(&state.tasks).await;
    let caller = of_session(&state.access, session)
        .ok_or_else(|| Problem::new(401, "The session has ended", "log in again on the page"))?;
    // The origin was checked above.
    let is_ours = headers.contains_key(OURS) || headers.contains_key(header::ORIGIN);
    if method.is_safe() || is_ours {
        return Ok(caller);
    }
    let detail = "a browser's session changes nothing without the header `X-Spinor: 1`";
    Err(Problem::new(403, "Not from the page", detail))
}

fn of_session(access: &Access, session: Session) -> Option<Caller> {
    if session.whose.is_nil() {
        return (!access.is_ended(session.id)).then(|| Caller::admin(How::Configured));
    }
    let (found, is_user) = access.session(session.id, session.whose)?;
    Some(found.caller(if is_user { How::Session } else { How::Token }))
}

/// Is this the origin of our own page, asked for under this host?
fn is_of(origin: &[u8], host: &str) -> bool {
    let of = |scheme: &[u8]| origin.strip_prefix(scheme).is_some_and(|of| of.eq_ignore_ascii_case(host.as_bytes()));
    of(b"http://") || of(b"https://")
}

/// Is this a name that nobody else can lead to us? An address is one, where we listen beyond this machine.
fn answers_to(config: &ApiConfig, host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<std::net::IpAddr>() {
        return address.is_loopback() || config.listen.is_some_and(|listen| !listen.ip().is_loopback());
    }
    name.eq_ignore_ascii_case("localhost") || config.hosts.iter().any(|host| host.eq_ignore_ascii_case(name))
}

/// Compares in a time that depends on the lengths alone.
pub(super) fn same(left: &[u8], right: &[u8]) -> bool {
    let differing = left.iter().zip(right).fold(0_u8, |differing, (a, b)| std::hint::black_box(differing | (a ^ b)));
    left.len() == right.len() && differing == 0
}

#[cfg(test)]
mod tests {
    use super::{answers_to, is_of, same};
    use crate::config::ApiConfig;

    #[test]
    fn only_names_of_this_machine_and_those_that_are_configured_pass() {
        let hosts = vec!["spinor.example".to_owned()];
        let listen = "127.0.0.1:7070".parse().ok();
        let here = ApiConfig { listen, tls: None, hosts, token: None, page: true, any_port: false, max_body: 1 };
        let beyond = ApiConfig { listen: "0.0.0.0:7070".parse().ok(), ..here.clone() };
        for host in ["localhost", "localhost:7070", "127.0.0.1:1", "[::1]:7070", "LOCALHOST", "Spinor.example:1"] {
            assert!(answers_to(&here, host) && answers_to(&beyond, host), "{host}");
        }
        for host in ["", "example.org", "127.0.0.1.example.org", "localhost.evil:80", "evil.spinor.example"] {
            assert!(!answers_to(&here, host) && !answers_to(&beyond, host), "{host}");
        }
        assert!(!answers_to(&here, "10.0.0.1:7070") && answers_to(&beyond, "10.0.0.1:7070"));
    }

    #[test]
    fn only_the_page_that_we_served_may_ask() {
        assert!(is_of(b"http://127.0.0.1:7070", "127.0.0.1:7070") && is_of(b"http://LOCALHOST:1", "localhost:1"));
        for origin in ["null", "http://127.0.0.1:7071", "http://evil.example", "http://127.0.0.1:7070.evil", ""] {
            assert!(!is_of(origin.as_bytes(), "127.0.0.1:7070"), "{origin}");
        }
    }

    #[test]
    fn tokens_are_the_same_only_when_every_byte_is() {
        assert!(same(b"abc", b"abc"));
        assert!(!same(b"abc", b"abd") && !same(b"ab", b"abc") && !same(b"abc", b"ab") && !same(b"", b"a"));
    }
}
