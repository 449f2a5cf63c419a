//! Runs submitted over the API: driven in the background by the process that took them.
//!
//! Owns the task of each run. Refuses to keep anything: what is known of a run is on record.

use spinor_consumers::{blobs::LARGEST, broker::Broker};
use spinor_executors::{BoxFuture, Json};
use tokio::sync::oneshot;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    compile::Ready,
    drive::Driver,
    view::{RunRequest, RunView, Runner as _, Update},
};
use crate::api::{DriveRuns, RunOrder};

/// Takes runs and drives each in a task of its own.
pub struct Served<B, V> {
    driver: Driver<B, V>,
    tasks: TaskTracker,
}

impl<B: Broker, V: RunView> Served<B, V> {
    /// With this driver; the tasks end when their runs do, or by `leave`.
    pub const fn new(driver: Driver<B, V>, tasks: TaskTracker) -> Self {
        Self { driver, tasks }
    }
}

impl<B: Broker, V: RunView + Clone + 'static> DriveRuns for Served<B, V> {
    fn answering(&self) -> BoxFuture<'_, Result<Vec<String>, String>> {
        Box::pin(async { self.driver.answering().await.map_err(|error| error.to_string()) })
    }

    fn start(&self, order: RunOrder, leave: CancellationToken) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let request = request(order)?;
            let driver = self.driver.clone();
            let (told, published) = oneshot::channel();
            self.tasks.spawn(async move {
                let run = request.id;
                let mut told = Some(told);
                let mut watch = |update: Update| {
                    if matches!(update, Update::Published)
                        && let Some(told) = told.take()
                    {
                        // The request may be gone: the run goes on without it.
                        let _ = told.send(Ok(()));
                    }
                };
                if let Err(error) = driver.run(request, &mut watch, &leave).await {
                    match told {
                        Some(told) => _ = told.send(Err(error.to_string())),
                        None => tracing::error!(%run, %error, "a run has no end on record"),
                    }
                }
            });
            published.await.map_err(|_| "the run ended before its plans were sent".to_owned())?
        })
    }
}

/// Plans that came ready, measured again: they came from outside.
fn request(order: RunOrder) -> Result<RunRequest, String> {
    let mut plans = Vec::with_capacity(order.plans.len());
    for plan in order.plans {
        let args = Json::of(&plan).map_err(|error| error.to_string())?;
        if args.bytes().len() > LARGEST {
            return Err(format!("the plan of node `{}` is larger than {LARGEST} bytes", plan.node));
        }
        let steps = plan.sequences.iter().map(|sequence| sequence.steps.len()).sum::<usize>();
        plans.push(Ready { plan, args, steps: u32::try_from(steps).unwrap_or(u32::MAX) });
    }
    Ok(RunRequest { id: order.id, name: order.name, plans, expires: order.expires, timeout: order.timeout })
}
