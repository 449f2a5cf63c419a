//! Blobs as files: `ROOT/xx/JOB/SHA256`, where `xx` are the last digits of the job's id.
//!
//! A file appears whole or not at all, and is on disk before anybody names it. A root without its
//! marker is one that is not mounted: then nothing is missing, it is only not there now.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{ErrorKind, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use jiff::Timestamp;
use spinor_executors::BlobRef;
use uuid::Uuid;

use super::{BlobError, apart};

/// Lies in the root of each store.
const MARKER: &str = "spinor-blobs";
/// Orphans told at once.
const SOME: usize = 200;

/// A store below a directory.
pub(super) struct Directory(PathBuf);

impl Directory {
    pub(super) async fn open(root: PathBuf) -> Result<Self, BlobError> {
        let path = root.clone();
        io(&root, move || {
            directory(&path)?;
            let marker = path.join(MARKER);
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(marker).map(drop)
        })
        .await?;
        Ok(Self(root))
    }

    pub(super) fn root(&self) -> &Path {
        &self.0
    }

    pub(super) async fn put(&self, job: Uuid, blob: &BlobRef, bytes: Bytes) -> Result<(), BlobError> {
        let (root, home) = (self.0.clone(), self.home(job));
        let (path, part) = (home.join(blob.sha256.to_string()), home.join(format!(".{}", Uuid::now_v7().simple())));
        io(&self.0, move || {
            if !root.join(MARKER).exists() {
                return Err(std::io::Error::new(ErrorKind::NotFound, "it is not mounted"));
            }
            directory(&home)?;
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&part, &path)?;
            // The names, too: of the file, and of directories that may be new.
            for above in [Some(home.as_path()), home.parent(), Some(root.as_path())].into_iter().flatten() {
                File::open(above)?.sync_all()?;
            }
            Ok(())
        })
        .await
    }

    pub(super) async fn get(&self, job: Uuid, blob: &BlobRef) -> Result<Option<Bytes>, BlobError> {
        let (root, path, size) = (self.0.clone(), self.home(job).join(blob.sha256.to_string()), blob.size);
        io(&self.0, move || {
            let found = match fs::metadata(&path) {
                // Somebody else said the size: a file of another one is not read.
                Ok(about) if about.len() != size => None,
                Ok(_) => Some(fs::read(&path)?.into()),
                Err(error) if error.kind() == ErrorKind::NotFound && root.join(MARKER).exists() => None,
                Err(error) => return Err(error),
            };
            Ok(found)
        })
        .await
    }

    pub(super) async fn count(&self, jobs: Vec<Uuid>) -> Result<(u64, u64), BlobError> {
        let homes: Vec<PathBuf> = jobs.into_iter().map(|job| self.home(job)).collect();
        io(&self.0, move || {
            let (mut blobs, mut bytes) = (0, 0);
            for home in homes {
                let Ok(entries) = fs::read_dir(home) else { continue };
                for entry in entries {
                    blobs += 1;
                    bytes += entry?.metadata()?.len();
                }
            }
            Ok((blobs, bytes))
        })
        .await
    }

    pub(super) async fn forget(&self, jobs: Vec<Uuid>) -> Result<(), BlobError> {
        let homes: Vec<PathBuf> = jobs.into_iter().map(|job| self.home(job)).collect();
        io(&self.0, move || {
            for home in homes {
                match fs::remove_dir_all(home) {
                    Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            Ok(())
        })
        .await
    }

    /// Jobs after `after`, by id, whose blobs were stored before an instant.
    pub(super) async fn older(&self, before: Timestamp, after: Uuid) -> Result<Vec<Uuid>, BlobError> {
        let root = self.0.clone();
        let before = UNIX_EPOCH + Duration::from_micros(before.as_microsecond().unsigned_abs());
        io(&self.0, move || {
            let mut found = Vec::new();
            for fan in fs::read_dir(&root)? {
                // The marker is a file, and holds nothing.
                let Ok(homes) = fs::read_dir(fan?.path()) else { continue };
                for home in homes {
                    let home = home?;
                    let job = home.file_name().to_str().and_then(|name| Uuid::parse_str(name).ok());
                    let old = home.metadata()?.modified()? < before;
                    found.extend(job.filter(|job| old && *job > after));
                }
            }
            found.sort_unstable();
            found.truncate(SOME);
            Ok(found)
        })
        .await
    }

    fn home(&self, job: Uuid) -> PathBuf {
        let name = job.simple().to_string();
        self.0.join(&name[30..]).join(&name)
    }
}

/// Makes a directory and those above it, for their owner only.
fn directory(path: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

async fn io<T: Send + 'static>(
    root: &Path,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, BlobError> {
    apart(work).await?.map_err(|error| BlobError::Unavailable(format!("{}: {error}", root.display())))
}
