//! Addresses of servers, with a password inside that is never shown.
//!
//! Owns how a password is put in and masked. Refuses to resolve or open anything: several hosts
//! in one address are the client's business.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// All but what may stand in an address anywhere.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// An address whose password is masked wherever it is shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint(String);

impl Endpoint {
    /// Takes an address as it is.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The whole address, password included: for the client that connects, for no message.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The same address with this password.
    #[must_use]
    pub fn with_password(&self, password: &str) -> Self {
        let (scheme, user, rest) = parts(&self.0);
        let user = user.map_or("", |user| user.split_once(':').map_or(user, |(name, _)| name));
        Self(format!("{scheme}://{user}:{}@{rest}", encoded(password)))
    }

    /// The same address with more parameters; the values are encoded.
    #[must_use]
    pub fn with_parameters(&self, parameters: &[(&str, &str)]) -> Self {
        let mut text = self.0.clone();
        for (name, value) in parameters {
            let sign = if text.contains('?') { '&' } else { '?' };
            text = format!("{text}{sign}{name}={}", encoded(value));
        }
        Self(text)
    }

    /// Does it carry a password?
    pub fn has_password(&self) -> bool {
        parts(&self.0).1.is_some_and(|user| user.contains(':'))
    }

    /// Does it name a user?
    pub fn has_user(&self) -> bool {
        parts(&self.0).1.is_some()
    }

    /// The servers named, as they stand there.
    pub fn hosts(&self) -> &str {
        let rest = parts(&self.0).2;
        rest.split(['/', '?', '#']).next().unwrap_or(rest)
    }

    /// The servers named and the path, without parameters.
    pub fn place(&self) -> &str {
        let rest = parts(&self.0).2;
        rest.split('?').next().unwrap_or(rest)
    }

    /// Host and port of the first server named; the port is the scheme's own when none is given.
    pub fn first_host(&self) -> (String, u16) {
        let (scheme, hosts) = (parts(&self.0).0, self.hosts());
        let first = hosts.split(',').next().unwrap_or(hosts);
        let own = match scheme {
            "amqp" => 5672,
            "amqps" => 5671,
            "mysql" => 3306,
            "redis" | "rediss" => 6379,
            "https" => 443,
            _ => 80,
        };
        // An IPv6 address stands in brackets, so that its colons are told from the port's.
        let (host, port) = match first.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().unwrap_or(own)),
            _ => (first, own),
        };
        (host.trim_matches(['[', ']']).to_owned(), port)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, user, rest) = parts(&self.0);
        match user.map(|user| user.split_once(':')) {
            None => write!(to, "{scheme}://{rest}"),
            Some(Some((name, _))) => write!(to, "{scheme}://{name}:***@{rest}"),
            Some(None) => write!(to, "{scheme}://{}@{rest}", user.unwrap_or_default()),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, to)
    }
}

/// Is it an address of one of these schemes, with a host and without blanks?
pub(super) fn is(text: &str, schemes: &[&str]) -> bool {
    let Some((scheme, _)) = text.split_once("://") else {
        return false;
    };
    let (_, _, rest) = parts(text);
    schemes.contains(&scheme)
        && !text.contains(|c: char| c.is_whitespace() || c.is_control())
        && !matches!(rest.chars().next(), None | Some('/' | '?' | '#' | ':' | ','))
}

/// Scheme, user part, and the rest from the host on. The last `@` before the path ends the user
/// part, so that a password with an `@` in it is masked whole.
fn parts(text: &str) -> (&str, Option<&str>, &str) {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    // A password may hold a `/` by mistake: what counts is the last `@`.
    match rest.rfind('@') {
        Some(at) => (scheme, Some(&rest[..at]), &rest[at + 1..]),
        None => (scheme, None, rest),
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

#[cfg(test)]
mod tests {
    use super::{Endpoint, is};

    #[test]
    fn a_password_is_never_shown() {
        for text in ["amqp://u:hush@h/v", "amqp://u:hush@me@h/v", "mysql://u:hu/sh@h/db", "https://:hush@h"] {
            let shown = format!("{} {:?}", Endpoint::new(text), Endpoint::new(text));
            assert!(!shown.contains("hush") && !shown.contains("hu/sh") && !shown.contains("me"), "{shown}");
            assert!(shown.contains("***"));
        }
        assert_eq!(Endpoint::new("amqp://u@h/v").to_string(), "amqp://u@h/v");
    }

    #[test]
    fn a_password_is_put_in_and_encoded() {
        let with = Endpoint::new("mysql://u:old@h:3307/db").with_password("a@b/c");
        assert_eq!(with.reveal(), "mysql://u:a%40b%2Fc@h:3307/db");
        assert_eq!(with.first_host(), ("h".to_owned(), 3307));
        assert_eq!(Endpoint::new("amqps://mq1,mq2/v").first_host(), ("mq1".to_owned(), 5671));
        assert_eq!(Endpoint::new("amqp://u@[::1]/v").first_host(), ("::1".to_owned(), 5672));
        assert_eq!(Endpoint::new("amqp://[::1]:99").first_host(), ("::1".to_owned(), 99));
    }

    #[test]
    fn an_address_has_its_scheme_and_a_host() {
        assert!(is("amqp://mq1,mq2/vhost", &["amqp"]));
        for text in ["amqp:/h", "http://h", "amqp://", "amqp:///v", "amqp://u@", "amqp://a b", "h"] {
            assert!(!is(text, &["amqp"]), "{text}");
        }
    }
}
