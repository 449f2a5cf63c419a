//! A backup of what an installation keeps on this machine, and the way back.
//!
//! Owns the order of the copies, the manifest and the checks. What a job is known by moves one way only:
//! from the broker's file into the record, where its report is committed before the broker forgets it. So
//! **the broker is copied first**, the record after it: what left the first before its copy is in the second.
//! In the other order a job that ended between the copies would be in neither. State comes after the record, so
//! that every claim of what may have run is in it, and blobs last: they are stored before anything names them.
//! What is in two copies is harmless: every entry of the record is idempotent, and a restored broker counts all
//! it holds as delivered before, so that each job is looked up in the record before it runs.
//! Refuses to write into a directory that is not empty, and to take back what has another hash.

mod files;

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use spinor_executors::Sha256;
use uuid::Uuid;

use crate::{
    broker::embedded::ALL_DELIVERED,
    database::copy,
    results::{ResultsError, SCHEMA_VERSION},
};
use files::apart;

/// The layout of a backup.
const LAYOUT: u32 = 1;
const MANIFEST: &str = "manifest.json";
const BROKER: &str = "broker/broker.db";
const BLOBS: &str = "blobs";
const PLANS: &str = "plans";

/// What an installation keeps here, and where.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its data directory.
    pub data: PathBuf,
    /// Files of SQLite below it, in the order in which they are copied; those that are not there are left out.
    pub databases: Vec<&'static str>,
    /// The directory of large args and values, when they are not in the record.
    pub blobs: Option<PathBuf>,
    /// What is elsewhere, and how to keep that.
    pub elsewhere: Vec<String>,
}

impl Kept {
    /// What may be kept in files, in the order that loses nothing.
    pub const DATABASES: [&'static str; 3] = [BROKER, "results.db", "state.db"];
}

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Manifest {
    /// The layout of the backup.
    pub layout: u32,
    /// The version of the program that made it.
    pub version: String,
    /// The schema of the record.
    pub schema: i64,
    /// When it was begun.
    pub made: Timestamp,
    /// Every file with its size and hash.
    pub files: Vec<FileEntry>,
    /// What is not in it, and how to keep that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elsewhere: Vec<String>,
}

/// A file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileEntry {
    /// Its path in the backup.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Its hash.
    pub sha256: Sha256,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// Of this backup.
    pub manifest: Manifest,
    /// Into this directory.
    pub data: PathBuf,
    /// What was there before is here now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aside: Vec<PathBuf>,
}

/// Why a backup was not made or not taken back. Named by what the caller does next.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Name another directory, stop who uses it, or take another backup.
    #[error("{0}")]
    Refused(String),
    /// Look at this machine: its disk, its rights.
    #[error("{0}")]
    Failed(String),
}

impl From<ResultsError> for BackupError {
    fn from(error: ResultsError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// The data directory, held against every other process until it is dropped.
#[derive(Debug)]
pub struct Held(#[expect(dead_code, reason = "locks that end with it")] Vec<std::fs::File>);

/// Holds a data directory that no process uses; an error names the file that tells of one.
pub fn hold(data: &Path) -> Result<Held, BackupError> {
    let mut held = Vec::new();
    for name in ["api.lock", "broker/broker.lock"] {
        let path = data.join(name);
        let Ok(file) = std::fs::OpenOptions::new().read(true).write(true).open(&path) else { continue };
        file.try_lock().map_err(|_| {
            BackupError::Refused(format!("{} is in use: a process holds {}", data.display(), path.display()))
        })?;
        held.push(file);
    }
    Ok(Held(held))
}

/// Copies what is kept into a new directory; it appears under its name when it is whole and on disk.
pub async fn back_up(kept: &Kept, to: &Path, version: &str) -> Result<Manifest, BackupError> {
    files::must_be_free(to)?;
    let part = files::beside(to, "part");
    let made = async {
        let made = Timestamp::now();
        files::directory(&part)?;
        for name in &kept.databases {
            let from = kept.data.join(name);
            if from.exists() {
                let into = part.join(name);
                files::directory(into.parent().unwrap_or(&part))?;
                copy::copy(&from, &into).await?;
            }
        }
        let (blobs, plans, root) = (kept.blobs.clone(), kept.data.join(PLANS), part.clone());
        let files = apart(move || {
            if let Some(blobs) = blobs {
                files::copy_tree(&blobs, &root.join(BLOBS))?;
            }
            // Behind the broker: a step that ended after its copy is not done again.
            files::copy_tree(&plans, &root.join(PLANS))?;
            files::list(&root)
        });
        let manifest = Manifest {
            layout: LAYOUT,
            version: version.to_owned(),
            schema: SCHEMA_VERSION,
            made,
            files: files.await?,
            elsewhere: kept.elsewhere.clone(),
        };
        files::write(&part.join(MANIFEST), &serde_json::to_vec_pretty(&manifest).unwrap_or_default())?;
        files::put_in_place(&part, to)?;
        Ok(manifest)
    };
    let made = made.await;
    if made.is_err() {
        // What is half done is of no use; the error says why.
        let _ = std::fs::remove_dir_all(&part);
    }
    made
}

/// Takes a backup back into a data directory that is not there or empty; `aside` keeps what is there under
/// another name.
pub async fn restore(from: &Path, kept: &Kept, aside: bool) -> Result<Restored, BackupError> {
    let manifest = read(from)?;
    if manifest.files.iter().any(|file| file.path == BROKER) && !kept.databases.contains(&BROKER) {
        let why = "the backup holds queues, and `broker` names a server: restore with `broker = \"embedded\"`";
        return Err(BackupError::Refused(why.to_owned()));
    }
    let has_blobs = manifest.files.iter().any(|file| file.path.starts_with("blobs/"));
    let blobs = match &kept.blobs {
        Some(blobs) => Some(blobs.clone()).filter(|_| has_blobs),
        None if has_blobs => {
            let why = "the backup holds a directory of large args and values: set `blobs = \"file:///...\"` as it was";
            return Err(BackupError::Refused(why.to_owned()));
        }
        None => None,
    };
    let held = hold(&kept.data)?;
    for place in std::iter::once(&kept.data).chain(&blobs) {
        if !aside && files::holds_something(place) {
            let place = place.display();
            return Err(BackupError::Refused(format!(
                "{place} is not empty; --force keeps what is there under another name"
            )));
        }
    }
    let (source, checked) = (from.to_owned(), manifest.clone());
    apart(move || files::check(&source, &checked.files)).await?;
    let part = files::beside(&kept.data, "restoring");
    let blobs_part = blobs.as_ref().map(|blobs| files::beside(blobs, "restoring"));
    let (source, entries, root, blobs_root) =
        (from.to_owned(), manifest.files.clone(), part.clone(), blobs_part.clone());
    let copied = apart(move || files::copy_back(&source, &entries, &root, blobs_root.as_deref())).await;
    let mended = match copied {
        Ok(()) if part.join(BROKER).exists() => copy::mend(&part.join(BROKER), ALL_DELIVERED).await.map_err(Into::into),
        other => other,
    };
    if mended.is_err() {
        let _ = std::fs::remove_dir_all(&part);
        blobs_part.iter().for_each(|part| _ = std::fs::remove_dir_all(part));
    }
    mended?;
    let mut moved = Vec::new();
    if let (Some(blobs), Some(part)) = (&blobs, &blobs_part) {
        moved.extend(files::replace(part, blobs)?);
    }
    moved.extend(files::replace(&part, &kept.data)?);
    drop(held);
    Ok(Restored { manifest, data: kept.data.clone(), aside: moved })
}

/// The manifest of a backup that this program understands.
fn read(from: &Path) -> Result<Manifest, BackupError> {
    let path = from.join(MANIFEST);
    let refused = |why: String| BackupError::Refused(format!("{}: {why}", path.display()));
    let text = std::fs::read(&path).map_err(|error| refused(format!("{error}; is this a backup?")))?;
    let manifest: Manifest = serde_json::from_slice(&text).map_err(|error| refused(error.to_string()))?;
    if manifest.layout > LAYOUT || manifest.schema > SCHEMA_VERSION {
        let version = &manifest.version;
        return Err(refused(format!("made by the newer version {version}; use that program, or a newer one")));
    }
    if let Some(odd) = manifest.files.iter().find(|file| !files::is_plain(&file.path)) {
        return Err(refused(format!("names the file `{}`, which leads elsewhere", odd.path)));
    }
    Ok(manifest)
}

/// A name beside a path that nobody else has.
fn fresh(path: &Path, why: &str) -> PathBuf {
    let name = path.file_name().map_or_else(|| "data".into(), |name| name.to_string_lossy().into_owned());
    path.with_file_name(format!(".{name}.{why}-{}", Uuid::now_v7().simple()))
}
