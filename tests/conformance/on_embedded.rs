//! The embedded broker as the suite sees it: one directory under the system's scratch place.

use std::path::{Path, PathBuf};

use spinor_consumers::broker::{
    AnyBroker, Broker,
    embedded::{Embedded, EmbeddedSettings},
};
use uuid::Uuid;

use super::fixture::Fixture;

/// One directory at a time; a loss moves on to a copy of it, as it was on disk.
pub struct OnEmbedded {
    root: PathBuf,
    search: bool,
    lives: u32,
    broker: AnyBroker,
}

impl OnEmbedded {
    fn dir(&self) -> PathBuf {
        self.root.join(self.lives.to_string())
    }
}

async fn open(dir: &Path, search: bool) -> AnyBroker {
    let settings = EmbeddedSettings { dir: dir.to_owned(), search, ..EmbeddedSettings::default() };
    AnyBroker::Embedded(Embedded::open(settings).await.expect("open"))
}

impl Fixture for OnEmbedded {
    async fn install(search: bool) -> Self {
        let root = std::env::temp_dir().join(format!("spinor-conformance-{}", Uuid::now_v7()));
        let broker = open(&root.join("0"), search).await;
        Self { root, search, lives: 0, broker }
    }

    fn broker(&self) -> AnyBroker {
        self.broker.clone()
    }

    async fn another(&mut self) -> AnyBroker {
        self.broker()
    }

    async fn reopen(&mut self) -> AnyBroker {
        self.broker.close().await;
        self.broker = open(&self.dir(), self.search).await;
        self.broker()
    }

    async fn lose(&mut self) -> AnyBroker {
        // What a killed process leaves is what its files hold now; the survivor of this process
        // keeps the old directory and is never asked again.
        let dead = self.dir();
        self.lives += 1;
        std::fs::create_dir_all(self.dir()).expect("a directory");
        for file in ["broker.db", "broker.db-wal"] {
            std::fs::copy(dead.join(file), self.dir().join(file)).expect("copied");
        }
        let broker = open(&self.dir(), self.search).await;
        std::mem::replace(&mut self.broker, broker).close().await;
        self.broker()
    }
}

impl Drop for OnEmbedded {
    fn drop(&mut self) {
        // Best effort: what stays is in the scratch place.
        let _ = std::fs::remove_dir_all(&self.root);
    }
}
