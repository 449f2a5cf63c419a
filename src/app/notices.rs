//! The receivers of notices that a configuration names: what they want, and a loop for each.

use spinor_consumers::{
    marks::StateCell,
    notices::Notices,
    results::{Results, Wanted},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::config::Config;

/// Beside the recorder, which waits for none of them.
pub fn start(config: &Config, results: &Results, state: &StateCell, tracker: &TaskTracker, stop: &CancellationToken) {
    let wanted = config.notify.iter().map(|(name, of)| Wanted {
        name: name.clone(),
        states: of.on.clone(),
        kinds: of.kinds.clone(),
        queues: of.queues.clone(),
        groups: of.groups.clone(),
        window: of.window,
    });
    results.want_notices(wanted.collect());
    for (name, of) in &config.notify {
        match Notices::new(name.clone(), &of.to, results.clone(), state.clone()) {
            Ok(notices) => _ = tracker.spawn(notices.run(stop.clone())),
            Err(why) => tracing::error!(notify = name, why, "Notices cannot be sent; they are kept."),
        }
    }
}
