//! Signs a request as S3 wants it (version 4 of the signature, in the header): who asks, for what, and when.
//!
//! The body is signed by its hash, so a server refuses one that was changed on its way. Refuses names that
//! would have to be encoded in a path; those in a query are.

use std::fmt;

use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ring::{digest, hmac};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// All that the signature wants encoded.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The keys of an account; never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct S3Keys {
    /// Which key it is.
    pub access: String,
    /// The key itself.
    pub secret: String,
    /// What comes with keys that are valid for a while.
    pub token: Option<String>,
}

impl fmt::Debug for S3Keys {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("***")
    }
}

/// What is asked for.
pub(super) struct Ask<'a> {
    pub(super) method: &'a str,
    pub(super) host: &'a str,
    pub(super) path: &'a str,
    /// As [`query`] makes it.
    pub(super) query: &'a str,
    /// The SHA-256 of the body in hexadecimal digits.
    pub(super) hash: &'a str,
}

/// The headers that sign a request, beside `host`.
pub(super) fn sign(keys: &S3Keys, region: &str, ask: &Ask<'_>, now: Timestamp) -> Vec<(&'static str, String)> {
    let at = now.strftime("%Y%m%dT%H%M%SZ").to_string();
    let day = at.get(..8).unwrap_or_default();
    let scope = format!("{day}/{region}/s3/aws4_request");
    let mut headers =
        vec![("host", ask.host.to_owned()), ("x-amz-content-sha256", ask.hash.to_owned()), ("x-amz-date", at.clone())];
    headers.extend(keys.token.as_ref().map(|token| ("x-amz-security-token", token.clone())));
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
    let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let request = format!("{}\n{}\n{}\n{lines}\n{names}\n{}", ask.method, ask.path, ask.query, ask.hash);
    let text = format!("{ALGORITHM}\n{at}\n{scope}\n{}", hex(digest::digest(&digest::SHA256, request.as_bytes())));
    let mut key = format!("AWS4{}", keys.secret).into_bytes();
    for part in [day, region, "s3", "aws4_request"] {
        key = code(&key, part).as_ref().to_vec();
    }
    let (access, signature) = (&keys.access, hex(code(&key, &text)));
    headers.remove(0);
    headers.push((
        "authorization",
        format!("{ALGORITHM} Credential={access}/{scope}, SignedHeaders={names}, Signature={signature}"),
    ));
    headers
}

/// Parameters as they are sent and signed: encoded, in the order of their names.
pub(super) fn query(parameters: &[(&str, &str)]) -> String {
    let mut pairs: Vec<String> =
        parameters.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
    pairs.sort_unstable();
    pairs.join("&")
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

fn code(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> S3Keys {
        S3Keys {
            access: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
            token: None,
        }
    }

    /// The example of Amazon's own description: a list of two objects whose names begin with J.
    #[test]
    fn the_signature_of_the_published_example_is_the_published_one() {
        let query = query(&[("prefix", "J"), ("max-keys", "2")]);
        let hash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let ask = Ask { method: "GET", host: "examplebucket.s3.amazonaws.com", path: "/", query: &query, hash };
        let headers = sign(&keys(), "us-east-1", &ask, "2013-05-24T00:00:00Z".parse().unwrap());
        let (name, value) = headers.last().unwrap();
        assert_eq!(*name, "authorization");
        assert_eq!(
            value,
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, \
             SignedHeaders=host;x-amz-content-sha256;x-amz-date, \
             Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
        );
    }

    #[test]
    fn a_session_token_is_signed_and_a_query_encoded() {
        let with = S3Keys { token: Some("t/o+k".to_owned()), ..keys() };
        let query = query(&[("start-after", "a/b c~"), ("list-type", "2")]);
        assert_eq!(query, "list-type=2&start-after=a%2Fb%20c~");
        let ask = Ask { method: "GET", host: "h", path: "/b", query: &query, hash: "00" };
        let headers = sign(&with, "us-east-1", &ask, Timestamp::UNIX_EPOCH);
        assert!(headers.contains(&("x-amz-security-token", "t/o+k".to_owned())));
        assert!(headers.last().unwrap().1.contains("x-amz-date;x-amz-security-token,"));
        assert_eq!(format!("{with:?}"), "***");
    }
}
