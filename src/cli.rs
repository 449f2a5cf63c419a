//! The command line: what people type, and what they see.
//!
//! One file a verb under `cli/`. Owns flags, tables, exit codes and the wording of errors: what
//! happened, where, what to do next. Everything is asked of a running Spinor through the client,
//! but for what starts one. Refuses to show a secret.

mod ask;
mod audit;
mod bench;
mod broker;
mod cancel;
mod completions;
mod configure;
mod consumers;
mod data;
mod dead;
mod delayed;
mod doctor;
mod failure;
mod failures;
mod figures;
mod jobs;
mod kinds;
mod locks;
mod many;
mod notify;
mod openapi;
mod output;
mod pages;
mod publish;
mod publish_run;
mod queues;
mod report;
mod run;
mod runs;
mod status;
mod steer;
mod table;
mod tokens;
mod triggers;
mod up;
mod users;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use failure::Failure;

use ask::Global;
use output::Output;

/// Pushes jobs to where they run, and records what came of them.
#[derive(Debug, Parser)]
#[command(name = "spinor", version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  spinor up                                     start everything on this machine
  spinor run --local 6 docs/examples/fleet.yaml run an orchestration on six nodes in this process
  spinor publish command --wait -- uname -a     run a command as a job
  spinor jobs ls --state failed                 what went wrong
  spinor config init > spinor.toml              a file with every setting

Exit codes: 0 done; 1 failed, or nothing has this id; 2 usage, or nothing has this name; 3 unreachable.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Start Spinor in this process
    Up(up::Up),
    /// Run orchestration files on nodes
    Run(run::Run),
    /// Publish a job
    Publish(publish::Publish),
    /// What runs, and how it is
    Status(status::StatusCommand),
    /// Check configuration, data directory, servers and limits
    Doctor(doctor::Doctor),
    /// Measure speed on this machine
    Bench(bench::Bench),
    /// Look at jobs, and cancel them
    #[command(subcommand)]
    Jobs(jobs::Jobs),
    /// What failed, in groups, and starting it anew
    #[command(subcommand)]
    Failures(failures::Failures),
    /// What could not be handled: look, mend, start anew, remove
    #[command(subcommand)]
    Dead(dead::Dead),
    /// Look at queues, pause and resume them
    #[command(subcommand)]
    Queues(queues::Queues),
    /// Look at what is on the broker, beside what is wanted there
    #[command(subcommand)]
    Broker(broker::Broker),
    /// Look at runs, and cancel them
    #[command(subcommand)]
    Runs(runs::Runs),
    /// What fires when: look, add, change, pause, fire
    #[command(subcommand)]
    Triggers(triggers::Triggers),
    /// Look at consumers; drain and scale them
    #[command(subcommand)]
    Consumers(consumers::Consumers),
    /// What can be run, by whom, with which args
    #[command(subcommand)]
    Kinds(kinds::Kinds),
    /// How jobs ended, how long they waited and ran, by kind
    Figures(figures::Ask),
    /// Look at limits and unique keys, and change them
    #[command(subcommand)]
    Locks(locks::Locks),
    /// Who may log in, and what each may do
    #[command(subcommand)]
    Users(users::Users),
    /// What programs show in the place of a password
    #[command(subcommand)]
    Tokens(tokens::Tokens),
    /// What was done, by whom, from where
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Try who is told of what ended badly
    #[command(subcommand)]
    Notify(notify::Notify),
    /// Remove what is past its time, back up, restore
    #[command(subcommand)]
    Data(data::Data),
    /// Write, check or show the configuration
    #[command(subcommand)]
    Config(configure::Configure),
    /// Print the OpenAPI document of the API
    #[command(name = "openapi")]
    OpenApi(openapi::OpenApi),
    /// Print what a shell needs to complete verbs and flags
    Completions(completions::Completions),
    /// Write a manual page for each verb
    Man(completions::Man),
    /// Ends what a dead consumer left; started by a consumer, not by people
    #[command(hide = true, after_help = "Examples:\n  (started by `spinor up`; it listens on its standard input)")]
    Guardian,
}

/// Runs what the arguments say, to its exit code.
pub fn main(arguments: impl IntoIterator<Item = std::ffi::OsString>, runtime: &dyn Runtime) -> ExitCode {
    let arguments: Vec<_> = arguments.into_iter().collect();
    let json = arguments.iter().take_while(|word| *word != "--").any(|word| word == "--json");
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output with 0, everything else is usage: 2.
            let _ = error.print();
            if !error.use_stderr() {
                return ExitCode::from(failure::DONE);
            }
            if json {
                Output::new(json).document(&Failure::usage(error.to_string()));
            }
            return ExitCode::from(failure::USAGE);
        }
    };
    let output = Output::new(cli.global.json);
    match run(cli, output, runtime) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => ExitCode::from(output.failure(&failure)),
    }
}

/// Builds the async runtime once a verb needs it: `main.rs` owns how.
pub trait Runtime {
    /// Runs a future to its end.
    fn run(&self, work: std::pin::Pin<Box<dyn Future<Output = Result<u8, Failure>> + '_>>) -> Result<u8, Failure>;
}

fn run(cli: Cli, output: Output, runtime: &dyn Runtime) -> Result<u8, Failure> {
    let Cli { global, command } = cli;
    match command {
        Command::Config(command) => command.run(&global, output),
        Command::OpenApi(command) => command.run(output),
        Command::Completions(command) => command.run(output),
        Command::Man(command) => command.run(output),
        Command::Guardian => guardian(),
        Command::Up(command) => runtime.run(Box::pin(command.run(&global, output))),
        Command::Run(command) => runtime.run(Box::pin(command.run(&global, output))),
        Command::Publish(command) => runtime.run(Box::pin(command.run(&global, output))),
        Command::Status(command) => runtime.run(Box::pin(command.run(&global, output))),
        Command::Doctor(command) => runtime.run(Box::pin(command.run(&global, output))),
        Command::Bench(command) => runtime.run(Box::pin(command.run(&global, output))),
        Command::Jobs(command) => runtime.run(Box::pin(command.run(&global, output))),
        Command::Failures(command) => runtime.run(Box::pin(command.run(&global, output))),
        Command::Dead(command) => runtime.run(Box::pin(command.run(&global, output))),
        Command::Queues(command) => runtime.run(Box::pin(command.run(&global, output))),
        Command::Data(command) => runtime.run(Box::pin(command.run(&global, output))),
        Command::Runs(command) => runtime.run(Box::pin(command.run(&global, output))),
        Command::Triggers(command) => runtime.run(Box::pin(command.run(&global, output))),
        Command::Consumers(command) => runtime.run(Box::pin(command.run(&global, output))),
        Command::Kinds(command) => runtime.run(Box::pin(command.run(&global, output))),
        Command::Figures(command) => runtime.run(Box::pin(command.run(&global, output))),
        Command::Users(command) => runtime.run(Box::pin(command.run(&global, output))),
        Command::Tokens(command) => runtime.run(Box::pin(command.run(&global, output))),
        Command::Audit(command) => runtime.run(Box::pin(command.run(&global, output))),
        Command::Notify(command) => runtime.run(Box::pin(command.run(&global, output))),
        Command::Broker(command) => runtime.run(Box::pin(command.run(&global, output))),
        Command::Locks(command) => runtime.run(Box::pin(command.run(&global, output))),
    }
}

fn guardian() -> Result<u8, Failure> {
    let lines = std::io::stdin().lock();
    spinor_executors::guardian::guard(lines).map_err(|error| Failure::failed(format!("the guardian: {error}")))?;
    Ok(failure::DONE)
}
