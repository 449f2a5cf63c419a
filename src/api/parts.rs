//! Which parts are alive that nobody talks to: recorders and triggers, told by who reads their queues.
//!
//! The broker is asked, since it knows at once that a process is gone, and what waits for one. Embedded all parts
//! are this process.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use spinor_consumers::broker::{Address, Broker as _, BrokerError};

use super::ApiState;

/// A part that is not talked to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PartRow {
    /// `recorder` or `trigger`.
    pub part: String,
    /// How many are alive.
    pub alive: u64,
    /// Messages that wait for one.
    pub waits: u64,
}

impl PartRow {
    /// What is wrong and what to do, when something waits and nobody is there.
    pub fn missing(&self) -> Option<String> {
        let Self { part, alive: 0, waits: waits @ 1.. } = self else { return None };
        let (without, what) = match part.as_str() {
            "trigger" => ("runs do not go on", if *waits == 1 { "message" } else { "messages" }),
            _ => ("nothing is recorded", if *waits == 1 { "pack of reports" } else { "packs of reports" }),
        };
        let verb = if *waits == 1 { "waits" } else { "wait" };
        Some(format!(
            "no {part} is alive: {without}, and {waits} {what} {verb}; start one with `spinor up --only {part}`"
        ))
    }
}

/// Both of them; none while the broker does not say.
pub(super) async fn rows(state: &ApiState) -> Vec<PartRow> {
    let row = async |part: &str, road: Address| -> Result<PartRow, BrokerError> {
        let here = u64::from(state.info.parts.iter().any(|own| own == part));
        let found = state.broker.road(&road).await?;
        let (alive, waits) = found.map_or((here, 0), |found| (found.consumers, found.ready));
        Ok(PartRow { part: part.to_owned(), alive, waits })
    };
    let both = async { Ok(vec![row("recorder", Address::Results).await?, row("trigger", Address::Next).await?]) };
    both.await.unwrap_or_else(|_: BrokerError| Vec::new())
}

#[cfg(test)]
mod tests {
    use super::PartRow;

    #[test]
    fn a_part_is_missed_only_while_something_waits_for_it() {
        let row = |part: &str, alive, waits| PartRow { part: part.to_owned(), alive, waits }.missing();
        assert_eq!([row("trigger", 1, 7), row("trigger", 0, 0)], [None, None]);
        assert_eq!(
            row("trigger", 0, 1).as_deref(),
            Some(
                "no trigger is alive: runs do not go on, and 1 message waits; start one with `spinor up --only trigger`"
            )
        );
        let recorder = row("recorder", 0, 2).unwrap();
        assert!(recorder.contains("nothing is recorded, and 2 packs of reports wait; start"), "{recorder}");
    }
}
