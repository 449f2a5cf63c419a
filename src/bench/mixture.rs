//! What a busy site leaves in its record, line by line: which kind, where, how it ended, with which error.
//!
//! Owns the shares. The same line for the same number: two databases of one size are alike.

use spinor_executors::State;
use uuid::Uuid;

/// A kind, its queue, its share, how long it takes in milliseconds, and how many of ten thousand end badly.
const KINDS: [(&str, &str, u64, i64, u64); 20] = [
    ("mail.send", "mail", 240, 120, 300),
    ("image.resize", "images", 190, 900, 500),
    ("image.thumb", "images", 110, 80, 100),
    ("invoice.render", "documents", 90, 1500, 400),
    ("report.daily", "documents", 60, 9000, 800),
    ("sync.crm", "sync", 55, 400, 900),
    ("sync.stock", "sync", 50, 250, 700),
    ("hook.deliver", "hooks", 45, 300, 1500),
    ("video.encode", "video", 35, 60_000, 600),
    ("video.probe", "video", 25, 700, 200),
    ("search.index", "search", 25, 60, 50),
    ("cache.warm", "default", 20, 30, 10),
    ("cleanup.files", "default", 15, 2000, 100),
    ("backup.table", "backup", 10, 120_000, 1000),
    ("export.csv", "documents", 10, 5000, 600),
    ("import.csv", "documents", 8, 8000, 2000),
    ("pay.settle", "payments", 6, 900, 300),
    ("pay.refund", "payments", 3, 900, 2500),
    ("audit.check", "default", 2, 100, 10_000),
    ("rare.kind", "rare", 1, 50, 2000),
];
/// Sum of the shares.
const SHARES: u64 = 1000;

const ERRORS: [&str; 8] = [
    "connection to {host} refused after {n} ms",
    "exit code 1: no row {n} in the table of customers",
    "timed out after {n} s",
    "cannot open /data/{n}/input.csv: no such file",
    "the remote answered 503, request {n}",
    "out of memory at {n} MiB",
    "row {n} is not UTF-8",
    "assertion failed: total {n} is not what was paid",
];

/// How a job of the mixture ended, or where it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It ended, or was given up.
    In(State),
    /// It is a dead letter.
    Dead,
    /// It waits in its queue.
    Queued,
    /// It waits for its time.
    Delayed,
}

impl End {
    /// The state of its last report.
    pub const fn state(self) -> State {
        match self {
            Self::In(state) => state,
            Self::Dead => State::Dead,
            Self::Queued | Self::Delayed => State::Queued,
        }
    }
}

/// A place in a run.
#[derive(Clone, Copy, Debug)]
pub struct InRun {
    /// Which run.
    pub number: u64,
    /// Which of its members.
    pub member: u64,
    /// How many it has.
    pub members: u32,
}

/// One job of the mixture.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// Its kind.
    pub kind: &'static str,
    /// Its queue.
    pub queue: &'static str,
    /// How it ended.
    pub end: End,
    /// How many executions it had.
    pub attempts: u32,
    /// How long it waited, in microseconds.
    pub waited: i64,
    /// How long each execution took.
    pub took: i64,
    /// Its run, if it has one.
    pub run: Option<InRun>,
    /// A number of its own, without an order.
    pub dice: u64,
    error: usize,
}

impl Line {
    /// The one with this number, of so many in all.
    pub fn of(number: u64, rows: u64) -> Self {
        let mut dice = Dice(number);
        let mut share = dice.below(SHARES);
        let (kind, home, _, took, bad) = KINDS
            .into_iter()
            .find(|(_, _, of, ..)| {
                let here = share < *of;
                share = share.saturating_sub(*of);
                here
            })
            .unwrap_or(KINDS[0]);
        let queue = if dice.below(40) == 0 { "low" } else { home };
        let waits = number >= rows - rows.div_ceil(250) || number.is_multiple_of(5000);
        let end = match (waits, dice.below(10_000)) {
            (true, of) if of % 5 == 0 => End::Delayed,
            (true, _) => End::Queued,
            (false, of) if of >= bad => End::In(State::Succeeded),
            (false, _) => match dice.below(100) {
                0..=54 => End::In(State::Failed),
                55..=69 => End::In(State::Discarded),
                70..=79 => End::In(State::Cancelled),
                80..=87 => End::In(State::Expired),
                88..=96 => End::Dead,
                _ => End::In(State::Lost),
            },
        };
        let attempts = match end {
            End::Queued | End::Delayed | End::Dead | End::In(State::Expired) => 0,
            End::In(State::Failed) => 1 + dice.below(3),
            _ => 1 + u64::from(dice.below(25) == 0),
        };
        let longest = 1 << dice.below(28);
        Self {
            kind,
            queue,
            end,
            // What expired or was lost has a report of its end, too.
            attempts: u32::try_from(attempts.max(u64::from(matches!(end, End::In(_))))).unwrap_or(1),
            waited: i64::try_from(500 + dice.below(longest)).unwrap_or(500),
            took: took * (500 + i64::try_from(dice.below(3000)).unwrap_or(0)),
            run: in_run(number, rows),
            dice: dice.below(u64::MAX),
            error: usize::try_from(dice.below(3)).unwrap_or(0) + kind.len() % 6,
        }
    }

    /// Its args.
    pub fn args(&self) -> String {
        format!(
            "{{\"customer\":{},\"source\":\"s3://bucket-{}/in/{:016x}\",\"options\":{{\"quality\":{},\"notify\":true}}}}",
            self.dice % 90_000,
            self.dice % 17,
            self.dice,
            self.dice % 100
        )
    }

    /// Its error, if it has one.
    pub fn error(&self) -> String {
        let number = (self.dice % 100_000).to_string();
        ERRORS[self.error % ERRORS.len()].replace("{n}", &number).replace("{host}", &self.host())
    }

    /// Who ran it.
    pub fn consumer(&self) -> String {
        format!("{}-{}", self.host(), self.dice % 4)
    }

    /// Where.
    pub fn host(&self) -> String {
        format!("node-{}", self.dice % 24)
    }
}

/// The id of a run.
pub fn run_id(number: u64) -> Uuid {
    Uuid::from_u128(0x0198_0000_0000_7000_8000_0000_0000_0000 | u128::from(number))
}

/// Twenty of each two thousand jobs are a run; one run in the middle has ten thousand members.
fn in_run(number: u64, rows: u64) -> Option<InRun> {
    const LARGE: u64 = 10_000;
    let middle = rows / 2;
    if rows >= 4 * LARGE && (middle..middle + LARGE).contains(&number) {
        return Some(InRun { number: 1 << 32, member: number - middle, members: 10_000 });
    }
    (number % 2000 < 20).then_some(InRun { number: number / 2000, member: number % 2000, members: 20 })
}

/// Numbers without an order, the same ones for the same beginning.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_hundred_thousand_lines_have_every_kind_and_every_end_and_are_the_same_again() {
        assert_eq!(KINDS.iter().map(|(_, _, share, ..)| share).sum::<u64>(), SHARES);
        let lines: Vec<Line> = (0..100_000).map(|number| Line::of(number, 100_000)).collect();
        let kinds: BTreeSet<&str> = lines.iter().map(|line| line.kind).collect();
        assert_eq!(kinds.len(), KINDS.len());
        let states: BTreeSet<&str> = lines.iter().map(|line| line.end.state().word()).collect();
        assert_eq!(states.len(), 8, "{states:?}");
        let well = lines.iter().filter(|line| line.end == End::In(State::Succeeded)).count();
        assert!((90_000..99_000).contains(&well), "{well}");
        assert_eq!(format!("{:?}", Line::of(7, 100_000)), format!("{:?}", lines[7]));
    }
}
