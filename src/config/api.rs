//! How the API is reached: where it listens, under which names, with which certificate.
//!
//! Owns the rule that nothing listens beyond this machine without a login and TLS.

use std::{fmt, net::SocketAddr, path::PathBuf};

use serde::Deserialize;

use super::{ProxyConfig, measure, proxy::RawProxy, raw::Rules, secrets::Secrets};

/// The part `api`.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiConfig {
    /// A TCP address beside the Unix socket.
    pub listen: Option<SocketAddr>,
    /// What it shows to who connects over TCP; none: no TLS.
    pub tls: Option<TlsFiles>,
    /// The names it answers to, besides those of this machine.
    pub hosts: Vec<String>,
    /// A proxy that says who asks.
    pub proxy: Option<ProxyConfig>,
    /// What a caller over TCP must show.
    pub token: Option<String>,
    /// Does `up` listen for the page when `listen` names no address?
    pub page: bool,
    /// Will any other port do, when the one of `listen` is taken?
    pub any_port: bool,
    /// The largest request, in bytes.
    pub max_body: usize,
}

/// The files of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and those between it and its authority.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl fmt::Debug for ApiConfig {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = if self.token.is_some() { "set" } else { "unset" };
        let tls = if self.tls.is_some() { "with TLS" } else { "without TLS" };
        write!(to, "Api(listen {:?} {tls}, token {token}, page {}, max_body {})", self.listen, self.page, self.max_body)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawApi {
    listen: Option<SocketAddr>,
    #[serde(default)]
    tls: RawTls,
    #[serde(default)]
    hosts: Vec<String>,
    token: Option<String>,
    #[serde(default)]
    proxy: RawProxy,
    page: bool,
    #[serde(deserialize_with = "measure::read_size")]
    max_body: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawTls {
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Rules<'_> {
    pub(super) fn api(&mut self, raw: RawApi, secrets: &Secrets) -> ApiConfig {
        let token = secrets.api_token.clone().or(raw.token);
        let tls = match (raw.tls.cert, raw.tls.key) {
            (Some(cert), Some(key)) => Some(TlsFiles { cert, key }),
            (None, None) => None,
            (cert, _) => {
                let (there, missing) = if cert.is_some() { ("cert", "key") } else { ("key", "cert") };
                self.add(&format!("api.tls.{there}"), format_args!("needs `api.tls.{missing}` beside it"));
                None
            }
        };
        if let Some(listen) = raw.listen {
            if !listen.ip().is_loopback() && tls.is_none() {
                self.add(
                    "api.listen",
                    format_args!("{listen} can be reached from other machines, which needs TLS; set `api.tls.cert` and `api.tls.key`, or use 127.0.0.1"),
                );
            }
            if token.is_none() {
                self.add("api.listen", "needs a token: set `api_token` in the secrets file");
            }
        }
        let max_body = usize::try_from(raw.max_body).unwrap_or(usize::MAX);
        let (proxy, page) = (self.proxy(raw.proxy), raw.page);
        ApiConfig { listen: raw.listen, tls, hosts: raw.hosts, proxy, token, page, any_port: false, max_body }
    }
}
