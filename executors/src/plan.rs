//! A plan: the ordered steps one node executes, carried as the args of one job of kind
//! [`PLAN_KIND`].
//!
//! Owns the plan's form; `plan/` executes it against the node's journal.

mod execute;
mod journal;
mod sequence;

use std::{collections::BTreeMap, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::execute::PlanExecutor;

/// The kind of a job whose args are a [`Plan`].
pub const PLAN_KIND: &str = "spinor.plan";

/// What one node does for one part of an orchestration file, in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The node it is for.
    pub node: String,
    /// Sequences that belong to it. Sync ones run one after the other, in order; async ones side
    /// by side. A failed step ends its own sequence only.
    pub sequences: Vec<Sequence>,
}

/// One orchestration of the file, as one node sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sequence {
    /// Its place in the file, from 0.
    pub part: u32,
    /// Its name, empty when it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Beside the others instead of after them.
    #[serde(default, rename = "async", skip_serializing_if = "std::ops::Not::not")]
    pub beside: bool,
    /// The steps, in order. A step that fails ends the sequence: those after it are skipped.
    pub steps: Vec<Step>,
}

/// One step. Fields it does not know are refused by its [`Action`], to which they are left.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// The place of its job in the orchestration, from 0; the same on every node, so that a
    /// step's rows on all nodes can be put side by side.
    pub item: u32,
    /// Its name; empty when the file gives none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What to do.
    #[serde(flatten)]
    pub action: Action,
    /// Ended the hard way after this long. Milliseconds.
    pub timeout_ms: u64,
    /// Tries in all, at least 1.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub tries: u32,
    /// What to do when a crash cut it in the middle.
    #[serde(default, skip_serializing_if = "OnInterrupt::is_default")]
    pub on_interrupt: OnInterrupt,
}

impl Step {
    /// Its time limit.
    pub const fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "verb", deny_unknown_fields)]
pub enum Action {
    /// `/bin/sh -c SCRIPT`, the text byte for byte.
    #[serde(rename = "RUN")]
    Run {
        /// The shell's text.
        script: String,
        /// Added to the environment.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        env: BTreeMap<String, String>,
        /// Detach: report success at once.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        no_block: bool,
    },
}

impl Action {
    /// The verb's word.
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::Run { .. } => "RUN",
        }
    }
}

/// What to do with a step that has a start in the journal and no report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnInterrupt {
    /// Run it again.
    Run,
    /// It is *interrupted*: its sequence fails there.
    #[default]
    Fail,
}

impl OnInterrupt {
    const fn is_default(&self) -> bool {
        matches!(self, Self::Fail)
    }
}

const fn one() -> u32 {
    1
}

const fn is_one(tries: &u32) -> bool {
    *tries == 1
}

#[cfg(test)]
mod tests;
