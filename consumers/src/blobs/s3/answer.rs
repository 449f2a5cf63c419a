//! What a server of S3 answers: a page of a list, or why not.
//!
//! Owns what each refusal means and what to do about it, in the words of the configuration. Shows of a
//! refusal only its code and its sentence: the rest repeats what was signed, and by which key.

use jiff::Timestamp;
use reqwest::{Response, StatusCode, header::HeaderMap};

use super::S3Address;
use crate::{
    blobs::{BlobError, LARGEST},
    tls,
};

/// No refusal is longer.
const MOST: usize = 64 << 10;
const KEYS: &str = "mend `blobs_access_key` and `blobs_secret_key` in the secrets file, or AWS_ACCESS_KEY_ID and \
                    AWS_SECRET_ACCESS_KEY";

/// Why it was not done. Named by what the caller does next.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Ask again in a moment.
    Busy(String),
    /// Ask again later.
    Away(String),
    /// Ask a person.
    Person(String),
    /// There is no such object.
    Absent,
}

impl From<Refusal> for BlobError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Busy(why) | Refusal::Away(why) => Self::Unavailable(why),
            Refusal::Person(why) => Self::Misconfigured(why),
            Refusal::Absent => Self::Unavailable("there is no such object".to_owned()),
        }
    }
}

/// One object of a list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) key: String,
    pub(super) size: u64,
    pub(super) modified: Timestamp,
}

/// The answer when it is one, or what it means.
pub(super) async fn judge(address: &S3Address, answer: Response) -> Result<Response, Refusal> {
    if answer.status().is_success() {
        return Ok(answer);
    }
    let (status, headers) = (answer.status(), answer.headers().clone());
    let body = read(address, answer, MOST as u64).await?.unwrap_or_default();
    Err(refusal(address, status, &headers, &String::from_utf8_lossy(&body), Timestamp::now()))
}

/// A whole body; `None` when it is larger than that.
pub(super) async fn read(address: &S3Address, mut answer: Response, most: u64) -> Result<Option<Vec<u8>>, Refusal> {
    let said = answer.content_length().unwrap_or_default();
    if said > most {
        return Ok(None);
    }
    let mut body = Vec::with_capacity(usize::try_from(said).unwrap_or_default().min(LARGEST));
    while let Some(part) = answer.chunk().await.map_err(|error| unreachable(address, error))? {
        if (body.len() + part.len()) as u64 > most {
            return Ok(None);
        }
        body.extend_from_slice(&part);
    }
    Ok(Some(body))
}

/// What an error without an answer means.
pub(super) fn unreachable(address: &S3Address, error: reqwest::Error) -> Refusal {
    if let Some(why) = tls::explain(&error, "blobs") {
        return Refusal::Person(format!("{}: {why}", address.origin));
    }
    let late = error.is_timeout();
    let error = error.without_url();
    let mut why = format!("{}: {error}", address.origin);
    let mut below = std::error::Error::source(&error);
    while let Some(cause) = below {
        why = format!("{why}: {cause}");
        below = cause.source();
    }
    if late { Refusal::Away(why) } else { Refusal::Busy(why) }
}

/// What a refusal means, and what to do.
fn refusal(address: &S3Address, status: StatusCode, headers: &HeaderMap, body: &str, now: Timestamp) -> Refusal {
    let S3Address { bucket, origin, region, prefix, .. } = address;
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let code = element(body, "Code").unwrap_or_default();
    let sentence: String = element(body, "Message").unwrap_or_default().chars().take(200).collect();
    let said = if code.is_empty() { status.to_string() } else { format!("{code}: {sentence}") };
    let own = header("x-amz-bucket-region").or_else(|| element(body, "Region"));
    Refusal::Person(match code.as_str() {
        "NoSuchKey" => return Refusal::Absent,
        // The last ones: it was changed, or cut, on its way.
        "SlowDown"
        | "RequestTimeout"
        | "OperationAborted"
        | "XAmzContentSHA256Mismatch"
        | "BadDigest"
        | "IncompleteBody" => {
            return Refusal::Busy(format!("{origin}: {said}"));
        }
        _ if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            return Refusal::Busy(format!("{origin}: {said}"));
        }
        "NoSuchBucket" => format!("there is no bucket `{bucket}` at {origin}; make it, or mend `blobs`"),
        "PermanentRedirect"
        | "TemporaryRedirect"
        | "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException" => wrong_region(bucket, region, own),
        _ if status.is_redirection() => wrong_region(bucket, region, own),
        "RequestTimeTooSkewed" => {
            let theirs = header("date").map(|date| format!(", the server's says {date}")).unwrap_or_default();
            format!(
                "the clocks differ too much: this machine's says {now:.0}{theirs}; set this machine's clock, by NTP for instance"
            )
        }
        "InvalidAccessKeyId" => format!("{origin} does not know the access key; {KEYS}"),
        "SignatureDoesNotMatch" => format!("the secret key is not that of the access key, says {origin}; {KEYS}"),
        "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" => {
            format!("the session token is not valid any more ({said}); {KEYS} with a new token, and start again")
        }
        "AccessDenied" | "AllAccessDisabled" => format!(
            "these keys may not use the bucket `{bucket}` ({said}); allow them s3:ListBucket on it, and s3:GetObject, \
             s3:PutObject and s3:DeleteObject on `{bucket}/{prefix}*`"
        ),
        "" => format!("{origin} answers {status}, not in the words of S3; is the `endpoint` of `blobs` right?"),
        _ => format!("{origin} refuses it: {said}"),
    })
}

fn wrong_region(bucket: &str, region: &str, own: Option<String>) -> String {
    match own.filter(|own| own != region) {
        Some(own) => {
            format!("the bucket `{bucket}` is in the region {own}, not in {region}; say `region={own}` in `blobs`")
        }
        None => format!("the bucket `{bucket}` is not in the region {region}; name its own as `region` in `blobs`"),
    }
}

/// A page of a list, and where the next one begins.
pub(super) fn page(body: &str) -> Result<(Vec<Listed>, Option<String>), Refusal> {
    let wrong = |what: &str| Refusal::Away(format!("the answer is no list of objects: {what}"));
    if !body.contains("<ListBucketResult") {
        return Err(wrong("it has another name"));
    }
    let mut listed = Vec::new();
    let mut rest = body;
    while let Some((object, after)) = between(rest, "Contents") {
        rest = after;
        let modified = element(object, "LastModified").and_then(|text| text.parse().ok());
        let size = element(object, "Size").and_then(|text| text.parse().ok());
        match (element(object, "Key"), size, modified) {
            (Some(key), Some(size), Some(modified)) => listed.push(Listed { key, size, modified }),
            _ => return Err(wrong("an object has no key, size or time")),
        }
    }
    match (element(body, "IsTruncated").as_deref(), element(body, "NextContinuationToken")) {
        (Some("true"), Some(next)) => Ok((listed, Some(next))),
        (Some("true"), None) => Err(wrong("it goes on, and does not say where")),
        _ => Ok((listed, None)),
    }
}

/// The text of the first element of that name that has one.
fn element(text: &str, name: &str) -> Option<String> {
    let (found, _) = between(text, name)?;
    let plain = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")];
    Some(plain.iter().fold(found.to_owned(), |text, (coded, plain)| text.replace(coded, plain)))
}

/// What is in the first element of that name, and what follows it.
fn between<'a>(text: &'a str, name: &str) -> Option<(&'a str, &'a str)> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: u16, headers: &[(&'static str, &str)], body: &str) -> Refusal {
        let address = S3Address::parse("s3://jobs/p?region=eu-central-1").unwrap();
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let now = "2026-11-30T13:49:21.5Z".parse().unwrap();
        refusal(&address, StatusCode::from_u16(status).unwrap(), &headers, body, now)
    }

    fn error(code: &str, more: &str) -> String {
        format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>A &lt;b&gt;.</Message>{more}</Error>")
    }

    #[test]
    fn each_refusal_names_what_to_do() {
        let region = "<Region>us-west-2</Region>";
        for (status, code, more, part) in [
            (404, "NoSuchBucket", "", "no bucket `jobs` at https://jobs.s3.eu-central-1.amazonaws.com; make it"),
            (400, "AuthorizationHeaderMalformed", region, "`region=us-west-2`"),
            (301, "PermanentRedirect", "", "`region=eu-north-1`"),
            (403, "AccessDenied", "", "s3:PutObject and s3:DeleteObject on `jobs/p/*`"),
            (403, "InvalidAccessKeyId", "<AWSAccessKeyId>hush</AWSAccessKeyId>", "AWS_ACCESS_KEY_ID"),
            (403, "SignatureDoesNotMatch", "<StringToSign>hush</StringToSign>", "`blobs_secret_key`"),
            (403, "RequestTimeTooSkewed", "", "2026-11-30T13:49:21Z, the server's says Mon, 30 Nov 2026 15:00:00 GMT"),
            (400, "ExpiredToken", "", "a new token"),
            (400, "Odd", "", "refuses it: Odd: A <b>."),
        ] {
            let own = if code == "PermanentRedirect" { "eu-north-1" } else { "eu-central-1" };
            let mut headers = vec![("date", "Mon, 30 Nov 2026 15:00:00 GMT")];
            if more != region {
                headers.push(("x-amz-bucket-region", own));
            }
            match told(status, &headers, &error(code, more)) {
                Refusal::Person(why) => assert!(why.contains(part) && !why.contains("hush"), "{code}: {why}"),
                other => panic!("{code}: {other:?}"),
            }
        }
        assert!(matches!(told(404, &[], "<html>"), Refusal::Person(why) if why.contains("is the `endpoint`")));
        assert!(matches!(told(404, &[], &error("NoSuchKey", "")), Refusal::Absent));
        for (status, body) in [(503, error("SlowDown", "")), (500, "<html>".to_owned()), (429, String::new())] {
            assert!(matches!(told(status, &[], &body), Refusal::Busy(_)), "{status}");
        }
    }

    #[test]
    fn a_page_is_read_whole_or_not_at_all() {
        let object = "<Contents><Key>p/a&amp;b</Key><LastModified>2026-11-30T13:52:50.000Z</LastModified><Size>7</Size></Contents>";
        let list = |within: &str| format!("<ListBucketResult xmlns=\"x\"><Prefix/>{within}</ListBucketResult>");
        let ends = list(&format!("<IsTruncated>false</IsTruncated>{object}{object}"));
        let (listed, next) = page(&ends).unwrap();
        let modified = "2026-11-30T13:52:50Z".parse().unwrap();
        assert_eq!((listed.len(), next), (2, None));
        assert_eq!(listed[1], Listed { key: "p/a&b".to_owned(), size: 7, modified });
        let goes_on = "<IsTruncated>true</IsTruncated>";
        let token = "<NextContinuationToken>t/+=</NextContinuationToken>";
        assert_eq!(page(&list(&format!("{goes_on}{token}"))).unwrap().1.as_deref(), Some("t/+="));
        for body in [list(goes_on), list("<Contents><Key>k</Key></Contents>"), "<html></html>".to_owned()] {
            assert!(matches!(page(&body), Err(Refusal::Away(_))), "{body}");
        }
    }
}
