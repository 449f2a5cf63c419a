//! Where the API is served: a Unix socket of mode 0600 in the data directory, and TCP if asked for.
//!
//! Owns binding before anything starts, so that a clash is a start-up error; the takeover of a
//! socket that a dead process left; and its removal. Refuses a socket somebody still serves.

use std::{
    fmt,
    fs::{DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read as _, Seek as _, Write as _},
    net::{IpAddr, SocketAddr},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{
    extract::connect_info::Connected,
    middleware,
    serve::{IncomingStream, Listener},
};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio_util::sync::CancellationToken;

use super::{ApiState, guard, router, session, tls::TlsListener};
use crate::config::Config;

/// The file in the data directory with the token that was made for the page.
pub const OWN_TOKEN: &str = "api.token";

/// Why the API cannot be served. Ask a person.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another process has the data directory.
    #[error("process {pid} serves {} already; stop it, or give this one another `data` directory", socket.display())]
    Taken {
        /// Its socket.
        socket: PathBuf,
        /// Its id, as it wrote it down.
        pid: String,
    },
    /// The directory or a file in it cannot be made.
    #[error("{}: {error}", path.display())]
    Path {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The certificate cannot be used.
    #[error("{0}")]
    Tls(String),
    /// The TCP address is not to be had.
    #[error("cannot listen on {address} (`api.listen`): {error}")]
    Address {
        /// Which.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
}

/// The bound sockets. Dropping it removes the Unix socket.
pub struct Listening {
    unix: UnixListener,
    tcp: Option<Tcp>,
    socket: SocketFile,
}

/// Who is at the other end of a connection, for people: an address, or a user of this machine.
#[derive(Clone, Debug)]
pub(super) struct Peer(Arc<str>, Option<IpAddr>);

impl Peer {
    /// Its address, over TCP.
    pub(super) const fn address(&self) -> Option<IpAddr> {
        self.1
    }

    fn of(address: SocketAddr) -> Self {
        Self(address.to_string().into(), Some(address.ip()))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&self.0)
    }
}

impl Connected<IncomingStream<'_, Prompt>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Prompt>) -> Self {
        Self::of(*stream.remote_addr())
    }
}

impl Connected<IncomingStream<'_, TlsListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, TlsListener>) -> Self {
        Self::of(*stream.remote_addr())
    }
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        let user = stream.io().peer_cred().map(|user| format!("user {} of this machine", user.uid()));
        Self(user.unwrap_or_else(|_| "this machine".to_owned()).into(), None)
    }
}

/// Connections on which an answer is not kept back until the one before is acknowledged.
struct Prompt(TcpListener);

impl Listener for Prompt {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.0).await;
        // What cannot be set is slower, and works.
        let _ = stream.set_nodelay(true);
        (stream, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// A TCP socket, with TLS or without.
enum Tcp {
    Plain(Prompt),
    Tls(Box<TlsListener>),
}

/// Holds the lock and removes the socket at the end.
struct SocketFile {
    path: PathBuf,
    _lock: File,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Binds what the configuration asks for; nothing is answered yet.
pub async fn bind(config: &Config) -> Result<Listening, ListenError> {
    let socket = config.socket();
    make_directory(&config.data)?;
    let lock = lock(&config.data.join("api.lock"), &socket)?;
    let unix = bind_unix(&socket)?;
    let socket = SocketFile { path: socket, _lock: lock };
    let tcp = match config.api.listen {
        Some(address) => {
            let tcp = bind_tcp(address, config.api.any_port).await?;
            Some(match config.api.tls.clone() {
                None => Tcp::Plain(Prompt(tcp)),
                Some(files) => Tcp::Tls(Box::new(TlsListener::new(tcp, files).map_err(ListenError::Tls)?)),
            })
        }
        None => None,
    };
    Ok(Listening { unix, tcp, socket })
}

async fn bind_tcp(address: SocketAddr, any_port: bool) -> Result<TcpListener, ListenError> {
    let bound = match TcpListener::bind(address).await {
        Err(error) if any_port && error.kind() == io::ErrorKind::AddrInUse => {
            TcpListener::bind(SocketAddr::new(address.ip(), 0)).await
        }
        bound => bound,
    };
    bound.map_err(|error| ListenError::Address { address, error })
}

/// The token of the page when nobody set one: made once, kept in the data directory for its owner only.
pub fn own_token(config: &Config) -> Result<String, ListenError> {
    make_directory(&config.data)?;
    let path = config.data.join(OWN_TOKEN);
    match std::fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => {
            // A copy that was brought back may be open to others.
            std::fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(at(&path))?;
            return Ok(text.trim().to_owned());
        }
        Ok(_) => std::fs::remove_file(&path).map_err(at(&path))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(at(&path)(error)),
    }
    let token = session::fresh_token();
    let fresh = path.with_extension("token.new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh).map_err(at(&fresh))?;
    writeln!(file, "{token}").and_then(|()| std::fs::rename(&fresh, &path)).map_err(at(&path))?;
    Ok(token)
}

/// The data directory, for its owner only.
pub fn make_directory(path: &Path) -> Result<(), ListenError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at(path))
}

fn at(path: &Path) -> impl Fn(io::Error) -> ListenError {
    let path = path.to_owned();
    move |error| ListenError::Path { path: path.clone(), error }
}

/// The lock tells a live owner from a dead one: the kernel drops it with the process.
fn lock(path: &Path, socket: &Path) -> Result<File, ListenError> {
    let mut options = OpenOptions::new();
    let mut file =
        options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path).map_err(at(path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            return Err(ListenError::Taken { socket: socket.to_owned(), pid: pid.trim().to_owned() });
        }
        Err(std::fs::TryLockError::Error(error)) => return Err(at(path)(error)),
    }
    let write = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    write(&mut file).map_err(at(path))?;
    Ok(file)
}

/// Bound under a private name and then renamed: it never exists with a wider mode, and a stale
/// one is replaced at once.
fn bind_unix(socket: &Path) -> Result<UnixListener, ListenError> {
    let fresh = socket.with_extension("new");
    let _ = std::fs::remove_file(&fresh);
    let listener = UnixListener::bind(&fresh).map_err(at(socket))?;
    std::fs::set_permissions(&fresh, Permissions::from_mode(0o600)).map_err(at(socket))?;
    std::fs::rename(&fresh, socket).map_err(at(socket))?;
    Ok(listener)
}

impl Listening {
    /// Where it can be reached.
    pub fn addresses(&self) -> Vec<String> {
        let tcp = self.tcp.as_ref().and_then(|tcp| match tcp {
            Tcp::Plain(tcp) => tcp.local_addr().ok().map(|address| format!("http://{address}")),
            Tcp::Tls(tcp) => tcp.local_addr().ok().map(|address| format!("https://{address}")),
        });
        let unix = format!("unix:{}", self.socket.path.display());
        std::iter::once(unix).chain(tcp).collect()
    }

    /// Answers until the state's shutdown; requests under way get five seconds.
    pub async fn serve(self, state: ApiState) -> io::Result<()> {
        let shutdown = state.shutdown.clone();
        let (audit, results) = (Arc::clone(&state.audit), state.results.clone());
        let routes = router(state.clone());
        let unix = routes.clone().layer(middleware::from_fn(guard::trust));
        let guarded = routes.layer(middleware::from_fn_with_state(state, guard::check));
        let unix = axum::serve(self.unix, unix.into_make_service_with_connect_info::<Peer>());
        let unix = unix.with_graceful_shutdown(shutdown.clone().cancelled_owned());
        let tcp = async {
            match self.tcp {
                Some(Tcp::Plain(tcp)) => {
                    let serving = axum::serve(tcp, guarded.into_make_service_with_connect_info::<Peer>());
                    serving.with_graceful_shutdown(shutdown.clone().cancelled_owned()).await
                }
                Some(Tcp::Tls(tcp)) => {
                    let serving = axum::serve(*tcp, guarded.into_make_service_with_connect_info::<Peer>());
                    serving.with_graceful_shutdown(shutdown.clone().cancelled_owned()).await
                }
                None => Ok(()),
            }
        };
        let bound = async {
            shutdown.cancelled().await;
            tokio::time::sleep(Duration::from_secs(5)).await;
        };
        let stop_writing = CancellationToken::new();
        let serving = async {
            let served = tokio::select! {
                ends = async { tokio::try_join!(unix.into_future(), tcp) } => ends.map(|_| ()),
                () = bound => Ok(()),
            };
            // What was done last is written down, too.
            stop_writing.cancel();
            served
        };
        let ((), served) = tokio::join!(audit.run(&results, stop_writing.clone()), serving);
        served
    }
}
