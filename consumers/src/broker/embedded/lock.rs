//! One directory, one process: the lock file and what it tells a second one.
//!
//! The lock is the open handle, not the file: it ends with the process, however that ends. The
//! handle is closed on exec, so children do not inherit it.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    path::Path,
};

use crate::broker::BrokerError;

/// Held as long as the directory is owned.
#[derive(Debug)]
pub(super) struct DirLock(File);

impl DirLock {
    /// Takes the directory, or says who has it.
    pub(super) fn take(dir: &Path, socket: Option<&Path>) -> Result<Self, BrokerError> {
        let path = dir.join("broker.lock");
        let failed = |error: std::io::Error| BrokerError::Misconfigured(format!("{}: {error}", path.display()));
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(taken(dir, &mut file)),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let socket = socket.map(|socket| socket.display().to_string()).unwrap_or_default();
        let text = format!("{}\n{socket}\n", std::process::id());
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(text.as_bytes())).map_err(failed)?;
        Ok(Self(file))
    }

    /// Gives it back.
    pub(super) fn release(self) {
        // Closing the handle releases it too.
        let _ = self.0.unlock();
    }
}

fn taken(dir: &Path, file: &mut File) -> BrokerError {
    let mut text = String::new();
    // Best effort: the owner may be writing it just now.
    let _ = file.read_to_string(&mut text);
    let mut lines = text.lines();
    let owner =
        lines.next().filter(|pid| !pid.is_empty()).map_or("another process".into(), |pid| format!("process {pid}"));
    let socket = lines.next().filter(|socket| !socket.is_empty());
    let reach = socket.map(|socket| format!("; reach it at {socket}")).unwrap_or_default();
    BrokerError::InUse(format!("{} is in use by {owner}{reach}", dir.display()))
}
