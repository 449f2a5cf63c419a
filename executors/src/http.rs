//! The kind `http`: one request, judged by its status.
//!
//! Owns the form of its arguments and of its value. The body is read up to the context's output
//! bound; what is beyond is dropped and said to be. The time limit is the job's.

use std::{collections::BTreeMap, error::Error};

use reqwest::{
    Client, Method, RequestBuilder, Response, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{BoxFuture, Cancelled, Context, Executor, Failure, Job, Json, Outcome, process::readable};

/// What args it takes, as a JSON Schema.
pub const SCHEMA: &str = r#"{
  "type": "object",
  "properties": {
    "url": {"type": "string", "description": "http or https."},
    "method": {"type": ["string", "null"], "description": "Defaults to GET, or POST with a body."},
    "headers": {"type": "object", "additionalProperties": {"type": "string"}},
    "body": {"description": "A text is sent as it is, anything else as JSON."},
    "expect": {
      "type": "array",
      "description": "Statuses that mean success, and pairs of first and last. Defaults to [[200, 299]].",
      "items": {"anyOf": [
        {"type": "integer", "minimum": 0, "maximum": 65535},
        {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 65535}, "minItems": 2, "maxItems": 2}
      ]}
    }
  },
  "required": ["url"],
  "additionalProperties": false
}"#;

/// Sends one request for each job; connections are kept and shared.
pub struct Http {
    client: Client,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object such as {\"url\": \"http://host/path\"}")]
struct Args {
    url: String,
    /// Defaults to GET, or POST with a body.
    method: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// A text is sent as it is, anything else as JSON.
    body: Option<Box<RawValue>>,
    /// Statuses that mean success. Defaults to 200 to 299.
    #[serde(default = "successes")]
    expect: Vec<Expected>,
}

/// `204` or `[200, 299]`.
#[derive(Deserialize)]
#[serde(untagged, expecting = "`expect` lists statuses and pairs of first and last status")]
enum Expected {
    One(u16),
    Range(u16, u16),
}

fn successes() -> Vec<Expected> {
    vec![Expected::Range(200, 299)]
}

impl Expected {
    const fn fits(&self, status: u16) -> bool {
        match self {
            Self::One(one) => *one == status,
            Self::Range(first, last) => *first <= status && status <= *last,
        }
    }

    fn words(&self) -> String {
        match self {
            Self::One(one) => one.to_string(),
            Self::Range(first, last) => format!("{first} to {last}"),
        }
    }
}

/// What a success says.
#[derive(Serialize)]
struct Value {
    status: u16,
    body: String,
    /// Was the body longer than what is kept?
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
}

impl Http {
    /// Builds the client; installs the TLS provider when the process has none.
    pub fn new() -> Result<Self, String> {
        // Refused only when there is one already, which then is the process's choice.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = || Client::builder().user_agent(concat!("spinor/", env!("CARGO_PKG_VERSION")));
        // On a machine that trusts no authority `http://` works all the same, and `https://` says why not.
        let client = builder().build().or_else(|_| builder().tls_certs_only([]).build());
        client.map(|client| Self { client }).map_err(|error| chain(&error))
    }

    fn request(&self, args: &Args, url: &Url) -> Result<RequestBuilder, String> {
        let method = match &args.method {
            Some(method) => Method::from_bytes(method.to_uppercase().as_bytes())
                .map_err(|_| format!("`method` is `{method}`, which is no HTTP method"))?,
            None if args.body.is_some() => Method::POST,
            None => Method::GET,
        };
        let mut headers = HeaderMap::new();
        for (name, value) in &args.headers {
            let bad = |_| format!("`headers` has `{name}`, whose name or value is not allowed in HTTP");
            let value = HeaderValue::from_str(value).map_err(|error| bad(error.to_string()))?;
            headers.append(HeaderName::from_bytes(name.as_bytes()).map_err(|error| bad(error.to_string()))?, value);
        }
        let request = self.client.request(method, url.clone());
        let Some(body) = &args.body else { return Ok(request.headers(headers)) };
        let (default, text) = match serde_json::from_str::<String>(body.get()) {
            Ok(text) => ("text/plain; charset=utf-8", text),
            Err(_) => ("application/json", body.get().to_owned()),
        };
        headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static(default));
        Ok(request.headers(headers).body(text))
    }

    async fn send(&self, job: &Job, context: &Context) -> Outcome {
        let args = match job.args.read::<Args>() {
            Ok(args) => args,
            Err(error) => return Outcome::Failed(Failure::args(error.to_string())),
        };
        let url = match Url::parse(&args.url) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => url,
            Ok(url) => {
                return Outcome::Failed(Failure::args(format!(
                    "`url` begins with `{}:`, expected http or https",
                    url.scheme()
                )));
            }
            Err(error) => return Outcome::Failed(Failure::args(format!("`url` is `{}`: {error}", args.url))),
        };
        let request = match self.request(&args, &url) {
            Ok(request) => request,
            Err(error) => return Outcome::Failed(Failure::args(error)),
        };
        let answered = async {
            let response = request.send().await?;
            let status = response.status();
            Ok::<_, reqwest::Error>((status, read(response, context.keep_output).await?))
        };
        let place = place(&url);
        let (status, (body, truncated)) = match answered.await {
            Ok(answer) => answer,
            Err(error) => return Outcome::failed(format!("{place}: {}", chain(&error.without_url()))),
        };
        if !args.expect.iter().any(|expected| expected.fits(status.as_u16())) {
            let expected: Vec<_> = args.expect.iter().map(Expected::words).collect();
            let said: String =
                body.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().chars().take(300).collect();
            let message = format!("{place} answered {status}, expected {}: {said}", expected.join(", "));
            return Outcome::failed(message.trim_end_matches(": "));
        }
        match Json::of(&Value { status: status.as_u16(), body, truncated }) {
            Ok(value) => Outcome::Succeeded(value),
            Err(error) => Outcome::failed(error.to_string()),
        }
    }
}

/// Reads a body up to `keep` bytes.
async fn read(mut response: Response, keep: usize) -> reqwest::Result<(String, bool)> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = keep - body.len();
        if chunk.len() > room {
            body.extend_from_slice(&chunk[..room]);
            return Ok((readable(&body), true));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((readable(&body), false))
}

/// Where it went, without what may be secret: user, password and query.
fn place(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

/// An error with what is behind it, in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut behind = error.source();
    while let Some(error) = behind {
        text = format!("{text}: {error}");
        behind = error.source();
    }
    text
}

impl Executor for Http {
    fn run<'a>(&'a self, job: &'a Job, context: &'a Context) -> BoxFuture<'a, Outcome> {
        Box::pin(async {
            tokio::select! {
                outcome = self.send(job, context) => outcome,
                () = context.cancelled() => {
                    Outcome::Failed(context.why_cancelled().unwrap_or(Cancelled::Drain).failure())
                }
            }
        })
    }
}

#[cfg(test)]
mod tests;
