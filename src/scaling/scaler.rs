//! A configured command that scales a group elsewhere: systemd, Kubernetes, whatever it calls.
//!
//! Owns when it is run: by the holder of the lease, at each change of the mark and when it takes
//! over; again after a while when it failed. Refuses to know what it does.

use std::{process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use spinor_consumers::{consumer::Agreed, state::Subject};
use tokio::{
    process::Command,
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{GroupState, LEASE, LOOK, ScalerState};

/// One run takes no longer.
const BOUND: Duration = Duration::from_secs(60);
/// The wait after a failure; it doubles up to [`LONGEST`].
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// Of what it says, so much is told.
const SAID: usize = 2000;

/// Runs the command of a group.
pub struct Scaler {
    group: String,
    command: Vec<String>,
    agreed: Agreed,
    id: Uuid,
    shown: watch::Sender<GroupState>,
    state: GroupState,
    /// The version of the mark that was carried out.
    done: Option<u64>,
    /// The one that was tried last.
    tried: Option<u64>,
    failures: u32,
    again: Instant,
}

impl Scaler {
    /// `{group}` and `{replicas}` in the command are replaced.
    pub fn new(group: String, command: Vec<String>, agreed: Agreed, shown: watch::Sender<GroupState>) -> Self {
        let state = GroupState { group: group.clone(), scaler: Some(ScalerState::default()), ..GroupState::default() };
        let again = Instant::now();
        Self { group, command, agreed, id: Uuid::now_v7(), shown, state, done: None, tried: None, failures: 0, again }
    }

    /// Until told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut changes = self.agreed.marks.changes();
        loop {
            self.step(&stop).await;
            self.shown.send_replace(self.state.clone());
            let due = Instant::now() + LOOK;
            let due = if self.failures > 0 { due.min(self.again.max(Instant::now())) } else { due };
            tokio::select! {
                () = stop.cancelled() => break,
                changed = changes.changed() => if changed.is_err() { break },
                () = sleep_until(due) => {}
            }
        }
        if let (true, Some(state)) = (self.state.leads, self.agreed.state.get()) {
            let _ = state.give_up(&self.lease(), self.id).await;
        }
    }

    fn lease(&self) -> String {
        format!("scale:{}", self.group)
    }

    async fn step(&mut self, stop: &CancellationToken) {
        let subject = Subject::Replicas(self.group.clone());
        let mark = self.agreed.marks.get(&subject);
        let (Some(mark), Some(wanted)) = (mark, self.agreed.marks.number(&[subject])) else {
            self.state.wanted = None;
            return;
        };
        self.state.wanted = Some(wanted);
        (self.state.by, self.state.at, self.state.why) = (Some(mark.by), Some(mark.at), mark.why);
        if !self.leads().await {
            // Whoever leads next carries it out once: it may have been lost with the one before.
            self.done = None;
            return;
        }
        let waits = self.tried == Some(mark.version) && self.again > Instant::now();
        if self.done == Some(mark.version) || waits {
            return;
        }
        self.tried = Some(mark.version);
        let ended = tokio::select! {
            ended = self.carry_out(wanted) => ended,
            () = self.keep_leading() => return,
            () = stop.cancelled() => return,
        };
        let shown = self.state.scaler.get_or_insert_default();
        match ended {
            Ok(said) => {
                tracing::info!(group = self.group, replicas = wanted, said, "The scaler has done it.");
                *shown = ScalerState { done: Some(wanted), problem: None };
                (self.done, self.failures) = (Some(mark.version), 0);
            }
            Err(why) => {
                let wait = FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
                let again_in_s = wait.as_secs();
                tracing::warn!(
                    group = self.group,
                    replicas = wanted,
                    why,
                    again_in_s,
                    "The scaler failed and is run again; consumers stay as they are."
                );
                shown.problem = Some(why);
                self.failures += 1;
                self.again = Instant::now() + wait;
            }
        }
    }

    async fn leads(&mut self) -> bool {
        let leads = match self.agreed.state.get() {
            Some(state) => state.lease(&self.lease(), self.id, LEASE).await.map_err(|error| error.to_string()),
            None => Err("it has not answered since the start".to_owned()),
        };
        self.state.leads = leads.as_ref().is_ok_and(Option::is_some);
        self.state.problem = leads.err().map(|why| format!("state cannot be read, so the scaler is not run: {why}"));
        self.state.leads
    }

    /// While the command runs.
    async fn keep_leading(&self) {
        loop {
            sleep(LOOK).await;
            if let Some(state) = self.agreed.state.get() {
                let _ = state.lease(&self.lease(), self.id, LEASE).await;
            }
        }
    }

    /// Runs the command to its end; what it said, or why it failed.
    async fn carry_out(&self, replicas: u32) -> Result<String, String> {
        let fill = |text: &String| text.replace("{group}", &self.group).replace("{replicas}", &replicas.to_string());
        let mut words = self.command.iter().map(fill);
        let program = words.next().ok_or("`scaler.command` is empty")?;
        let mut command = Command::new(&program);
        command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.process_group(0).kill_on_drop(true).spawn();
        let child = child.map_err(|error| format!("{program} cannot be started: {error}"))?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let Ok(output) = timeout(BOUND, child.wait_with_output()).await else {
            // With all that it started.
            let _ = group.map(|group| kill_process_group(group, Signal::KILL));
            return Err(format!("{program} did not end within {} s and was killed", BOUND.as_secs()));
        };
        let output = output.map_err(|error| format!("{program} cannot be awaited: {error}"))?;
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
        let said: String = said.join("\n").trim().chars().take(SAID).collect();
        if output.status.success() { Ok(said) } else { Err(format!("{program}: {}: {said}", output.status)) }
    }
}
