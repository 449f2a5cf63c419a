//! A run of 50 members of which two fail, and what must be true of it however often its processes were killed.
//!
//! The ledger is written by the members' own program, outside Spinor. Owns the comparison; refuses to
//! know who was killed when.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Value, json};
use spinor::api::{
    new_job::NewJob,
    new_run::{NewJobRun, NewMember},
};
use spinor_consumers::{
    next::OnFailure,
    results::{MemberRow, RunRecord},
};
use spinor_executors::Json;
use uuid::Uuid;

const LAYERS: usize = 5;
const WIDTH: usize = 10;
pub const MEMBERS: usize = LAYERS * WIDTH;
/// Both need all of the layer before them, so that they are due together.
const FAILING: [usize; 2] = [23, 27];

/// A line of the ledger.
#[derive(Clone, Debug, Deserialize)]
pub struct Line {
    what: String,
    name: String,
    pub run: Uuid,
    boot: String,
    args: Value,
}

impl Line {
    pub fn read(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    pub fn starts(&self) -> bool {
        self.what == "start"
    }

    pub fn is_end_of(&self, name: &str) -> bool {
        self.what == "end" && self.name == name
    }
}

fn name(place: usize) -> String {
    format!("m{place:02}")
}

fn needs(place: usize) -> Vec<usize> {
    let (layer, column) = (place / WIDTH, place % WIDTH);
    match layer.checked_sub(1) {
        None => Vec::new(),
        Some(above) if FAILING.contains(&place) => (0..WIDTH).map(|column| above * WIDTH + column).collect(),
        Some(above) => vec![above * WIDTH + column, above * WIDTH + (column + 3) % WIDTH],
    }
}

/// What each succeeds with.
fn values() -> Vec<u64> {
    let mut values = Vec::with_capacity(MEMBERS);
    for place in 0..MEMBERS {
        values.push(1 + needs(place).iter().map(|need| values[*need]).sum::<u64>());
    }
    values
}

/// The run, each member of which can be undone.
pub fn run(on_failure: OnFailure) -> NewJobRun {
    let job = |kind: &str, args: Option<Value>| NewJob {
        queue: Some("one".to_owned()),
        args: args.map(|args| Json::of(&args).expect("JSON")),
        ..NewJob::new(kind)
    };
    let member = |place: usize| {
        let own = name(place);
        let mut args = json!({"name": own, "fails": FAILING.contains(&place)});
        if place >= WIDTH {
            args["got"] = json!({"$from": "*"});
        }
        let undo = json!({"name": format!("undo-{own}"), "got": {"was": {"$from": own}}});
        NewMember {
            name: own,
            needs: needs(place).into_iter().map(name).collect(),
            job: job("member", Some(args)),
            compensate: Some(job("member", Some(undo))),
        }
    };
    NewJobRun {
        on_failure,
        then: Some(job("then", None)),
        finally: Some(job("finally", None)),
        ..NewJobRun::new("disturbed", (0..MEMBERS).map(member).collect())
    }
}

/// At least so many lines say that a member starts, whatever is cut.
pub const fn least_starts(on_failure: OnFailure) -> usize {
    match on_failure {
        OnFailure::Stop => 2 * WIDTH + 2,
        OnFailure::Compensate => 4 * WIDTH + 2,
        // The other eight of the third layer, six of the fourth and five of the last.
        OnFailure::GoOn => 2 * WIDTH + 2 + 8 + 6 + 5,
    }
}

/// One run's ledger and record.
pub struct Seen<'a> {
    pub policy: OnFailure,
    pub lines: Vec<Line>,
    pub record: &'a RunRecord,
    /// Jobs with an execution that is marked as perhaps not the first.
    pub marked: BTreeSet<Uuid>,
}

impl Seen<'_> {
    /// All that is wrong.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let record = self.record;
        if record.row.succeeded != Some(false) || record.member_list.len() < MEMBERS + 2 {
            problems.push(format!("the run ended as {:?}", record.row));
        }
        for place in 0..MEMBERS {
            self.member(place, &mut problems);
        }
        self.compensations(&mut problems);
        self.closing(&mut problems);
        for row in &record.member_list {
            self.once(row, &mut problems);
        }
        problems
    }

    fn state(&self, name: &str) -> &str {
        self.record.member_list.iter().find(|row| row.name == name).map_or("missing", |row| &row.state)
    }

    /// Where in the ledger it did this first.
    fn first(&self, name: &str, what: &str) -> Option<usize> {
        self.lines.iter().position(|line| line.name == name && line.what == what)
    }

    fn member(&self, place: usize, problems: &mut Vec<String>) {
        let (name, values) = (name(place), values());
        let state = self.state(&name);
        let well = |need: &usize| self.state(&self::name(*need)) == "succeeded";
        let blocked = !needs(place).iter().all(well);
        let right = match state {
            "failed" => FAILING.contains(&place),
            "succeeded" => !FAILING.contains(&place) && !blocked,
            "skipped" => !FAILING.contains(&place) && (blocked || self.policy != OnFailure::GoOn),
            _ => false,
        };
        if !right {
            problems.push(format!("`{name}` is {state}"));
        }
        let start = self.first(&name, "start");
        if start.is_some() != (state != "skipped") {
            problems.push(format!("`{name}` is {state}, and its first line is {start:?}"));
        }
        for need in needs(place) {
            let ended = self.first(&self::name(need), "end");
            if start.is_some() && (ended.is_none() || start < ended) {
                problems.push(format!("`{name}` started before `{}` ended", self::name(need)));
            }
        }
        let got: BTreeMap<String, u64> =
            needs(place).into_iter().map(|need| (self::name(need), values[need])).collect();
        for line in self.lines.iter().filter(|line| line.name == name && place >= WIDTH) {
            if line.args["got"] != json!(got) {
                problems.push(format!("`{name}` got {}", line.args));
            }
        }
    }

    /// Each that succeeded is undone, one after the other, what needs a member before that member.
    fn compensations(&self, problems: &mut Vec<String>) {
        let values = values();
        let last = (0..MEMBERS).filter_map(|place| self.first(&name(place), "end")).max();
        let mut spans = Vec::new();
        for (place, value) in values.iter().enumerate() {
            let undo = format!("undo-{}", name(place));
            let (start, end) = (self.first(&undo, "start"), self.first(&undo, "end"));
            let due = self.policy == OnFailure::Compensate && self.state(&name(place)) == "succeeded";
            match (due, start, end) {
                (false, None, None) => continue,
                (true, Some(start), Some(end)) if Some(start) > last => spans.push((start, end, place)),
                _ => problems.push(format!("`{undo}` is due: {due}, and ran from {start:?} to {end:?}")),
            }
            if self.lines.iter().any(|line| line.name == undo && line.args["got"]["was"] != json!(value)) {
                problems.push(format!("`{undo}` got another value"));
            }
        }
        spans.sort_unstable();
        for (at, (start, _, place)) in spans.iter().enumerate() {
            if at > 0 && spans[at - 1].1 > *start {
                problems.push(format!("`undo-{}` began while another ran", name(*place)));
            }
            let undone: BTreeSet<usize> = spans[..at].iter().map(|(_, _, place)| *place).collect();
            if needs(*place).iter().any(|need| undone.contains(need)) {
                problems.push(format!("`undo-{}` came after what it needs was undone", name(*place)));
            }
        }
    }

    /// `finally` comes last and is told how each member ended; `then` does not come.
    fn closing(&self, problems: &mut Vec<String>) {
        if self.state("then") != "skipped" || self.first("then", "start").is_some() {
            problems.push(format!("`then` is {}", self.state("then")));
        }
        let values = values();
        let mut members = serde_json::Map::new();
        for (place, value) in values.iter().enumerate() {
            let name = name(place);
            let told = match self.state(&name) {
                "succeeded" => json!({"state": "succeeded", "value": value}),
                "failed" => json!({"state": "failed", "error": "out of paper"}),
                state => json!({"state": state}),
            };
            members.insert(name, told);
        }
        let expected = json!({"run": self.record.row.id, "succeeded": false, "members": members});
        let start = self.first("finally", "start");
        let last = self.lines.iter().enumerate().filter(|(_, line)| line.name != "finally");
        let last = last.filter_map(|(_, line)| self.first(&line.name, "end")).max();
        if self.state("finally") != "succeeded" || start.is_none() || start < last {
            problems.push(format!("`finally` is {} and started at {start:?}", self.state("finally")));
        }
        if let Some(other) = self.lines.iter().find(|line| line.name == "finally" && line.args != expected) {
            problems.push(format!("`finally` got {}", other.args));
        }
    }

    /// The consumers that started it, once for each start.
    fn starts(&self, row: &MemberRow) -> Vec<&str> {
        let name = row.name.replace("compensate:", "undo-");
        let starts = self.lines.iter().filter(|line| line.name == name && line.starts());
        starts.map(|line| line.boot.as_str()).collect()
    }

    /// Members that were started more than once.
    pub fn executed_again(&self) -> Vec<MemberRow> {
        self.record.member_list.iter().filter(|row| self.starts(row).len() > 1).cloned().collect()
    }

    /// A second execution is one whose consumer was killed, and says so: nothing is fired twice.
    fn once(&self, row: &MemberRow, problems: &mut Vec<String>) {
        let (name, starts) = (&row.name, self.starts(row));
        let boots: BTreeSet<&&str> = starts.iter().collect();
        if boots.len() < starts.len() {
            problems.push(format!("`{name}` was executed twice by one consumer"));
        }
        if starts.len() > 1 && !self.marked.contains(&row.job) {
            problems.push(format!("`{name}` was executed {} times and not marked", starts.len()));
        }
        if row.replay != 0 {
            problems.push(format!("`{name}` has replay {}", row.replay));
        }
    }

    /// These, each with a fault in it, and the word by which it must be found.
    pub fn faults(&self) -> Vec<(Self, &'static str)> {
        let of = |change: &dyn Fn(&mut Vec<Line>)| {
            let mut lines = self.lines.clone();
            change(&mut lines);
            Seen { lines, marked: self.marked.clone(), ..*self }
        };
        let find = |name: &str, what: &str| self.first(name, what).expect("it ran");
        let mut faults = vec![
            (of(&|lines| lines.retain(|line| line.name != "m23")), "first line is None"),
            (of(&|lines| lines.push(lines[find("m00", "start")].clone())), "twice by one consumer"),
            (of(&|lines| lines.swap(find("m00", "start"), find("m27", "start"))), "started before"),
            (of(&|lines| lines[find("m23", "start")].args["got"]["m10"] = json!(7)), "`m23` got"),
            (of(&|lines| lines[find("finally", "start")].args["members"]["m10"]["value"] = json!(7)), "`finally` got"),
            (of(&|lines| lines.push(Line { name: "then".into(), ..lines[0].clone() })), "`then` is"),
            (of(&|lines| lines.swap(0, find("finally", "start"))), "`finally` is"),
        ];
        if self.policy == OnFailure::Compensate {
            let swapped = |lines: &mut Vec<Line>| {
                for line in lines {
                    line.name = match line.name.as_str() {
                        "undo-m00" => "undo-m10".to_owned(),
                        "undo-m10" => "undo-m00".to_owned(),
                        name => name.to_owned(),
                    };
                }
            };
            faults.push((of(&swapped), "came after what it needs"));
            faults.push((of(&|lines| lines.retain(|line| line.name != "undo-m05")), "`undo-m05` is due"));
            faults
                .push((of(&|lines| lines.swap(find("undo-m00", "start"), find("undo-m10", "start"))), "while another"));
        }
        faults
    }
}
