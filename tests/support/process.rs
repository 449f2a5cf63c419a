//! Processes under test: the real `spinor` binary with a configuration of its own, and any other program.
//!
//! Owns start, captured output, signals and the end. Refuses to inherit: a process sees no variable
//! of the machine but `PATH`, and a home inside its scratch directory.

use std::{
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
    task::JoinSet,
};

use super::{eventually, scratch::Scratch};

/// One Spinor installation: a directory with `spinor.toml`, in which the binary is run.
pub struct Spinor {
    scratch: Scratch,
    environment: Vec<(String, String)>,
}

impl Spinor {
    /// An installation with this configuration (TOML).
    pub fn new(config: &str) -> Self {
        let scratch = Scratch::new("spinor");
        scratch.write("spinor.toml", config);
        std::fs::create_dir(scratch.join("home")).expect("a home can be made");
        Self { scratch, environment: Vec::new() }
    }

    /// The directory that processes run in.
    pub fn path(&self) -> &Path {
        self.scratch.path()
    }

    /// A path inside that directory.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.scratch.join(name)
    }

    /// Adds a variable to the environment of the processes started from now on.
    pub fn set(&mut self, variable: &str, value: &str) -> &mut Self {
        self.environment.push((variable.into(), value.into()));
        self
    }

    /// Starts `spinor` with these arguments.
    pub fn start(&self, arguments: &[&str]) -> Process {
        self.start_program(env!("CARGO_BIN_EXE_spinor"), arguments)
    }

    /// Runs `spinor` with these arguments to its end.
    pub async fn run(&self, arguments: &[&str]) -> Finished {
        self.start(arguments).finish(Duration::from_secs(60)).await
    }

    /// Starts another program in the same directory and environment.
    pub fn start_program(&self, program: &str, arguments: &[&str]) -> Process {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.path()).env_clear();
        command.env("HOME", self.join("home")).env("SPINOR_CONFIG", self.join("spinor.toml"));
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        Process::start(command, format!("{program} {}", arguments.join(" ")))
    }
}

/// A running process whose output is captured; dropped = killed.
pub struct Process {
    name: String,
    child: Child,
    stdout: Arc<Mutex<Vec<u8>>>,
    stderr: Arc<Mutex<Vec<u8>>>,
    readers: JoinSet<()>,
}

/// What a process left behind.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// All it wrote to its standard output.
    pub stdout: String,
    /// All it wrote to its standard error.
    pub stderr: String,
}

impl Process {
    fn start(mut command: Command, name: String) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        let mut readers = JoinSet::new();
        let stdout = capture(&mut readers, child.stdout.take().expect("stdout is piped"));
        let stderr = capture(&mut readers, child.stderr.take().expect("stderr is piped"));
        Self { name, child, stdout, stderr, readers }
    }

    /// The process id; fails once the process was awaited.
    pub fn id(&self) -> u32 {
        self.child.id().unwrap_or_else(|| panic!("{} has ended already", self.name))
    }

    /// What it wrote to standard output so far.
    pub fn stdout(&self) -> String {
        text(&self.stdout)
    }

    /// What it wrote to standard error so far.
    pub fn stderr(&self) -> String {
        text(&self.stderr)
    }

    /// Awaits a text in what it writes, on either stream.
    pub async fn says(&self, part: &str, within: Duration) {
        let what = format!("{} to say {part:?}", self.name);
        eventually(&what, within, async || self.stdout().contains(part) || self.stderr().contains(part)).await;
    }

    /// Asks it to end: SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends it without a word: SIGKILL to this one process.
    pub fn kill9(&self) {
        self.signal(Signal::KILL);
    }

    /// Stops it where it is.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.id()).ok().and_then(Pid::from_raw).expect("a process id is a positive number");
        kill_process(id, signal).unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child can be looked at").is_some()
    }

    /// Awaits its end.
    pub async fn wait(&mut self, within: Duration) -> ExitStatus {
        let ended = tokio::time::timeout(within, self.child.wait()).await;
        let ended = ended.unwrap_or_else(|_| {
            panic!("waited {within:?} in vain for the end of {}\n{}{}", self.name, self.stdout(), self.stderr())
        });
        ended.expect("a child can be awaited")
    }

    /// Awaits its end and returns all it wrote.
    pub async fn finish(mut self, within: Duration) -> Finished {
        let status = self.wait(within).await;
        // A child that it left behind may hold the pipes open; what was written until now counts.
        let _ =
            tokio::time::timeout(Duration::from_secs(1), async { while self.readers.join_next().await.is_some() {} })
                .await;
        Finished { status, stdout: self.stdout(), stderr: self.stderr() }
    }
}

impl Finished {
    /// The exit code; a signal is a failure of the test.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("ended by a signal: {self:?}"))
    }

    /// Fails with all the output unless the code is 0.
    #[track_caller]
    pub fn expect_success(self) -> Self {
        assert!(self.status.success(), "{}\n--- stdout\n{}--- stderr\n{}", self.status, self.stdout, self.stderr);
        self
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {}, stdout\n{}--- stderr\n{}", self.name, self.stdout(), self.stderr());
        }
    }
}

fn capture(readers: &mut JoinSet<()>, mut from: impl AsyncRead + Unpin + Send + 'static) -> Arc<Mutex<Vec<u8>>> {
    let output = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&output);
    readers.spawn(async move {
        let mut piece = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut piece).await {
            into.lock().expect("no reader panics").extend_from_slice(&piece[..length]);
        }
    });
    output
}

fn text(output: &Mutex<Vec<u8>>) -> String {
    String::from_utf8_lossy(&output.lock().expect("no reader panics")).into_owned()
}
