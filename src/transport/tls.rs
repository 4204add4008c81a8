//! TLS by rustls: which certificates are trusted, and why a handshake failed, in words.
//!
//! The cryptography is ring's. aws-lc-rs would bring the post-quantum key exchange X25519MLKEM768,
//! at the price of 0.7 MB and a longer build; ring needs a C compiler only, keeps no state that a
//! fork could copy (it asks the kernel for every random byte), and leaves room for opt-level 3
//! within the size limit. The choice stands in this file and in Cargo.toml only.

use std::fs;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, ReadBuf};
use tokio_rustls::client::TlsStream;
use tokio_rustls::TlsConnector;
use url::Host;

use super::stream::{describe, Io, Stream, Waiting};
use crate::failure::{Failure, Stage};
use crate::outcome::{sanitize, Outcome};
use crate::process::{is_exhaustion, PerProcess};
use crate::status::Status;
use crate::sync::lock;

/// Which certificates a client trusts.
#[derive(Clone, Debug)]
pub enum Trust {
    /// The system's, read at the first connection that needs them.
    System,
    /// Those of a PEM bundle.
    Only(Arc<RootCertStore>),
}

impl Trust {
    /// Reads a PEM bundle: `ca_file` of the options.
    pub fn from_file(path: &str) -> Result<Self, Outcome> {
        let shown = sanitize(path, &[]);
        let pem = fs::read(path).map_err(|error| match is_exhaustion(&error) {
            true => Outcome::new(
                Status::OutOfResources,
                format!("ca_file {shown} could not be opened ({error}): free descriptors and call again."),
            ),
            false => Outcome::invalid(format!("ca_file {shown}: cannot be read ({error}).")),
        })?;
        Self::parse(&pem, |what| {
            Outcome::invalid(format!("ca_file {shown}: {what}"))
        })
    }

    /// Takes certificates as PEM text: `ca_pem` of the options.
    pub fn from_pem(pem: &str) -> Result<Self, Outcome> {
        Self::parse(pem.as_bytes(), |what| {
            Outcome::invalid(format!("ca_pem {what}"))
        })
    }

    fn parse(pem: &[u8], invalid: impl Fn(String) -> Outcome) -> Result<Self, Outcome> {
        if pem.is_empty() {
            return Err(invalid(
                "is empty: give a PEM bundle of certificates.".into(),
            ));
        }
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|_| {
                invalid("is not well-formed PEM: give a PEM bundle of certificates.".into())
            })?;
            roots
                .add(certificate)
                .map_err(|_| invalid("has a certificate in it that cannot be read.".into()))?;
        }
        if roots.is_empty() {
            return Err(invalid(
                "has no certificate in it: give a PEM bundle of certificates.".into(),
            ));
        }
        Ok(Self::Only(Arc::new(roots)))
    }
}

/// The TLS side of a transport.
pub struct Tls {
    trust: Trust,
    config: Mutex<Option<Arc<ClientConfig>>>,
}

impl Tls {
    pub fn new(trust: Trust) -> Self {
        Self {
            trust,
            config: Mutex::new(None),
        }
    }

    /// Made at the first use, because plain HTTP needs none; a failure is not kept, so the next
    /// call works once its cause is gone.
    pub fn config(&self) -> Result<Arc<ClientConfig>, Failure> {
        let mut slot = lock(&self.config);
        if let Some(config) = &*slot {
            return Ok(config.clone());
        }
        let roots = match &self.trust {
            Trust::Only(roots) => roots.clone(),
            Trust::System => system_roots()?,
        };
        let config = trusting(roots)?;
        *slot = Some(config.clone());
        Ok(config)
    }

    /// For a reader that never speaks TLS and has to have a configuration all the same.
    pub fn trusting_nobody() -> Result<Arc<ClientConfig>, Failure> {
        trusting(Arc::new(RootCertStore::empty()))
    }

    /// The handshake. `http2`: whether HTTP/2 may be offered (not to a proxy).
    pub async fn handshake(
        &self,
        host: &Host,
        io: Io,
        http2: bool,
    ) -> Result<TlsStream<Io>, Failure> {
        let mut config = self.config()?;
        if !http2 {
            let mut plain = ClientConfig::clone(&config);
            plain.alpn_protocols = vec![b"http/1.1".to_vec()];
            config = Arc::new(plain);
        }
        let name = match host {
            Host::Domain(name) => ServerName::try_from(name.trim_end_matches('.').to_owned())
                .map_err(|_| Failure {
                    stage: Stage::Certificate,
                    reason: format!("{name} is not a name that a certificate can be for"),
                })?,
            Host::Ipv4(address) => ServerName::from(std::net::IpAddr::from(*address)),
            Host::Ipv6(address) => ServerName::from(std::net::IpAddr::from(*address)),
        };
        TlsConnector::from(config)
            .connect(name, io)
            .await
            .map_err(|error| explain(host, &error))
    }
}

fn trusting(roots: Arc<RootCertStore>) -> Result<Arc<ClientConfig>, Failure> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure {
            stage: Stage::Certificate,
            reason: format!("TLS cannot be set up ({error})"),
        })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Whether the server chose HTTP/2.
pub fn chose_http2(stream: &TlsStream<Io>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(b"h2")
}

impl Stream for TlsStream<Io> {
    fn written(&self) -> u64 {
        self.get_ref().0.written()
    }

    fn peek(&mut self) -> Waiting {
        let waiting = self.get_mut().0.peek();
        if waiting != Waiting::Nothing {
            // Most likely the end of it. A late session ticket is not worth telling apart.
            return waiting;
        }
        // What came in with the last answer is in the TLS layer's hands already, and would be
        // taken for the answer to the next request.
        let mut byte = [0];
        let mut buffer = ReadBuf::new(&mut byte);
        let mut nobody = Context::from_waker(Waker::noop());
        match Pin::new(self).poll_read(&mut nobody, &mut buffer) {
            Poll::Pending => Waiting::Nothing,
            Poll::Ready(Ok(())) if !buffer.filled().is_empty() => Waiting::Data,
            Poll::Ready(_) => Waiting::End,
        }
    }
}

/// Read once for all clients; a failure is not kept.
static SYSTEM_ROOTS: PerProcess<Mutex<Option<Arc<RootCertStore>>>> = PerProcess::new();

fn system_roots() -> Result<Arc<RootCertStore>, Failure> {
    let mut slot = lock(SYSTEM_ROOTS.get());
    if let Some(roots) = &*slot {
        return Ok(roots.clone());
    }
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Systems carry odd certificates that rustls cannot use; the others do.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(Failure {
            stage: Stage::Certificate,
            reason: "this system has no certificates to trust: install its CA certificates (ca-certificates), or set ca_file or SSL_CERT_FILE".into(),
        });
    }
    let roots = Arc::new(roots);
    *slot = Some(roots.clone());
    Ok(roots)
}

/// Why a handshake failed, for a person who has to mend it.
fn explain(host: &Host, error: &io::Error) -> Failure {
    let Some(tls) = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
    else {
        return Failure {
            stage: if is_exhaustion(error) {
                Stage::Resources
            } else {
                Stage::Handshake
            },
            reason: format!(
                "the connection to {host} broke during the handshake ({})",
                describe(error)
            ),
        };
    };
    explain_tls(host, tls)
}

pub fn explain_tls(host: &Host, error: &rustls::Error) -> Failure {
    use rustls::Error as E;
    let reason = match error {
        E::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            format!("the certificate of {host} has expired")
        }
        E::InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
            format!("the certificate of {host} is not valid yet (is this machine's clock right?)")
        }
        E::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => format!("the certificate is for another host name than {host}"),
        E::InvalidCertificate(CertificateError::UnknownIssuer) => format!(
            "the certificate of {host} is self-signed or from an unknown authority (if it is meant to be, set ca_file)"
        ),
        E::InvalidCertificate(CertificateError::Revoked) => {
            format!("the certificate of {host} has been revoked")
        }
        E::InvalidCertificate(CertificateError::Other(other))
            if other.to_string().contains("CaUsedAsEndEntity") =>
        {
            format!("the certificate of {host} is self-signed (if it is meant to be, set ca_file)")
        }
        E::InvalidCertificate(other) => {
            format!("the certificate of {host} cannot be accepted ({other:?})")
        }
        E::AlertReceived(rustls::AlertDescription::ProtocolVersion) | E::PeerIncompatible(_) => {
            format!("{host} speaks no version of TLS that is still safe (1.2 or 1.3), or none of the ciphers")
        }
        E::AlertReceived(alert) => format!("{host} refused the handshake ({alert:?})"),
        E::InvalidMessage(_) | E::InappropriateMessage { .. } | E::InappropriateHandshakeMessage { .. } => {
            format!("{host} did not answer with TLS (is it a port for plain http?)")
        }
        other => format!("the handshake with {host} failed ({other})"),
    };
    Failure {
        stage: Stage::Certificate,
        reason: safe_long(&reason),
    }
}

/// Without the characters that could forge a line; the words are the library's own or rustls'.
fn safe_long(reason: &str) -> String {
    reason.chars().filter(|c| !c.is_control()).collect()
}
