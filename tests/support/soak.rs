//! The long form of a test: what `make soak` asks for, real outages instead of short ones.
//!
//! Owns the variable that asks for it. Refuses to change what a test says: the long form is the same
//! test with a larger number in it.

use std::time::Duration;

/// Whether the long forms are asked for.
pub fn is() -> bool {
    std::env::var_os("SPINOR_TEST_SOAK").is_some()
}

/// The first in the ordinary run, the second in the long one.
pub fn or<T>(short: T, long: T) -> T {
    if is() { long } else { short }
}

/// Does something about once a second, so many times; the first time is now. Once = no wait at all.
pub async fn each_second(times: u32, mut what: impl AsyncFnMut()) {
    let mut beat = tokio::time::interval(Duration::from_secs(1));
    for _ in 0..times {
        beat.tick().await;
        what().await;
    }
}
