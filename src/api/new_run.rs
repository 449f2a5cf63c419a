//! A run of jobs as a publisher writes it: named members, what each needs, what follows at the end.
//!
//! Owns the JSON form of `POST /runs` with `members`, and its check: names, needs, cycles, sizes, each with
//! the field named. What a single job may be is `new_job`'s.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use spinor_consumers::next::{self, MOST_MEMBERS, Member, NewRun, OnFailure, inputs};
use uuid::Uuid;

use super::{
    Problem, clip,
    new_job::{self, NewJob},
};
use crate::config::{self, keys};

/// At most so many needs in all.
const MOST_NEEDS: usize = 100_000;
/// Names that are not a member's to have.
const CLOSING: [&str; 2] = ["then", "finally"];
const FIELDS: [&str; 6] = ["id", "name", "on_failure", "members", "then", "finally"];

/// A run of jobs as it is asked for.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct NewJobRun {
    /// Its id; a fresh UUIDv7 when absent. The same id again is the same run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Uuid>,
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(default)]
    pub name: String,
    /// What a member that fails means for the others.
    #[schemars(default)]
    pub on_failure: OnFailure,
    /// Its jobs.
    pub members: Vec<NewMember>,
    /// Published once all members have succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub then: Option<NewJob>,
    /// Published at the end, however it went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finally: Option<NewJob>,
}

/// One of them.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct NewMember {
    /// Its name within the run.
    pub name: String,
    /// The members that must have succeeded before it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub needs: Vec<String>,
    /// What undoes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compensate: Option<NewJob>,
    /// The job.
    #[serde(flatten)]
    pub job: NewJob,
}

impl NewMember {
    /// A member that needs these.
    pub fn new(name: impl Into<String>, kind: impl Into<String>, needs: &[&str]) -> Self {
        let needs = needs.iter().map(|need| (*need).to_owned()).collect();
        Self { name: name.into(), needs, compensate: None, job: NewJob::new(kind) }
    }
}

/// Reads a run of jobs.
pub fn read(body: &[u8]) -> Result<NewJobRun, Problem> {
    let mut run = NewJobRun::default();
    for (name, raw) in new_job::fields(body, "a run")? {
        match name.as_str() {
            "id" => run.id = new_job::one("id", raw, "a UUID")?,
            "name" => run.name = new_job::one("name", raw, "text")?,
            "on_failure" => {
                run.on_failure = new_job::one("on_failure", raw, "\"stop\", \"go_on\" or \"compensate\"")?;
            }
            "members" => {
                let items: Vec<&RawValue> = new_job::one("members", raw, "a list of jobs with names")?;
                let items = items.iter().enumerate();
                run.members = items
                    .map(|(place, raw)| member(raw).map_err(|problem| problem.within(&format!("members[{place}]"))))
                    .collect::<Result<_, _>>()?;
            }
            "then" => run.then = Some(job(raw).map_err(|problem| problem.within("then"))?),
            "finally" => run.finally = Some(job(raw).map_err(|problem| problem.within("finally"))?),
            other => {
                let known = FIELDS.iter().map(|name| (*name).to_owned()).collect();
                return Err(Problem { known, ..Problem::field(clip(other), "is no field of a run") });
            }
        }
    }
    Ok(run)
}

fn job(raw: &RawValue) -> Result<NewJob, Problem> {
    new_job::of_fields(&new_job::fields(raw.get().as_bytes(), "a job")?)
}

fn member(raw: &RawValue) -> Result<NewMember, Problem> {
    let mut fields = new_job::fields(raw.get().as_bytes(), "a job")?;
    let mut member = NewMember::default();
    let name = fields.remove("name").ok_or_else(|| Problem::field("name", "is missing; each member has one"))?;
    member.name = new_job::one("name", name, "text")?;
    if let Some(needs) = fields.remove("needs") {
        member.needs = new_job::one("needs", needs, "a list of names of members")?;
    }
    if let Some(undo) = fields.remove("compensate") {
        member.compensate = Some(job(undo).map_err(|problem| problem.within("compensate"))?);
    }
    member.job = new_job::of_fields(&fields)?;
    Ok(member)
}

impl NewJobRun {
    /// A run with everything else by default.
    pub fn new(name: impl Into<String>, members: Vec<NewMember>) -> Self {
        Self { name: name.into(), members, ..Self::default() }
    }

    /// The run, once every field holds.
    pub fn check(self, now: Timestamp) -> Result<NewRun, Problem> {
        if self.members.is_empty() {
            return Err(Problem::field("members", "is empty; a run has at least one member"));
        }
        if self.members.len() > MOST_MEMBERS {
            let problem = Problem::field("members", format!("are {}, at most {MOST_MEMBERS}", self.members.len()));
            return Err(Problem { status: 413, ..problem });
        }
        if self.name.chars().count() > 500 || self.name.chars().any(char::is_control) {
            return Err(Problem::field("name", "expected one line of at most 500 characters"));
        }
        let run = self.id.filter(|id| !id.is_nil()).unwrap_or_else(Uuid::now_v7);
        check_needs(&self.members)?;
        let closing = |name: &str, new: Option<NewJob>| {
            let everybody = |_: &str| true;
            new.map(|new| {
                checked(run, name, new, now, &everybody).map(Box::new).map_err(|problem| problem.within(name))
            })
            .transpose()
        };
        let (then, finally) = (closing("then", self.then)?, closing("finally", self.finally)?);
        let names: BTreeSet<String> = self.members.iter().map(|member| member.name.clone()).collect();
        let closes = |asked: &Option<Box<Member>>, field: &str| {
            let asked = asked.as_ref().map(|member| inputs::asked(&member.job.args).unwrap_or_default());
            let unknown = asked.iter().flat_map(|asked| &asked.names).find(|name| !names.contains(*name));
            unknown.map_or(Ok(()), |name| Err(Problem::field(format!("{field}.args"), unknown_member(name, &names))))
        };
        closes(&then, "then")?;
        closes(&finally, "finally")?;
        let members = self.members.into_iter().enumerate().map(|(place, new)| {
            one_member(run, new, now).map_err(|problem| problem.within(&format!("members[{place}]")))
        });
        let members = members.collect::<Result<_, _>>()?;
        let name = if self.name.is_empty() { "run".to_owned() } else { self.name };
        Ok(NewRun { run, name, on_failure: self.on_failure, started: now, members, then, finally, note: None })
    }
}

fn unknown_member(name: &str, names: &BTreeSet<String>) -> String {
    let some: Vec<&str> = names.iter().take(20).map(String::as_str).collect();
    format!("there is no member `{}`; there are {}", clip(name), some.join(", "))
}

fn one_member(run: Uuid, new: NewMember, now: Timestamp) -> Result<Member, Problem> {
    let NewMember { name, needs, compensate, job } = new;
    let queue = job.queue.clone();
    let known: HashSet<&str> = needs.iter().map(String::as_str).collect();
    let mut member = checked(run, &name, job, now, &|asked| known.contains(asked))?;
    if let Some(mut undo) = compensate {
        undo.queue = undo.queue.or(queue);
        let known = |asked: &str| asked == name || known.contains(asked);
        let undo = checked(run, &format!("compensate:{name}"), undo, now, &known);
        member.compensate = Some(Box::new(undo.map_err(|problem| problem.within("compensate"))?));
    }
    member.needs = needs;
    Ok(member)
}

/// A job of a run: what the run decides is not its own to say.
fn checked(
    run: Uuid,
    name: &str,
    new: NewJob,
    now: Timestamp,
    known: &dyn Fn(&str) -> bool,
) -> Result<Member, Problem> {
    let own = [("id", new.id.is_some()), ("run", new.run.is_some()), ("member", new.member.is_some())];
    if let Some((field, _)) = own.into_iter().find(|(_, given)| *given) {
        return Err(Problem::field(field, "is given by the run"));
    }
    if new.unique.is_some() {
        return Err(Problem::field(
            "unique",
            "a job of a run has no unique key; publish the run with an `id` of its own",
        ));
    }
    let bare = new.args.is_none();
    let lasting = new.expires.as_deref().and_then(config::duration);
    let checked = new.check(now)?.not_kept()?;
    let mut job = checked.job;
    job.id = next::job_id(run, name);
    let asked = inputs::asked(&job.args).map_err(|why| Problem::field("args", why))?;
    if let Some(unknown) = asked.names.iter().find(|asked| !known(asked)) {
        let why = format!("asks for the value of `{}`, which is none of its `needs`", clip(unknown));
        return Err(Problem::field("args", why));
    }
    let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    if lasting.is_some() {
        job.expires_at = None;
    }
    Ok(Member {
        name: name.to_owned(),
        needs: Vec::new(),
        job,
        delay_ms: checked.delay.map(millis),
        expires_ms: lasting.map(millis),
        bare,
        compensate: None,
    })
}

/// Names, and who needs whom.
fn check_needs(members: &[NewMember]) -> Result<(), Problem> {
    let mut places: HashMap<&str, usize> = HashMap::with_capacity(members.len());
    let field = |place: usize, field: &str, why: String| Problem::field(format!("members[{place}].{field}"), why);
    for (place, member) in members.iter().enumerate() {
        let name = member.name.as_str();
        if !keys::is_name(name) {
            return Err(field(place, "name", format!("`{}`: expected {}", clip(name), keys::Form::Name.expected())));
        }
        if CLOSING.contains(&name) {
            return Err(field(
                place,
                "name",
                format!("`{name}` is the job that follows the members; choose another name"),
            ));
        }
        if let Some(first) = places.insert(name, place) {
            return Err(field(place, "name", format!("`{name}` is the name of members[{first}] already")));
        }
    }
    let all = members.iter().map(|member| member.needs.len()).sum::<usize>();
    if all > MOST_NEEDS {
        return Err(Problem::field("members", format!("have {all} needs in all, at most {MOST_NEEDS}")));
    }
    let mut followers: Vec<Vec<usize>> = vec![Vec::new(); members.len()];
    let mut missing = Vec::with_capacity(members.len());
    for (place, member) in members.iter().enumerate() {
        let mut seen = BTreeSet::new();
        for need in &member.needs {
            let Some(needed) = places.get(need.as_str()) else {
                let names = members.iter().map(|member| member.name.clone()).take(20).collect();
                return Err(field(place, "needs", unknown_member(need, &names)));
            };
            if !seen.insert(need) {
                return Err(field(place, "needs", format!("names `{need}` twice")));
            }
            followers[*needed].push(place);
        }
        missing.push(member.needs.len());
    }
    no_cycle(members, &places, &followers, missing)
}

fn no_cycle(
    members: &[NewMember],
    places: &HashMap<&str, usize>,
    followers: &[Vec<usize>],
    mut missing: Vec<usize>,
) -> Result<(), Problem> {
    let mut ready: VecDeque<usize> = (0..members.len()).filter(|place| missing[*place] == 0).collect();
    while let Some(place) = ready.pop_front() {
        for follower in &followers[place] {
            missing[*follower] -= 1;
            if missing[*follower] == 0 {
                ready.push_back(*follower);
            }
        }
    }
    let Some(start) = (0..members.len()).find(|place| missing[*place] > 0) else { return Ok(()) };
    // Whoever is left needs one that is left: going on meets one twice.
    let (mut way, mut seen, mut at) = (Vec::new(), BTreeMap::new(), start);
    while let Some(next) =
        members[at].needs.iter().filter_map(|need| places.get(need.as_str())).find(|at| missing[**at] > 0)
    {
        if let Some(first) = seen.insert(at, way.len()) {
            way.drain(..first);
            break;
        }
        way.push(at);
        at = *next;
    }
    let place = way.first().copied().unwrap_or(start);
    let names: Vec<&str> = way.iter().chain(way.first()).take(20).map(|at| members[*at].name.as_str()).collect();
    Err(Problem::field(format!("members[{place}].needs"), format!("they need each other: {}", names.join(" needs "))))
}

/// Is this the body of a run of jobs, and not of plans?
pub(super) fn is_one(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Peek<'a> {
        #[serde(borrow)]
        plans: Option<&'a RawValue>,
    }
    !serde_json::from_slice::<Peek>(body).is_ok_and(|peek| peek.plans.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str) -> Result<NewRun, Problem> {
        read(body.as_bytes())?.check(Timestamp::now())
    }

    #[test]
    fn a_run_that_cannot_be_is_refused_with_the_field_named() {
        let many: Vec<String> = (0..=MOST_MEMBERS).map(|n| format!(r#"{{"name":"m{n}","kind":"noop"}}"#)).collect();
        let many = format!(r#"{{"members":[{}]}}"#, many.join(","));
        let table = [
            (r#"{"members":[]}"#, "members", "empty"),
            (&many, "members", "at most 10000"),
            (r#"{"members":[{"name":"a","kind":"noop"},{"name":"a","kind":"noop"}]}"#, "members[1].name", "members[0]"),
            (r#"{"members":[{"kind":"noop"}]}"#, "members[0].name", "missing"),
            (r#"{"members":[{"name":"a"}]}"#, "members[0].kind", "missing"),
            (r#"{"members":[{"name":"a b","kind":"noop"}]}"#, "members[0].name", "expected"),
            (r#"{"members":[{"name":"then","kind":"noop"}]}"#, "members[0].name", "another"),
            (r#"{"members":[{"name":"a","kind":"noop","needs":["b"]}]}"#, "members[0].needs", "no member `b`"),
            (r#"{"members":[{"name":"a","kind":"noop","needs":"b"}]}"#, "members[0].needs", "a list"),
            (r#"{"members":[{"name":"a","kind":"noop","needs":["a"]}]}"#, "members[0].needs", "a needs a"),
            (
                r#"{"members":[{"name":"x","kind":"noop","needs":["a"]},{"name":"a","kind":"noop","needs":["b"]},{"name":"b","kind":"noop","needs":["a"]}]}"#,
                "members[1].needs",
                "a needs b needs a",
            ),
            (r#"{"members":[{"name":"a","kind":"noop","args":{"$from":"b"}}]}"#, "members[0].args", "`b`"),
            (
                r#"{"members":[{"name":"a","kind":"noop","run":"00000000-0000-0000-0000-000000000001"}]}"#,
                "members[0].run",
                "run",
            ),
            (
                r#"{"members":[{"name":"a","kind":"noop","compensate":{"kind":7}}]}"#,
                "members[0].compensate.kind",
                "text",
            ),
            (
                r#"{"members":[{"name":"a","kind":"noop"}],"finally":{"kind":"noop","args":[{"$from":"b"}]}}"#,
                "finally.args",
                "no member `b`",
            ),
            (r#"{"members":[{"name":"a","kind":"noop"}],"on_failure":"panic"}"#, "on_failure", "go_on"),
            (r#"{"members":[{"name":"a","kind":"noop"}],"thne":{"kind":"noop"}}"#, "thne", "no field"),
        ];
        for (body, field, why) in table {
            let problem = check(body).map(|_| ()).unwrap_err();
            let short: String = body.chars().take(200).collect();
            assert_eq!(problem.field.as_deref(), Some(field), "{short}: {problem}");
            assert!(problem.detail.contains(why), "{short}: {problem}");
        }
    }

    #[test]
    fn what_a_client_writes_is_what_the_server_reads() {
        let mut new =
            NewJobRun::new("nightly", vec![NewMember::new("a", "noop", &[]), NewMember::new("b", "noop", &["a"])]);
        new.members[1].compensate = Some(NewJob::new("undo"));
        new.finally = Some(NewJob { expires: Some("5m".to_owned()), ..NewJob::new("tell") });
        new.on_failure = OnFailure::Compensate;
        let run = check(&serde_json::to_string(&new).unwrap()).unwrap();
        assert_eq!((run.name.as_str(), run.on_failure, run.members.len()), ("nightly", OnFailure::Compensate, 2));
        assert_eq!(run.members[1].needs, ["a"]);
        assert_eq!(run.members[1].compensate.as_ref().map(|undo| undo.name.as_str()), Some("compensate:b"));
        assert!(run.finally.is_some_and(|last| last.bare && last.expires_ms == Some(300_000)));
    }
}
