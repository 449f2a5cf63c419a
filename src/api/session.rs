//! `/session`: a browser that shows a token, or a name and a password, gets a signed cookie in its place.
//!
//! Owns the cookie's form: its end, its id, whose it is, and a signature under a key that is made from `api.token`, so that it
//! holds after a restart, in every process with the same token, and no longer than that token does. Refuses to keep
//! sessions; those that are ended before their time are kept by `access`.

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
use spinor_consumers::access::Grants;
use uuid::Uuid;

use super::{Answer, ApiState, Problem, caller::Caller, guard::Token, steer};

/// So long a browser stays logged in.
const LASTS: SignedDuration = SignedDuration::from_hours(7 * 24);
const LONGEST_BODY: usize = 4096;

/// What a browser shows: a token, or a user and a password.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Login {
    /// `api.token`, or a token with a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The name of a user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Its password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

/// How long it is logged in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoggedIn {
    /// Until then.
    pub until: Timestamp,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Oneself {
    /// The name, as far as there is one.
    pub name: String,
    /// How that is known: `socket`, `token`, `session` or `proxy`.
    pub how: String,
    /// What it may do.
    pub roles: Grants,
}

/// A session as its cookie tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Session {
    pub id: Uuid,
    /// The stamp of a user, or a token's id; nil: who has `api.token`.
    pub whose: Uuid,
    pub until: Timestamp,
}

/// `GET /session`: who asks, and what may it do.
pub(super) async fn show(caller: Caller) -> Answer<Oneself> {
    Ok(Json(caller.shown()))
}

/// `POST /session`: a login against a cookie.
pub(super) async fn open(State(state): State<ApiState>, request: Request) -> Result<Response, Problem> {
    let token = Token::of(&state.config);
    let headers = request.headers().clone();
    let body = axum::body::to_bytes(request.into_body(), LONGEST_BODY)
        .await
        .map_err(|error| Problem::new(400, "The body cannot be read", error.to_string()))?;
    let (whose, name) = whose(&state, &token, steer::read_text(&body)?).await?;
    let until = Timestamp::now() + LASTS;
    let session = Session { id: Uuid::now_v7(), whose, until };
    let cookie = cookie(&headers, &state, &sign(&token, session), LASTS.as_secs());
    let mut answer = (StatusCode::CREATED, [(header::SET_COOKIE, cookie)], Json(LoggedIn { until })).into_response();
    answer.extensions_mut().insert(Entered(name));
    Ok(answer)
}

/// Who logged in, for who writes down what was done.
#[derive(Clone, Debug)]
pub(super) struct Entered(pub String);

/// Whose session it is to be: what its cookie says, and the name.
async fn whose(state: &ApiState, token: &Token, shown: Login) -> Result<(Uuid, String), Problem> {
    state.access.refresh(&state.tasks).await;
    match shown {
        Login { token: Some(shown), user: None, password: None } => {
            let shown = shown.trim();
            if token.is(shown.as_bytes()) {
                return Ok((Uuid::nil(), "api.token".to_owned()));
            }
            let detail = "this is not the token of this Spinor; open the link that `spinor up` printed";
            let wrong = || Problem { field: Some("token".to_owned()), ..Problem::new(401, "Wrong token", detail) };
            state.access.token(shown).map(|found| (found.id, found.name)).ok_or_else(wrong)
        }
        Login { token: None, user: Some(user), password: Some(password) } => {
            // Cookies are signed under a key that is made of it.
            if token.text().is_empty() {
                return Err(Problem::new(503, "No login", "`api.token` is not set, so that no cookie can be signed"));
            }
            let found = state.access.password(&super::clip(&user), &password).await?;
            Ok((found.id, found.name))
        }
        _ => Err(Problem::field("token", "give a `token`, or a `user` and a `password`")),
    }
}

/// `DELETE /session`: the browser forgets it, and it counts no more if somebody else has it.
pub(super) async fn close(State(state): State<ApiState>, headers: HeaderMap) -> Result<Response, Problem> {
    if let Some(Session { id, until, .. }) = of(&headers, &Token::of(&state.config)) {
        state.access.end(id, until).await?;
    }
    let cookie = cookie(&headers, &state, "", 0);
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response())
}

fn cookie(headers: &HeaderMap, state: &ApiState, value: &str, seconds: i64) -> String {
    let name = cookie_name(headers);
    let secure = if state.config.api.tls.is_some() { "; Secure" } else { "" };
    format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
}

/// Browsers keep cookies by host alone: two of us on one machine differ by port.
fn cookie_name(headers: &HeaderMap) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let port =
        host.rsplit_once(':').map(|(_, port)| port).filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    format!("spinor-{}", port.unwrap_or("80"))
}

/// The session whose cookie this request carries, if one holds.
pub(super) fn of(headers: &HeaderMap, token: &Token) -> Option<Session> {
    let name = cookie_name(headers);
    let pairs = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut values = pairs.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    values.find_map(|(of, value)| if of == name { read(token, value, Timestamp::now()) } else { None })
}

fn key(token: &Token) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, format!("spinor session {}", token.text()).as_bytes())
}

fn sign(token: &Token, Session { id, whose, until }: Session) -> String {
    let text = format!("{}.{}.{}", until.as_second(), id.simple(), whose.simple());
    let signature = hmac::sign(&key(token), text.as_bytes());
    format!("{text}.{}", hex(signature.as_ref()))
}

fn read(token: &Token, value: &str, now: Timestamp) -> Option<Session> {
    let (text, signature) = value.rsplit_once('.')?;
    if token.text().is_empty() || hmac::verify(&key(token), text.as_bytes(), &bytes(signature)?).is_err() {
        return None;
    }
    let mut parts = text.split('.');
    let until = Timestamp::from_second(parts.next()?.parse().ok()?).ok()?;
    let mut id = || Uuid::try_parse(parts.next()?).ok();
    let (id, whose) = (id()?, id()?);
    (until > now).then_some(Session { id, whose, until })
}

/// A token that nobody guesses.
pub(super) fn fresh_token() -> String {
    let mut random = [0_u8; 24];
    // The system's source answers or the machine cannot do TLS either; two UUIDs stand in for it.
    match SystemRandom::new().fill(&mut random) {
        Ok(()) => hex(&random),
        Err(_) => format!("{}{}", Uuid::now_v7().simple(), Uuid::now_v7().simple()),
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
        let now = Timestamp::from_second(1_900_000_000).unwrap();
        let session = Session { id: Uuid::now_v7(), whose: Uuid::now_v7(), until: now + LASTS };
        let cookie = sign(&token, session);
        assert_eq!(read(&token, &cookie, now), Some(session));
        assert_eq!(read(&other, &cookie, now), None, "another token");
        assert_eq!(read(&token, &cookie, session.until), None, "its end");
        let later = (session.until + LASTS).as_second().to_string();
        let longer = cookie.replacen(&session.until.as_second().to_string(), &later, 1);
        let another = cookie.replacen(&session.whose.simple().to_string(), &Uuid::nil().simple().to_string(), 1);
        for wrong in [longer, another, String::new(), ".".to_owned(), "1.2".to_owned(), "a.b.c.d".to_owned()] {
            assert_eq!(read(&token, &wrong, now), None, "{wrong}");
        }
        let empty = Token("".into());
        assert_eq!(read(&empty, &sign(&empty, session), now), None, "no token, no login");
    }
}
