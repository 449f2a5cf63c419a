//! `/session`: a browser that shows the token once gets a signed cookie in its place.
//!
//! Owns the cookie's form: its end and a signature under a key that is made from the token, so that it holds after a
//! restart, in every process with the same token, and no longer than the token does. Refuses to keep sessions.

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use jiff::{SignedDuration, Timestamp};
use ring::{
    hmac,
    rand::{SecureRandom as _, SystemRandom},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ApiState, Problem, guard::Token, steer};

/// So long a browser stays logged in.
const LASTS: SignedDuration = SignedDuration::from_hours(7 * 24);
const LONGEST_BODY: usize = 4096;

/// What a browser shows.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Shown {
    token: String,
}

/// How long it is logged in.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct LoggedIn {
    until: Timestamp,
}

/// `POST /session`: the token against a cookie.
pub(super) async fn open(State(state): State<ApiState>, request: Request) -> Result<Response, Problem> {
    let token = Token::of(&state.config);
    let name = cookie_name(request.headers());
    let body = axum::body::to_bytes(request.into_body(), LONGEST_BODY)
        .await
        .map_err(|error| Problem::new(400, "The body cannot be read", error.to_string()))?;
    let shown: Shown = steer::read_text(&body)?;
    if !token.is(shown.token.trim().as_bytes()) {
        let detail = "this is not the token of this Spinor; open the link that `spinor up` printed";
        return Err(Problem { field: Some("token".to_owned()), ..Problem::new(401, "Wrong token", detail) });
    }
    let until = Timestamp::now() + LASTS;
    let cookie =
        format!("{name}={}; Path=/; Max-Age={}; HttpOnly; SameSite=Strict", sign(&token, until), LASTS.as_secs());
    Ok((StatusCode::CREATED, [(header::SET_COOKIE, cookie)], Json(LoggedIn { until })).into_response())
}

/// `DELETE /session`: the browser forgets it.
pub(super) async fn close(headers: HeaderMap) -> Response {
    let cookie = format!("{}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict", cookie_name(&headers));
    (StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response()
}

/// Browsers keep cookies by host alone: two of us on one machine differ by port.
fn cookie_name(headers: &HeaderMap) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let port =
        host.rsplit_once(':').map(|(_, port)| port).filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    format!("spinor-{}", port.unwrap_or("80"))
}

/// Does this request carry a cookie that holds?
pub(super) fn is_logged_in(headers: &HeaderMap, token: &Token) -> bool {
    let name = cookie_name(headers);
    let pairs = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut values = pairs.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    values.any(|(of, value)| of == name && holds(token, value, Timestamp::now()))
}

fn key(token: &Token) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, format!("spinor session {}", token.text()).as_bytes())
}

fn sign(token: &Token, until: Timestamp) -> String {
    let until = until.as_second().to_string();
    let signature = hmac::sign(&key(token), until.as_bytes());
    format!("{until}.{}", hex(signature.as_ref()))
}

fn holds(token: &Token, value: &str, now: Timestamp) -> bool {
    let Some((until, signature)) = value.split_once('.') else { return false };
    let in_time = until.parse::<i64>().is_ok_and(|until| until > now.as_second());
    let Some(signature) = bytes(signature) else { return false };
    in_time && !token.text().is_empty() && hmac::verify(&key(token), until.as_bytes(), &signature).is_ok()
}

/// A token that nobody guesses.
pub(super) fn fresh_token() -> String {
    let mut random = [0_u8; 24];
    // The system's source answers or the machine cannot do TLS either; two UUIDs stand in for it.
    match SystemRandom::new().fill(&mut random) {
        Ok(()) => hex(&random),
        Err(_) => format!("{}{}", uuid::Uuid::now_v7().simple(), uuid::Uuid::now_v7().simple()),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_holds_until_its_end_under_its_token_and_unchanged() {
        let (token, other) = (Token("one".into()), Token("two".into()));
        let (now, until) = (Timestamp::now(), Timestamp::now() + LASTS);
        let cookie = sign(&token, until);
        assert!(holds(&token, &cookie, now));
        assert!(!holds(&other, &cookie, now), "another token");
        assert!(!holds(&token, &cookie, until), "its end");
        let later = (until + LASTS).as_second();
        let (_, signature) = cookie.split_once('.').unwrap_or_default();
        for wrong in
            [format!("{later}.{signature}"), String::new(), ".".to_owned(), format!("{later}."), "x.y".to_owned()]
        {
            assert!(!holds(&token, &wrong, now), "{wrong}");
        }
        let empty = Token("".into());
        assert!(!holds(&empty, &sign(&empty, until), now), "no token, no login");
    }
}
