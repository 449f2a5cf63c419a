//! TLS for every client of this program: one cryptographic provider, installed once.

/// Installs the provider that HTTP clients need before they are built. May be called any number of
/// times, from anywhere.
pub fn install_tls_provider() {
    // An error means that one is installed already, which is what we want.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
