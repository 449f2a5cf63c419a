//! One process of the installation: started again after each strike, under its own name.

use std::{fs::OpenOptions, io::Write as _, path::PathBuf, time::Duration};

use crate::support::process::{Process, Spinor};

/// A process that is told to end, or killed, is gone within this.
const GONE: Duration = Duration::from_secs(60);
/// Where the logs of all parts are, one file each.
pub const LOGS: &str = "logs";

/// A process that has to be there, dead or alive.
pub struct Part {
    pub name: String,
    arguments: Vec<String>,
    log: PathBuf,
    process: Option<Process>,
    pid: u32,
}

impl Part {
    /// Starts it.
    pub fn start(name: &str, spinor: &Spinor, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|word| (*word).to_owned()).collect();
        let log = spinor.join(LOGS).join(format!("{name}.log"));
        let mut part = Self { name: name.to_owned(), arguments, log, process: None, pid: 0 };
        part.again(spinor);
        part
    }

    /// Starts it again.
    pub fn again(&mut self, spinor: &Spinor) {
        self.keep_log();
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        let process = spinor.start(&arguments);
        self.pid = process.id();
        self.process = Some(process);
    }

    /// The pid of its last process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Awaits its word.
    pub async fn says(&self, word: &str, within: Duration) {
        self.living().says(word, within).await;
    }

    fn living(&self) -> &Process {
        self.process.as_ref().expect("it was started")
    }

    /// What it wrote last, when it ended without being told to.
    pub fn ended_by_itself(&mut self) -> Option<String> {
        let process = self.process.as_mut()?;
        process.has_ended().then(|| {
            let log = process.stderr();
            let lines: Vec<&str> = log.lines().rev().take(5).collect();
            lines.into_iter().rev().collect::<Vec<_>>().join("\n")
        })
    }

    /// SIGKILL, and its end.
    pub async fn kill(&mut self) {
        let process = self.process.as_mut().expect("it was started");
        process.kill9();
        process.wait(GONE).await;
        self.keep_log();
    }

    /// SIGTERM, and its end: what its exit code was.
    pub async fn stop(&mut self) -> Option<i32> {
        let process = self.process.as_mut()?;
        process.terminate();
        let code = process.wait(GONE).await.code();
        self.keep_log();
        code
    }

    /// Lets the process that has ended go; what it said stays in the part's log.
    fn keep_log(&mut self) {
        let Some(process) = self.process.take() else { return };
        let mut log = OpenOptions::new().create(true).append(true).open(&self.log).expect("a log");
        write!(log, "--- process {}\n{}", self.pid, process.stderr()).expect("written");
    }

    /// SIGSTOP.
    pub fn freeze(&self) {
        self.living().freeze();
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.living().thaw();
    }
}
