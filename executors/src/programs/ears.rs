//! Where a program's output goes: to the job that runs, or to this process's log.
//!
//! Owns the bounds of both. A flood is cut and counted.

use bytes::Bytes;
use tokio::time::{Duration, Instant};

use super::child::Ear;
use crate::{
    Context, Output, Stream,
    process::{Capture, STREAMS, readable},
};

/// So many lines of log in each such time.
const LINES: u32 = 100;
const WINDOW: Duration = Duration::from_secs(1);
/// A line of the log is cut to so many bytes.
const LINE: usize = 1024;
/// What is remembered of the last it wrote, for who wants to know why it ended.
const TAIL: usize = 2048;

/// The output of a job.
pub struct JobEar<'a> {
    context: &'a Context,
    captures: [Capture; 2],
}

impl<'a> JobEar<'a> {
    /// Nothing was written yet.
    pub fn new(context: &'a Context) -> Self {
        Self { context, captures: [Capture::new(context.keep_output), Capture::new(context.keep_output)] }
    }

    /// What is kept of both streams.
    pub fn finish(self) -> [Output; 2] {
        self.captures.map(Capture::finish)
    }
}

impl Ear for JobEar<'_> {
    fn hear(&mut self, stream: Stream, bytes: &[u8]) {
        self.captures[usize::from(stream == STREAMS[1])].push(bytes);
        self.context.output(stream, Bytes::copy_from_slice(bytes));
    }
}

/// The output of a program that runs no job.
pub struct LogEar {
    program: String,
    pid: u32,
    partial: [Vec<u8>; 2],
    tail: Vec<u8>,
    since: Instant,
    lines: u32,
    dropped: u64,
}

impl LogEar {
    /// Of this program.
    pub fn new(program: String, pid: u32) -> Self {
        Self {
            program,
            pid,
            partial: Default::default(),
            tail: Vec::new(),
            since: Instant::now(),
            lines: 0,
            dropped: 0,
        }
    }

    /// The last it wrote, for people; empty when it wrote nothing.
    pub fn tail(&self) -> String {
        readable(&self.tail).trim().to_owned()
    }

    fn line(&mut self, line: &[u8]) {
        if self.since.elapsed() > WINDOW {
            if self.dropped > 0 {
                tracing::warn!(program = self.program, pid = self.pid, lines = self.dropped, "Output was dropped.");
            }
            (self.since, self.lines, self.dropped) = (Instant::now(), 0, 0);
        }
        if self.lines >= LINES {
            self.dropped += 1;
            return;
        }
        self.lines += 1;
        let text = readable(&line[..line.len().min(LINE)]);
        tracing::info!(program = self.program, pid = self.pid, text, "A program wrote between jobs.");
    }
}

impl Ear for LogEar {
    fn hear(&mut self, stream: Stream, bytes: &[u8]) {
        self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL)..]);
        let surplus = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..surplus);
        let at = usize::from(stream == STREAMS[1]);
        let mut rest = std::mem::take(&mut self.partial[at]);
        rest.extend_from_slice(bytes);
        let mut lines = rest.split(|byte| *byte == b'\n');
        let last = lines.next_back().unwrap_or_default();
        lines.filter(|line| !line.is_empty()).for_each(|line| self.line(line));
        if last.len() >= LINE {
            self.line(last);
        } else {
            self.partial[at] = last.to_vec();
        }
    }
}
