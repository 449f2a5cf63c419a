//! When the disk takes nothing, or the files are gone: said once, tried again with a growing pause, said once when over.

use std::time::Duration;

use tokio::time::Instant;

use super::{store::StoreError, writer::Writer};
use crate::broker::{Link, PublishError};

/// While the disk takes nothing: from here...
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// ...doubling up to here, also when it comes back within [`QUIET`].
const LAST_RETRY: Duration = Duration::from_secs(5);
/// What comes back sooner than this is the same trouble.
const QUIET: Duration = Duration::from_secs(60);

/// Between two looks whether the files are there; each write looks, too.
const LOOK: Duration = Duration::from_millis(900);

/// The disk takes nothing.
pub(super) struct Trouble {
    since: Instant,
    pub(super) retry_at: Instant,
    pause: Duration,
    pub(super) why: PublishError,
}

impl Writer {
    /// Nobody may want anything for long: whether the files are there is asked in any case.
    pub(super) fn look_for_files(&mut self) {
        if self.trouble.is_none() && self.looked.elapsed() >= LOOK {
            self.looked = Instant::now();
            if let Err(error) = self.store.is_there() {
                self.in_trouble(&error);
            }
        }
    }

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
        let recent = self.recovered.filter(|(ended, _)| ended.elapsed() < QUIET).map(|(_, pause)| pause);
        let last = self.trouble.as_ref().map(|trouble| trouble.pause).or(recent);
        let pause = last.map_or(FIRST_RETRY, |pause| (pause * 2).min(LAST_RETRY));
        let since = self.trouble.as_ref().map_or(now, |trouble| trouble.since);
        if self.trouble.is_none() {
            // A disk on the brink comes and goes: one line for all of it.
            if recent.is_none() {
                tracing::error!(%error, "The broker cannot write; publishes are refused and settles wait.");
            }
            self.link.send_replace(Link::Blocked { why: error.to_string() });
        }
        self.trouble = Some(Trouble { since, retry_at: now + pause, pause, why: error.into() });
    }

    /// The disk takes it again: said once.
    pub(super) fn out_of_trouble(&mut self) {
        if let Some(trouble) = self.trouble.take() {
            let downtime = trouble.since.elapsed();
            if self.recovered.is_none_or(|(ended, _)| ended.elapsed() >= QUIET) {
                tracing::warn!(?downtime, "The broker writes again.");
            }
            self.recovered = Some((Instant::now(), trouble.pause));
            self.link.send_replace(Link::Up);
        }
    }
}
