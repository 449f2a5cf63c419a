//! Which jobs had started when the process died, and how: the file `started`.
//!
//! One fixed record for each job that runs, written before it starts and not synced: it survives
//! the process. The next open reads it once and writes what it says into the headers of the
//! messages that are still there. A machine that died in between is seen by its boot id; then the
//! record may lack something, and every doubtful message counts as started.

use std::{
    collections::{HashMap, HashSet},
    fs::{File, OpenOptions},
    io::Read,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crc::{CRC_32_ISCSI, Crc, Table};
use uuid::Uuid;

use super::store;
use crate::{
    broker::{Delivery, DeliveryTag},
    message::{Message, Past, Probation, header},
};

const CHECKSUM: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);
/// The size of the head and of each record.
const SIZE: usize = 64;
const MAGIC: &[u8; 8] = b"started1";
/// Its consumer left in good order: nothing is charged.
const CUT: u8 = 4;

/// A job that had started and was not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Started {
    pub(super) queue: u64,
    pub(super) sequence: u64,
    cut: bool,
    past: Past,
}

/// What the last process left.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// Its boot id.
    boot: Uuid,
    /// What it had started.
    pub(super) started: Vec<Started>,
    /// Does the record tell of all?
    pub(super) complete: bool,
}

impl Left {
    /// Makes a message tell how it was started; `false` when it does already.
    pub(super) fn tell(&self, one: &Started, message: &mut Message) -> bool {
        if Past::of(&message.properties).holder == Some(self.boot) {
            return false;
        }
        let holder = (!one.cut).then_some(self.boot);
        let probation = if one.cut { Some(Probation::Passed) } else { one.past.probation };
        Past { holder, probation, ..one.past.clone() }.write(&mut message.properties.headers);
        true
    }
}

/// Does a message tell that it was started in an earlier process?
pub(super) fn was_started(message: &Message) -> bool {
    let headers = &message.properties.headers;
    headers.contains_key(header::HOLDER) || headers.contains_key(header::PROBATION)
}

/// The file, as this process writes it.
#[derive(Debug)]
pub(super) struct Record {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// None once a write failed: then it is better to have no record than one that lacks something.
    file: Option<File>,
    /// The subscriptions whose starts are written down.
    work: HashSet<u64>,
    /// The places of what runs, by the number of its delivery.
    places: HashMap<u64, u64>,
    free: Vec<u64>,
    next: u64,
}

impl Record {
    /// Reads what the last process left. The file is begun anew by [`Self::begin`].
    pub(super) fn open(dir: &Path) -> (Self, Left) {
        let path = dir.join("started");
        let left = read(&path).unwrap_or_default();
        (Self { path, state: Mutex::default() }, left)
    }

    /// Begins a new file, once what was left is on disk elsewhere.
    pub(super) fn begin(&self) -> std::io::Result<()> {
        let options =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&self.path)?;
        let mut head = [0; SIZE];
        head[..8].copy_from_slice(MAGIC);
        head[8..24].copy_from_slice(Uuid::now_v7().as_bytes());
        head[24..40].copy_from_slice(machine().unwrap_or_default().as_bytes());
        options.write_all_at(&sealed(head), 0)?;
        let mut state = self.lock();
        state.file = Some(options);
        state.next = 1;
        Ok(())
    }

    /// Deliveries of this subscription are jobs.
    pub(super) fn subscribed(&self, subscription: u64) {
        self.lock().work.insert(subscription);
    }

    /// A job is about to start, or goes on with another past.
    pub(super) fn starting(&self, tag: &DeliveryTag, past: &Past) {
        self.write(tag, past, false);
    }

    /// A delivery was given back in good order; if its job had started, that is all that is kept.
    pub(super) fn given_back(&self, delivery: &Delivery) {
        if delivery.started {
            self.write(&delivery.tag, &Past::of(&delivery.message.properties), true);
        }
    }

    /// A delivery was acked, and that is on disk.
    pub(super) fn settled(&self, tag: &DeliveryTag) {
        let mut state = self.lock();
        if let Some(place) = state.places.remove(&tag.number) {
            state.free.push(place);
        }
    }

    /// The process ends in good order: nothing that still runs is charged.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        let open: Vec<u64> = state.places.values().copied().collect();
        let Some(file) = state.file.take() else { return };
        for place in open {
            let mut record = [0; SIZE];
            let done = file.read_exact_at(&mut record, place * SIZE as u64).and_then(|()| {
                record[16] = CUT;
                file.write_all_at(&sealed(record), place * SIZE as u64)
            });
            if let Err(error) = done {
                tracing::warn!(%error, "A job that was cut may be charged with a crash.");
            }
        }
    }

    fn write(&self, tag: &DeliveryTag, past: &Past, cut: bool) {
        let mut state = self.lock();
        if !state.work.contains(&tag.subscription) {
            return;
        }
        let place = match state.places.get(&tag.number).copied().or_else(|| state.free.pop()) {
            Some(place) => place,
            None => {
                state.next += 1;
                state.next - 1
            }
        };
        state.places.insert(tag.number, place);
        let Some(file) = &state.file else { return };
        let record = sealed(encode(store::place(tag.number), past, cut));
        if let Err(error) = file.write_all_at(&record, place * SIZE as u64) {
            tracing::warn!(%error, "Starts cannot be written down; after a crash all that was in hand counts as started.");
            state.file = None;
            // If even this fails the record stays, and lacks this start.
            drop(std::fs::remove_file(&self.path));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn encode((queue, sequence): (u64, u64), past: &Past, cut: bool) -> [u8; SIZE] {
    let mut record = [0; SIZE];
    record[..8].copy_from_slice(&queue.to_le_bytes());
    record[8..16].copy_from_slice(&sequence.to_le_bytes());
    record[16] = match past.probation {
        _ if cut => CUT,
        None => 0,
        Some(Probation::Together) => 1,
        Some(Probation::Alone) => 2,
        Some(Probation::Passed) => 3,
    };
    record[17] = u8::try_from(past.crashes).unwrap_or(u8::MAX);
    record[18] = u8::try_from(past.returns).unwrap_or(u8::MAX);
    record
}

fn decode(record: &[u8; SIZE]) -> Option<Started> {
    let number = |at: usize| Some(u64::from_le_bytes(record.get(at..at + 8)?.try_into().ok()?));
    let probation = match record[16] {
        1 => Some(Probation::Together),
        2 => Some(Probation::Alone),
        3 => Some(Probation::Passed),
        _ => None,
    };
    let past = Past { probation, crashes: record[17].into(), returns: record[18].into(), ..Past::default() };
    (*record == sealed(*record)).then_some(())?;
    Some(Started { queue: number(0)?, sequence: number(8)?, cut: record[16] == CUT, past })
}

fn sealed(mut record: [u8; SIZE]) -> [u8; SIZE] {
    let sum = CHECKSUM.checksum(&record[..SIZE - 4]);
    record[SIZE - 4..].copy_from_slice(&sum.to_le_bytes());
    record
}

fn read(path: &Path) -> Option<Left> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.read_to_end(&mut bytes).ok()?;
    let mut records = bytes.chunks_exact(SIZE).filter_map(|chunk| <[u8; SIZE]>::try_from(chunk).ok());
    let head = records.next().filter(|head| *head == sealed(*head) && head.starts_with(MAGIC))?;
    let id = |at: usize| Uuid::from_slice(&head[at..at + 16]).ok();
    let complete = machine().is_some_and(|machine| Some(machine) == id(24));
    Some(Left { boot: id(8)?, started: records.filter_map(|record| decode(&record)).collect(), complete })
}

/// Which start of the machine this is.
fn machine() -> Option<Uuid> {
    Uuid::parse_str(std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_orderly_end_charges_nothing_that_still_runs() {
        let dir = tempdir();
        let (record, _) = Record::open(&dir);
        record.begin().expect("it begins");
        record.subscribed(5);
        record.starting(&DeliveryTag { subscription: 5, number: store::number(17, 3) }, &Past::default());
        record.end();
        let (_, left) = Record::open(&dir);
        assert_eq!(
            left.started.iter().map(|one| (one.queue, one.sequence, one.cut)).collect::<Vec<_>>(),
            [(17, 3, true)]
        );
        std::fs::remove_dir_all(dir).expect("removed");
    }

    fn tempdir() -> PathBuf {
        let dir = std::env::temp_dir().join(format!("started-{}", Uuid::now_v7()));
        std::fs::create_dir(&dir).expect("a directory");
        dir
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_any_flipped_bit_is_seen() {
        let past = Past { probation: Some(Probation::Alone), crashes: 1, returns: 9, ..Past::default() };
        let record = sealed(encode((17, 1 << 40), &past, false));
        assert_eq!(decode(&record), Some(Started { queue: 17, sequence: 1 << 40, cut: false, past }));
        for bit in 0..SIZE * 8 {
            let mut bad = record;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&bad), None, "bit {bit}");
        }
    }
}
