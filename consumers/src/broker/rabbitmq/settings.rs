//! What a user says about the broker: addresses, prefix, bounds.
//!
//! Owns reading the URL, with several hosts in one. Refuses to show a password: neither `Debug`
//! nor any error of this file carries one.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use lapin::uri::AMQPUri;

use crate::{broker::BrokerError, read_ca_file};

/// How to reach RabbitMQ and what to call things there.
#[derive(Clone)]
pub struct RabbitSettings {
    /// `amqp://` or `amqps://`; one URL may name several hosts: `amqps://user:password@mq1,mq2/vhost`.
    /// They are tried in order.
    pub urls: Vec<String>,
    /// What the names of all our objects start with. Defaults to `spinor`.
    pub prefix: String,
    /// Certificates (PEM) to trust beside those of the machine, for `amqps://`.
    pub ca_file: Option<PathBuf>,
    /// Shown by the server beside each connection. Defaults to `spinor`.
    pub connection_name: String,
    /// Is a second copy of the reports kept for a search index? Defaults to no.
    pub search: bool,
    /// How long a publish waits for a broker that is blocked or away, and for its confirm; after two
    /// thirds of it without one the same is sent once more. Defaults to 15 s.
    pub confirm_timeout: Duration,
}

impl RabbitSettings {
    /// The defaults for one URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            urls: vec![url.into()],
            ca_file: None,
            prefix: "spinor".to_owned(),
            connection_name: "spinor".to_owned(),
            search: false,
            confirm_timeout: Duration::from_secs(15),
        }
    }
}

impl fmt::Debug for RabbitSettings {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("RabbitSettings")
            .field("urls", &self.urls.iter().map(|url| without_password(url)).collect::<Vec<_>>())
            .field("ca_file", &self.ca_file)
            .field("prefix", &self.prefix)
            .field("connection_name", &self.connection_name)
            .field("search", &self.search)
            .field("confirm_timeout", &self.confirm_timeout)
            .finish()
    }
}

/// A URL as it may be shown.
pub fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return "(not a URL)".to_owned();
    };
    let (authority, path) = rest.find(['/', '?']).map_or((rest, ""), |at| rest.split_at(at));
    let shown = match authority.rsplit_once('@') {
        Some((user, hosts)) => format!("{}@{hosts}", user.split(':').next().unwrap_or_default()),
        None => authority.to_owned(),
    };
    format!("{scheme}://{shown}{}", path.split('?').next().unwrap_or_default())
}

/// One server: where to connect, and how to name it to people.
#[derive(Clone)]
pub struct Host {
    /// For the client; holds the password.
    pub uri: AMQPUri,
    /// For people.
    pub shown: String,
    /// Authorities of ours, as PEM.
    pub authorities: Option<Arc<str>>,
}

impl Host {
    /// The same server for a connection that carries events: the client sets 64 frames aside for
    /// each connection, which at the usual 128 KiB are 8 MiB. Jobs need the large ones, because
    /// all headers of a message must fit one frame.
    pub fn with_small_frames(&self) -> Self {
        let mut small = self.clone();
        small.uri.query.frame_max = Some(16 * 1024);
        small
    }
}

/// The servers that the settings name, in order; the error says what is wrong with which URL.
pub fn hosts(settings: &RabbitSettings) -> Result<Vec<Host>, BrokerError> {
    let prefix = &settings.prefix;
    if prefix.is_empty() || prefix.len() > 60 || !prefix.chars().all(|c| c.is_ascii_graphic()) {
        return Err(BrokerError::Misconfigured(format!(
            "the prefix of the broker's objects must be 1 to 60 visible ASCII characters, not `{prefix}`"
        )));
    }
    let authorities = match &settings.ca_file {
        Some(file) => Some(Arc::from(read_ca_file(file).map_err(BrokerError::Misconfigured)?)),
        None => None,
    };
    let mut all: Vec<Host> = Vec::new();
    for url in &settings.urls {
        all.extend(
            read(url).map_err(|why| BrokerError::Misconfigured(format!("broker {}: {why}", without_password(url))))?,
        );
    }
    all.iter_mut().for_each(|host| host.authorities.clone_from(&authorities));
    if all.is_empty() {
        return Err(BrokerError::Misconfigured("no broker URL is given".to_owned()));
    }
    Ok(all)
}

fn read(url: &str) -> Result<Vec<Host>, String> {
    let (scheme, rest) = url.split_once("://").ok_or("expected amqp:// or amqps://")?;
    if !matches!(scheme, "amqp" | "amqps") {
        return Err(format!("expected amqp:// or amqps://, not {scheme}://"));
    }
    let (authority, path) = rest.find(['/', '?']).map_or((rest, ""), |at| rest.split_at(at));
    // A lone slash means the default virtual host to people, though the letter of the URL says "".
    let path = match path.strip_prefix('/') {
        Some(tail) if tail.is_empty() || tail.starts_with('?') => format!("/%2f{tail}"),
        _ => path.to_owned(),
    };
    let (user, servers) = authority.rsplit_once('@').map_or((None, authority), |(user, servers)| (Some(user), servers));
    servers
        .split(',')
        .map(|server| {
            let server = server.trim();
            let at = user.map_or_else(String::new, |user| format!("{user}@"));
            // The parser's own message may quote the whole URL with its password.
            let mut uri: AMQPUri = format!("{scheme}://{at}{server}{path}")
                .parse()
                .map_err(|_| format!("cannot be read at host `{server}`"))?;
            if let Some(address) = server.strip_prefix('[').and_then(|tail| tail.split_once(']')) {
                uri.authority.host = address.0.to_owned();
            }
            let vhost = &uri.vhost;
            let shown = format!(
                "{scheme}://{}@{}:{}, virtual host `{vhost}`",
                uri.authority.userinfo.username, uri.authority.host, uri.authority.port
            );
            uri.query.heartbeat = Some(10);
            Ok(Host { uri, shown, authorities: None })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str) -> Result<Vec<Host>, BrokerError> {
        hosts(&RabbitSettings::new(url))
    }

    #[test]
    fn several_hosts_share_user_password_and_virtual_host() {
        let all = of("amqps://me:p%40ss@mq1,mq2:5673,[::1]:7/work").unwrap();
        let seen: Vec<_> = all
            .iter()
            .map(|host| {
                let to = &host.uri.authority;
                (to.host.as_str(), to.port, to.userinfo.password.as_str(), host.uri.vhost.as_str())
            })
            .collect();
        let expected = [("mq1", 5671, "p@ss", "work"), ("mq2", 5673, "p@ss", "work"), ("::1", 7, "p@ss", "work")];
        assert_eq!(seen, expected);
    }

    #[test]
    fn no_path_and_a_lone_slash_mean_the_default_virtual_host() {
        for url in ["amqp://h", "amqp://h/", "amqp://h/%2f", "amqp://h/?channel_max=9"] {
            assert_eq!(of(url).unwrap()[0].uri.vhost, "/", "{url}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        for url in ["amqp://me:secret@h:nonsense/v", "amqp://me:secret@", "http://me:secret@h", "me:secret@h"] {
            let mut shown = format!("{:?}", RabbitSettings::new(url));
            match of(url) {
                Ok(all) => shown.push_str(&all[0].shown),
                Err(error) => shown.push_str(&format!("{error} {error:?}")),
            }
            assert!(!shown.contains("secret"), "{shown}");
        }
    }
}
