//! A directory of a test's own, removed when the test is done.
//!
//! Under the run's scratch directory when there is one, so that the run can clear up after a killed
//! test. A failing test keeps its directory and names it.

use std::path::{Path, PathBuf};

/// A fresh directory; removed on drop unless the test is failing.
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes the directory; `name` is for the reader of a listing.
    pub fn new(name: &str) -> Self {
        let path = parent().join(format!("{name}-{}", uuid::Uuid::now_v7().simple()));
        std::fs::create_dir_all(&path).expect("a scratch directory can be made");
        Self { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path inside it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file inside it and returns its path.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        std::fs::write(&path, content).expect("a scratch file can be written");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("kept for a look: {}", self.path.display());
        } else if let Err(error) = std::fs::remove_dir_all(&self.path) {
            eprintln!("{} stays: {error}", self.path.display());
        }
    }
}

/// Where scratch directories and private servers of this run go.
pub fn parent() -> PathBuf {
    std::env::var_os("SPINOR_TEST_SCRATCH").map_or_else(std::env::temp_dir, PathBuf::from)
}
