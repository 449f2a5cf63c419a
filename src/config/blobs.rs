//! Where large args and values lie, as the configuration says it: `blobs`, and the keys of a bucket.
//!
//! The secrets file counts before the environment, and a pair is never made of both. Whether a bucket has keys
//! at all is for who opens it: many commands need no store.

use std::collections::BTreeMap;

use spinor_consumers::blobs::{S3Address, S3Keys};

use super::{BlobsChoice, secrets::Secrets};

/// Is it one of the three forms? What is wrong with the address of a bucket is told part by part, later.
pub(super) fn has_form(text: &str) -> bool {
    let directory = || text.strip_prefix("file:///").is_some_and(|path| !path.is_empty());
    text == "results" || text.starts_with("s3://") || directory()
}

/// The choice; the error goes on after `blobs`.
pub(super) fn choice(
    text: &str,
    secrets: &Secrets,
    variables: &BTreeMap<String, String>,
) -> Result<BlobsChoice, String> {
    if let Some(path) = text.strip_prefix("file://") {
        return Ok(BlobsChoice::Directory(path.into()));
    }
    if !text.starts_with("s3://") {
        return Ok(BlobsChoice::Results);
    }
    let address = Box::new(S3Address::parse(text)?);
    let variable = |name: &str| variables.get(name).filter(|text| !text.is_empty()).cloned();
    let (access, secret) = (secrets.blobs_access_key.clone(), secrets.blobs_secret_key.clone());
    let keys = match (access, secret) {
        (Some(access), Some(secret)) => Some(S3Keys { access, secret, token: secrets.blobs_session_token.clone() }),
        (None, None) => match (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")) {
            (Some(access), Some(secret)) => Some(S3Keys { access, secret, token: variable("AWS_SESSION_TOKEN") }),
            _ => None,
        },
        _ => {
            return Err("is a bucket, and the secrets file has one of `blobs_access_key` and `blobs_secret_key`; \
                        set both, or none"
                .to_owned());
        }
    };
    Ok(BlobsChoice::S3 { address, keys })
}
