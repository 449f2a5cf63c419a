//! A bucket: what is wrong with it is told, what a server answers when it is busy is no answer, lists go on.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
};

use jiff::{SignedDuration, Timestamp};
use spinor_consumers::blobs::{BlobError, S3Keys};
use spinor_executors::{BlobRef, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use uuid::Uuid;

use super::bytes;
use crate::{
    recorder::Record,
    support::bucket::{Bucket, store},
};

#[tokio::test]
async fn what_is_wrong_with_a_bucket_is_told_with_what_to_do() {
    let bucket = Bucket::new();
    assert_eq!(bucket.blobs().check().await, Ok(()));
    let keys =
        |access: &str, secret: &str| S3Keys { access: access.to_owned(), secret: secret.to_owned(), token: None };
    let (own, address) = (&bucket.keys, bucket.address());
    for (address, keys, part) in [
        (address.replace("test-", "none-"), own.clone(), "there is no bucket `none-"),
        (address.clone(), keys(&own.access, "hush"), "not that of the access key"),
        (address.clone(), keys("hush", &own.secret), "does not know the access key"),
    ] {
        let blobs = store(&address, &keys);
        for result in
            [blobs.check().await, blobs.prepare().await, blobs.put(Uuid::now_v7(), &bytes(1, 10)).await.map(drop)]
        {
            let Err(BlobError::Misconfigured(why)) = result else { panic!("{part}: {result:?}") };
            assert!(why.contains(part) && !why.contains("hush") && !why.contains(&own.secret), "{why}");
        }
    }
    // Nobody is there: that is no matter of the configuration.
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let away = bucket.through(gone).check().await;
    assert!(matches!(&away, Err(BlobError::Unavailable(why)) if why.contains(&gone.to_string())), "{away:?}");
}

#[tokio::test]
async fn a_busy_server_and_a_cut_connection_are_no_answer() {
    let bucket = Bucket::new();
    let job = Uuid::now_v7();
    let grumpy = Grumpy::start(bucket.host().to_owned()).await;
    let blobs = bucket.through(grumpy.address);
    let stored = blobs.put(job, &bytes(1, 300 << 10)).await.unwrap();
    assert_eq!(grumpy.met(), 2, "once for each thing that went wrong");
    assert_eq!(blobs.get(job, &stored).await.unwrap(), bytes(1, 300 << 10));
    assert_eq!(bucket.blobs().get(job, &stored).await.unwrap(), bytes(1, 300 << 10));
}

#[tokio::test]
async fn an_object_that_was_truncated_is_refused_and_one_that_grew_is_not_read() {
    let bucket = Bucket::new();
    let (blobs, job) = (bucket.blobs(), Uuid::now_v7());
    let stored = blobs.put(job, &bytes(1, 300 << 10)).await.unwrap();
    for (content, part) in [(&bytes(1, 100)[..], "damaged"), (&[], "damaged"), (&bytes(1, 301 << 10)[..], "is not in")]
    {
        bucket.plant(job, &stored, content);
        let Err(BlobError::Wrong(why)) = blobs.get(job, &stored).await else { panic!("{part}") };
        assert!(why.contains(part) && why.contains(&stored.sha256.to_string()), "{why}");
    }
}

#[tokio::test]
async fn a_list_is_read_over_all_its_pages_and_leaps_over_what_is_others() {
    let bucket = Bucket::new();
    let (blobs, results) = (bucket.blobs(), Record::sqlite().await);
    blobs.prepare().await.unwrap();
    let jobs: Vec<Uuid> = (0..3).map(|_| Uuid::now_v7()).collect();
    let blob = |number: u16| {
        let mut hash = [0; 32];
        hash[..2].copy_from_slice(&number.to_be_bytes());
        BlobRef { sha256: Sha256(hash), size: 1 }
    };
    // More than a page holds, of the job in the middle.
    for number in 0..1500 {
        bucket.plant(jobs[1], &blob(number), b"x");
    }
    bucket.plant(jobs[0], &blob(0), b"x");
    bucket.plant(jobs[2], &blob(0), b"x");
    assert_eq!(blobs.count(&jobs).await.unwrap(), (1502, 1502));
    assert_eq!(blobs.count(&[jobs[2], jobs[0]]).await.unwrap(), (2, 2));
    assert_eq!(blobs.count(&[jobs[1]]).await.unwrap(), (1500, 1500));
    let later = Timestamp::now() + SignedDuration::from_hours(1);
    let (mut orphans, mut after) = (Vec::new(), Uuid::nil());
    loop {
        let looked = blobs.orphans(&results.results, later, after).await.unwrap();
        orphans.extend(looked.orphans);
        let Some(last) = looked.last else { break };
        assert!(last > after, "it goes on");
        after = last;
    }
    assert_eq!(orphans, jobs);
    blobs.forget(&[jobs[0], jobs[2]]).await.unwrap();
    assert_eq!(blobs.count(&jobs).await.unwrap(), (1500, 1500));
    results.end().await;
}

/// Before a server of S3: too busy for the first, cuts the second in the middle, lets the others through.
struct Grumpy {
    address: SocketAddr,
    met: std::sync::Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Grumpy {
    async fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let met = std::sync::Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        let counted = std::sync::Arc::clone(&met);
        tasks.spawn(async move {
            let mut served = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                match counted.load(Ordering::SeqCst) {
                    0 => busy(&mut client).await,
                    1 => _ = client.read(&mut [0; 1000]).await,
                    _ => {
                        let server = server.clone();
                        served.spawn(async move {
                            let mut server = TcpStream::connect(server).await.unwrap();
                            let _ = copy_bidirectional(&mut client, &mut server).await;
                        });
                        continue;
                    }
                }
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { address, met, _tasks: tasks }
    }

    fn met(&self) -> usize {
        self.met.load(Ordering::SeqCst)
    }
}

/// Takes the whole request, and answers in the words of S3.
async fn busy(client: &mut TcpStream) {
    let mut read = 0;
    let mut part = vec![0; 64 << 10];
    while read < 300 << 10 {
        read += client.read(&mut part).await.unwrap();
    }
    let body =
        "<?xml version=\"1.0\"?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>";
    let head = format!("HTTP/1.1 503 Slow Down\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    client.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    // Its rest is read, so that the answer is not lost with a reset.
    client.shutdown().await.unwrap();
    while client.read(&mut part).await.is_ok_and(|read| read > 0) {}
}
