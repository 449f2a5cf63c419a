//! A private certificate authority: what a site has that signs its servers' certificates itself.
//!
//! Owns the calls of `openssl`. Refuses to be trusted by anybody: its files live as long as a test.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::scratch::Scratch;

/// An authority with a key of its own; dropped = its files are removed.
pub struct Authority(Scratch);

impl Authority {
    /// Makes one.
    pub fn new() -> Self {
        let authority = Self(Scratch::new("authority"));
        let request = ["req", "-x509", "-days", "2", "-subj", "/CN=an authority of a test", "-out", "ca.pem"];
        authority.openssl(&[&request[..], &KEY, &["-keyout", "ca.key"]].concat());
        authority
    }

    /// The PEM file by which it is trusted.
    pub fn file(&self) -> PathBuf {
        self.0.join("ca.pem")
    }

    /// A directory for `deploy/servers --tls` with a certificate for these names, in the words of
    /// OpenSSL: `IP:127.0.0.1`, `DNS:localhost`.
    pub fn certificate(&self, names: &str) -> String {
        self.0.write("names", format!("subjectAltName={names}\n"));
        let request = ["req", "-subj", "/CN=a server of a test", "-out", "server.csr"];
        self.openssl(&[&request[..], &KEY, &["-keyout", "server.key"]].concat());
        let sign = ["x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
        self.openssl(&[&sign[..], &["-days", "2", "-extfile", "names", "-out", "server.pem"]].concat());
        self.path().display().to_string()
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn openssl(&self, arguments: &[&str]) {
        let done = Command::new("openssl").args(arguments).current_dir(self.path()).output();
        let done = done.expect("openssl is installed: deploy/packages.sh");
        assert!(done.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

const KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
