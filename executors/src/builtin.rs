//! Which kinds come with Spinor.

use std::{io, path::Path, sync::Arc};

use crate::{
    DuplicateKind, Registry,
    command::{self, Command},
    http::{self, Http},
    noop::Noop,
    plan::{PLAN_KIND, PlanExecutor},
    wait::{self, Wait},
};

/// The kinds that come with this version, in the order of their names.
pub const BUILTIN_KINDS: [&str; 5] = ["command", "http", "noop", PLAN_KIND, "wait"];

/// What args a kind that comes with this version takes, as the text of a JSON Schema: those that it checks
/// whenever it runs. None of `noop`, which takes any, and of a plan, which is compiled.
pub fn builtin_schema(kind: &str) -> Option<&'static str> {
    match kind {
        "command" => Some(command::SCHEMA),
        "http" => Some(http::SCHEMA),
        "wait" => Some(wait::SCHEMA),
        _ => None,
    }
}

/// Why the built-in kinds could not be registered: a start-up error.
#[derive(Debug, thiserror::Error)]
pub enum BuiltinError {
    /// A kind of the configuration has a built-in's name.
    #[error(transparent)]
    Duplicate(#[from] DuplicateKind),
    /// The HTTP client could not be built.
    #[error("the kind `http` cannot be served: {0}")]
    Http(String),
    /// The directory of the plans' journals cannot be used.
    #[error("the directory for the journals of plans cannot be used: {0}")]
    Journals(io::Error),
}

/// A node's name, and the directory for the journals of its plans.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    /// Its name.
    pub name: &'a str,
    /// Made if need be; no two nodes may share one.
    pub journals: &'a Path,
}

/// Registers `noop`, `command`, `http` and `wait`, and for a node `spinor.plan`.
pub fn builtin(registry: &mut Registry, node: Option<Node<'_>>) -> Result<(), BuiltinError> {
    registry.add("noop", Arc::new(Noop))?;
    registry.add("command", Arc::new(Command))?;
    registry.add("http", Arc::new(Http::new().map_err(BuiltinError::Http)?))?;
    registry.add("wait", Arc::new(Wait))?;
    if let Some(node) = node {
        let plans = PlanExecutor::new(node.name, node.journals).map_err(BuiltinError::Journals)?;
        registry.add(PLAN_KIND, Arc::new(plans))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{BUILTIN_KINDS, Node, builtin};
    use crate::Registry;

    #[test]
    fn a_node_serves_plans_and_others_do_not() {
        let mut registry = Registry::new();
        builtin(&mut registry, None).expect("nothing is registered yet");
        assert_eq!(registry.kinds(), ["command", "http", "noop", "wait"]);
        assert!(builtin(&mut registry, None).is_err_and(|error| error.to_string().contains("`noop`")));
        let journals = std::env::temp_dir().join(format!("spinor-builtin-{}", uuid::Uuid::now_v7()));
        let mut registry = Registry::new();
        builtin(&mut registry, Some(Node { name: "n1", journals: &journals })).expect("a directory can be made");
        assert!(journals.is_dir());
        assert_eq!(registry.kinds(), BUILTIN_KINDS);
        std::fs::remove_dir(&journals).expect("it is empty");
    }
}
