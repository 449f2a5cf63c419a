//! TLS for who connects over TCP.
//!
//! Owns the handshakes, which keep nobody else waiting, and reading the certificate again when its file has changed: a new
//! one that cannot be used is told, and the old one stays. Refuses clients' certificates: a login says who it is.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::serve::Listener;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
    time::{Instant, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::config::TlsFiles;

/// A handshake takes no longer.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// There are no more at once: one more is begun in the place of the oldest, so that who says nothing keeps nobody out.
const AT_ONCE: usize = 200;
/// The files are looked at this often, when somebody connects.
const LOOK: Duration = Duration::from_secs(1);
/// A socket that cannot take a connection, for want of files perhaps, is tried again after this.
const AGAIN: Duration = Duration::from_millis(200);

/// A TCP listener whose connections are encrypted.
pub(super) struct TlsListener {
    tcp: TcpListener,
    files: TlsFiles,
    acceptor: TlsAcceptor,
    changed: Option<SystemTime>,
    looked: Instant,
    handshakes: JoinSet<Option<(TlsStream<TcpStream>, SocketAddr)>>,
    /// The oldest first.
    begun: VecDeque<AbortHandle>,
}

impl TlsListener {
    /// On this socket, with these files; an error names the one that is wrong.
    pub(super) fn new(tcp: TcpListener, files: TlsFiles) -> Result<Self, String> {
        let (acceptor, changed) = (acceptor(&files)?, changed(&files));
        Ok(Self {
            tcp,
            files,
            acceptor,
            changed,
            looked: Instant::now(),
            handshakes: JoinSet::new(),
            begun: VecDeque::new(),
        })
    }

    fn look(&mut self) {
        if self.looked.elapsed() < LOOK {
            return;
        }
        self.looked = Instant::now();
        let now = changed(&self.files);
        if now == self.changed {
            return;
        }
        match acceptor(&self.files) {
            Ok(acceptor) => {
                (self.acceptor, self.changed) = (acceptor, now);
                tracing::info!("The certificate of the API was read again.");
            }
            // Half of a change is seen, perhaps: the files are looked at again.
            Err(why) => tracing::warn!(why, "The new certificate of the API cannot be used; the old one stays."),
        }
    }

    fn shake(&mut self, stream: TcpStream, peer: SocketAddr) {
        self.look();
        self.begun.retain(|handshake| !handshake.is_finished());
        if self.begun.len() >= AT_ONCE
            && let Some(oldest) = self.begun.pop_front()
        {
            oldest.abort();
        }
        let acceptor = self.acceptor.clone();
        let begun = self.handshakes.spawn(async move {
            let shaken = timeout(HANDSHAKE, acceptor.accept(stream)).await;
            match shaken {
                Ok(Ok(stream)) => Some((stream, peer)),
                Ok(Err(error)) => {
                    tracing::debug!(%peer, %error, "No TLS connection came about.");
                    None
                }
                Err(_) => None,
            }
        });
        self.begun.push_back(begun);
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            // A pattern in the place of `joined` would stop the look at the other handshakes when one fails.
            tokio::select! {
                joined = self.handshakes.join_next(), if !self.handshakes.is_empty() => {
                    if let Some(Ok(Some(shaken))) = joined {
                        return shaken;
                    }
                }
                accepted = self.tcp.accept() => match accepted {
                    Ok((stream, peer)) => self.shake(stream, peer),
                    Err(_) => tokio::time::sleep(AGAIN).await,
                },
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

/// When the certificate was written last.
fn changed(files: &TlsFiles) -> Option<SystemTime> {
    let at = |path: &Path| std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
    at(&files.cert).max(at(&files.key))
}

fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, String> {
    let wrong =
        |key: &str, path: &Path, why: &dyn std::fmt::Display| format!("`api.tls.{key}`: {}: {why}", path.display());
    let certificates = CertificateDer::pem_file_iter(&files.cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = certificates.map_err(|error| wrong("cert", &files.cert, &error))?;
    if certificates.is_empty() {
        return Err(wrong("cert", &files.cert, &"there is no certificate in it (BEGIN CERTIFICATE)"));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| wrong("key", &files.key, &error))?;
    spinor_consumers::install_tls_provider();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(certificates, key);
    let mut config = config.map_err(|error| wrong("key", &files.key, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
