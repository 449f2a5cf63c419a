//! Actions on their way into the database: a line each in `audit.log` of the data directory.
//!
//! Owns the file. A line is written before the answer is given, without a flush to disk: it survives this process, and is
//! lost only when the machine loses power in that moment. What is in the database goes from the file; what a process that
//! died left there is sent by the next one. A file that cannot be written is told in the log, with the line.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use spinor_consumers::results::{AuditRow, Results};
use tokio::{
    sync::{Notify, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::nobody::Nobody;

/// So many rows to a transaction.
const BATCH: usize = 200;
/// So many lines are read at a time, however long the file is.
const LINES: usize = 2000;
/// No line is longer.
const LONGEST: u64 = 64 * 1024;
/// A database that takes nothing is tried again after this.
const AGAIN: Duration = Duration::from_secs(2);
/// Who reads the list waits no longer for what was just done.
const PATIENCE: Duration = Duration::from_secs(1);

/// What writes actions down.
pub struct Spool {
    path: PathBuf,
    open: Mutex<Open>,
    wake: Notify,
    nobody: Mutex<Nobody>,
    /// The number of lines that are in the database, or were given up.
    sent: watch::Sender<u64>,
}

#[derive(Default)]
struct Open {
    file: Option<File>,
    written: u64,
}

impl Spool {
    /// In this directory.
    pub fn new(directory: &Path) -> Self {
        let (path, sent) = (directory.join("audit.log"), watch::Sender::new(0));
        Self { path, open: Mutex::default(), wake: Notify::new(), nobody: Mutex::default(), sent }
    }

    fn sending(&self) -> PathBuf {
        self.path.with_extension("sending")
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a line.
    pub(super) fn note(&self, row: &AuditRow) {
        let line = serde_json::to_string(row).unwrap_or_default();
        let mut open = self.open();
        if let Err(error) = write(&mut open, &self.path, &line) {
            tracing::error!(%error, line, "An action is not written down; this is all that is left of it.");
            return;
        }
        open.written += 1;
        drop(open);
        self.wake.notify_one();
    }

    /// Is a refusal of nobody from this place written down? With how many were not, since the last one that was.
    pub(super) fn of_nobody(&self, place: &str) -> Option<u64> {
        self.nobody.lock().unwrap_or_else(PoisonError::into_inner).count(place)
    }

    /// Waits until what was written before is in the database, but not for long.
    pub(super) async fn flushed(&self) {
        let written = self.open().written;
        let mut sent = self.sent.subscribe();
        let _ = tokio::time::timeout(PATIENCE, sent.wait_for(|sent| *sent >= written)).await;
    }

    /// Sends what is written until told to stop; then what is left, once.
    pub async fn run(&self, results: &Results, stop: CancellationToken) {
        let mut told = false;
        loop {
            match self.send(results).await {
                Ok(true) => told = false,
                Ok(false) => {
                    if stop.run_until_cancelled(self.wake.notified()).await.is_none() {
                        let _ = self.send(results).await;
                        return;
                    }
                }
                Err(why) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!(why, "Actions wait in `audit.log` until the results database takes them.");
                    }
                    if stop.run_until_cancelled(sleep(AGAIN)).await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    /// Sends what is in the file; was there anything?
    async fn send(&self, results: &Results) -> Result<bool, String> {
        let (sending, written) = (self.sending(), self.turn().map_err(|error| error.to_string())?);
        let mut file = match File::open(&sending) {
            Ok(file) => BufReader::new(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error.to_string()),
        };
        let mut wrong = 0;
        loop {
            let (lines, is_end) = lines(&mut file).map_err(|error| error.to_string())?;
            let (rows, none) = rows(&lines);
            wrong += none;
            for rows in rows.chunks(BATCH) {
                results.audit(rows).await.map_err(|error| error.to_string())?;
            }
            if is_end {
                break;
            }
        }
        if wrong > 0 {
            tracing::warn!(wrong, "Lines of `audit.log` were cut off and are left out.");
        }
        std::fs::remove_file(&sending).map_err(|error| error.to_string())?;
        if let Some(written) = written {
            self.sent.send_replace(written);
        }
        Ok(true)
    }

    /// Puts the file aside to be sent, unless one is there that still is; the number of the last line in it.
    fn turn(&self) -> io::Result<Option<u64>> {
        let mut open = self.open();
        let sending = self.sending();
        if sending.exists() || !self.path.exists() {
            return Ok(None);
        }
        std::fs::rename(&self.path, &sending)?;
        open.file = None;
        Ok(Some(open.written))
    }
}

fn write(open: &mut Open, path: &Path, line: &str) -> io::Result<()> {
    let mut file = match open.file.take() {
        Some(file) => file,
        None => {
            let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
            // What stands there may have been cut off in the middle of a line, by a death or a full disk.
            file.write_all(b"\n")?;
            file
        }
    };
    file.write_all(format!("{line}\n").as_bytes())?;
    // After an error it is opened anew.
    open.file = Some(file);
    Ok(())
}

/// The next lines of a file; are they the last?
fn lines(file: &mut impl io::BufRead) -> io::Result<(Vec<Vec<u8>>, bool)> {
    let mut lines = Vec::new();
    while lines.len() < LINES {
        let mut line = Vec::new();
        // What is longer comes in parts, which are no lines.
        if file.by_ref().take(LONGEST).read_until(b'\n', &mut line)? == 0 {
            return Ok((lines, true));
        }
        lines.push(line);
    }
    Ok((lines, false))
}

/// The actions in these lines, in order, and how many of them are none; of two lines the one with the end. A line that was
/// cut off is none, wherever that was.
fn rows(lines: &[Vec<u8>]) -> (Vec<AuditRow>, usize) {
    let mut rows: Vec<AuditRow> = Vec::new();
    let mut places: HashMap<Uuid, usize> = HashMap::new();
    let mut wrong = 0;
    for line in lines.iter().filter(|line| !line.trim_ascii().is_empty()) {
        let Ok(row) = serde_json::from_slice::<AuditRow>(line) else {
            wrong += 1;
            continue;
        };
        match places.get(&row.id) {
            Some(place) => rows[*place] = row,
            None => {
                places.insert(row.id, rows.len());
                rows.push(row);
            }
        }
    }
    (rows, wrong)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn a_line_behind_one_that_was_cut_off_is_not_lost_with_it() {
        let directory = std::env::temp_dir().join(format!("spinor-spool-{}", Uuid::now_v7()));
        std::fs::create_dir(&directory).expect("made");
        let spool = Spool::new(&directory);
        // In the middle of a name that is not of ASCII, too.
        std::fs::write(&spool.path, b"{\"id\":\"0198\xc3").expect("written");
        let row = AuditRow {
            id: Uuid::now_v7(),
            at: Timestamp::UNIX_EPOCH,
            who: "ann".to_owned(),
            how: "session".to_owned(),
            place: String::new(),
            action: "pauseQueue".to_owned(),
            target: "/queues/q/pause".to_owned(),
            outcome: "done: 200".to_owned(),
        };
        spool.note(&row);
        let file = std::fs::read(&spool.path).expect("there");
        let (lines, is_end) = lines(&mut file.as_slice()).expect("read");
        assert!(is_end);
        assert_eq!(rows(&lines), (vec![row], 1));
        std::fs::remove_dir_all(directory).expect("removed");
    }
}
