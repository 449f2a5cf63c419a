//! TLS for every client of this program: one cryptographic provider, installed once; the files of
//! authorities; and what a failed handshake means to who set it up.
//!
//! Servers go by the name of their key in the configuration (`broker`, `results`, `search`), because
//! an error has to say which key to mend. Refuses to weaken a check: there is no way around one.

use std::{error::Error, io, path::Path};

use rustls::{
    AlertDescription, CertificateError,
    pki_types::{CertificateDer, pem::PemObject as _},
};

/// Installs the provider that HTTP clients need before they are built. May be called any number of
/// times, from anywhere.
pub fn install_tls_provider() {
    // An error means that one is installed already, which is what we want.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The text of a PEM file with certificates of authorities; the error says what is wrong with it.
pub fn read_ca_file(path: &Path) -> Result<String, String> {
    let wrong = |what: &str| format!("{}: {what}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => wrong("this is no PEM file, which is text"),
        _ => wrong(&error.to_string()),
    })?;
    let mut found = false;
    for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
        let certificate = certificate.map_err(|error| wrong(&format!("this is no PEM file: {error}")))?;
        rustls::RootCertStore::empty().add(certificate).map_err(|error| wrong(&error.to_string()))?;
        found = true;
    }
    if found { Ok(text) } else { Err(wrong("there is no certificate in it (BEGIN CERTIFICATE)")) }
}

/// What a failed TLS handshake means and what to do; `None` for every other error. `server` is its
/// key in the configuration.
pub(crate) fn explain(error: &(dyn Error + 'static), server: &str) -> Option<String> {
    explain_by(error, server, &format!("`{server}_ca`"))
}

/// The same where an authority is named by other words.
pub(crate) fn explain_by(error: &(dyn Error + 'static), server: &str, authority: &str) -> Option<String> {
    match find(error)? {
        rustls::Error::InvalidCertificate(why) => Some(certificate(why, server, authority)),
        rustls::Error::InvalidMessage(_) => Some(format!(
            "the server does not speak TLS on this port; name its TLS port in `{server}`, or an address without TLS"
        )),
        rustls::Error::AlertReceived(alert) => Some(match alert {
            AlertDescription::CertificateRequired => {
                "the server wants a certificate of its client, which cannot be given; let it ask for the password only"
                    .to_owned()
            }
            other => format!("the server ended the TLS handshake ({other:?}); its log tells more"),
        }),
        rustls::Error::NoCertificatesPresented => Some("the server shows no certificate; give it one".to_owned()),
        other => Some(format!("no TLS connection came about: {other}; an authority to trust is named by {authority}")),
    }
}

fn certificate(why: &CertificateError, server: &str, authority: &str) -> String {
    let what = match why {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
            "no authority that is trusted here has signed it; name the PEM file of the one that did as {authority}"
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("{why}; use a name it is valid for in `{server}`, or give the server a certificate for this one")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => format!("{why}; renew it on the server"),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("{why}; compare the clocks of both machines")
        }
        _ => format!("{why}; look at it on the server, and at {authority}"),
    };
    format!("the server's certificate is refused: {what}")
}

/// The TLS error within an error. An I/O error hides its own cause from `source`.
fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        let within = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(found) = within.and_then(|within| find(within)) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_error_is_found_however_deep_it_is() {
        let tls = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let deep = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, tls));
        let said = explain(&deep, "search").unwrap();
        assert!(said.contains("`search_ca`"), "{said}");
        assert_eq!(explain(&io::Error::other("something else"), "search"), None);
    }

    #[test]
    fn a_file_without_certificates_is_refused_by_name() {
        let file = std::env::temp_dir().join(format!("spinor-{}.pem", uuid::Uuid::now_v7()));
        for (text, part) in [("", "no certificate in it"), ("-----BEGIN CERTIFICATE-----\n?", "no PEM file")] {
            std::fs::write(&file, text).unwrap();
            let error = read_ca_file(&file).unwrap_err();
            assert!(error.contains(part) && error.starts_with(&file.display().to_string()), "{error}");
        }
        std::fs::remove_file(&file).unwrap();
        assert!(read_ca_file(&file).unwrap_err().contains("No such file"));
    }
}
