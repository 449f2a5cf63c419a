//! What the programs of this consumer say of their kinds, told to everybody as durable facts: the
//! catalogue of kinds.
//!
//! Said once for each new hello, and again now and then, so that it is seen when a kind was served
//! last. Each schema of a kind has a mark of its own, so that versions that are alive side by side do
//! not hide each other; a beat names those of its consumer.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use spinor_executors::{Json, Offer, Registry};
use tokio::time::{Duration, Instant};
use uuid::Uuid;

use crate::{
    broker::{AnyBroker, Broker, Event},
    state::{State, Subject},
};

/// Said again after this long.
const AGAIN: Duration = Duration::from_secs(3600);
/// A schema that is longer is not told.
const SCHEMA: usize = 64 * 1024;
/// A text for people is cut to so many characters.
const TEXT: usize = 1000;

/// What is known of a kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Served {
    /// The program that serves it: name and version.
    pub program: String,
    /// The JSON Schema of its args.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

impl Served {
    fn of(offer: &Offer) -> Self {
        let cut = |text: &str| text.chars().take(TEXT).collect::<String>();
        if offer.schema.is_some() && told(offer).is_none() {
            tracing::warn!(kind = offer.kind, most = SCHEMA, "A schema is too long to be told.");
        }
        Self {
            program: cut(&offer.program),
            schema: told(offer).and_then(|schema| schema.read().ok()),
            description: offer.description.as_deref().map(cut),
        }
    }
}

/// The schema, if it is told.
fn told(offer: &Offer) -> Option<&Json> {
    offer.schema.as_ref().filter(|schema| schema.bytes().len() <= SCHEMA)
}

/// Stands for the schema that this offer tells, the same for the same bytes; nil when it tells none.
pub fn form_of(offer: &Offer) -> Uuid {
    told(offer).map_or(Uuid::nil(), |schema| Uuid::new_v5(&Uuid::NAMESPACE_OID, schema.bytes()))
}

/// What was said, and when.
#[derive(Default)]
pub struct Catalogue(HashMap<String, (Offer, Instant)>);

impl Catalogue {
    /// Says what is new. What cannot be said now is said the next time.
    pub async fn tell(&mut self, registry: &Registry, state: &State, broker: &AnyBroker, by: &str) {
        let mut last = None;
        for offer in registry.offers().into_iter().filter(|offer| offer.trouble.is_none()) {
            let told = self.0.get(&offer.kind);
            if told.is_some_and(|(before, at)| *before == offer && at.elapsed() < AGAIN) {
                continue;
            }
            let subject = Subject::Served { kind: offer.kind.clone(), form: form_of(&offer) };
            let value = serde_json::to_value(Served::of(&offer)).unwrap_or_default();
            match state.set_mark(&subject, value, by, None).await {
                Ok(version) => {
                    last = Some(version);
                    self.0.insert(offer.kind.clone(), (offer, Instant::now()));
                }
                Err(error) => tracing::debug!(%error, kind = offer.kind, "The catalogue of kinds was not told now."),
            }
        }
        if let Some(version) = last {
            broker.cast(Event::Marked { version });
        }
    }
}
