//! A plan's journal: what was started and what was reported, on the node's own disk.
//!
//! One file a plan, one JSON value a line, only ever appended to; written before anything is
//! published and not synced, so it survives the process and not the machine's power. A torn or
//! unreadable line is as if it was never written: its step then counts as cut in the middle.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::StepReport;

const SUFFIX: &str = "journal";
/// An ended plan is kept this long, so that a late redelivery does not run it again.
const KEEP_ENDED: Duration = Duration::from_secs(24 * 3600);
/// A plan nobody came back for.
const KEEP_CUT: Duration = Duration::from_secs(30 * 24 * 3600);

/// One line, as it is written.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Line<'a> {
    Start(u32),
    Report(&'a StepReport),
    End,
}

/// One line, as it is read.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Written {
    Start(u32),
    Report(Box<StepReport>),
    End,
}

/// An open journal, locked: no other process writes it.
pub(super) struct Journal {
    file: Mutex<File>,
    path: PathBuf,
}

/// What an earlier execution left in it.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// Reports by step.
    pub reports: BTreeMap<u32, StepReport>,
    started: BTreeSet<u32>,
    /// The plan ended.
    pub ended: bool,
}

impl Past {
    /// Was this step cut in the middle?
    pub fn was_cut(&self, step: u32) -> bool {
        self.started.contains(&step) && !self.reports.contains_key(&step)
    }

    fn take(&mut self, line: &str) {
        match serde_json::from_str(line) {
            Ok(Written::Start(step)) => {
                self.started.insert(step);
            }
            Ok(Written::Report(report)) => {
                self.reports.insert(report.step, *report);
            }
            Ok(Written::End) => self.ended = true,
            // Damaged, as after a power loss.
            Err(_) => {}
        }
    }
}

impl Journal {
    /// Where the journal of a job is. A replay starts anew, so it has its own.
    pub fn place(directory: &Path, job: Uuid, replay: u32) -> PathBuf {
        match replay {
            0 => directory.join(format!("{job}.{SUFFIX}")),
            replay => directory.join(format!("{job}.{replay}.{SUFFIX}")),
        }
    }

    /// Opens it and reads what is there; `None` while another execution of the same plan has it.
    pub fn open(path: &Path) -> io::Result<Option<(Self, Past)>> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let mut past = Past::default();
        let mut whole = 0;
        let mut reader = BufReader::new(&file);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\n") {
            whole += line.len() as u64;
            past.take(&String::from_utf8_lossy(&line));
            line.clear();
        }
        // What follows the last line end is torn; the next line may not be glued to it.
        file.set_len(whole)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Some((Self { file: Mutex::new(file), path: path.to_owned() }, past)))
    }

    /// Writes reports, and the start of the step that follows them, in one write.
    pub fn write(&self, reports: &[StepReport], start: Option<u32>) -> io::Result<()> {
        let reports = reports.iter().map(Line::Report);
        self.append(reports.chain(start.map(Line::Start)))
    }

    /// Writes that the plan ended.
    pub fn end(&self) -> io::Result<()> {
        self.append([Line::End].into_iter())
    }

    fn append<'a>(&self, lines: impl Iterator<Item = Line<'a>>) -> io::Result<()> {
        let mut text = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut text, &line)?;
            text.push(b'\n');
        }
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&text).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.path.display())))
    }
}

/// Removes the journals that nothing will ask for again.
pub(super) fn sweep(directory: &Path, now: SystemTime) -> io::Result<()> {
    for entry in fs::read_dir(directory)?.flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|suffix| suffix != SUFFIX) {
            continue;
        }
        let age = entry.metadata().and_then(|data| data.modified()).map(|then| now.duration_since(then));
        let Ok(Ok(age)) = age else { continue };
        if age > KEEP_CUT || (age > KEEP_ENDED && has_ended(&path).unwrap_or(false)) {
            // Gone already, or in use by nobody: what stays is met by the next sweep.
            let _ = fs::remove_file(&path);
        }
    }
    Ok(())
}

fn has_ended(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(16)))?;
    let mut last = Vec::new();
    file.read_to_end(&mut last)?;
    Ok(last.ends_with(b"\n\"end\"\n"))
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        time::{Duration, SystemTime},
    };

    use super::{Journal, sweep};
    use crate::plan::tests::{Directory, report};

    #[test]
    fn what_was_written_is_read_back_and_a_start_without_report_was_cut() {
        let directory = Directory::new();
        let path = directory.path().join("a.journal");
        let (journal, _) = Journal::open(&path).expect("it opens").expect("nobody has it");
        journal.write(&[], Some(0)).expect("it writes");
        journal.write(&[report(0)], Some(1)).expect("it writes");
        assert!(Journal::open(&path).expect("it opens").is_none(), "locked while open");
        drop(journal);
        let (_, past) = Journal::open(&path).expect("it opens").expect("free again");
        assert_eq!(past.reports.get(&0), Some(&report(0)));
        assert!((past.was_cut(1), past.was_cut(0), past.was_cut(2), past.ended) == (true, false, false, false));
    }

    #[test]
    fn a_torn_last_line_is_cut_off_and_a_damaged_one_is_passed_over() {
        let directory = Directory::new();
        let path = directory.path().join("a.journal");
        fs::write(&path, "{\"start\":0}\n\0\0\0\n{\"start\":1}\n{\"report\":{\"job\":\"0").expect("it writes");
        let (journal, past) = Journal::open(&path).expect("it opens").expect("nobody has it");
        assert!(past.was_cut(0) && past.was_cut(1) && past.reports.is_empty());
        journal.end().expect("it writes");
        let text = fs::read(&path).expect("it is there");
        assert_eq!(text, b"{\"start\":0}\n\0\0\0\n{\"start\":1}\n\"end\"\n");
    }

    #[test]
    fn only_ended_journals_are_swept_after_a_day_and_the_others_after_a_month() {
        let directory = Directory::new();
        let [ended, cut] = ["ended", "cut"].map(|name| directory.path().join(name).with_extension("journal"));
        fs::write(&ended, "{\"start\":0}\n\"end\"\n").expect("it writes");
        fs::write(&cut, "{\"start\":0}\n").expect("it writes");
        let left = |days: u64| {
            let now = SystemTime::now() + Duration::from_secs(days * 24 * 3600 + 60);
            sweep(directory.path(), now).expect("it sweeps");
            (ended.exists(), cut.exists())
        };
        assert_eq!(left(0), (true, true));
        assert_eq!(left(1), (false, true));
        assert_eq!(left(30), (false, false));
    }
}
