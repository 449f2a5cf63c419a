//! Sends a notice as a letter, over SMTP.
//!
//! Owns its text and how a server is reached: with a user TLS is demanded, without one it is used where it is
//! offered, and not asked for on this machine. Refuses to say anything of the address but what failed.

use std::time::Duration;

use lettre::{
    AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor,
    message::{
        Mailbox, Mailboxes,
        header::{ContentType, HeaderName, HeaderValue},
    },
};

use crate::results::Notice;

/// A server that takes letters, and whose they are.
#[derive(Clone, PartialEq)]
pub struct Mail {
    /// `smtp://` or `smtps://`, with user and password where the server wants them.
    pub server: String,
    /// Who writes.
    pub from: String,
    /// To whom; several are parted by commas.
    pub to: String,
}

/// Who sends letters.
pub(super) struct Postman {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Mailboxes,
}

impl Mail {
    /// What is wrong with the addresses of people: the key and why.
    pub fn problem(&self) -> Option<(&'static str, String)> {
        let from = self.from.parse::<Mailbox>().err().map(|error| ("from", error.to_string()));
        from.or_else(|| self.to.parse::<Mailboxes>().err().map(|error| ("mail", error.to_string())))
    }

    /// The server with how much TLS it must speak, in the form of the client.
    fn address(&self) -> String {
        let server = self.server.trim_end_matches('/');
        let rest = server.split_once("://").map_or(server, |(_, rest)| rest);
        let (user, host) = rest.rsplit_once('@').map_or((None, rest), |(user, host)| (Some(user), host));
        let here = ["localhost", "127.", "[::1]"].iter().any(|here| host.starts_with(here));
        match user {
            _ if server.starts_with("smtps://") => server.to_owned(),
            Some(_) => format!("{server}?tls=required"),
            None if here => server.to_owned(),
            // The port of servers among themselves, when none is named.
            None if host.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']')) => {
                format!("{server}?tls=opportunistic")
            }
            None => format!("{server}:25?tls=opportunistic"),
        }
    }
}

impl Postman {
    pub(super) fn new(mail: &Mail, patience: Duration) -> Result<Self, String> {
        let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(&mail.address())
            .map_err(|_| "this is no address of a mail server".to_owned())?;
        Ok(Self {
            transport: transport.timeout(Some(patience)).build(),
            from: mail.from.parse().map_err(|error| format!("`from`: {error}"))?,
            to: mail.to.parse().map_err(|error| format!("`mail`: {error}"))?,
        })
    }

    pub(super) async fn send(&self, notice: &Notice, key: &str) -> Result<(), String> {
        let letter = self.letter(notice, key)?;
        self.transport.send(letter).await.map(drop).map_err(|error| error.to_string())
    }

    fn letter(&self, notice: &Notice, key: &str) -> Result<Message, String> {
        let mut builder = Message::builder().from(self.from.clone());
        for to in self.to.iter() {
            builder = builder.to(to.clone());
        }
        let Notice { name, state, fingerprint, since, kind, queue, job, at, error, times, tries: _ } = notice;
        let subject = format!("[spinor {name}] {kind} {}: {error}", state.word());
        let subject: String = subject.chars().map(|c| if c.is_control() { ' ' } else { c }).take(120).collect();
        let many = if *times == 1 { "one job".to_owned() } else { format!("{times} jobs so far") };
        let text = format!(
            "{error}\n\nstate: {}, {many} since {since}\nkind: {kind}\nqueue: {queue}\nfirst: job {job}, {at}\n\
             failures like this: {fingerprint}\n\nspinor jobs show {job}\n",
            state.word()
        );
        builder
            .subject(subject)
            // The same when it is sent again.
            .message_id(Some(format!("<{key}@{}>", self.from.email.domain())))
            // Nobody's absence answers it.
            .raw_header(HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned()))
            .header(ContentType::TEXT_PLAIN)
            .body(text)
            .map_err(|error| format!("no letter could be made: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::Mail;

    #[test]
    fn a_password_never_goes_without_tls_and_this_machine_needs_none() {
        let address =
            |server: &str| Mail { server: server.to_owned(), from: String::new(), to: String::new() }.address();
        assert_eq!(address("smtp://u:p%40@127.0.0.1:25"), "smtp://u:p%40@127.0.0.1:25?tls=required");
        assert_eq!(address("smtp://127.0.0.1:2525/"), "smtp://127.0.0.1:2525");
        assert_eq!(address("smtp://mail"), "smtp://mail:25?tls=opportunistic");
        assert_eq!(address("smtp://mail:26"), "smtp://mail:26?tls=opportunistic");
        assert_eq!(address("smtps://u:p@mail"), "smtps://u:p@mail");
    }
}
