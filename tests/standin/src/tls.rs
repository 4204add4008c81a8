//! The certificates, which are made anew at every start, and the TLS servers that use them.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::ServerConfig;
use time::{Duration, OffsetDateTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::server::TlsStream;
use tokio_rustls::TlsAcceptor;

use crate::world::Shared;

/// The names in the valid certificates.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The ALPN protocols of an ordinary listener, and of one without HTTP/2.
pub(crate) const BOTH: &[&str] = &["h2", "http/1.1"];
pub(crate) const H1_ONLY: &[&str] = &["http/1.1"];

/// A server's certificate with its key.
struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
}

impl Identity {
    fn acceptor(&self, alpn: &[&str]) -> io::Result<TlsAcceptor> {
        // Names the provider, because the process may have no default one.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(
                vec![self.certificate.clone()],
                PrivateKeyDer::Pkcs8(self.key.clone_key()),
            )
            .map_err(io::Error::other)?;
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// TLS servers with valid and with invalid certificates.
pub(crate) struct Acceptors {
    pub(crate) good: TlsAcceptor,
    pub(crate) good_h1: TlsAcceptor,
    pub(crate) expired: TlsAcceptor,
    pub(crate) wrong_host: TlsAcceptor,
    pub(crate) self_signed: TlsAcceptor,
    pub(crate) unknown_ca: TlsAcceptor,
}

impl Acceptors {
    /// Makes the certificates, and writes the CA's certificates to the directory.
    pub(crate) fn make(directory: &Path) -> io::Result<Self> {
        make(directory).map_err(|error| match error {
            MakeError::Certificate(error) => io::Error::other(error),
            MakeError::Io(error) => error,
        })
    }
}

enum MakeError {
    Certificate(rcgen::Error),
    Io(io::Error),
}

impl From<rcgen::Error> for MakeError {
    fn from(error: rcgen::Error) -> Self {
        MakeError::Certificate(error)
    }
}

impl From<io::Error> for MakeError {
    fn from(error: io::Error) -> Self {
        MakeError::Io(error)
    }
}

fn make(directory: &Path) -> Result<Acceptors, MakeError> {
    let now = OffsetDateTime::now_utc();
    let current = (now - Duration::days(1), now + Duration::days(30));
    let past = (now - Duration::days(30), now - Duration::days(1));

    let (ca_pem, ca) = authority("greenapi stand-in CA", current)?;
    std::fs::write(directory.join("ca.pem"), ca_pem)?;
    let (other_pem, other_ca) = authority("greenapi stand-in CA that nobody trusts", current)?;
    std::fs::write(directory.join("unknown_ca.pem"), other_pem)?;

    let good = leaf(&NAMES, current, Some(&ca))?;
    Ok(Acceptors {
        good: good.acceptor(BOTH)?,
        good_h1: good.acceptor(H1_ONLY)?,
        expired: leaf(&NAMES, past, Some(&ca))?.acceptor(BOTH)?,
        wrong_host: leaf(&["wrong.example.test"], current, Some(&ca))?.acceptor(BOTH)?,
        self_signed: leaf(&NAMES, current, None)?.acceptor(BOTH)?,
        unknown_ca: leaf(&NAMES, current, Some(&other_ca))?.acceptor(BOTH)?,
    })
}

type Validity = (OffsetDateTime, OffsetDateTime);

fn parameters(
    common_name: &str,
    names: &[&str],
    (not_before, not_after): Validity,
) -> Result<CertificateParams, rcgen::Error> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut parameters = CertificateParams::new(names)?;
    parameters.distinguished_name = DistinguishedName::new();
    parameters
        .distinguished_name
        .push(DnType::CommonName, common_name);
    parameters.not_before = not_before;
    parameters.not_after = not_after;
    Ok(parameters)
}

fn authority(
    name: &str,
    validity: Validity,
) -> Result<(String, Issuer<'static, KeyPair>), rcgen::Error> {
    let mut parameters = parameters(name, &[], validity)?;
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let pem = parameters.self_signed(&key)?.pem();
    Ok((pem, Issuer::new(parameters, key)))
}

/// A server's certificate, signed by a CA or by itself.
fn leaf(
    names: &[&str],
    validity: Validity,
    authority: Option<&Issuer<'static, KeyPair>>,
) -> Result<Identity, rcgen::Error> {
    let mut parameters = parameters(names[0], names, validity)?;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let certificate = match authority {
        Some(authority) => {
            // Strict verifiers find the issuer by this extension.
            parameters.use_authority_key_identifier_extension = true;
            parameters.signed_by(&key, authority)?
        }
        None => parameters.self_signed(&key)?,
    };
    Ok(Identity {
        certificate: certificate.into(),
        key: key.serialize_der().into(),
    })
}

/// Does the server's side of a handshake, and counts its outcome.
pub(crate) async fn accept<S>(
    acceptor: &TlsAcceptor,
    stream: S,
    shared: &Shared,
) -> Option<TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match acceptor.accept(stream).await {
        Ok(stream) => {
            let (_, session) = stream.get_ref();
            let version = session
                .protocol_version()
                .map_or_else(|| "none".to_owned(), |version| format!("{version:?}"));
            let alpn = session.alpn_protocol().map_or_else(
                || "none".to_owned(),
                |name| String::from_utf8_lossy(name).into_owned(),
            );
            shared.count(|stats| {
                *stats.tls.versions.entry(version).or_default() += 1;
                *stats.tls.alpn.entry(alpn).or_default() += 1;
            });
            Some(stream)
        }
        Err(_) => {
            shared.count(|stats| stats.tls.failed += 1);
            None
        }
    }
}
