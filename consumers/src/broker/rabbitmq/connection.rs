//! One connection, kept alive: connect, watch over it, connect again.
//!
//! Owns the only reconnect loop there is (the client's own recovery stays off, because an old
//! delivery number would ack a new delivery after it). Refuses to know what the connection is
//! for: whoever uses it watches its [`State`] and builds its channels anew.

use std::{io, sync::Arc, time::Duration};

use futures_util::StreamExt;
use lapin::{
    Connection, ConnectionProperties, ErrorKind, Event,
    protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError},
    tcp::OwnedTLSConfig,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{FAREWELL, settings::Host};
use crate::{broker::BrokerError, tls};

/// Every connect, with its handshake, ends within this.
const CONNECT: Duration = Duration::from_secs(10);
/// The first retry comes within a second; the pauses grow to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// The client tells of a lost connection only through what fails on it, so we look.
const LOOK: Duration = Duration::from_millis(200);

/// A connection's state, as its users see it.
#[derive(Clone)]
pub enum State {
    /// Usable.
    Up(Arc<Connection>),
    /// Usable but for publishing, which would hang; with the broker's reason.
    Blocked(Arc<Connection>, String),
    /// Being retried; the last error.
    Down(String),
    /// Closed by us, for ever.
    Closed,
}

impl State {
    /// The connection, where consuming and declaring can go on.
    pub fn connection(&self) -> Option<&Arc<Connection>> {
        match self {
            Self::Up(connection) | Self::Blocked(connection, _) => Some(connection),
            Self::Down(_) | Self::Closed => None,
        }
    }

    /// Why nothing can be published, in words.
    pub fn why_not(&self) -> String {
        match self {
            Self::Up(_) => "no channel was opened in time".to_owned(),
            Self::Blocked(_, why) => format!("it is blocked: {why}"),
            Self::Down(why) => why.clone(),
            Self::Closed => "it was closed".to_owned(),
        }
    }
}

/// Waits until publishing is possible; none means that it never will be again.
pub async fn up(state: &mut watch::Receiver<State>) -> Option<Arc<Connection>> {
    let state = state.wait_for(|state| matches!(state, State::Up(_) | State::Closed)).await.ok()?;
    match &*state {
        State::Up(connection) => Some(Arc::clone(connection)),
        _ => None,
    }
}

/// Connects once, trying the hosts in order.
pub async fn connect(hosts: &[Host], name: &str) -> Result<Connection, BrokerError> {
    let mut last = BrokerError::Unreachable("no host is given".to_owned());
    for host in hosts {
        match connect_to(host, name).await {
            Ok(connection) => return Ok(connection),
            // A refusal tells more than a host that is away.
            Err(error) if matches!(last, BrokerError::Unreachable(_)) => last = error,
            Err(_) => {}
        }
    }
    Err(last)
}

async fn connect_to(host: &Host, name: &str) -> Result<Connection, BrokerError> {
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let shown = &host.shown;
    let config = OwnedTLSConfig { identity: None, cert_chain: host.authorities.as_deref().map(str::to_owned) };
    let connect = async {
        let runtime = lapin::runtime::default_runtime()?;
        Connection::connect_uri_with_config(host.uri.clone(), properties, config, runtime).await
    };
    match timeout(CONNECT, connect).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(explain(&error, shown)),
        Err(_) => Err(BrokerError::Unreachable(format!("{shown}: no answer within {} s", CONNECT.as_secs()))),
    }
}

fn explain(error: &lapin::Error, shown: &str) -> BrokerError {
    if let Some(why) = tls::explain(error, "broker") {
        return BrokerError::Misconfigured(format!("{shown}: {why}"));
    }
    if matches!(error.kind(), ErrorKind::ParsingError(_)) {
        return BrokerError::Unreachable(format!(
            "{shown}: what answers there does not speak AMQP; to a TLS port the address starts with amqps://"
        ));
    }
    let ErrorKind::ProtocolError(amqp) = error.kind() else {
        return BrokerError::Unreachable(format!("{shown}: {error}"));
    };
    let text = amqp.get_message();
    match amqp.kind() {
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => BrokerError::Misconfigured(format!(
            "{shown}: user or password is refused ({text}); check the broker's URL and the secrets file"
        )),
        AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => BrokerError::Misconfigured(format!(
            "{shown}: the virtual host does not exist, or this user may not use it ({text})"
        )),
        _ => BrokerError::Unreachable(format!("{shown}: {error}")),
    }
}

/// What a supervised connection needs to know.
pub struct Supervised {
    /// Where to.
    pub hosts: Arc<[Host]>,
    /// What the server shows beside it.
    pub name: String,
    /// Ends it.
    pub stop: CancellationToken,
}

impl Supervised {
    /// Keeps a first connection alive until the stop; its state can be watched.
    pub fn start(self, first: Connection, tasks: &TaskTracker) -> watch::Receiver<State> {
        let (state, watched) = watch::channel(State::Up(Arc::new(first)));
        tasks.spawn(async move { self.run(state).await });
        watched
    }

    async fn run(self, state: watch::Sender<State>) {
        loop {
            let connection = state.borrow().connection().cloned();
            if let Some(connection) = connection {
                let why = tokio::select! {
                    why = watch_over(&connection, &state) => why,
                    () = self.stop.cancelled() => {
                        let _ = timeout(FAREWELL / 3, connection.close(200, "closed".into())).await;
                        break;
                    }
                };
                state.send_replace(State::Down(why));
            }
            tokio::select! {
                connection = self.again(&state) => {
                    state.send_replace(State::Up(Arc::new(connection)));
                }
                () = self.stop.cancelled() => break,
            }
        }
        state.send_replace(State::Closed);
    }

    /// Retries until it is connected.
    async fn again(&self, state: &watch::Sender<State>) -> Connection {
        let mut longest = Duration::from_secs(1);
        let mut silent = false;
        loop {
            tokio::time::sleep(jitter(longest)).await;
            longest = (longest * 2).min(LONGEST_PAUSE);
            if silent && !self.any_answers().await {
                continue;
            }
            match connect(&self.hosts, &self.name).await {
                Ok(connection) => return connection,
                Err(error) => {
                    silent = error.to_string().contains("no answer within");
                    // Who reads it says by itself that the broker cannot be reached.
                    let why = match error {
                        BrokerError::Unreachable(why) => why,
                        other => other.to_string(),
                    };
                    state.send_replace(State::Down(why));
                }
            }
        }
    }

    /// Does a server say anything at all? The client keeps a thread for each attempt that hangs,
    /// so after one that did, a bare socket asks first.
    async fn any_answers(&self) -> bool {
        for host in self.hosts.iter() {
            let to = &host.uri.authority;
            if matches!(timeout(CONNECT, answers(&to.host, to.port)).await, Ok(Ok(()))) {
                return true;
            }
        }
        false
    }
}

async fn answers(host: &str, port: u16) -> io::Result<()> {
    let mut socket = TcpStream::connect((host, port)).await?;
    socket.write_all(b"AMQP\0\0\x09\x01").await?;
    // A byte, an end or a reset: somebody is there. Only silence means nobody.
    let _ = socket.read(&mut [0; 1]).await;
    Ok(())
}

/// Somewhere between nothing and `longest`.
pub fn jitter(longest: Duration) -> Duration {
    let random = uuid::Uuid::now_v7().into_bytes();
    longest.mul_f64(f64::from(u16::from_le_bytes([random[14], random[15]])) / f64::from(u16::MAX))
}

/// Passes on blocked and unblocked; returns why the connection ended.
async fn watch_over(connection: &Arc<Connection>, state: &watch::Sender<State>) -> String {
    let mut events = std::pin::pin!(connection.events_listener());
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last = None;
    loop {
        tokio::select! {
            Some(event) = events.next() => match event {
                Event::ConnectionBlocked(why) => {
                    state.send_replace(State::Blocked(Arc::clone(connection), why));
                }
                Event::ConnectionUnblocked => {
                    state.send_replace(State::Up(Arc::clone(connection)));
                }
                Event::Error(error) => last = Some(error.to_string()),
                _ => {}
            },
            _ = look.tick() => {}
        }
        if !connection.status().connected() {
            return last.unwrap_or_else(|| "the broker closed the connection".to_owned());
        }
    }
}
