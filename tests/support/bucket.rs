//! A bucket of a test's own on a real server of S3, and its objects as the files that the server keeps.
//!
//! Owns how the address of `deploy/servers start s3` becomes a store. Removed when the test is done.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use spinor_consumers::blobs::{Blobs, S3Address, S3Keys, S3Settings};
use spinor_executors::BlobRef;
use uuid::Uuid;

use super::servers::{self, PrivateServer};

/// The bucket; its store lies below a prefix in it.
pub struct Bucket {
    name: String,
    files: PathBuf,
    host: String,
    /// Who may use it.
    pub keys: S3Keys,
}

impl Bucket {
    /// On the server of the test run.
    pub fn new() -> Self {
        Self::at(&servers::s3_url(), &servers::s3_buckets())
    }

    /// On this server.
    pub fn on(server: &PrivateServer) -> Self {
        Self::at(server.url(), Path::new(server.detail("buckets").expect("a server of S3 names its buckets")))
    }

    fn at(url: &str, buckets: &Path) -> Self {
        let (access, secret, host) = url
            .strip_prefix("http://")
            .and_then(|rest| rest.split_once('@'))
            .and_then(|(user, host)| Some((user.split_once(':')?, host)))
            .map(|((access, secret), host)| (access.to_owned(), secret.to_owned(), host.to_owned()))
            .expect("http://KEY:SECRET@HOST:PORT");
        let name = format!("test-{}", Uuid::now_v7().simple());
        let bucket = Self { files: buckets.join(&name), name, host, keys: S3Keys { access, secret, token: None } };
        bucket.directory("");
        bucket
    }

    /// `host:port` of its server.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its address.
    pub fn address(&self) -> String {
        format!("s3://{}/some/place?endpoint=http://{}", self.name, self.host)
    }

    /// The store in it.
    pub fn blobs(&self) -> Blobs {
        store(&self.address(), &self.keys)
    }

    /// The same store by way of something else.
    pub fn through(&self, proxy: SocketAddr) -> Blobs {
        store(&self.address().replace(&self.host, &proxy.to_string()), &self.keys)
    }

    /// The file of a blob.
    pub fn file(&self, job: Uuid, blob: &BlobRef) -> PathBuf {
        self.files.join(format!("some/place/{}/{}", job.simple(), blob.sha256))
    }

    /// Puts an object there, beside the product and the server.
    pub fn plant(&self, job: Uuid, blob: &BlobRef, content: &[u8]) {
        self.directory("some");
        self.directory("some/place");
        self.directory(&format!("some/place/{}", job.simple()));
        fs::write(self.file(job, blob), content).expect("written");
    }

    /// One that the server may write, whoever it runs as.
    fn directory(&self, path: &str) {
        let path = self.files.join(path);
        if !path.exists() {
            fs::create_dir(&path).expect("a directory of the server can be made");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("it is ours");
        }
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // A private server may have gone with all its files.
            let _ = fs::remove_dir_all(&self.files);
        }
    }
}

/// A store at an address.
pub fn store(address: &str, keys: &S3Keys) -> Blobs {
    let address = S3Address::parse(address).unwrap_or_else(|why| panic!("{address} {why}"));
    Blobs::in_s3(S3Settings { address, keys: keys.clone(), ca_file: None }).expect("a client")
}
