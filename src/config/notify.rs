//! Who wants to hear of what ended badly.
//!
//! Owns the form of `[notify.NAME]` and its rules. Refuses to show an address: the secret of a web-hook or the
//! password of a mail server is in it.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::Deserialize;
use spinor_consumers::notices::{Mail, Receiver};
use spinor_executors::{KindPattern, State};

use super::{Endpoint, endpoint, measure, raw::Rules, secrets::Secrets};

/// What is told when nothing else is said.
const ON: [State; 2] = [State::Failed, State::Dead];
const WINDOW: Duration = Duration::from_secs(900);

/// One receiver.
#[derive(Clone, PartialEq)]
pub struct NotifyConfig {
    /// Where its notices go.
    pub to: Receiver,
    /// How a job ended.
    pub on: Vec<State>,
    /// Of these kinds; of all when empty.
    pub kinds: Vec<KindPattern>,
    /// From these queues; from all when empty.
    pub queues: Vec<String>,
    /// Run by consumers of these groups; of all when empty.
    pub groups: Vec<String>,
    /// What is alike is told once in each such time.
    pub window: Duration,
}

impl fmt::Debug for NotifyConfig {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { to: _, on, kinds, queues, groups, window } = self;
        write!(to, "Notify(on {on:?}, kinds {kinds:?}, queues {queues:?}, groups {groups:?}, window {window:?})")
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawNotify {
    url: Option<String>,
    mail: Option<String>,
    smtp: Option<String>,
    from: Option<String>,
    on: Option<Vec<String>>,
    kinds: Vec<String>,
    queues: Vec<String>,
    groups: Vec<String>,
    #[serde(deserialize_with = "measure::read_optional")]
    window: Option<Duration>,
}

impl Rules<'_> {
    pub(super) fn notify(
        &mut self,
        raw: BTreeMap<String, RawNotify>,
        secrets: &Secrets,
    ) -> BTreeMap<String, NotifyConfig> {
        let mut all = BTreeMap::new();
        for (name, raw) in raw {
            let key = format!("notify.{name}");
            let to = self.receiver(&key, &raw, secrets);
            let on = raw.on.map_or_else(|| ON.to_vec(), |words| self.ends(&key, &words));
            let kinds = raw.kinds.into_iter().flat_map(KindPattern::new).collect();
            let window = raw.window.unwrap_or(WINDOW);
            all.insert(name, NotifyConfig { to, on, kinds, queues: raw.queues, groups: raw.groups, window });
        }
        all
    }

    /// A web-hook, or people by mail: one of the two.
    fn receiver(&mut self, key: &str, raw: &RawNotify, secrets: &Secrets) -> Receiver {
        let Some(to) = raw.mail.clone() else {
            let url = raw.url.clone().unwrap_or_default();
            if !endpoint::is(&url, &["http", "https"]) {
                self.add(&format!("{key}.url"), "expected the address of a web-hook, `https://` or `http://`");
            }
            for (name, set) in [("smtp", &raw.smtp), ("from", &raw.from)] {
                if set.is_some() {
                    self.add(&format!("{key}.{name}"), "goes with `mail`, the addresses of people");
                }
            }
            return Receiver::Hook(url);
        };
        if raw.url.is_some() {
            self.add(&format!("{key}.mail"), "`url` is set, too: a receiver is a web-hook or people, name two of them");
        }
        let server = Endpoint::new(raw.smtp.clone().unwrap_or_default());
        if !endpoint::is(server.reveal(), &["smtp", "smtps"]) || server.reveal().contains(['?', '#']) {
            let what = "expected the mail server, `smtps://user@host`, `smtp://user@host:587` or `smtp://host`";
            self.add(&format!("{key}.smtp"), what);
        }
        let password = secrets.notify_password.as_deref().filter(|_| server.has_user() && !server.has_password());
        let server = password.map_or(server.clone(), |password| server.with_password(password));
        if server.has_user() && !server.has_password() {
            self.add(&format!("{key}.smtp"), "names a user without a password: `notify_password` in the secrets file");
        }
        let mail = Mail { server: server.reveal().to_owned(), from: raw.from.clone().unwrap_or_default(), to };
        if let Some((name, why)) = mail.problem() {
            self.add(&format!("{key}.{name}"), format_args!("expected addresses such as `ops@example.org`: {why}"));
        }
        Receiver::Mail(mail)
    }

    /// States by their words.
    fn ends(&mut self, key: &str, words: &[String]) -> Vec<State> {
        const ALL: [State; 5] = [State::Failed, State::Dead, State::Discarded, State::Expired, State::Lost];
        let mut states = Vec::new();
        for word in words {
            match ALL.into_iter().find(|state| state.word() == word) {
                Some(state) => states.push(state),
                None => {
                    let known = ALL.map(State::word).join(", ");
                    self.add(&format!("{key}.on"), format_args!("`{word}` is no bad end; there are {known}"));
                }
            }
        }
        states
    }
}
