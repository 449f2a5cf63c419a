//! The loop of who may lead: a look, what is to be done after it, a pause.
//!
//! Owns what is said when the database does not answer, once, and when it does again.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::Said;
use crate::results::ResultsError;

/// No longer between two looks: another process may have changed something.
pub const PAUSE: Duration = Duration::from_secs(1);

/// What is looked after.
pub trait Look {
    /// What it is, for people.
    const WHAT: &str;

    /// One look, and what is to be done after it; tells how long to wait. `epoch` is that of the last look in which
    /// this process led.
    async fn turn(&mut self, epoch: &mut Option<i64>) -> Result<Duration, ResultsError>;

    /// Returns when a pause need not be waited for.
    async fn woken(&self) {
        std::future::pending::<()>().await;
    }
}

/// Looks until `stop`; waits for a database that does not answer. Tells the epoch in which this process leads.
pub async fn look<L: Look>(it: &mut L, stop: &CancellationToken) -> Option<i64> {
    let (mut epoch, away, what) = (None, Said::default(), L::WHAT);
    loop {
        let pause = match it.turn(&mut epoch).await {
            Ok(pause) => {
                if away.is_over() {
                    tracing::info!("{what} go on: the database that holds them answers again.");
                }
                pause
            }
            Err(error) => {
                epoch = None;
                if away.begins() {
                    tracing::warn!(%error, "{what} wait: the database that holds them does not answer.");
                }
                PAUSE
            }
        };
        let waited = async {
            tokio::select! {
                () = sleep(pause) => {}
                () = it.woken(), if pause > Duration::ZERO => {}
            }
        };
        if stop.run_until_cancelled(waited).await.is_none() {
            return epoch;
        }
    }
}
