//! Posts a notice to a web-hook.
//!
//! Owns the request and what counts as a yes. Refuses to show the address: it may hold a secret.

use std::time::Duration;

use crate::{install_tls_provider, results::Notice};

/// Who posts.
pub(super) struct Hook {
    http: reqwest::Client,
    url: String,
}

impl Hook {
    pub(super) fn new(url: &str, patience: Duration) -> Result<Self, String> {
        install_tls_provider();
        let mut builder = reqwest::Client::builder().timeout(patience).redirect(reqwest::redirect::Policy::none());
        if !url.starts_with("https://") {
            // The machine's authorities are not missed where there are none.
            builder = builder.tls_certs_only([]);
        }
        Ok(Self { http: builder.build().map_err(|error| error.to_string())?, url: url.to_owned() })
    }

    pub(super) async fn send(&self, notice: &Notice, key: &str) -> Result<(), String> {
        let request = self.http.post(&self.url).header("Idempotency-Key", key).json(notice);
        let answer = request.send().await.map_err(|error| {
            if error.is_timeout() { "no answer in time".to_owned() } else { error.without_url().to_string() }
        })?;
        let status = answer.status();
        if status.is_success() { Ok(()) } else { Err(format!("it answered {status}")) }
    }
}
