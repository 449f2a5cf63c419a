//! Our objects on the broker, as they are shown to people: what is wanted beside what is in force.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What sort of an object it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ObjectKind {
    /// A queue of ours.
    Queue,
    /// A queue of somebody else's that we consume.
    ForeignQueue,
    /// An exchange of ours.
    Exchange,
    /// A way from an exchange to a queue.
    Binding,
}

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ObjectState {
    /// It is there as it is wanted.
    InForce,
    /// It is not there.
    Missing,
    /// It is there with other arguments.
    Differs,
    /// The broker does not tell.
    NotKnown,
}

/// One object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BrokerObject {
    /// What sort of an object it is.
    pub kind: ObjectKind,
    /// Its full name; of a binding both ends.
    pub name: String,
    /// The arguments it shall have.
    pub wanted: BTreeMap<String, String>,
    /// Those of them that the broker holds for equal; null: not known.
    pub in_force: Option<BTreeMap<String, String>>,
    /// How it is.
    pub state: ObjectState,
    /// What is wrong, in plain words.
    pub why: Option<String>,
    /// Messages that wait; null: not known.
    pub ready: Option<u64>,
    /// Consumers on it; null: not known.
    pub consumers: Option<u64>,
}
