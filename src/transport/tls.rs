//! TLS by rustls: which certificates are trusted, and why a handshake failed, in words.
//!
//! The cryptography is ring's. aws-lc-rs would bring the post-quantum key exchange X25519MLKEM768,
//! at the price of 0.7 MB and a longer build; ring needs a C compiler only, keeps no state that a
//! fork could copy (it asks the kernel for every random byte), and leaves room for opt-level 3
//! within the size limit. The choice stands in this file and in Cargo.toml only.

use std::cell::Cell;
use std::fs;
use std::future::{poll_fn, Future};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;
use tokio_rustls::TlsConnector;
use url::Host;

use super::reasons::{alert_name, can_pass, describe, is_about_client_certificate, shorten};
use super::stream::{Io, Stream, Waiting};
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
    ) -> Result<TlsConnection, Failure> {
        let mut config = self.config()?;
        if !http2 {
            let mut plain = ClientConfig::clone(&config);
            plain.alpn_protocols = vec![b"http/1.1".to_vec()];
            config = Arc::new(plain);
        }
        let name = match host {
            Host::Domain(name) => ServerName::try_from(name.trim_end_matches('.').to_owned())
                .map_err(|_| {
                    Failure::new(
                        Stage::Certificate,
                        format!("{name} is not a name that a certificate can be for"),
                    )
                })?,
            Host::Ipv4(address) => ServerName::from(std::net::IpAddr::from(*address)),
            Host::Ipv6(address) => ServerName::from(std::net::IpAddr::from(*address)),
        };
        let mut handshake = TlsConnector::from(config).connect(name, io);
        let mut asked_for_certificate = false;
        let stream = poll_fn(|cx| {
            ASKED.set(false);
            let polled = Pin::new(&mut handshake).poll(cx);
            asked_for_certificate |= ASKED.get();
            polled
        })
        .await
        .map_err(|error| explain(host, &error))?;
        Ok(TlsConnection {
            stream,
            asked_for_certificate,
        })
    }
}

fn trusting(roots: Arc<RootCertStore>) -> Result<Arc<ClientConfig>, Failure> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| Failure::new(Stage::Certificate, "TLS cannot be set up"))?
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(NoClientCertificate));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

thread_local! {
    /// Whether the handshake that is polled just now was asked for a client certificate.
    static ASKED: Cell<bool> = const { Cell::new(false) };
}

/// Has no certificate to show, and notes that one was asked for. (In the thread rather than in a
/// configuration of each connection's own, which would cost it memory for its whole life.)
#[derive(Debug)]
struct NoClientCertificate;

impl ResolvesClientCert for NoClientCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        ASKED.set(true);
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// A TLS connection after its handshake, as far as this side can tell.
pub struct TlsConnection {
    stream: TlsStream<Io>,
    asked_for_certificate: bool,
}

impl TlsConnection {
    /// Whether the server chose HTTP/2.
    pub fn chose_http2(&self) -> bool {
        self.stream.get_ref().1.alpn_protocol() == Some(b"h2")
    }
}

impl AsyncRead for TlsConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for TlsConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Stream for TlsConnection {
    fn written(&self) -> u64 {
        self.stream.get_ref().0.written()
    }

    fn peek(&mut self) -> Waiting {
        let waiting = self.stream.get_mut().0.peek();
        if waiting != Waiting::Nothing {
            // Most likely the end of it. A late session ticket is not worth telling apart.
            return waiting;
        }
        self.peek_new()
    }

    fn peek_new(&mut self) -> Waiting {
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

    fn refuses_client(&self, error: &io::Error) -> bool {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        let Some(rustls::Error::AlertReceived(alert)) = inner else {
            return false;
        };
        let connection = self.stream.get_ref().1;
        // A session ticket comes from a server that has ended its handshake.
        self.asked_for_certificate
            && connection.tls13_tickets_received() == 0
            && is_about_client_certificate(*alert)
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
        return Err(Failure::new(Stage::Certificate, "this system has no certificates to trust").advise("Install the system's CA certificates (ca-certificates), or set ca_file or SSL_CERT_FILE"));
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
        let stage = match is_exhaustion(error) {
            true => Stage::Resources,
            false => Stage::Handshake,
        };
        let why = describe(error);
        let host = shorten(host);
        return Failure::new(
            stage,
            format!("the connection to {host} broke during the TLS handshake ({why})"),
        );
    };
    explain_tls(host, tls)
}

/// Why TLS failed, and what to do about it.
pub fn explain_tls(host: &Host, error: &rustls::Error) -> Failure {
    use rustls::CertificateError as C;
    use rustls::Error as E;
    const TRUST: &str = "Set ca_file or ca_pem, if this server is meant to be trusted";
    const REPLACE: &str = "Have the server's certificate replaced";
    const URL: &str = "Check the URL and its port";
    let is_ca = |other: &rustls::OtherError| {
        let inner = other.0.downcast_ref();
        matches!(inner, Some(webpki::Error::CaUsedAsEndEntity))
    };
    let host = shorten(host);
    let (advice, reason) = match error {
        E::InvalidCertificate(C::Expired | C::ExpiredContext { .. }) => (
            "Have the server's certificate renewed",
            format!("the certificate of {host} has expired"),
        ),
        E::InvalidCertificate(C::NotValidYet | C::NotValidYetContext { .. }) => (
            "Check this machine's clock",
            format!("the certificate of {host} is not valid yet"),
        ),
        E::InvalidCertificate(C::NotValidForName | C::NotValidForNameContext { .. }) => (
            "Check the URL",
            format!("the certificate is for another host name than {host}"),
        ),
        E::InvalidCertificate(C::UnknownIssuer) => (
            TRUST,
            format!("the certificate of {host} is self-signed or from an unknown authority"),
        ),
        E::InvalidCertificate(C::Other(other)) if is_ca(other) => {
            (TRUST, format!("the certificate of {host} is self-signed"))
        }
        E::InvalidCertificate(C::Revoked) => {
            (REPLACE, format!("the certificate of {host} has been revoked"))
        }
        E::InvalidCertificate(other) => {
            let why = certificate_problem(other);
            let reason = format!("the certificate of {host} cannot be accepted: {why}");
            (REPLACE, reason)
        }
        E::AlertReceived(rustls::AlertDescription::ProtocolVersion) | E::PeerIncompatible(_) => (
            "Update the server",
            format!("{host} speaks no version of TLS that is still safe (1.2 or 1.3), or none of the ciphers"),
        ),
        E::AlertReceived(alert) => {
            let name = alert_name(*alert);
            let reason = format!("{host} refused the TLS handshake (alert {name})");
            return match can_pass(*alert) {
                true => Failure::new(Stage::Handshake, reason),
                false => Failure::new(Stage::Certificate, reason).advise(URL),
            };
        }
        E::InvalidMessage(_)
        | E::InappropriateMessage { .. }
        | E::InappropriateHandshakeMessage { .. } => (
            URL,
            format!("{host} did not answer with TLS (is it a port for plain http?)"),
        ),
        other => {
            let why = handshake_problem(other);
            (URL, format!("the TLS handshake with {host} failed: {why}"))
        }
    };
    Failure::new(Stage::Certificate, reason).advise(advice)
}

/// What is wrong with a certificate, where no sentence of its own says it.
fn certificate_problem(error: &CertificateError) -> &'static str {
    use webpki::Error as W;
    use CertificateError as C;
    match error {
        C::BadEncoding => "it is damaged",
        C::UnhandledCriticalExtension => "it has a critical extension that is not understood",
        // ring reports both alike.
        C::BadSignature => "its signature is wrong, or of an RSA key below 2048 bits",
        C::UnsupportedSignatureAlgorithmContext { .. }
        | C::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "it, or its authority, has a kind of key or signature that is not supported (P-521, SHA-1)"
        }
        C::InvalidPurpose | C::InvalidPurposeContext { .. } => "it is not meant for servers",
        C::Other(other) => match other.0.downcast_ref() {
            Some(W::NameConstraintViolation) => "its authority may not issue for this name",
            Some(W::MaximumPathDepthExceeded) => "its chain has more than 6 intermediates",
            Some(W::PathLenConstraintViolated) => "its chain is longer than its authority allows",
            Some(W::UnsupportedCertVersion) => "it is not of X.509 version 3",
            Some(W::EndEntityUsedAsCa) => "its issuer is no authority",
            _ => "it breaks the rules of X.509",
        },
        _ => "it breaks the rules of X.509",
    }
}

/// Why a handshake failed, where no sentence of its own says it.
fn handshake_problem(error: &rustls::Error) -> &'static str {
    use rustls::Error as E;
    match error {
        E::PeerMisbehaved(_) | E::DecryptError | E::PeerSentOversizedRecord => {
            "the server broke the rules of TLS"
        }
        E::NoCertificatesPresented => "the server has no certificate",
        E::FailedToGetCurrentTime => "this machine's clock cannot be read",
        E::FailedToGetRandomBytes => "this machine gives no random numbers",
        E::NoApplicationProtocol => "the server offers neither HTTP/2 nor HTTP/1.1",
        _ => "it could not be completed",
    }
}
