//! A TCP proxy that breaks on command: cut, stalled in one direction, slow.
//!
//! Owns the faults of a network between a client and a server, without root. Refuses to change
//! bytes: what is let through is what was sent, in order.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// The way of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
}

#[derive(Clone, Copy, Default)]
struct Rules {
    cut: bool,
    torn: bool,
    stalled: [bool; 2],
    latency: Duration,
}

/// Forwards every connection to one server; dropped = all its connections end.
pub struct CutProxy {
    address: SocketAddr,
    rules: watch::Sender<Rules>,
    _tasks: JoinSet<()>,
}

impl CutProxy {
    /// Listens on a free loopback port in front of `server` (`host:port`).
    pub async fn start(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
        let address = listener.local_addr().expect("a bound listener has an address");
        let (rules, watched) = watch::channel(Rules::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, server.to_owned(), watched));
        Self { address, rules, _tasks: tasks }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same URL by way of this proxy.
    pub fn url(&self, url: &str) -> String {
        let start = url.find("://").map_or(0, |at| at + 3);
        let end = url[start..].find('/').map_or(url.len(), |at| start + at);
        let host = url[start..end].rfind('@').map_or(start, |at| start + at + 1);
        format!("{}{}{}", &url[..host], self.address, &url[end..])
    }

    /// Ends all connections and every new one at once, until [`CutProxy::heal`].
    pub fn cut(&self) {
        self.rules.send_modify(|rules| rules.cut = true);
    }

    /// Lets half of the next piece of data through on each connection, and ends it there.
    pub fn tear(&self) {
        self.rules.send_modify(|rules| rules.torn = true);
    }

    /// Holds the bytes of one direction back; the connections stay open.
    pub fn stall(&self, direction: Direction) {
        self.rules.send_modify(|rules| rules.stalled[direction as usize] = true);
    }

    /// Delays every piece of data by this much in both directions (and limits the rate by it).
    pub fn slow(&self, latency: Duration) {
        self.rules.send_modify(|rules| rules.latency = latency);
    }

    /// Ends all faults. Connections that were cut stay cut; what was held back is sent.
    pub fn heal(&self) {
        self.rules.send_replace(Rules::default());
    }
}

async fn accept(listener: TcpListener, server: String, rules: watch::Receiver<Rules>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                connections.spawn(connect(client, server.clone(), rules.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connect(client: TcpStream, server: String, mut rules: watch::Receiver<Rules>) {
    if matches!(*rules.borrow_and_update(), Rules { cut, torn, .. } if cut || torn) {
        return;
    }
    let Ok(server) = TcpStream::connect(server).await else { return };
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let to_server = pump(client_read, server_write, Direction::ToServer, rules.clone());
    let to_client = pump(server_read, client_write, Direction::ToClient, rules.clone());
    tokio::select! {
        _ = rules.wait_for(|rules| rules.cut) => {}
        // Half-closed connections live on: both ways must end, or one be torn.
        _ = async { tokio::try_join!(to_server, to_client) } => {}
    }
}

/// A connection ended in the middle of its bytes.
struct Torn;

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    direction: Direction,
    mut rules: watch::Receiver<Rules>,
) -> Result<(), Torn> {
    let mut piece = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        let Rules { latency, torn, .. } = match rules.wait_for(|rules| !rules.stalled[direction as usize]).await {
            Ok(rules) => *rules,
            Err(_) => return Ok(()),
        };
        if torn {
            let _ = to.write_all(&piece[..length / 2]).await;
            return Err(Torn);
        }
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        if to.write_all(&piece[..length]).await.is_err() {
            return Ok(());
        }
    }
    let _ = to.shutdown().await;
    Ok(())
}
