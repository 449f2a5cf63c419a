//! The page: three files inside the binary, served over TCP.
//!
//! Owns their names and headers. A name holds a hash of what it names, so that a browser keeps a file for ever and
//! never shows an old one. Refuses any source but this server: the page loads nothing from elsewhere.

use std::sync::LazyLock;

use axum::{
    extract::Path,
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};
use ring::digest;

use super::Problem;

const INDEX: &str = include_str!("../page/assets/index.html");
const SCRIPT: &str = include_str!("../page/assets/app.js");
const STYLE: &str = include_str!("../page/assets/app.css");

const POLICY: &str = "default-src 'self'; img-src 'self' data:; style-src 'self'; script-src 'self'; \
                      connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// The files, under the names they have while they stay as they are.
struct Files {
    index: String,
    tag: String,
    script: String,
    style: String,
}

static FILES: LazyLock<Files> = LazyLock::new(|| {
    let (script, style) = (format!("app.{}.js", hash(SCRIPT)), format!("app.{}.css", hash(STYLE)));
    let index = INDEX.replace("app.js", &script).replace("app.css", &style);
    Files { tag: format!("\"{}\"", hash(&index)), index, script, style }
});

fn hash(text: &str) -> String {
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// `GET /`; it needs no login, and tells nothing.
pub(super) async fn index(headers: HeaderMap) -> Response {
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|tag| tag.as_bytes() == FILES.tag.as_bytes());
    let body = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], FILES.index.as_str()).into_response()
    };
    let kept = [(header::CACHE_CONTROL, "no-cache"), (header::ETAG, FILES.tag.as_str())];
    (safe(), kept, body).into_response()
}

/// `GET /assets/{name}`, the same.
pub(super) async fn asset(Path(name): Path<String>) -> Result<Response, Problem> {
    let (kind, text) = match &name {
        name if *name == FILES.script => ("text/javascript; charset=utf-8", SCRIPT),
        name if *name == FILES.style => ("text/css; charset=utf-8", STYLE),
        _ => return Err(Problem::not_found("this file is of another version of the page; load the page again")),
    };
    let kept = [(header::CACHE_CONTROL, "public, max-age=31536000, immutable"), (header::CONTENT_TYPE, kind)];
    Ok((safe(), kept, text).into_response())
}

fn safe() -> [(HeaderName, &'static str); 5] {
    [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ]
}
