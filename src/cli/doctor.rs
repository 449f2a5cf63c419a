//! `spinor doctor`: is everything here that is needed?
//!
//! Owns the list of checks; each is one line with what to do. Refuses to change anything.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use clap::Args;
use serde::Serialize;
use spinor_consumers::outbox::Waiting;

use super::{
    Failure,
    ask::Global,
    failure::{DONE, FAILED},
    output::Output,
    report,
    table::Table,
};
use crate::{
    app::{check, outbox},
    client::{Client, ClientError},
    config::{BlobsChoice, BrokerChoice, Config, Endpoint, ResultsChoice, SearchChoice, StateChoice},
};

/// Flags of `doctor`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  spinor doctor\n  spinor doctor --config /etc/spinor/config.toml --json\n  spinor doctor --report spinor.txt"
)]
pub struct Doctor {
    /// Write what one attaches to an issue to this file: versions, checks, configuration and status, no secrets
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

#[derive(Debug, Serialize)]
struct Check {
    what: &'static str,
    verdict: Verdict,
    detail: String,
}

#[derive(Debug, Default)]
struct Checks(Vec<Check>);

impl Checks {
    fn add(&mut self, what: &'static str, verdict: Verdict, detail: impl Into<String>) {
        self.0.push(Check { what, verdict, detail: detail.into() });
    }
}

impl Doctor {
    pub(super) async fn run(self, global: &Global, output: Output) -> Result<u8, Failure> {
        let mut checks = Checks::default();
        let mut ask = global.ask();
        ask.consumes = true;
        let loaded = ask.load();
        match &loaded {
            Err(problems) => checks.add("configuration", Verdict::Fail, problems.to_string()),
            Ok(loaded) => {
                let from = loaded.file.as_ref();
                let from = from.map_or_else(|| "no file, the defaults count".to_owned(), |f| f.display().to_string());
                checks.add("configuration", Verdict::Ok, from);
                check_all(&mut checks, global, &loaded.config).await?;
            }
        }
        if let Some(path) = &self.report {
            let client = loaded.as_ref().ok().map(|loaded| global.client_of(&loaded.config)).transpose()?;
            let known = loaded.as_ref().ok().zip(client.as_ref());
            report::write(path, &report::text(&text(&checks.0), known).await)?;
        }
        let failed = checks.0.iter().any(|check| check.verdict == Verdict::Fail);
        output.value(&checks.0, |checks| text(checks))?;
        Ok(if failed { FAILED } else { DONE })
    }
}

fn text(checks: &[Check]) -> String {
    let mut table = Table::new(&["CHECK", "", "DETAIL"]);
    for Check { what, verdict, detail } in checks {
        let verdict = match verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
        };
        table.row(vec![(*what).to_owned(), verdict.to_owned(), detail.clone()]);
    }
    table.text("nothing to check")
}

async fn check_all(checks: &mut Checks, global: &Global, config: &Config) -> Result<(), Failure> {
    data(checks, &config.data);
    let client = global.client_of(config)?;
    running(checks, &client).await;
    match &config.broker {
        BrokerChoice::Embedded => checks.add("broker", Verdict::Ok, "embedded"),
        BrokerChoice::RabbitMq(endpoint) => {
            passwords(checks, "broker", endpoint);
            login(checks, "broker", endpoint, check::broker(config, endpoint).await);
        }
    }
    match &config.results {
        ResultsChoice::Sqlite => checks.add("results", Verdict::Ok, "sqlite, in the data directory"),
        ResultsChoice::MySql(endpoint) => {
            passwords(checks, "results", endpoint);
            login(checks, "results", endpoint, check::results(config, endpoint).await);
        }
    }
    match &config.blobs {
        BlobsChoice::Results => {}
        BlobsChoice::Directory(path) => checks.add("blobs", Verdict::Ok, path.display().to_string()),
        BlobsChoice::S3 { address, .. } => match check::blobs(config, address).await {
            Ok(detail) => checks.add("blobs", Verdict::Ok, detail),
            Err(why) => checks.add("blobs", Verdict::Fail, format!("{address}: {why}")),
        },
    }
    match &config.state {
        StateChoice::Results => checks.add("state", Verdict::Ok, "beside the results"),
        StateChoice::Redis(endpoint) => {
            passwords(checks, "state", endpoint);
            login(checks, "state", endpoint, check::state(config, endpoint).await);
        }
    }
    match &config.search {
        SearchChoice::Off => checks.add("search", Verdict::Ok, "off"),
        SearchChoice::Http { endpoint, .. } => {
            login(checks, "search", endpoint, check::search(config, endpoint).await);
        }
    }
    for settings in outbox::settings(config) {
        rows(checks, &settings.place, check::outbox(&settings).await);
    }
    limits(checks, config);
    Ok(())
}

fn data(checks: &mut Checks, path: &Path) {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let shown = whole.display();
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            checks.add("data", Verdict::Ok, format!("{shown} is not there yet; `spinor up` makes it"));
        }
        Err(error) => checks.add("data", Verdict::Fail, format!("{shown}: {error}")),
        Ok(meta) if !meta.is_dir() => {
            checks.add("data", Verdict::Fail, format!("{shown} is no directory; name another one as `data`"));
        }
        Ok(meta) => {
            let writable = rustix::fs::access(path, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK);
            if let Err(error) = writable {
                checks.add("data", Verdict::Fail, format!("{shown} cannot be written: {error}"));
            } else if meta.permissions().mode() & 0o077 != 0 {
                checks.add("data", Verdict::Warn, format!("others may look into {shown}: chmod 700 {shown}"));
            } else {
                checks.add("data", Verdict::Ok, shown.to_string());
            }
            space(checks, path);
        }
    }
}

fn space(checks: &mut Checks, path: &Path) {
    let Ok(disk) = rustix::fs::statvfs(path) else {
        return;
    };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let detail = format!("{} MiB free", free >> 20);
    let verdict = match free >> 20 {
        0..200 => Verdict::Fail,
        200..2048 => Verdict::Warn,
        _ => Verdict::Ok,
    };
    checks.add("disk", verdict, detail);
}

async fn running(checks: &mut Checks, client: &Client) {
    match client.status().await {
        Ok(status) => {
            let (pid, link) = (status.info.pid, &status.link);
            checks.add("running", Verdict::Ok, format!("process {pid} answers at {}", client.place()));
            if link.state != "up" {
                let why = link.why.clone().unwrap_or_default();
                checks.add(
                    "link",
                    Verdict::Fail,
                    format!(
                        "its link to the broker is {}: {why}; it tries again by itself, and jobs wait until then",
                        link.state
                    ),
                );
            }
            if let Some(why) = status.results_problem {
                checks.add(
                    "record",
                    Verdict::Fail,
                    format!("its results database: {why}; jobs run on, and their reports wait"),
                );
            }
            if let Some(why) = status.state_problem {
                checks.add("state", Verdict::Fail, format!("its state: {why}"));
            }
            for part in &status.parts_alive {
                let what = if part.part == "trigger" { "trigger" } else { "recorder" };
                match part.missing() {
                    Some(why) => checks.add(what, Verdict::Warn, why),
                    None => checks.add(what, Verdict::Ok, format!("{} alive", part.alive)),
                }
            }
            for line in &status.troubles {
                checks.add("kind", Verdict::Warn, line);
            }
            for line in super::queues::nobody_on(&status.queues) {
                checks.add("queue", Verdict::Warn, line.trim_end());
            }
        }
        Err(error @ ClientError::Unreachable { .. }) => checks.add("running", Verdict::Warn, error.to_string()),
        Err(error) => checks.add("running", Verdict::Fail, error.to_string()),
    }
}

/// A user without a password is most often a forgotten one.
fn passwords(checks: &mut Checks, what: &'static str, endpoint: &Endpoint) {
    if endpoint.has_user() && !endpoint.has_password() {
        let detail = format!("{endpoint} has a user and no password; set `{what}_password` in the secrets file");
        checks.add(what, Verdict::Warn, detail);
    }
}

/// Can it be used with what the configuration says?
fn login(checks: &mut Checks, what: &'static str, endpoint: &Endpoint, found: Result<String, String>) {
    match found {
        Ok(detail) => checks.add(what, Verdict::Ok, detail),
        // Where the address is told already, it is not told twice.
        Err(why) if why.contains("://") => checks.add(what, Verdict::Fail, why),
        Err(why) => checks.add(what, Verdict::Fail, format!("{endpoint}: {why}")),
    }
}

/// What waits in an outbox, and what waits there for a person.
fn rows(checks: &mut Checks, place: &str, found: Result<Waiting, String>) {
    match found {
        Ok(Waiting { refused, first: Some((id, why)), .. }) => {
            let detail = format!(
                "{place}: {refused} rows are set aside, the first is {id}: {why}; mend each and set its `refused` to NULL, or delete it"
            );
            checks.add("outbox", Verdict::Warn, detail);
        }
        Ok(Waiting { waiting, .. }) => checks.add("outbox", Verdict::Ok, format!("{place}: {waiting} rows wait")),
        Err(why) => checks.add("outbox", Verdict::Fail, why),
    }
}

fn limits(checks: &mut Checks, config: &Config) {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let needed = 256 + 8 * u64::try_from(config.consumer.slots).unwrap_or(u64::MAX);
    let detail = files.map_or_else(|| "no limit on open files".to_owned(), |files| format!("{files} open files"));
    if files.is_none_or(|files| files >= needed) {
        checks.add("limits", Verdict::Ok, detail);
    } else {
        let slots = config.consumer.slots;
        checks.add("limits", Verdict::Warn, format!("{detail}, and {slots} slots want {needed}: ulimit -n {needed}"));
    }
}
