//! Where a bucket is: `s3://BUCKET/PREFIX?region=..&endpoint=..&path_style=..`.
//!
//! Owns how its parts are checked, and the URL that objects have. Names are taken that stand in a URL as they
//! are, so that what is signed is what is sent. Refuses keys: an address is shown.

use std::fmt;

use reqwest::Url;

/// What an address looks like.
const LIKE: &str = "s3://bucket/prefix?region=eu-central-1";
/// The region of servers that have none.
const ANY: &str = "us-east-1";

/// A bucket, and the place in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Address {
    text: String,
    pub(super) bucket: String,
    /// Empty, or with a `/` at its end.
    pub(super) prefix: String,
    pub(super) region: String,
    /// Scheme, host and port of each request.
    pub(super) origin: String,
    /// Host and port, as the header of each request has them.
    pub(super) host: String,
    /// What the path of each request starts with.
    pub(super) root: String,
}

impl S3Address {
    /// Reads an address; the error goes on after its key, and shows nothing that could be a secret.
    pub fn parse(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("s3://").ok_or_else(|| format!("is no address such as \"{LIKE}\""))?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        if rest.contains('#') || place.contains('@') {
            return Err("holds more than a bucket and a prefix; keys go into the secrets file (`blobs_access_key`, \
                 `blobs_secret_key`) or into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
                .to_owned());
        }
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        if !is_bucket(bucket) {
            return Err("names no bucket: 3 to 63 lower-case letters, digits, `-` and `.`".to_owned());
        }
        let prefix = prefix.trim_end_matches('/');
        if !prefix.is_empty() && !prefix.split('/').all(is_segment) {
            return Err("has a prefix with something else than letters, digits, `.`, `_` and `-` between its slashes"
                .to_owned());
        }
        let asked = Asked::parse(query)?;
        let path_style = asked.path_style.unwrap_or(asked.endpoint.is_some() || bucket.contains('.'));
        let (scheme, server, region) = match (asked.endpoint, asked.region) {
            (Some((scheme, server)), region) => (scheme, server, region.unwrap_or_else(|| ANY.to_owned())),
            (None, Some(region)) => ("https".to_owned(), format!("s3.{region}.amazonaws.com"), region),
            (None, None) => return Err(format!("names no region: \"{LIKE}\", or the `endpoint` of another server")),
        };
        let host = if path_style { server } else { format!("{bucket}.{server}") };
        Ok(Self {
            text: text.to_owned(),
            prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
            region,
            origin: format!("{scheme}://{host}"),
            host,
            root: if path_style { format!("/{bucket}") } else { String::new() },
            bucket: bucket.to_owned(),
        })
    }

    /// Does it go without TLS?
    pub fn is_plain(&self) -> bool {
        self.origin.starts_with("http://")
    }
}

impl fmt::Display for S3Address {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&self.text)
    }
}

/// What stands after the `?`.
#[derive(Default)]
struct Asked {
    region: Option<String>,
    endpoint: Option<(String, String)>,
    path_style: Option<bool>,
}

impl Asked {
    fn parse(query: &str) -> Result<Self, String> {
        let mut asked = Self::default();
        let url = Url::parse(&format!("s3://b/?{query}")).map_err(|_| "has parameters that are none".to_owned())?;
        for (name, value) in url.query_pairs() {
            match &*name {
                "region" if is_segment(&value) => asked.region = Some(value.into_owned()),
                "region" => return Err("has a `region` that is none; such as \"eu-central-1\"".to_owned()),
                "endpoint" => asked.endpoint = Some(endpoint(&value)?),
                "path_style" => {
                    let flag = value.parse().map_err(|_| "has a `path_style` that is neither true nor false")?;
                    asked.path_style = Some(flag);
                }
                // Its name could be the secret as well.
                _ => return Err("has a parameter that is none; there are region, endpoint and path_style".to_owned()),
            }
        }
        Ok(asked)
    }
}

/// Scheme, and host with port.
fn endpoint(text: &str) -> Result<(String, String), String> {
    let wrong = || "has an `endpoint` that is none; such as \"http://127.0.0.1:9000\"".to_owned();
    let url = Url::parse(text).map_err(|_| wrong())?;
    let bare = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    match url.host_str() {
        Some(host) if bare && url.path() == "/" && matches!(url.scheme(), "http" | "https") => {
            // The scheme's own port is left out here and in the header alike.
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            Ok((url.scheme().to_owned(), format!("{host}{port}")))
        }
        _ => Err(wrong()),
    }
}

fn is_bucket(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let end = |c: char| inner(c) && !matches!(c, '-' | '.');
    (3..=63).contains(&text.len())
        && text.chars().all(inner)
        && text.starts_with(end)
        && text.ends_with(end)
        && !text.contains("..")
}

/// May it stand in a path, as it is? `.` and `..` mean something else there.
fn is_segment(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')) && text.chars().any(|c| c != '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_reached_by_its_own_host_or_by_a_path() {
        let at = |text: &str| {
            let address = S3Address::parse(text).unwrap();
            (address.origin, address.root, address.prefix, address.region)
        };
        let parts = |origin: &str, root: &str, prefix: &str, region: &str| {
            (origin.to_owned(), root.to_owned(), prefix.to_owned(), region.to_owned())
        };
        for (text, expected) in [
            (
                "s3://jobs/a/b/?region=eu-central-1",
                parts("https://jobs.s3.eu-central-1.amazonaws.com", "", "a/b/", "eu-central-1"),
            ),
            // A certificate for `*.s3...` is not valid for a name with one more dot.
            ("s3://my.jobs?region=eu-west-1", parts("https://s3.eu-west-1.amazonaws.com", "/my.jobs", "", "eu-west-1")),
            (
                "s3://jobs/p?endpoint=http://127.0.0.1:9000&path_style=true",
                parts("http://127.0.0.1:9000", "/jobs", "p/", "us-east-1"),
            ),
            (
                "s3://jobs?endpoint=https%3A%2F%2Fs3.example.org%3A443%2F",
                parts("https://s3.example.org", "/jobs", "", "us-east-1"),
            ),
            (
                "s3://jobs?region=fr-par&endpoint=https://s3.example.org&path_style=false",
                parts("https://jobs.s3.example.org", "", "", "fr-par"),
            ),
        ] {
            assert_eq!(at(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_by_its_part_and_never_shown() {
        for (text, part) in [
            ("s3://hush:hush@jobs?region=r", "secrets file"),
            ("s3://jobs/hush@p?region=r", "secrets file"),
            ("s3://Jobs?region=r", "no bucket"),
            ("s3:///p?region=r", "no bucket"),
            ("s3://jobs//p?region=r", "prefix"),
            ("s3://jobs/../p?region=r", "prefix"),
            ("s3://jobs/a b?region=r", "prefix"),
            ("s3://jobs", "no region"),
            ("s3://jobs?region=", "`region`"),
            ("s3://jobs?secret_key=hush", "region, endpoint and path_style"),
            ("s3://jobs?endpoint=hush", "`endpoint`"),
            ("s3://jobs?endpoint=http://u:hush@h", "`endpoint`"),
            ("s3://jobs?endpoint=http://h/path", "`endpoint`"),
            ("s3://jobs?region=r&path_style=hush", "`path_style`"),
        ] {
            let why = S3Address::parse(text).unwrap_err();
            assert!(why.contains(part) && !why.contains("hush"), "{text}: {why}");
        }
    }
}
