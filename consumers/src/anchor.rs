//! Files that are open, and whether their names still lead to them.
//!
//! Who goes on writing to a file that was removed gets no error, and nobody finds what was written.
//! A look costs one call of the system a file.

use std::{
    io::ErrorKind,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Which file a name led to when it was opened.
#[derive(Clone, Debug)]
pub struct Anchor(Arc<[(PathBuf, (u64, u64))]>);

impl Anchor {
    /// Of files that are there; those that are not are left out.
    pub fn of(paths: &[PathBuf]) -> Self {
        Self(paths.iter().filter_map(|path| Some((path.clone(), file_at(path).ok()?))).collect())
    }

    /// Does every name still lead to its file? What is wrong with the first that does not.
    pub fn holds(&self) -> Result<(), String> {
        for (path, file) in self.0.iter() {
            let what = match file_at(path) {
                Ok(found) if found == *file => continue,
                Ok(_) => "was replaced by another file".to_owned(),
                Err(error) if error.kind() == ErrorKind::NotFound => "was removed".to_owned(),
                Err(error) => format!("cannot be looked at ({error})"),
            };
            return Err(format!(
                "{} {what} while it is in use: what is written now would be lost; put it back, or end this process",
                path.display()
            ));
        }
        Ok(())
    }
}

fn file_at(path: &Path) -> std::io::Result<(u64, u64)> {
    std::fs::metadata(path).map(|about| (about.dev(), about.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_removed_or_replaced_is_missed_until_it_is_back() -> std::io::Result<()> {
        let dir = std::env::temp_dir().join(format!("spinor-anchor-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir(&dir)?;
        let [path, aside] = ["file", "aside"].map(|name| dir.join(name));
        std::fs::write(&path, "1")?;
        let anchor = Anchor::of(&[path.clone(), dir.join("never")]);
        assert_eq!(anchor.holds(), Ok(()));
        std::fs::rename(&path, &aside)?;
        assert!(anchor.holds().is_err_and(|why| why.contains("was removed")));
        std::fs::write(&path, "1")?;
        assert!(anchor.holds().is_err_and(|why| why.contains("replaced")));
        std::fs::rename(&aside, &path)?;
        assert_eq!(anchor.holds(), Ok(()));
        std::fs::remove_dir_all(&dir)
    }
}
