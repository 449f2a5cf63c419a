//! The kind `command`: runs a program or a shell script.
//!
//! Owns the form of its arguments. What the process wrote and how it ended is in the report, so
//! the value of a success is `null`.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;

use crate::{
    BoxFuture, Context, Executor, Failure, Job, Json, Outcome,
    process::{Spawn, run},
};

/// What args it takes, as a JSON Schema.
pub const SCHEMA: &str = r#"{
  "type": "object",
  "description": "Say either argv or shell.",
  "properties": {
    "argv": {"type": "array", "items": {"type": "string"}, "description": "Program and arguments; the program is looked up in PATH."},
    "shell": {"type": ["string", "null"], "description": "Text for /bin/sh -c, instead."},
    "env": {"type": "object", "additionalProperties": {"type": "string"}, "description": "Added to the environment."},
    "cwd": {"type": ["string", "null"], "description": "Where it starts. Defaults to the consumer's directory."},
    "stdin": {"type": "string", "description": "Its standard input. Defaults to nothing."}
  },
  "additionalProperties": false,
  "anyOf": [{"required": ["argv"], "properties": {"argv": {"minItems": 1}}}, {"required": ["shell"]}]
}"#;

/// Runs `{"argv": ["prog", "arg"]}` or `{"shell": "script"}`.
pub struct Command;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object such as {\"argv\": [\"echo\", \"hello\"]}")]
struct Args {
    /// Program and arguments; the program is looked up in `PATH`.
    #[serde(default)]
    argv: Vec<String>,
    /// Text for `/bin/sh -c`, instead.
    shell: Option<String>,
    /// Added to the environment.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Where it starts. Defaults to the consumer's directory.
    cwd: Option<PathBuf>,
    /// Its standard input. Defaults to nothing.
    #[serde(default)]
    stdin: String,
}

impl Args {
    fn spawn(self) -> Result<Spawn, String> {
        let Self { argv, shell, env, cwd, stdin } = self;
        let mut words = argv.into_iter();
        let spawn = match (shell, words.next()) {
            (Some(script), None) => Spawn::shell(script),
            (None, Some(program)) if !program.is_empty() => {
                Spawn { program, args: words.collect(), ..Spawn::default() }
            }
            (None, Some(_)) => return Err("the first word of `argv`, the program, is empty".to_owned()),
            (Some(_), Some(_)) => return Err("say either `argv` or `shell`, not both".to_owned()),
            (None, None) => return Err("say what to run: `argv` (a list of words) or `shell` (a text)".to_owned()),
        };
        if let Some(name) = env.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
            return Err(format!("`env` has the name `{name}`, which no variable can have"));
        }
        Ok(Spawn { env, cwd, stdin: stdin.into(), ..spawn })
    }
}

impl Executor for Command {
    fn run<'a>(&'a self, job: &'a Job, context: &'a Context) -> BoxFuture<'a, Outcome> {
        Box::pin(async {
            let spawn = job.args.read::<Args>().map_err(|error| error.to_string()).and_then(Args::spawn);
            let spawn = match spawn {
                Ok(spawn) => spawn,
                Err(error) => return Outcome::Failed(Failure::args(error)),
            };
            let ended = match run(spawn, context).await {
                Ok(ended) => ended,
                Err(error) => return Outcome::Failed(error.failure()),
            };
            let failure = ended.failure();
            context.keep(|kept| {
                kept.exit = ended.exit;
                kept.stdout = ended.stdout;
                kept.stderr = ended.stderr;
            });
            failure.map_or(Outcome::Succeeded(Json::null()), Outcome::Failed)
        })
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::Command;
    use crate::{Cause, Context, Executor, Failure, Job, Json, Kept, Outcome};

    async fn command(args: &'static str) -> (Outcome, Kept) {
        let job = Job::new("command", "default", Json::new(args).expect("JSON"));
        let context = Context::new(Uuid::now_v7(), None);
        let outcome = Command.run(&job, &context).await;
        let kept = context.take_kept();
        (outcome, kept)
    }

    async fn failure(args: &'static str) -> Failure {
        match command(args).await.0 {
            Outcome::Failed(failure) => failure,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn words_are_passed_untouched_and_a_script_goes_to_the_shell() {
        let (outcome, kept) = command(r#"{"argv": ["printf", "%s|", "a b", "$HOME", ""]}"#).await;
        assert_eq!((outcome, kept.stdout.head.as_str()), (Outcome::Succeeded(Json::null()), "a b|$HOME||"));
        let args = r#"{"shell": "pwd; echo $X; cat", "env": {"X": "y z"}, "cwd": "/usr", "stdin": "in"}"#;
        let (_, kept) = command(args).await;
        assert_eq!(kept.stdout.head, "/usr\ny z\nin");
        assert_eq!(kept.exit.and_then(|exit| exit.code), Some(0));
    }

    #[tokio::test]
    async fn a_status_that_is_not_zero_fails_with_the_last_thing_it_said() {
        let failure = failure(r#"{"shell": "echo first >&2; echo last >&2; exit 4"}"#).await;
        assert_eq!(failure, Failure { cause: Cause::Exit, message: "exit code 4: last".to_owned() });
    }

    #[tokio::test]
    async fn arguments_that_do_not_fit_are_refused_with_the_field_named() {
        for (args, word) in [
            (r#"{"argv": ["true"], "shel": "x"}"#, "`shel`"),
            (r#"{"argv": ["true"], "shell": "true"}"#, "`argv` or `shell`"),
            ("{}", "`argv`"),
            (r#"{"argv": [""]}"#, "`argv`"),
            (r#"{"argv": "true"}"#, "`argv`: invalid type"),
            (r#"{"argv": ["true", 1]}"#, "`argv[1]`: invalid type"),
            (r#"{"shell": 1}"#, "`shell`: invalid type"),
            (r#"{"shell": "true", "env": {"A": 1}}"#, "`env.A`: invalid type"),
            (r#"{"shell": "true", "env": {"A=B": "c"}}"#, "`A=B`"),
            (r#"{"argv": ["/no/such/program"]}"#, "`/no/such/program`"),
        ] {
            let failure = failure(args).await;
            assert!(failure.cause == Cause::Args && failure.message.contains(word), "{args}: {}", failure.message);
        }
    }
}
