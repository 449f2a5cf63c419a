//! The two signals that end a process: the first drains, the second ends at once.

use spinor_consumers::consumer::Shutdown;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Interrupt and terminate; `None` where the system refuses them.
pub struct Signals(Option<Signal>, Option<Signal>);

impl Signals {
    /// From now on they are heard here, and end nothing by themselves.
    pub fn listen() -> Self {
        Self(signal(SignalKind::interrupt()).ok(), signal(SignalKind::terminate()).ok())
    }

    /// The next of either.
    pub async fn next(&mut self) {
        tokio::select! {
            () = one(&mut self.0) => {}
            () = one(&mut self.1) => {}
        }
    }

    /// Shuts down as they say.
    pub async fn obey(mut self, shutdown: Shutdown) {
        self.next().await;
        tracing::info!("Asked to stop: nothing new is taken, what runs gets its grace period.");
        shutdown.drain.cancel();
        self.next().await;
        tracing::warn!("Asked to stop again: ending now, what is in hand goes back.");
        shutdown.now.cancel();
    }
}

async fn one(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => _ = signal.recv().await,
        None => std::future::pending().await,
    }
}
