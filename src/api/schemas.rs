//! Args are held against the schemas that the programs of their kind told, before a job is published.
//!
//! Owns the compiled schemas, and whose word counts: args are refused only when every version that is
//! alive refuses them, as far as is known here. A kind without a schema costs one look. A schema that
//! makes no sense checks nothing, and is told once. Of a kind that comes with Spinor this version's own
//! schema counts, unless another version serves it. Refuses to fetch anything: a schema that refers to
//! another document makes no sense here.

mod check;
mod compile;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use serde_json::{Map, Value};
use spinor_consumers::{
    consumer::Served,
    hidden::{Hidden, MASK},
    marks::{Marks, StateCell},
    next::{Member, NewRun, inputs},
    state::{Kind, Subject},
};
use spinor_executors::{BUILTIN_KINDS, Job, Json, builtin_schema};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Problem, clip};
use check::Verdict;
use compile::Schema;

/// Args that are larger are left to who runs them.
const LARGEST: usize = 1024 * 1024;
/// Who is alive is asked again after this.
const FRESH: Duration = Duration::from_secs(2);

/// Whose schemas those of the kinds that come with Spinor are.
const OWN: &str = env!("CARGO_PKG_VERSION");

/// The schemas that are known, compiled.
#[derive(Default)]
pub struct Schemas {
    marks: Arc<Marks>,
    hidden: Arc<Hidden>,
    state: StateCell,
    known: Mutex<Known>,
    /// Of the kinds that come with Spinor.
    builtin: HashMap<&'static str, Arc<[Form]>>,
    alive: tokio::sync::Mutex<Option<(Instant, Option<Alive>)>>,
}

/// By kind, which schemas the consumers that are alive told. Who told none may take anything: [`Uuid::nil`].
type Alive = Arc<HashMap<String, HashSet<Uuid>>>;

#[derive(Default)]
struct Known {
    changes: Option<u64>,
    kinds: HashMap<String, Arc<[Form]>>,
    compiled: HashMap<Uuid, Compiled>,
}

type Compiled = Result<Arc<Schema>, Arc<str>>;

/// One of the schemas of a kind.
struct Form {
    id: Uuid,
    /// Absent when there is none, or none that makes sense: then it refuses nothing.
    schema: Option<Arc<Schema>>,
}

/// What the known schemas say of args that one of them refuses.
struct Refused {
    problem: Problem,
    by: HashSet<Uuid>,
    by_all: bool,
}

impl Schemas {
    /// Those that these marks tell; State says who is alive.
    pub fn new(marks: Arc<Marks>, state: StateCell) -> Self {
        let kinds = BUILTIN_KINDS.into_iter().filter_map(|kind| Some((kind, builtin_form(kind)?)));
        let hidden = Arc::new(Hidden::new(Arc::clone(&marks)));
        Self { marks, hidden, state, builtin: kinds.collect(), ..Self::default() }
    }

    /// What is shown of args to nobody.
    pub fn hidden(&self) -> &Arc<Hidden> {
        &self.hidden
    }

    /// Refuses args that hold what is shown in the place of a secret.
    pub(super) fn check_secrets(&self, kind: &str, args: &Json) -> Result<(), Problem> {
        if self.hidden.is_given_back(kind, args) {
            let why = format!("`{MASK}` stands for a secret that is shown to nobody; give the secret itself");
            return Err(Problem::field("args", why));
        }
        Ok(())
    }

    /// Checks jobs one after the other; those that are alike cost one check.
    pub fn checking(&self) -> Checking<'_> {
        Checking { schemas: self, good: None }
    }

    /// Refuses a run for the first of its jobs whose args are wrong, as far as they are known yet.
    pub async fn check_run(&self, run: &NewRun) -> Result<(), Problem> {
        let mut checking = self.checking();
        let members = run.members.iter().enumerate().map(|(place, member)| (format!("members[{place}]"), member));
        let closing = [("then", &run.then), ("finally", &run.finally)];
        let closing = closing.into_iter().filter_map(|(name, member)| Some((name.to_owned(), member.as_deref()?)));
        // Without args they get an account of the run.
        for (place, member) in members.chain(closing.filter(|(_, member)| !member.bare)) {
            checking.check_member(&place, member).await?;
            if let Some(undo) = &member.compensate {
                checking.check_member(&format!("{place}.compensate"), undo).await?;
            }
        }
        Ok(())
    }

    /// Why the schema of this mark checks nothing, if it should.
    pub(super) fn trouble(&self, form: Uuid) -> Option<String> {
        self.refresh();
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.compiled.get(&form)?.as_ref().err().map(ToString::to_string)
    }

    async fn check(&self, job: &Job) -> Result<(), Problem> {
        self.check_secrets(&job.kind, &job.args)?;
        let Some(refused) = self.refused(job) else { return Ok(()) };
        let alive = self.alive().await;
        let alive = alive.as_ref().and_then(|alive| alive.get(&job.kind));
        let counts = alive.map_or(refused.by_all, |alive| alive.is_subset(&refused.by));
        if counts { Err(refused.problem) } else { Ok(()) }
    }

    /// Refuses args that no schema that was ever told allows, whoever is alive.
    pub fn check_told(&self, job: &Job) -> Result<(), Problem> {
        self.refused(job).filter(|refused| refused.by_all).map_or(Ok(()), |refused| Err(refused.problem))
    }

    fn refused(&self, job: &Job) -> Option<Refused> {
        let forms = self.forms(&job.kind)?;
        if job.args.bytes().len() > LARGEST {
            return None;
        }
        // What cannot be read is deeper than a schema looks; who runs it says so.
        let args: Value = serde_json::from_slice(job.args.bytes()).ok()?;
        let (mut problem, mut by) = (None, HashSet::new());
        for form in forms.iter() {
            if let Some(why) = form.schema.as_deref().and_then(|schema| refusal(&job.kind, schema, &args)) {
                problem.get_or_insert(why);
                by.insert(form.id);
            }
        }
        Some(Refused { problem: problem?, by_all: by.len() == forms.len(), by })
    }

    /// The schemas of a kind, what was told last first; nothing if none refuses anything.
    fn forms(&self, kind: &str) -> Option<Arc<[Form]>> {
        if let Some(own) = self.builtin.get(kind) {
            return Some(Arc::clone(own));
        }
        self.refresh();
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.kinds.get(kind).map(Arc::clone)
    }

    fn refresh(&self) {
        let changes = self.marks.changed_last(Kind::Served);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.changes != Some(changes) {
            let before = std::mem::take(&mut known.compiled);
            *known = Known { changes: Some(changes), ..read(&self.marks, &before) };
        }
    }

    /// Nothing when nobody can say, which is remembered, too: a batch must not wait for it job by job.
    async fn alive(&self) -> Option<Alive> {
        let mut last = self.alive.lock().await;
        if let Some((at, known)) = last.as_ref()
            && at.elapsed() < FRESH
        {
            return known.clone();
        }
        let found = self.ask().await;
        *last = Some((Instant::now(), found.clone()));
        found
    }

    async fn ask(&self) -> Option<Alive> {
        let mut found: HashMap<String, HashSet<Uuid>> = HashMap::new();
        for present in self.state.get()?.consumers().await.ok()? {
            let told = present.beat.forms.iter();
            // Who serves a kind and told nothing of it takes any args.
            let kinds = present.beat.kinds.iter().filter(|kind| !told.clone().any(|(of, _)| of == *kind));
            let own = |kind: &str| present.beat.version == OWN && self.builtin.contains_key(kind);
            let silent = kinds.map(|kind| (kind, if own(kind) { builtin_id(kind) } else { Uuid::nil() }));
            for (kind, form) in told.clone().map(|(kind, form)| (kind, *form)).chain(silent) {
                found.entry(kind.clone()).or_default().insert(form);
            }
        }
        Some(Arc::new(found))
    }
}

/// The schema of a kind that comes with Spinor, for people.
pub(super) fn builtin(kind: &str) -> Option<Value> {
    builtin_schema(kind).and_then(|text| serde_json::from_str(text).ok())
}

fn builtin_form(kind: &str) -> Option<Arc<[Form]>> {
    let schema = compile::schema(&builtin(kind)?).ok()?;
    Some(Arc::new([Form { id: builtin_id(kind), schema: Some(Arc::new(schema)) }]))
}

fn builtin_id(kind: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("spinor {OWN} {kind}").as_bytes())
}

/// What a program told of a kind.
pub(super) struct Told {
    pub kind: String,
    pub form: Uuid,
    pub served: Served,
    pub at: Timestamp,
}

/// All that was told, the last first.
pub(super) fn told(marks: &Marks) -> Vec<Told> {
    let mut marks = marks.all(Kind::Served);
    marks.sort_by_key(|mark| std::cmp::Reverse(mark.version));
    let told = marks.into_iter().filter_map(|mark| {
        let Subject::Served { kind, form } = mark.subject else { return None };
        let served = mark.value.and_then(|value| serde_json::from_value(value).ok()).unwrap_or_default();
        Some(Told { kind, form, served, at: mark.at })
    });
    told.collect()
}

fn read(marks: &Marks, before: &HashMap<Uuid, Compiled>) -> Known {
    let (mut kinds, mut compiled): (HashMap<String, Vec<Form>>, HashMap<Uuid, Compiled>) = Default::default();
    for Told { kind, form, served, .. } in told(marks) {
        let schema = served.schema.and_then(|schema| {
            let known = compiled.get(&form).or_else(|| before.get(&form)).cloned();
            let made = known.unwrap_or_else(|| {
                let made = compile::schema(&schema)
                    .map(Arc::new)
                    .map_err(|why| why.chars().take(500).collect::<String>().into());
                if let Err(why) = &made {
                    tracing::warn!(kind, %why, "The schema of a kind makes no sense; its args are not checked.");
                }
                made
            });
            compiled.entry(form).or_insert(made).as_ref().ok().map(Arc::clone)
        });
        kinds.entry(kind).or_default().push(Form { id: form, schema });
    }
    kinds.retain(|_, forms| forms.iter().any(|form| form.schema.is_some()));
    let kinds = kinds.into_iter().map(|(kind, forms)| (kind, forms.into())).collect();
    Known { changes: None, kinds, compiled }
}

fn refusal(kind: &str, schema: &Schema, args: &Value) -> Option<Problem> {
    let Verdict::Refused(mut why) = check::check(schema, args) else { return None };
    // No args at all: what is missing says more than that `null` is no object.
    if args.is_null()
        && let Verdict::Refused(missing) = check::check(schema, &Value::Object(Map::new()))
    {
        why = missing;
    }
    let detail = format!("{}; `spinor kinds show {kind}` has the schema", why.why);
    Some(Problem::field(clip(&format!("args{}", why.place)), detail))
}

/// One check after the other.
pub struct Checking<'a> {
    schemas: &'a Schemas,
    /// What was found right last.
    good: Option<(String, Json)>,
}

impl Checking<'_> {
    /// Refuses args that the schemas of their kind do not allow, with the field named.
    pub async fn check(&mut self, job: &Job) -> Result<(), Problem> {
        if self.good.as_ref().is_some_and(|(kind, args)| *kind == job.kind && *args == job.args) {
            return Ok(());
        }
        self.schemas.check(job).await?;
        self.good = Some((job.kind.clone(), job.args.clone()));
        Ok(())
    }

    async fn check_member(&mut self, place: &str, member: &Member) -> Result<(), Problem> {
        // Values that are not there yet are not checked, nor is what is beside them.
        if inputs::asked(&member.job.args).is_ok_and(|asked| asked != inputs::Asked::default()) {
            return Ok(());
        }
        self.check(&member.job).await.map_err(|problem| {
            let detail = format!("{}; it is an argument of the member `{}`", problem.detail, member.name);
            Problem { detail, ..problem.within(place) }
        })
    }
}
