//! The kind `wait`: `{"ms": 250}` or `{"seconds": 1.5}`.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::sleep;

use crate::{BoxFuture, Cancelled, Context, Executor, Failure, Job, Json, Outcome};

/// What args it takes, as a JSON Schema.
pub const SCHEMA: &str = r#"{
  "type": "object",
  "description": "Say either ms or seconds.",
  "properties": {
    "ms": {"type": ["integer", "null"], "minimum": 0},
    "seconds": {"type": ["number", "null"], "minimum": 0}
  },
  "additionalProperties": false,
  "anyOf": [{"required": ["seconds"]}, {"required": ["ms"]}]
}"#;

/// Waits as long as it is told, or until it is cancelled.
pub struct Wait;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object such as {\"seconds\": 2}")]
struct Args {
    ms: Option<u64>,
    seconds: Option<f64>,
}

impl Args {
    fn time(&self) -> Result<Duration, String> {
        match (self.ms, self.seconds) {
            (Some(ms), None) => Ok(Duration::from_millis(ms)),
            (None, Some(seconds)) => {
                Duration::try_from_secs_f64(seconds).map_err(|error| format!("`seconds` is {seconds}: {error}"))
            }
            _ => Err("say either `ms` or `seconds`".to_owned()),
        }
    }
}

impl Executor for Wait {
    fn run<'a>(&'a self, job: &'a Job, context: &'a Context) -> BoxFuture<'a, Outcome> {
        Box::pin(async {
            let time = job.args.read::<Args>().map_err(|error| error.to_string()).and_then(|args| args.time());
            let time = match time {
                Ok(time) => time,
                Err(error) => return Outcome::Failed(Failure::args(error)),
            };
            tokio::select! {
                () = sleep(time) => Outcome::Succeeded(Json::null()),
                () = context.cancelled() => {
                    Outcome::Failed(context.why_cancelled().unwrap_or(Cancelled::Drain).failure())
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;
    use uuid::Uuid;

    use super::Wait;
    use crate::{Cancelled, Cause, Context, Executor, Job, Json, Outcome};

    async fn wait(args: &'static str, cancelled: bool) -> Outcome {
        let job = Job::new("wait", "default", Json::new(args).expect("JSON"));
        let context = Context::new(Uuid::now_v7(), None);
        if cancelled {
            context.canceller().cancel(Cancelled::Person("anna".to_owned()));
        }
        Wait.run(&job, &context).await
    }

    #[tokio::test(start_paused = true)]
    async fn it_waits_as_long_as_it_is_told() {
        let start = Instant::now();
        assert_eq!(wait(r#"{"ms": 250}"#, false).await, Outcome::Succeeded(Json::null()));
        assert_eq!(wait(r#"{"seconds": 3600.5}"#, false).await, Outcome::Succeeded(Json::null()));
        assert_eq!(start.elapsed(), Duration::from_millis(250 + 3_600_500));
    }

    #[tokio::test]
    async fn it_ends_when_cancelled_and_refuses_what_it_does_not_understand() {
        let cause = |outcome| match outcome {
            Outcome::Failed(failure) => failure.cause,
            other => panic!("{other:?}"),
        };
        assert_eq!(cause(wait(r#"{"seconds": 3600}"#, true).await), Cause::Cancelled);
        for args in [r#"{"ms": 1, "seconds": 1}"#, "{}", r#"{"minutes": 1}"#, r#"{"seconds": -1}"#] {
            assert_eq!(cause(wait(args, false).await), Cause::Args, "{args}");
        }
    }

    #[tokio::test]
    async fn arguments_of_a_wrong_type_are_refused_with_the_field_named() {
        for (args, message) in [
            (r#"{"ms": "x"}"#, "`ms`: invalid type: string \"x\", expected u64"),
            (r#"{"seconds": [1]}"#, "`seconds`: invalid type: sequence, expected f64"),
            (r#"{"minutes": 1}"#, "unknown field `minutes`, expected `ms` or `seconds`"),
            ("7", "`args`: invalid type: integer `7`, expected an object such as {\"seconds\": 2}"),
        ] {
            let Outcome::Failed(failure) = wait(args, false).await else { panic!("{args} is taken") };
            let place = failure.message.strip_prefix(message).unwrap_or_else(|| panic!("{args}: {}", failure.message));
            assert!(failure.cause == Cause::Args && place.starts_with(" at line 1 column "), "{args}: {place}");
        }
    }
}
