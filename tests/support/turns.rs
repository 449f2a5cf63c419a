//! An HTTP proxy that gives each request to the next of several servers.
//!
//! Owns that a connection carries one request, so that no two requests of a browser are sure to meet the same server.
//! Refuses to change anything else of what is said.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// No head of a request is longer.
const LONGEST: usize = 64 * 1024;

/// Gives requests to servers in turns; dropped = all its connections end.
pub struct Turns {
    address: SocketAddr,
    counts: Arc<Vec<AtomicUsize>>,
    _tasks: JoinSet<()>,
}

impl Turns {
    /// Listens on a free loopback port before these servers (`host:port`).
    pub async fn start(servers: &[String]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
        let address = listener.local_addr().expect("a bound listener has an address");
        let counts: Arc<Vec<AtomicUsize>> = Arc::new(servers.iter().map(|_| AtomicUsize::new(0)).collect());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, servers.to_vec(), Arc::clone(&counts)));
        Self { address, counts, _tasks: tasks }
    }

    /// Where browsers connect.
    pub fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many requests each server got.
    pub fn counts(&self) -> Vec<usize> {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }
}

async fn accept(listener: TcpListener, servers: Vec<String>, counts: Arc<Vec<AtomicUsize>>) {
    let (mut connections, mut turn) = (JoinSet::new(), 0);
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                let next = turn % servers.len();
                turn += 1;
                let counts = Arc::clone(&counts);
                let server = servers[next].clone();
                connections.spawn(async move {
                    let _ = pass(client, &server, &counts[next]).await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One request and its answer; none when there was no request.
async fn pass(mut client: TcpStream, server: &str, count: &AtomicUsize) -> Option<()> {
    let (mut head, mut piece) = (Vec::new(), vec![0; 16 * 1024]);
    let end = loop {
        let length = client.read(&mut piece).await.ok().filter(|length| *length > 0)?;
        head.extend_from_slice(&piece[..length]);
        if let Some(at) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 2;
        }
        if head.len() > LONGEST {
            return None;
        }
    };
    let (lines, body) = head.split_at(end);
    let mut sent = Vec::new();
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        if !line.to_ascii_lowercase().starts_with(b"connection:") {
            sent.extend_from_slice(line);
        }
    }
    sent.extend_from_slice(b"Connection: close\r\n");
    sent.extend_from_slice(body);
    let mut server = TcpStream::connect(server).await.ok()?;
    server.write_all(&sent).await.ok()?;
    count.fetch_add(1, Ordering::Relaxed);
    let _ = copy_bidirectional(&mut client, &mut server).await;
    Some(())
}
