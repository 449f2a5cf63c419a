//! A loop of the product that runs beside a test until it is told to stop. Refuses to know which.

use std::time::Duration;

use spinor_consumers::broker::BrokerError;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The loop, and what may be seen of it; ended by [`Running::end`].
pub struct Running<View> {
    pub view: View,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
}

impl<View> Running<View> {
    /// Starts it.
    pub fn start<Loop>(view: View, run: impl FnOnce(CancellationToken) -> Loop) -> Self
    where
        Loop: Future<Output = Result<(), BrokerError>> + Send + 'static,
    {
        let (shutdown, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let running = run(shutdown.clone());
        tasks.spawn(async move { running.await.expect("the loop ends because it was told to") });
        Self { view, shutdown, tasks }
    }

    /// Tells it to stop and awaits its end.
    pub async fn end(mut self) {
        self.shutdown.cancel();
        let bound = Duration::from_secs(60);
        let ended = tokio::time::timeout(bound, self.tasks.join_next()).await.expect("the loop ends when told to");
        ended.expect("it was started").expect("it does not panic");
    }
}
