//! Large args and values by reference: on each store, through a consumer on each broker, and through the
//! whole thing. What is damaged is never run, and what is away only waits.

mod carried;
mod s3;
mod stores;
mod whole;

use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use spinor_consumers::blobs::Blobs;
use spinor_executors::{BlobRef, Json};
use uuid::Uuid;

use crate::{
    recorder::Record,
    support::{bucket::Bucket, scratch::Scratch},
};

/// Five MiB, none of it like another.
pub fn large() -> Json {
    let words: Vec<String> = (0..160_000).map(|number| format!("{number:08}-{:022}", number * 7919)).collect();
    let json = Json::of(&words).expect("JSON");
    assert!(json.bytes().len() > 5 << 20);
    json
}

/// A store of a test's own.
pub enum Site {
    /// A table.
    Table(Record),
    /// Files.
    Files(Scratch),
    /// Objects.
    Objects(Bucket),
}

impl Site {
    /// The store.
    pub async fn blobs(&self) -> Blobs {
        match self {
            Self::Table(record) => Blobs::in_results(Arc::new(OnceLock::from(record.results.clone()))),
            Self::Files(scratch) => Blobs::in_directory(scratch.path().to_owned()).await.expect("it opens"),
            Self::Objects(bucket) => bucket.blobs(),
        }
    }

    /// Changes some bytes of what is stored, beside the product.
    pub async fn damage(&self, job: Uuid, blob: &BlobRef) {
        match self {
            Self::Table(record) => {
                record.execute("UPDATE blobs SET data = (SELECT * FROM (SELECT data FROM blobs WHERE part = 2) AS other) WHERE part = 1").await;
            }
            Self::Files(scratch) => {
                let job = job.simple().to_string();
                spoil(&scratch.join(&job[30..]).join(&job).join(blob.sha256.to_string()));
            }
            Self::Objects(bucket) => spoil(&bucket.file(job, blob)),
        }
    }

    pub async fn end(self) {
        if let Self::Table(record) = self {
            record.end().await;
        }
    }
}

/// Changes one bit of a file.
fn spoil(path: &Path) {
    let mut bytes = std::fs::read(path).expect("the file is there");
    bytes[1000] ^= 1;
    std::fs::write(path, bytes).expect("written");
}

/// Bytes that differ from those of another number.
pub fn bytes(number: u8, size: usize) -> Bytes {
    (0..size).map(|at| (at % 251) as u8 ^ number).collect::<Vec<u8>>().into()
}
