//! What one flush writes, gathered in the form the store's one statement wants.

use std::fmt::Write;

use super::store::key;

/// A JSON list or object that is being written.
#[derive(Debug)]
pub(super) struct List {
    text: String,
    close: char,
    entries: usize,
}

impl List {
    fn of(open: char, close: char) -> Self {
        Self { text: String::from(open), close, entries: 0 }
    }

    /// An empty list of numbers.
    pub(super) fn ids() -> Self {
        Self::of('[', ']')
    }

    /// One entry more.
    pub(super) fn push(&mut self, entry: std::fmt::Arguments<'_>) {
        if self.entries > 0 {
            self.text.push(',');
        }
        self.entries += 1;
        // Writing into a string cannot fail.
        let _ = self.text.write_fmt(entry);
    }

    fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// The text.
    pub(super) fn finish(mut self) -> String {
        self.text.push(self.close);
        self.text
    }
}

/// What one flush writes.
#[derive(Debug)]
pub(super) struct Changes {
    /// All rows, one after the other.
    pub(super) rows: Vec<u8>,
    pub(super) delayed_rows: Vec<u8>,
    pub(super) puts: List,
    pub(super) removes: List,
    pub(super) marks: List,
    pub(super) delays: List,
    pub(super) undelays: List,
}

impl Changes {
    pub(super) fn new() -> Self {
        Self {
            rows: Vec::new(),
            delayed_rows: Vec::new(),
            puts: List::of('{', '}'),
            removes: List::ids(),
            marks: List::of('{', '}'),
            delays: List::ids(),
            undelays: List::ids(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        [&self.puts, &self.removes, &self.marks, &self.delays, &self.undelays].into_iter().all(List::is_empty)
    }

    /// About how much the log grows by it: whole pages, of rows that come and rows that go.
    pub(super) fn log_bytes(&self) -> usize {
        const PAGES: usize = 8 * 4096;
        const ROW: usize = 512;
        PAGES + 2 * (self.rows.len() + self.delayed_rows.len()) + ROW * (self.removes.entries + self.undelays.entries)
    }

    /// A row into a queue.
    pub(super) fn put(&mut self, queue: u64, sequence: u64, row: &[u8]) {
        let place = append(&mut self.rows, row) << 28 | row.len();
        self.puts.push(format_args!("\"{}\":{place}", key(queue, sequence)));
    }

    /// A row out of a queue.
    pub(super) fn remove(&mut self, queue: u64, sequence: u64) {
        self.removes.push(format_args!("{}", key(queue, sequence)));
    }

    /// Up to here a queue's messages may have been delivered.
    pub(super) fn mark(&mut self, queue: u64, sequence: u64) {
        self.marks.push(format_args!("\"{queue}\":{sequence}"));
    }

    /// A row to wait until it is due.
    pub(super) fn delay(&mut self, id: i64, due: i64, queue: u64, row: &[u8]) {
        let (offset, length) = (append(&mut self.delayed_rows, row), row.len());
        self.delays.push(format_args!("[{id},{due},{queue},{offset},{length}]"));
    }

    /// A row that waits no more.
    pub(super) fn undelay(&mut self, id: i64) {
        self.undelays.push(format_args!("{id}"));
    }
}

/// Where the row begins; SQL counts bytes from 1.
fn append(rows: &mut Vec<u8>, row: &[u8]) -> usize {
    rows.extend_from_slice(row);
    rows.len() - row.len() + 1
}
