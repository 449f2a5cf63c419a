//! Who may call over TCP: those who show the token or the cookie it was given for, under a name of this machine.
//!
//! The Unix socket needs none of this: its mode is the guard. The checks of `Host` and `Origin` keep a web page
//! elsewhere from reaching the API through a browser on this machine; what changes something by cookie must also say
//! that it comes from our page.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderValue, Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{
    Access, ApiState, Problem,
    caller::{self, Caller, How},
    listen::Peer,
    session::{self, Session},
};
use crate::config::{ApiConfig, Config};

/// The token of the configuration, shared by all requests.
#[derive(Clone)]
pub(super) struct Token(pub(super) Arc<str>);

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
/// No name that a proxy tells is longer.
const LONGEST_NAME: usize = 100;

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
    let peer = request.extensions().get::<ConnectInfo<Peer>>().and_then(|peer| peer.0.address());
    let caller = match named_by_proxy(&state, headers, peer) {
        Ok(None) => known(&state, headers, request.method()).await,
        Ok(Some(name)) => proxied(&state, &name, headers, request.method()).await,
        Err(problem) => return problem.into_response(),
    };
    request.extensions_mut().insert(caller);
    next.run(request).await
}

/// Lets everybody pass: the mode of the socket's file is the guard.
pub(super) async fn trust(mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(Ok::<_, Problem>(Caller::admin(How::Socket)));
    next.run(request).await
}

/// Whom a proxy names, if it is one that is believed. The header from anybody else is an attempt to be somebody else.
fn named_by_proxy(state: &ApiState, headers: &HeaderMap, peer: Option<IpAddr>) -> Result<Option<String>, Problem> {
    let Some(proxy) = &state.config.api.proxy else { return Ok(None) };
    let mut shown = headers.get_all(&proxy.header).into_iter();
    let Some(first) = shown.next() else { return Ok(None) };
    if !peer.is_some_and(|peer| proxy.from.iter().any(|network| network.holds(peer))) {
        let detail = format!("the header `{}` is believed from the addresses of `api.proxy.from` alone", proxy.header);
        return Err(Problem::new(403, "Not from the proxy", detail));
    }
    let name = first.to_str().map(str::trim).unwrap_or_default();
    if name.is_empty() || name.len() > LONGEST_NAME || shown.next().is_some() {
        let detail = format!("the header `{}` must hold one name, of 100 letters at most", proxy.header);
        return Err(Problem::new(403, "Not a name", detail));
    }
    Ok(Some(name.to_owned()))
}

/// Who is named by the proxy: with the roles of the user of this name, else with those of all whom it names.
async fn proxied(state: &ApiState, name: &str, headers: &HeaderMap, method: &Method) -> Result<Caller, Problem> {
    state.access.refresh(&state.tasks).await;
    let everybody = || state.config.api.proxy.as_ref().map(|proxy| Arc::new(proxy.roles.clone())).unwrap_or_default();
    let roles = state.access.roles_of(name).unwrap_or_else(everybody);
    may_change(Caller::new(name, How::Proxy, roles), headers, method)
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
    may_change(caller, headers, method)
}

/// Refuses a change by a browser that does not say that it comes from our page.
fn may_change(caller: Caller, headers: &HeaderMap, method: &Method) -> Result<Caller, Problem> {
    // The origin was checked before.
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
    if let Ok(address) = bare.parse::<IpAddr>() {
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
        let here =
            ApiConfig { listen, tls: None, hosts, proxy: None, token: None, page: true, any_port: false, max_body: 1 };
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
