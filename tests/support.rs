//! Fixtures of the integration tests: servers, processes, a proxy that breaks, scratch directories.
//!
//! Owns how a test gets at the real thing and how everything it started ends with it, whatever the
//! test does. Refuses to hide waiting: the only wait is [`eventually`], bounded and named.
#![allow(dead_code, reason = "a fixture is whole before the last test that needs all of it")]

pub mod authority;
pub mod bucket;
pub mod front;
pub mod process;
pub mod proxy;
pub mod roads;
pub mod running;
pub mod scratch;
pub mod servers;
pub mod site;
pub mod small_disk;
pub mod soak;
pub mod witness;

mod fixtures;

use std::time::Duration;

use tokio::time::Instant;

/// Awaits the condition: looks until it holds, and fails with `what` when it does not `within` the bound.
pub async fn eventually(what: &str, within: Duration, mut look: impl AsyncFnMut() -> bool) {
    eventually_some(what, within, async || look().await.then_some(())).await;
}

/// Awaits a value: looks until there is one, and fails with `what` when none came `within` the bound.
pub async fn eventually_some<T>(what: &str, within: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + within;
    loop {
        // A look that hangs must not outlive the bound either.
        let seen = tokio::time::timeout_at(end, look()).await;
        match seen {
            Ok(Some(value)) => return value,
            Ok(None) if Instant::now() < end => tokio::time::sleep(Duration::from_millis(20)).await,
            _ => panic!("waited {within:?} in vain for: {what}"),
        }
    }
}
