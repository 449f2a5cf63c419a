//! Who wants to hear of what ended badly.
//!
//! Owns the form of `[notify.NAME]` and its rules. Refuses to show an address: the secret of a web-hook is in it.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::Deserialize;
use spinor_executors::{KindPattern, State};

use super::{endpoint, measure, raw::Rules};

/// What is told when nothing else is said.
const ON: [State; 2] = [State::Failed, State::Dead];
const WINDOW: Duration = Duration::from_secs(900);

/// One receiver.
#[derive(Clone, PartialEq)]
pub struct NotifyConfig {
    /// The address of a web-hook.
    pub url: String,
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
        let Self { url: _, on, kinds, queues, groups, window } = self;
        write!(to, "Notify(on {on:?}, kinds {kinds:?}, queues {queues:?}, groups {groups:?}, window {window:?})")
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawNotify {
    url: Option<String>,
    on: Option<Vec<String>>,
    kinds: Vec<String>,
    queues: Vec<String>,
    groups: Vec<String>,
    #[serde(deserialize_with = "measure::read_optional")]
    window: Option<Duration>,
}

impl Rules<'_> {
    pub(super) fn notify(&mut self, raw: BTreeMap<String, RawNotify>) -> BTreeMap<String, NotifyConfig> {
        let mut all = BTreeMap::new();
        for (name, raw) in raw {
            let key = format!("notify.{name}");
            let url = raw.url.unwrap_or_default();
            if !endpoint::is(&url, &["http", "https"]) {
                self.add(&format!("{key}.url"), "expected the address of a web-hook, `https://` or `http://`");
            }
            let on = raw.on.map_or_else(|| ON.to_vec(), |words| self.ends(&key, &words));
            let kinds = raw.kinds.into_iter().flat_map(KindPattern::new).collect();
            let window = raw.window.unwrap_or(WINDOW);
            all.insert(name, NotifyConfig { url, on, kinds, queues: raw.queues, groups: raw.groups, window });
        }
        all
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
