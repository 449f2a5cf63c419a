//! The files of a backup: copied, hashed, checked, and put in their place whole.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{ErrorKind, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Component, Path, PathBuf},
};

use jiff::Timestamp;
use ring::digest;
use spinor_executors::Sha256;

use super::{BackupError, FileEntry, fresh};

/// Runs what takes a while beside the async work.
pub(super) async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BackupError> + Send + 'static,
) -> Result<T, BackupError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(BackupError::Failed(error.to_string())))
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> BackupError {
    let path = path.display().to_string();
    move |error| BackupError::Failed(format!("{path}: {error}"))
}

/// A directory that is not there yet, but for an empty one.
pub(super) fn must_be_free(path: &Path) -> Result<(), BackupError> {
    if !path.is_absolute() {
        return Err(BackupError::Refused(format!("{}: expected an absolute path", path.display())));
    }
    if holds_something(path) {
        return Err(BackupError::Refused(format!("{} is there already and not empty", path.display())));
    }
    Ok(())
}

/// Is there a file, or a directory with something in it?
pub(super) fn holds_something(path: &Path) -> bool {
    match fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) => error.kind() != ErrorKind::NotFound,
    }
}

/// Makes a directory and those above it, for their owner only.
pub(super) fn directory(path: &Path) -> Result<(), BackupError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed(path))
}

/// A name for what is not whole yet, on the same disk.
pub(super) fn beside(path: &Path, why: &str) -> PathBuf {
    fresh(path, why)
}

/// May a file of this name lie in a backup? A plain path downwards.
pub(super) fn is_plain(path: &str) -> bool {
    !path.is_empty() && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

/// Copies the files below a directory; those that are begun while it copies are left out, and so are those that
/// are removed. One that is not there holds nothing.
pub(super) fn copy_tree(from: &Path, to: &Path) -> Result<(), BackupError> {
    let entries = match fs::read_dir(from) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(from)(error)),
    };
    directory(to)?;
    for entry in entries {
        let entry = entry.map_err(failed(from))?;
        let name = entry.file_name();
        // A blob that is being written has a name with a dot.
        if name.to_string_lossy().starts_with('.') {
            continue;
        }
        let kind = entry.file_type().map_err(failed(from))?;
        if kind.is_dir() {
            copy_tree(&entry.path(), &to.join(name))?;
        } else if kind.is_file() {
            copy_file(&entry.path(), &to.join(name))?;
        }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path) -> Result<(), BackupError> {
    let mut source = match File::open(from) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(from)(error)),
    };
    let mut options = OpenOptions::new();
    let mut target = options.write(true).create_new(true).mode(0o600).open(to).map_err(failed(to))?;
    std::io::copy(&mut source, &mut target).and_then(|_| target.sync_all()).map_err(failed(to))
}

/// Writes a small file; it is on disk when this returns.
pub(super) fn write(path: &Path, content: &[u8]) -> Result<(), BackupError> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path).map_err(failed(path))?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(failed(path))
}

/// Every file below a directory with its size and hash, by path.
pub(super) fn list(root: &Path) -> Result<Vec<FileEntry>, BackupError> {
    let mut entries = Vec::new();
    let mut rest = vec![root.to_owned()];
    while let Some(folder) = rest.pop() {
        for entry in fs::read_dir(&folder).map_err(failed(&folder))? {
            let path = entry.map_err(failed(&folder))?.path();
            if path.is_dir() {
                rest.push(path);
                continue;
            }
            let (bytes, sha256) = hash(&path)?;
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            entries.push(FileEntry { path: name, bytes, sha256 });
        }
    }
    entries.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(entries)
}

fn hash(path: &Path) -> Result<(u64, Sha256), BackupError> {
    let mut file = File::open(path).map_err(failed(path))?;
    let (mut context, mut bytes) = (digest::Context::new(&digest::SHA256), 0);
    let mut piece = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut piece).map_err(failed(path))?;
        if read == 0 {
            break;
        }
        context.update(&piece[..read]);
        bytes += read as u64;
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    Ok((bytes, Sha256(hash)))
}

/// Are all files there, and what they were?
pub(super) fn check(root: &Path, entries: &[FileEntry]) -> Result<(), BackupError> {
    for entry in entries {
        let path = root.join(&entry.path);
        let wrong = |why: String| BackupError::Refused(format!("{}: {why}; nothing was restored", path.display()));
        let (bytes, sha256) = hash(&path).map_err(|error| wrong(error.to_string()))?;
        if (bytes, sha256) != (entry.bytes, entry.sha256) {
            return Err(wrong(format!(
                "is damaged: {bytes} bytes with hash {sha256}, not {} with {}",
                entry.bytes, entry.sha256
            )));
        }
    }
    Ok(())
}

/// Copies the files of a backup to where they will be used, blobs apart from the rest.
pub(super) fn copy_back(
    from: &Path,
    entries: &[FileEntry],
    data: &Path,
    blobs: Option<&Path>,
) -> Result<(), BackupError> {
    directory(data)?;
    if let Some(blobs) = blobs {
        directory(blobs)?;
    }
    for entry in entries {
        let to = match (entry.path.strip_prefix("blobs/"), blobs) {
            (Some(rest), Some(blobs)) => blobs.join(rest),
            _ => data.join(&entry.path),
        };
        directory(to.parent().unwrap_or(data))?;
        copy_file(&from.join(&entry.path), &to)?;
    }
    Ok(())
}

/// Gives a directory its name, once it and its name are on disk.
pub(super) fn put_in_place(part: &Path, to: &Path) -> Result<(), BackupError> {
    // An empty one makes room.
    let _ = fs::remove_dir(to);
    fs::rename(part, to).map_err(failed(to))?;
    let above = to.parent().unwrap_or(Path::new("/"));
    File::open(above).and_then(|above| above.sync_all()).map_err(failed(above))
}

/// The same; what was there is kept under another name, which is told.
pub(super) fn replace(part: &Path, to: &Path) -> Result<Option<PathBuf>, BackupError> {
    let aside = holds_something(to).then(|| {
        let name = to.file_name().map_or_else(|| "data".into(), |name| name.to_string_lossy().into_owned());
        to.with_file_name(format!("{name}.before-{}", Timestamp::now().strftime("%Y%m%dT%H%M%SZ")))
    });
    if let Some(aside) = &aside {
        fs::rename(to, aside).map_err(failed(aside))?;
    }
    put_in_place(part, to)?;
    Ok(aside)
}
