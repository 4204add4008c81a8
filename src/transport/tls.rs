//! TLS with rustls: decides which certificates are trusted, and explains why a handshake failed.
//!
//! The cryptography is ring's. aws-lc-rs would add the post-quantum key exchange X25519MLKEM768,
//! but also 0.7 MB and a longer build. ring needs only a C compiler, keeps no state that a fork
//! could copy (it gets every random byte from the kernel), and leaves room for opt-level 3 within
//! the size limit. Only this file and Cargo.toml depend on the choice.

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::OsString;
use std::future::{poll_fn, Future};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_name, ResolvesClientCert, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;
use tokio_rustls::TlsConnector;
use url::Host;

use super::certificates::{self, Locations, Problem};
use super::reasons::{alert_name, can_pass, describe, is_about_client_certificate, shorten};
use super::stream::{Io, Stream, Waiting};
use super::workers::{Kind, SingleFlight, Workers};
use crate::failure::{Failure, Stage};
use crate::memory;
use crate::outcome::{sanitize, Outcome};
use crate::process::{is_exhaustion, PerProcess};
use crate::secret::Secret;
use crate::status::Status;
use crate::sync::lock;

/// Which certificates a client trusts.
#[derive(Clone, Debug)]
pub enum Trust {
    /// The system's, read at the first connection that needs them.
    System(Locations),
    /// Those of a PEM bundle.
    Only(Arc<Bundle>),
}

/// A set of trusted certificates.
#[derive(Debug)]
pub struct Bundle {
    roots: Arc<RootCertStore>,
    /// The same certificates in DER, if the caller or the environment chose them; empty for the
    /// system's defaults. A server may use one of these certificates as its own.
    certificates: Vec<CertificateDer<'static>>,
}

impl Default for Trust {
    fn default() -> Self {
        Self::System(Locations::default())
    }
}

impl PartialEq for Trust {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::System(a), Self::System(b)) => a == b,
            (Self::Only(a), Self::Only(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

impl Trust {
    /// The system's certificates; reads their places from the environment once, with `variable`.
    pub fn from_environment(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let read = |name| variable(name).filter(|value| !value.is_empty());
        let directories = read("SSL_CERT_DIR").unwrap_or_default();
        Self::System(Locations {
            file: read("SSL_CERT_FILE").map(PathBuf::from),
            directories: std::env::split_paths(&directories)
                .filter(|path| !path.as_os_str().is_empty())
                .collect(),
        })
    }

    /// Reads a PEM bundle: `ca_file` of the options. `token` is hidden in the path of a message.
    pub fn from_file(path: &str, token: &Secret) -> Result<Self, Outcome> {
        let name = format!("ca_file {}", sanitize(path, &[token]));
        certificates::read(Path::new(path))
            .and_then(|pem| Self::parse(&pem))
            .map_err(|problem| refuse(&name, problem))
    }

    /// Takes certificates as PEM text: `ca_pem` of the options.
    pub fn from_pem(pem: &str) -> Result<Self, Outcome> {
        Self::parse(pem.as_bytes()).map_err(|problem| refuse("ca_pem", problem))
    }

    fn parse(pem: &[u8]) -> Result<Self, Problem> {
        if pem.is_empty() {
            return Err(Problem::Wrong("is empty".into()));
        }
        let certificates = certificates::parse(pem)?;
        if certificates.is_empty() {
            return Err(Problem::Wrong("has no certificate in it".into()));
        }
        Ok(Self::Only(Arc::new(Bundle {
            roots: Arc::new(certificates::store(&certificates)?),
            certificates,
        })))
    }
}

/// The outcome for an option whose certificates cannot be used.
fn refuse(option: &str, problem: Problem) -> Outcome {
    match problem {
        Problem::Wrong(what) => Outcome::invalid(format!(
            "{option} {what}: give a PEM bundle of certificates."
        )),
        Problem::Exhausted(why) => Outcome::new(
            Status::OutOfResources,
            format!(
                "{option} could not be read ({why}): free descriptors or memory and call again."
            ),
        ),
    }
}

/// The TLS configuration of a transport.
pub struct Tls {
    trust: Trust,
    workers: Workers,
    config: Mutex<Option<Arc<ClientConfig>>>,
}

impl Tls {
    pub fn new(trust: Trust, workers: Workers) -> Self {
        Self {
            trust,
            workers,
            config: Mutex::new(None),
        }
    }

    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// The configuration, made at its first use because plain HTTP needs none. A failure is not
    /// kept, so a later call works once the cause is gone.
    pub async fn config(&self) -> Result<Arc<ClientConfig>, Failure> {
        if let Some(config) = &*lock(&self.config) {
            return Ok(config.clone());
        }
        let bundle = match &self.trust {
            Trust::Only(bundle) => bundle.clone(),
            Trust::System(locations) => system_bundle(locations, &self.workers).await?,
        };
        let config = trusting(bundle)?;
        *lock(&self.config) = Some(config.clone());
        Ok(config)
    }

    /// A configuration that trusts no certificate, for a reqwest client that uses plain HTTP only
    /// but needs some configuration.
    pub fn trusting_nobody() -> Result<Arc<ClientConfig>, Failure> {
        trusting(Arc::new(Bundle {
            roots: Arc::new(RootCertStore::empty()),
            certificates: Vec::new(),
        }))
    }

    /// Performs the handshake. `http2`: whether to offer HTTP/2 (not to a proxy).
    pub async fn handshake(
        &self,
        host: &Host,
        io: Io,
        http2: bool,
    ) -> Result<TlsConnection, Failure> {
        let mut config = self.config().await?;
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
            if memory::is_short() {
                // Hundreds of handshakes at once would use up the memory reserve.
                return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
            }
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

fn trusting(bundle: Arc<Bundle>) -> Result<Arc<ClientConfig>, Failure> {
    let unusable = |_| Failure::new(Stage::Certificate, "TLS cannot be set up");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(unusable)?;
    let builder = match bundle.certificates.is_empty() {
        true => builder.with_root_certificates(bundle.roots.clone()),
        false => {
            let chains =
                WebPkiServerVerifier::builder_with_provider(bundle.roots.clone(), provider)
                    .build()
                    .map_err(|_| Failure::new(Stage::Certificate, "TLS cannot be set up"))?;
            let verifier = Arc::new(BundleVerifier { chains, bundle });
            builder
                .dangerous()
                .with_custom_certificate_verifier(verifier)
        }
    };
    let mut config = builder.with_client_cert_resolver(Arc::new(NoClientCertificate));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Trusts a chain that ends in a certificate of the bundle, and, like OpenSSL, a server whose own
/// certificate is in the bundle: that is how people trust a certificate made by `openssl req
/// -x509`.
#[derive(Debug)]
struct BundleVerifier {
    chains: Arc<WebPkiServerVerifier>,
    bundle: Arc<Bundle>,
}

impl BundleVerifier {
    /// Decides whether `error` still stands if the server's own certificate is in the bundle.
    fn reconsider(
        &self,
        end_entity: &CertificateDer<'_>,
        server_name: &ServerName<'_>,
        error: rustls::Error,
    ) -> Result<(), rustls::Error> {
        use rustls::CertificateError as C;
        use rustls::Error::InvalidCertificate;
        if !self.bundle.certificates.contains(end_entity) {
            return Err(error);
        }
        let is_ca = |other: &rustls::OtherError| {
            let inner = other.0.downcast_ref();
            matches!(inner, Some(webpki::Error::CaUsedAsEndEntity))
        };
        let error = match error {
            // The validity period is fine: webpki checks it before it finds either of these errors.
            InvalidCertificate(C::UnknownIssuer) => check_name(end_entity, server_name),
            InvalidCertificate(C::Other(other)) if is_ca(&other) => {
                check_name(end_entity, server_name)
            }
            error => Err(error),
        };
        match error {
            // A certificate without alternative names is for the host in its common name.
            Err(InvalidCertificate(C::NotValidForNameContext { ref presented, .. }))
                if presented.is_empty() && common_name_is(end_entity, &server_name.to_str()) =>
            {
                Ok(())
            }
            error => error,
        }
    }
}

fn check_name(
    end_entity: &CertificateDer<'_>,
    server_name: &ServerName<'_>,
) -> Result<(), rustls::Error> {
    verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)
}

/// Whether the subject of a trusted certificate has this common name.
fn common_name_is(certificate: &CertificateDer<'_>, name: &str) -> bool {
    // The DER encoding of the object identifier 2.5.4.3, which the value follows.
    const COMMON_NAME: [u8; 5] = [0x06, 0x03, 0x55, 0x04, 0x03];
    let Ok(parsed) = webpki::EndEntityCert::try_from(certificate) else {
        return false;
    };
    let subject = parsed.subject();
    subject
        .windows(COMMON_NAME.len())
        .enumerate()
        .any(|(at, window)| {
            let value = subject.get(at + COMMON_NAME.len()..).unwrap_or_default();
            let [_kind, length, value @ ..] = value else {
                return false;
            };
            window == COMMON_NAME
                && value
                    .get(..usize::from(*length))
                    .is_some_and(|value| value.eq_ignore_ascii_case(name.as_bytes()))
        })
}

impl ServerCertVerifier for BundleVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.chains.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        verified.or_else(|error| {
            self.reconsider(end_entity, server_name, error)?;
            Ok(ServerCertVerified::assertion())
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

thread_local! {
    /// Whether the server of the handshake that is being polled asked for a client certificate.
    static ASKED: Cell<bool> = const { Cell::new(false) };
}

/// Offers no client certificate, and records in `ASKED` that the server asked for one. (A
/// thread-local, because recording it for each connection would need a separate configuration for
/// each, which would take memory as long as the connection lives.)
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

/// A TLS connection whose handshake this side has completed.
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

impl TlsConnection {
    /// Reads one byte if one has arrived; false at the end of the stream.
    fn poll_byte(&mut self) -> Poll<bool> {
        let mut byte = [0];
        let mut buffer = ReadBuf::new(&mut byte);
        let mut nobody = Context::from_waker(Waker::noop());
        let polled = Pin::new(&mut self.stream).poll_read(&mut nobody, &mut buffer);
        polled.map(|read| read.is_ok() && !buffer.filled().is_empty())
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
            // Most likely the end of the stream. A late session ticket looks the same, and is not
            // worth distinguishing.
            return waiting;
        }
        // The TLS layer may have decrypted bytes that came with the last response; they would be
        // taken for the response to the next request.
        match self.poll_byte() {
            Poll::Pending => Waiting::Nothing,
            Poll::Ready(true) => Waiting::Data,
            Poll::Ready(false) => Waiting::End,
        }
    }

    fn has_answered_early(&mut self) -> bool {
        self.poll_byte() == Poll::Ready(true)
    }

    fn refuses_client(&self, error: &io::Error) -> bool {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        let Some(rustls::Error::AlertReceived(alert)) = inner else {
            return false;
        };
        let connection = self.stream.get_ref().1;
        // A server that has sent a session ticket has completed the handshake.
        self.asked_for_certificate
            && connection.tls13_tickets_received() == 0
            && is_about_client_certificate(*alert)
    }
}

/// The system's certificates, read once for all clients; a failure is not kept.
#[derive(Default)]
struct SystemBundles {
    read: Mutex<HashMap<Locations, Arc<Bundle>>>,
    under_way: SingleFlight<Locations, Result<Arc<Bundle>, Failure>>,
}

static SYSTEM: PerProcess<SystemBundles> = PerProcess::new();

/// The system's certificates. A worker thread reads them, so that a disk that does not respond
/// delays only the calls that need them.
async fn system_bundle(locations: &Locations, workers: &Workers) -> Result<Arc<Bundle>, Failure> {
    let system = SYSTEM.get();
    if let Some(bundle) = lock(&system.read).get(locations) {
        return Ok(bundle.clone());
    }
    let (reply, _, first) = system.under_way.join(locations.clone());
    if first {
        let locations = locations.clone();
        let job = {
            let (locations, workers) = (locations.clone(), workers.clone());
            move || {
                if !system.under_way.is_wanted(&locations) {
                    return;
                }
                let bundle = read_system(&locations);
                if let Ok(bundle) = &bundle {
                    lock(&system.read).insert(locations.clone(), bundle.clone());
                    workers.certificates_are_read();
                }
                system.under_way.land(&locations, &bundle);
            }
        };
        if let Err(error) = workers.run(Kind::Certificates, job) {
            let why = describe(&error);
            let reason = format!("no thread for reading the certificates ({why})");
            let failure = Failure::new(Stage::Resources, reason);
            system.under_way.land(&locations, &Err(failure.clone()));
            return Err(failure);
        }
    }
    reply.await.unwrap_or_else(|_| {
        let reason = "reading the certificates was abandoned";
        Err(Failure::new(Stage::Certificate, reason))
    })
}

fn read_system(locations: &Locations) -> Result<Arc<Bundle>, Failure> {
    #[cfg(test)]
    tests::wait_before_reading(locations);
    let unreadable = |problem| match problem {
        Problem::Wrong(what) | Problem::Exhausted(what) => {
            let reason = format!("the certificates to trust could not be read ({what})");
            Failure::new(Stage::Resources, reason)
        }
    };
    let chosen = *locations != Locations::default();
    let found = match chosen {
        true => certificates::find(locations),
        false => certificates::find_defaults(),
    };
    let found = found.map_err(unreadable)?;
    let roots = certificates::store_of_usable(&found.certificates).map_err(unreadable)?;
    if roots.is_empty() {
        return Err(nothing_to_trust(locations, found.about_file));
    }
    Ok(Arc::new(Bundle {
        roots: Arc::new(roots),
        certificates: match chosen {
            true => found.certificates,
            false => Vec::new(),
        },
    }))
}

fn nothing_to_trust(locations: &Locations, about_file: Option<String>) -> Failure {
    let (reason, advice) = match &locations.file {
        Some(path) => {
            let path = sanitize(&path.to_string_lossy(), &[]);
            let what = about_file.unwrap_or_else(|| "has no certificate in it".into());
            (
                format!("SSL_CERT_FILE: {path} {what}"),
                "Let SSL_CERT_FILE name a PEM file, or give certificates to trust",
            )
        }
        None if locations.directories.is_empty() => (
            "this system has no certificates to trust".into(),
            "Install the system's CA certificates (ca-certificates), or give certificates to trust",
        ),
        None => (
            "no certificate is in the directories of SSL_CERT_DIR".into(),
            "Let SSL_CERT_DIR name directories of PEM files, or give certificates to trust",
        ),
    };
    Failure::new(Stage::Certificate, reason).advise(advice)
}

/// Explains why a handshake failed, with advice for the reader of the message.
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

/// Explains a TLS error, with advice for the reader of the message.
pub fn explain_tls(host: &Host, error: &rustls::Error) -> Failure {
    use rustls::CertificateError as C;
    use rustls::Error as E;
    const TRUST: &str = "Give the certificate to trust, if this server is meant to be trusted";
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
        E::InvalidCertificate(C::Revoked) => (
            REPLACE,
            format!("the certificate of {host} has been revoked"),
        ),
        E::InvalidCertificate(other) => {
            let why = certificate_problem(other);
            let reason = format!("the certificate of {host} cannot be accepted: {why}");
            (REPLACE, reason)
        }
        E::AlertReceived(rustls::AlertDescription::ProtocolVersion) | E::PeerIncompatible(_) => (
            "Update the server",
            format!("{host} supports neither TLS 1.2 nor 1.3, or none of greenapi's cipher suites"),
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

/// What is wrong with a certificate, for errors without a sentence in [`explain_tls`].
fn certificate_problem(error: &CertificateError) -> &'static str {
    use webpki::Error as W;
    use CertificateError as C;
    match error {
        C::BadEncoding => "it is damaged",
        C::UnhandledCriticalExtension => "it has a critical extension that is not understood",
        // ring reports the same error for both.
        C::BadSignature => "its signature is wrong, or of an RSA key below 2048 bits",
        C::UnsupportedSignatureAlgorithmContext { .. }
        | C::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "it, or its authority, has a type of key or signature that is not supported (P-521, SHA-1)"
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

/// Why a handshake failed, for errors without a sentence in [`explain_tls`].
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

#[cfg(test)]
pub mod tests {
    use super::super::http2;
    use super::super::tests::NeverCancelled;
    use super::super::{http1, stream, Ended, RequestTemplate};
    use super::*;
    use crate::endpoint::Endpoint;
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, GeneralSubtree, IsCa, Issuer, KeyPair,
        NameConstraints,
    };
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use rustls::server::WebPkiClientVerifier;
    use rustls::ServerConfig;
    use std::fs;
    use std::sync::mpsc;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::oneshot;
    use tokio_rustls::TlsAcceptor;

    pub struct Identity {
        pub pem: String,
        der: CertificateDer<'static>,
        key: KeyPair,
        parameters: CertificateParams,
    }

    /// A certificate signed by `authority`, or else a self-signed one like that of
    /// `openssl req -x509`.
    pub fn identity(
        common_name: &str,
        names: &[&str],
        until: (i32, u8, u8),
        authority: Option<&Identity>,
    ) -> Identity {
        let names: Vec<String> = names.iter().map(|name| (*name).into()).collect();
        let mut parameters = CertificateParams::new(names).unwrap();
        let name = &mut parameters.distinguished_name;
        name.push(DnType::CommonName, common_name);
        parameters.not_after = rcgen::date_time_ymd(until.0, until.1, until.2);
        let key = KeyPair::generate().unwrap();
        let certificate = match authority {
            None => {
                parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                parameters.self_signed(&key).unwrap()
            }
            Some(authority) => {
                let issuer = Issuer::new(authority.parameters.clone(), &authority.key);
                parameters.signed_by(&key, &issuer).unwrap()
            }
        };
        Identity {
            pem: certificate.pem(),
            der: certificate.into(),
            key,
            parameters,
        }
    }

    fn authority_for_all_but(name: &str) -> Identity {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.name_constraints = Some(NameConstraints {
            permitted_subtrees: Vec::new(),
            excluded_subtrees: vec![GeneralSubtree::DnsName(name.into())],
        });
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        Identity {
            pem: certificate.pem(),
            der: certificate.into(),
            key,
            parameters,
        }
    }

    pub fn server(identity: &Identity, wants_client: bool, alpn: &str) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match wants_client {
            false => builder.with_no_client_auth(),
            true => {
                let mut roots = RootCertStore::empty();
                roots.add(identity.der.clone()).unwrap();
                let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
                builder.with_client_cert_verifier(clients.build().unwrap())
            }
        };
        let key = PrivatePkcs8KeyDer::from(identity.key.serialize_der());
        let mut config = builder
            .with_single_cert(vec![identity.der.clone()], key.into())
            .unwrap();
        config.alpn_protocols = vec![alpn.into()];
        TlsAcceptor::from(Arc::new(config))
    }

    /// Runs a client that trusts `pem` after its handshake.
    fn run<T, C: Future<Output = T>>(
        acceptor: TlsAcceptor,
        pem: &str,
        client: impl FnOnce(Result<TlsConnection, Failure>) -> C,
    ) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let server = async {
                let (tcp, _) = listener.accept().await.unwrap();
                // Only the client's side of the connection is checked.
                if let Ok(mut stream) = acceptor.accept(tcp).await {
                    let _ = stream.read(&mut [0; 1024]).await;
                    let _ = stream.shutdown().await;
                }
            };
            let client = async {
                let trust = Trust::from_pem(pem).unwrap();
                let tls = Tls::new(trust, Workers::default());
                let tcp = TcpStream::connect(address).await.unwrap();
                let host = Host::Domain("localhost".into());
                client(tls.handshake(&host, stream::socket(tcp), true).await).await
            };
            tokio::join!(client, server).0
        })
    }

    pub const LATER: (i32, u8, u8) = (2999, 1, 1);

    #[test]
    fn a_certificate_of_the_bundle_is_trusted_as_a_servers_own() {
        const NAME: &[&str] = &["localhost"];
        let made = identity("localhost", NAME, LATER, None);
        let other = identity("localhost", NAME, LATER, None);
        let bare = identity("localhost", &[], LATER, None);
        let bare_elsewhere = identity("elsewhere", &[], LATER, None);
        let elsewhere = identity("localhost", &["elsewhere"], LATER, None);
        let expired = identity("localhost", NAME, (2020, 1, 1), None);
        let signed = identity("leaf", NAME, LATER, Some(&other));
        let narrow = authority_for_all_but("localhost");
        let outside = identity("leaf", NAME, LATER, Some(&narrow));
        let signed_expired = identity("leaf", NAME, (2020, 1, 1), Some(&other));
        for (name, server_has, trusted, expected) in [
            ("itself", &made, &made, "trusted"),
            ("its common name", &bare, &bare, "trusted"),
            ("its authority", &signed, &other, "trusted"),
            ("a leaf", &signed, &signed, "trusted"),
            (
                "another",
                &made,
                &other,
                "the certificate of localhost is self-signed",
            ),
            ("an authority for other names", &outside, &narrow, "the certificate of localhost cannot be accepted: its authority may not issue for this name"),
            (
                "no name",
                &bare_elsewhere,
                &bare_elsewhere,
                "the certificate is for another host name than localhost",
            ),
            (
                "another name",
                &elsewhere,
                &elsewhere,
                "the certificate is for another host name than localhost",
            ),
            (
                "expired",
                &expired,
                &expired,
                "the certificate of localhost has expired",
            ),
            (
                "an expired leaf",
                &signed_expired,
                &signed_expired,
                "the certificate of localhost has expired",
            ),
        ] {
            let acceptor = server(server_has, false, "http/1.1");
            let got = run(acceptor, &trusted.pem, |connection| async move {
                connection
                    .err()
                    .map_or("trusted".into(), |failure| failure.reason)
            });
            assert_eq!(got, expected, "{name}");
        }
    }

    /// Holds back the reading of one file until the sender is dropped, as a disk does that does not
    /// respond.
    static HELD: Mutex<Option<Held>> = Mutex::new(None);

    struct Held {
        file: PathBuf,
        begun: oneshot::Sender<()>,
        go_on: mpsc::Receiver<()>,
    }

    pub fn wait_before_reading(locations: &Locations) {
        let held = lock(&HELD).take_if(|held| locations.file.as_ref() == Some(&held.file));
        if let Some(held) = held {
            let _ = held.begun.send(());
            let _ = held.go_on.recv();
        }
    }

    #[test]
    fn a_slow_store_holds_back_nobody_but_its_client() {
        let directory = std::env::temp_dir().join(format!("greenapi-store-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let file = directory.join("ca.pem");
        fs::write(&file, identity("ca", &[], LATER, None).pem).unwrap();
        let (begun, reading) = oneshot::channel();
        let (hold, go_on) = mpsc::channel();
        *lock(&HELD) = Some(Held {
            file: file.clone(),
            begun,
            go_on,
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let trust = Trust::from_environment(|name| {
                (name == "SSL_CERT_FILE").then(|| file.clone().into_os_string())
            });
            let workers = Workers::default();
            let slow = [(); 4].map(|()| Tls::new(trust.clone(), workers.clone()));
            let waiting = futures_util::future::join_all(slow.iter().map(Tls::config));
            let others = async {
                // Another job runs meanwhile, because the four clients share one worker thread.
                reading.await.unwrap();
                let (done, told) = oneshot::channel();
                workers
                    .run(Kind::NewName, move || done.send(()).unwrap())
                    .unwrap();
                told.await.unwrap();
                drop(hold);
            };
            let (configs, ()) = tokio::join!(waiting, others);
            assert!(
                configs.iter().all(Result::is_ok),
                "{:?}",
                configs[0].as_ref().err()
            );
        });
        fs::remove_dir_all(&directory).unwrap();
    }

    /// In TLS 1.3 the client completes the handshake before the server sees that there is no client
    /// certificate.
    #[test]
    fn a_server_that_wants_a_client_certificate_carries_out_nothing() {
        let made = identity("localhost", &["localhost"], LATER, None);
        let endpoint = Endpoint::parse("https://localhost", false).unwrap();
        let template = RequestTemplate::new(&endpoint, "/x".into(), "me");
        for (wants, expected) in [(true, "refused"), (false, "lost")] {
            for alpn in ["http/1.1", "h2"] {
                let template = &template;
                let ended = run(
                    server(&made, wants, alpn),
                    &made.pem,
                    |connection| async move {
                        let Ok(connection) = connection else {
                            panic!("the handshake ends on this side")
                        };
                        let (request, io) = (template.request(b"{}"), Box::new(connection));
                        match alpn {
                            "h2" => match http2::Connection::new(io).await {
                                Ok(shared) => shared.exchange(&request, &NeverCancelled).await,
                                Err(failure) => panic!("{failure:?}"),
                            },
                            _ => {
                                let mut connection = http1::Connection::new(io);
                                connection.exchange(&request.http1(), &NeverCancelled).await
                            }
                        }
                    },
                );
                let got = match ended {
                    Ended::ClientRefused(reason) => {
                        assert_eq!(
                            reason.contains("certificate_required"),
                            alpn != "h2",
                            "{reason}"
                        );
                        "refused"
                    }
                    Ended::Lost { .. } => "lost",
                    _ => "something else",
                };
                assert_eq!(got, expected, "{alpn}");
            }
        }
    }
}
