//! Each store by itself: a table on both databases, files, and the objects of a bucket.

use jiff::{SignedDuration, Timestamp};
use spinor_consumers::blobs::{BlobError, Blobs};
use spinor_executors::{BlobRef, Sha256};
use uuid::Uuid;

use super::{Site, bytes};
use crate::{
    recorder::{Record, entries},
    support::{bucket::Bucket, scratch::Scratch},
};

macro_rules! each {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test] async fn $name() { super::$name(super::Site::Table(super::Record::sqlite().await)).await; })+
        }
        mod server {
            $(#[tokio::test] async fn $name() { super::$name(super::Site::Table(super::Record::server().await)).await; })+
        }
        mod files {
            $(#[tokio::test] async fn $name() { super::$name(super::Site::Files(super::Scratch::new("blobs"))).await; })+
        }
        mod objects {
            $(#[tokio::test] async fn $name() { super::$name(super::Site::Objects(super::Bucket::new())).await; })+
        }
    };
}

each!(
    what_was_stored_is_read_whatever_its_size,
    what_is_not_there_or_damaged_is_refused_by_job_and_hash,
    what_belongs_to_a_job_goes_with_it_and_nothing_else_does,
    only_what_is_old_and_on_no_record_is_an_orphan,
);

async fn what_was_stored_is_read_whatever_its_size(site: Site) {
    let (blobs, job) = (site.blobs().await, Uuid::now_v7());
    // Around the size of a part, and of several.
    for size in [0, 1, (512 << 10) - 1, 512 << 10, (512 << 10) + 1, (4 << 20) + 1, 5 << 20] {
        let stored = blobs.put(job, &bytes(1, size)).await.unwrap();
        assert_eq!(stored.size, size as u64);
        assert_eq!(blobs.get(job, &stored).await.unwrap(), bytes(1, size), "{size}");
    }
    let large = blobs.clone().with_largest(1000).put(job, &bytes(1, 1001)).await;
    assert_eq!(large, Err(BlobError::TooLarge { size: 1001, limit: 1000 }));
    site.end().await;
}

async fn what_is_not_there_or_damaged_is_refused_by_job_and_hash(site: Site) {
    let (blobs, job) = (site.blobs().await, Uuid::now_v7());
    let stored = blobs.put(job, &bytes(1, 3 << 20)).await.unwrap();
    let why = |result: Result<bytes::Bytes, BlobError>| match result {
        Err(BlobError::Wrong(why)) => why,
        other => panic!("{other:?}"),
    };
    let absent = BlobRef { sha256: Sha256([9; 32]), size: 3 << 20 };
    let untrue = BlobRef { size: u64::MAX, ..stored };
    for (asked, blob) in [(job, absent), (Uuid::now_v7(), stored), (job, untrue)] {
        let why = why(blobs.get(asked, &blob).await);
        assert!(why.contains(&asked.to_string()) && why.contains(&blob.sha256.to_string()), "{why}");
    }
    site.damage(job, &stored).await;
    let why = why(blobs.get(job, &stored).await);
    assert!(why.contains("damaged") && why.contains(&job.to_string()), "{why}");
    // Stored again, it is mended.
    assert_eq!(blobs.put(job, &bytes(1, 3 << 20)).await.unwrap(), stored);
    assert_eq!(blobs.get(job, &stored).await.unwrap(), bytes(1, 3 << 20));
    site.end().await;
}

async fn what_belongs_to_a_job_goes_with_it_and_nothing_else_does(site: Site) {
    let blobs = site.blobs().await;
    let (gone, stays) = (Uuid::now_v7(), Uuid::now_v7());
    let (first, second) = (bytes(1, 600 << 10), bytes(2, 700 << 10));
    let of_gone = [blobs.put(gone, &first).await.unwrap(), blobs.put(gone, &second).await.unwrap()];
    let of_stays = blobs.put(stays, &first).await.unwrap();
    assert_eq!(of_gone[0], of_stays, "the same bytes have the same hash");
    assert_eq!(blobs.count(&[gone, Uuid::now_v7()]).await.unwrap(), (2, 1300 << 10));
    blobs.forget(&[gone, Uuid::now_v7()]).await.unwrap();
    assert_eq!(blobs.count(&[gone]).await.unwrap(), (0, 0));
    for blob in of_gone {
        assert!(matches!(blobs.get(gone, &blob).await, Err(BlobError::Wrong(_))));
    }
    assert_eq!(blobs.get(stays, &of_stays).await.unwrap(), first);
    site.end().await;
}

async fn only_what_is_old_and_on_no_record_is_an_orphan(site: Site) {
    let blobs = site.blobs().await;
    let other = Record::sqlite().await;
    let results = match &site {
        Site::Table(record) => record.results.clone(),
        Site::Files(_) | Site::Objects(_) => other.results.clone(),
    };
    let recorded = entries::job();
    results.store(&[spinor_consumers::entry::Entry::Queued(Box::new(recorded.clone()))]).await.unwrap();
    let orphan = Uuid::now_v7();
    blobs.put(recorded.id, &bytes(1, 300 << 10)).await.unwrap();
    blobs.put(orphan, &bytes(1, 300 << 10)).await.unwrap();
    let later = Timestamp::now() + SignedDuration::from_hours(1);
    let looked = blobs.orphans(&results, later, Uuid::nil()).await.unwrap();
    assert_eq!((looked.last, looked.orphans), (Some(orphan), vec![orphan]));
    assert_eq!(blobs.orphans(&results, later, orphan).await.unwrap().last, None);
    let earlier = Timestamp::now() - SignedDuration::from_hours(1);
    assert_eq!(blobs.orphans(&results, earlier, Uuid::nil()).await.unwrap().last, None, "nothing is so old");
    site.end().await;
}

#[tokio::test]
async fn a_directory_that_is_not_mounted_is_away_and_holds_no_missing_blob() {
    let scratch = Scratch::new("blobs");
    let root = scratch.join("mounted");
    let blobs = Blobs::in_directory(root.clone()).await.unwrap();
    let job = Uuid::now_v7();
    let stored = blobs.put(job, &bytes(1, 300 << 10)).await.unwrap();
    let elsewhere = scratch.join("elsewhere");
    std::fs::rename(&root, &elsewhere).unwrap();
    std::fs::create_dir(&root).unwrap();
    for result in [blobs.get(job, &stored).await.map(drop), blobs.put(job, &bytes(2, 300 << 10)).await.map(drop)] {
        assert!(matches!(&result, Err(BlobError::Unavailable(why)) if why.contains("mounted")), "{result:?}");
    }
    std::fs::remove_dir(&root).unwrap();
    std::fs::rename(&elsewhere, &root).unwrap();
    assert_eq!(blobs.get(job, &stored).await.unwrap(), bytes(1, 300 << 10));
}
