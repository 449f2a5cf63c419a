//! Jobs written in Rust: args arrive as a type of one's own, and the value leaves as one.
//!
//! Owns the way between JSON and those types. Args that do not fit are the job's failure, with the field
//! named, and are not tried again.

use std::future::Future;

use serde::{Serialize, de::DeserializeOwned};

use crate::{BoxFuture, Context, Executor, Failure, Job, Json, Outcome};

/// Runs jobs of one kind whose args and value are types of one's own.
///
/// `?` on any error ends the job as failed, and its retry policy decides what follows;
/// [`Outcome::Retry`] and [`Outcome::Discard`] as errors say it themselves.
pub trait TypedExecutor: Send + Sync + 'static {
    /// What the args are read as.
    type Args: DeserializeOwned + Send;
    /// What the job's value is written from.
    type Value: Serialize;

    /// Runs one job once. It should end soon after [`Context::cancelled`] resolves.
    fn run(&self, args: Self::Args, context: &Context) -> impl Future<Output = Result<Self::Value, Outcome>> + Send;
}

/// A [`TypedExecutor`] as an [`Executor`].
pub struct Typed<T>(pub T);

impl<T: TypedExecutor> Executor for Typed<T> {
    fn run<'a>(&'a self, job: &'a Job, context: &'a Context) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let args = match job.args.read::<T::Args>() {
                Ok(args) => args,
                Err(error) => return Outcome::Failed(Failure::args(error.to_string())),
            };
            match self.0.run(args, context).await {
                Ok(value) => Json::of(&value).map_or_else(
                    |error| Outcome::failed(format!("its value cannot be written as JSON: {error}")),
                    Outcome::Succeeded,
                ),
                Err(outcome) => outcome,
            }
        })
    }
}

/// The message with those of its causes.
impl<E: std::error::Error> From<E> for Outcome {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(of) = cause {
            message = format!("{message}: {of}");
            cause = of.source();
        }
        Self::failed(message)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::{Typed, TypedExecutor};
    use crate::{Cause, Context, Executor, Job, Json, Outcome};

    struct Half;

    impl TypedExecutor for Half {
        type Args = Vec<String>;
        type Value = i64;

        async fn run(&self, args: Vec<String>, _: &Context) -> Result<i64, Outcome> {
            let first = args.first().ok_or_else(|| Outcome::Discard { reason: "nothing to do".to_owned() })?;
            Ok(first.parse::<i64>()? / 2)
        }
    }

    #[tokio::test]
    async fn args_and_value_are_typed_and_each_ending_is_said_in_its_way() {
        let run = async |args: &'static str| {
            let job = Job::new("half", "default", Json::new(args).expect("JSON"));
            Typed(Half).run(&job, &Context::new(Uuid::now_v7(), None)).await
        };
        assert_eq!(run(r#"["84"]"#).await, Outcome::Succeeded(Json::new("42").expect("JSON")));
        assert_eq!(run("[]").await, Outcome::Discard { reason: "nothing to do".to_owned() });
        assert!(
            matches!(run(r#"["x"]"#).await, Outcome::Failed(failure) if failure.cause == Cause::Error && failure.message.contains("digit"))
        );
        assert!(
            matches!(run(r#"[7]"#).await, Outcome::Failed(failure) if failure.cause == Cause::Args && failure.message.contains("[0]"))
        );
    }
}
