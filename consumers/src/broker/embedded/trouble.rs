//! When the disk takes nothing: said once, tried again with a growing pause, said once when over.

use std::time::Duration;

use tokio::time::Instant;

use super::{store::StoreError, writer::Writer};
use crate::broker::{Link, PublishError};

/// While the disk takes nothing: from here...
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// ...doubling up to here.
const LAST_RETRY: Duration = Duration::from_secs(5);

/// The disk takes nothing.
pub(super) struct Trouble {
    since: Instant,
    pub(super) retry_at: Instant,
    pause: Duration,
    pub(super) why: PublishError,
}

impl Writer {
    /// Nothing waits for the disk: tries it with a little of our own.
    pub(super) async fn probe(&mut self) {
        match self.store.probe().await {
            Ok(()) => self.out_of_trouble(),
            Err(error) => self.in_trouble(&error),
        }
    }

    /// The disk takes nothing: said once, tried again with a growing pause.
    pub(super) fn in_trouble(&mut self, error: &StoreError) {
        let now = Instant::now();
        let pause = self.trouble.as_ref().map_or(FIRST_RETRY, |trouble| (trouble.pause * 2).min(LAST_RETRY));
        let since = self.trouble.as_ref().map_or(now, |trouble| trouble.since);
        if self.trouble.is_none() {
            tracing::error!(%error, "The broker cannot write; publishes are refused and settles wait.");
            self.link.send_replace(Link::Blocked { why: error.to_string() });
        }
        self.trouble = Some(Trouble { since, retry_at: now + pause, pause, why: error.into() });
    }

    pub(super) fn out_of_trouble(&mut self) {
        if let Some(trouble) = self.trouble.take() {
            let downtime = trouble.since.elapsed();
            tracing::warn!(?downtime, "The broker writes again.");
            self.link.send_replace(Link::Up);
        }
    }
}
