//! Reads certificates: those of a PEM text, and those of the files and directories where the system
//! or its user keeps them.

use std::collections::HashSet;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::CertificateDer;
use rustls::RootCertStore;

use super::reasons::describe;
use crate::memory;
use crate::process::file::{identity_of, Identity};
use crate::process::{is_exhaustion, read_file, ReadError};

/// The longest text of a certificate in bytes: far longer than a TLS handshake can carry.
const LONGEST_PEM: usize = 256 * 1024;

/// The largest file that is read, in MiB. The bundles that systems come with have 0.25 MiB.
const LARGEST_FILE: u64 = 16;

/// Why certificates could not be read.
#[derive(Debug)]
pub enum Problem {
    /// They are wrong: what is to be said about their file, like "is a directory".
    Wrong(String),
    /// This process is out of descriptors or memory, as the text says.
    Exhausted(String),
}

impl Problem {
    fn no_memory() -> Self {
        Self::Exhausted(describe(&io::ErrorKind::OutOfMemory.into()))
    }

    fn reading(error: &io::Error) -> Self {
        let why = describe(error);
        match is_exhaustion(error) {
            true => Self::Exhausted(why),
            false => Self::Wrong(format!("cannot be read ({why})")),
        }
    }
}

/// The places of certificates that the environment names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Locations {
    pub file: Option<PathBuf>,
    pub directories: Vec<PathBuf>,
}

/// Reads a PEM file: links are followed, but it has to be a file, and not too large.
pub fn read(path: &Path) -> Result<Vec<u8>, Problem> {
    read_file(path, LARGEST_FILE * 1024 * 1024).map_err(|error| match error {
        ReadError::NotAFile(what) => Problem::Wrong(format!("is {what}")),
        ReadError::TooLong => Problem::Wrong(format!("has more than {LARGEST_FILE} MiB")),
        ReadError::Failed(error) => Problem::reading(&error),
    })
}

/// The certificates of a PEM text. The first that is not well-formed is an error.
pub fn parse(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let mut certificates = Vec::new();
    for section in sections(pem) {
        add(section, &mut certificates)?;
    }
    Ok(certificates)
}

/// Divides a PEM text into its sections, each from one BEGIN to the next. The parser gets them one
/// by one, because it collects everything up to an END, for which there may be no memory.
fn sections(pem: &[u8]) -> impl Iterator<Item = &[u8]> {
    let next = |from: usize| {
        let begins = |&at: &usize| {
            pem[at..].starts_with(b"-----BEGIN ")
                && (at == 0 || matches!(pem[at - 1], b'\n' | b'\r'))
        };
        (from..pem.len()).find(begins).unwrap_or(pem.len())
    };
    let mut begin = next(0);
    std::iter::from_fn(move || {
        let section = &pem[begin..next(begin + 1)];
        begin += section.len();
        (!section.is_empty()).then_some(section)
    })
}

/// Adds the certificate of a section, if it has one.
fn add(section: &[u8], certificates: &mut Vec<CertificateDer<'static>>) -> Result<(), Problem> {
    if memory::is_short() || certificates.try_reserve(1).is_err() {
        return Err(Problem::no_memory());
    }
    // A comment may follow the END, and is not read.
    let start = &section[..section.len().min(LONGEST_PEM)];
    match CertificateDer::pem_slice_iter(start).next() {
        Some(Ok(certificate)) => certificates.push(certificate),
        Some(Err(_)) if start.len() < section.len() => {
            let what = "has a text in it that is too long for a certificate";
            return Err(Problem::Wrong(what.into()));
        }
        Some(Err(_)) => return Err(Problem::Wrong("is not well-formed PEM".into())),
        None => {}
    }
    Ok(())
}

/// A store of these certificates. The first that rustls cannot use is an error.
pub fn store(certificates: &[CertificateDer<'_>]) -> Result<RootCertStore, Problem> {
    let unusable = "has a certificate in it that cannot be read";
    collect(certificates, || Err(Problem::Wrong(unusable.into())))
}

/// A store of those of these certificates that rustls can use: systems may have odd ones.
pub fn store_of_usable(certificates: &[CertificateDer<'_>]) -> Result<RootCertStore, Problem> {
    collect(certificates, || Ok(()))
}

fn collect(
    certificates: &[CertificateDer<'_>],
    unusable: impl Fn() -> Result<(), Problem>,
) -> Result<RootCertStore, Problem> {
    let mut store = RootCertStore::empty();
    for certificate in certificates {
        if memory::is_short() || store.roots.try_reserve(1).is_err() {
            return Err(Problem::no_memory());
        }
        if store.add(CertificateDer::from(&certificate[..])).is_err() {
            unusable()?;
        }
    }
    Ok(store)
}

/// The certificates of some places.
pub struct Found {
    pub certificates: Vec<CertificateDer<'static>>,
    /// What is to be said about the file that the environment names, if it cannot be read.
    pub about_file: Option<String>,
}

/// Reads the certificates of some places, and leaves out what is wrong: a directory may hold
/// anything.
pub fn find(locations: &Locations) -> Result<Found, Problem> {
    let mut certificates = Vec::new();
    // In a directory, most certificates have two names: their own and a link for OpenSSL.
    let mut seen = HashSet::new();
    let mut about_file = None;
    if let Some(path) = &locations.file {
        if let Ok(there) = path.metadata() {
            first_sight(&there, &mut seen)?;
        }
        match read(path) {
            Ok(pem) => add_well_formed(&pem, &mut certificates)?,
            Err(Problem::Wrong(what)) => about_file = Some(what),
            Err(exhausted) => return Err(exhausted),
        }
    }
    for directory in &locations.directories {
        let Some(entries) = unless_exhausted(fs::read_dir(directory))? else {
            continue;
        };
        for entry in entries {
            let Some(entry) = unless_exhausted(entry)? else {
                continue;
            };
            let path = entry.path();
            let Some(there) = unless_exhausted(path.metadata())? else {
                continue;
            };
            if !there.is_file() || !first_sight(&there, &mut seen)? {
                continue;
            }
            match read(&path) {
                Ok(pem) => add_well_formed(&pem, &mut certificates)?,
                Err(Problem::Wrong(_)) => {}
                Err(exhausted) => return Err(exhausted),
            }
        }
    }
    Ok(Found {
        certificates,
        about_file,
    })
}

/// Adds the well-formed certificates of a PEM text that are not there yet.
fn add_well_formed(
    pem: &[u8],
    certificates: &mut Vec<CertificateDer<'static>>,
) -> Result<(), Problem> {
    for section in sections(pem) {
        match add(section, certificates) {
            Ok(()) | Err(Problem::Wrong(_)) => {}
            Err(exhausted) => return Err(exhausted),
        }
        // Each is compared with all, because a sort would make the library larger by 7 KB.
        let double = |(last, others): (&_, &[_])| others.contains(last);
        if certificates.split_last().is_some_and(double) {
            certificates.pop();
        }
    }
    Ok(())
}

/// Whether a file has not been seen under another name.
fn first_sight(there: &Metadata, seen: &mut HashSet<Identity>) -> Result<bool, Problem> {
    seen.try_reserve(1).map_err(|_| Problem::no_memory())?;
    Ok(identity_of(there).is_none_or(|identity| seen.insert(identity)))
}

fn unless_exhausted<T>(result: io::Result<T>) -> Result<Option<T>, Problem> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_exhaustion(&error) => Err(Problem::reading(&error)),
        Err(_) => Ok(None),
    }
}

/// The certificates of the system.
#[cfg(any(windows, target_vendor = "apple"))]
pub fn find_defaults() -> Result<Found, Problem> {
    Ok(Found {
        certificates: rustls_native_certs::load_native_certs().certs,
        about_file: None,
    })
}

/// The certificates of the system, from the usual places.
#[cfg(not(any(windows, target_vendor = "apple")))]
pub fn find_defaults() -> Result<Found, Problem> {
    const FILES: [&str; 8] = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/ca-bundle.pem",
        "/etc/pki/tls/cacert.pem",
        "/etc/ssl/cert.pem",
        "/usr/local/etc/ssl/cert.pem",
        "/etc/openssl/certs/ca-certificates.crt",
    ];
    const DIRECTORIES: [&str; 4] = [
        "/etc/ssl/certs",
        "/etc/pki/tls/certs",
        "/usr/local/share/certs",
        "/etc/openssl/certs",
    ];
    let there = |path: &&str| Path::new(path).exists();
    find(&Locations {
        file: FILES.iter().copied().find(there).map(PathBuf::from),
        directories: DIRECTORIES
            .iter()
            .copied()
            .filter(there)
            .map(PathBuf::from)
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::tls::tests::{identity, LATER};

    fn pem(body: &str) -> String {
        format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
    }

    #[test]
    fn a_text_is_divided_at_the_lines_that_begin_a_section() {
        let divided = |text: &'static str| -> Vec<&[u8]> { sections(text.as_bytes()).collect() };
        assert!(divided("").is_empty());
        assert!(divided("text, and no -----BEGIN at the start of a line").is_empty());
        assert_eq!(
            divided("text\n-----BEGIN A\n1\r-----BEGIN B\n-----END B\n x-----BEGIN C"),
            [
                &b"-----BEGIN A\n1\r"[..],
                b"-----BEGIN B\n-----END B\n x-----BEGIN C"
            ]
        );
    }

    #[test]
    fn only_a_section_can_be_too_long() {
        let [a, b] = ["a", "b"].map(|name| identity(name, &[], LATER, None).pem);
        let long = "A-\n".repeat(LONGEST_PEM);
        let with_comments = format!("{long}{a}{long}{b}{long}");
        assert_eq!(parse(with_comments.as_bytes()).unwrap().len(), 2);
        for wrong in [
            pem(&long),
            format!("-----BEGIN {long}"),
            // The parser would copy this line into its error.
            format!("-----BEGIN {}\n", "A-".repeat(LONGEST_PEM)),
        ] {
            match parse(format!("{a}{wrong}{b}").as_bytes()) {
                Err(Problem::Wrong(what)) => assert!(what.contains("too long"), "{what}"),
                other => panic!("{other:?}"),
            }
            let mut certificates = Vec::new();
            let text = format!("{a}{wrong}{b}");
            add_well_formed(text.as_bytes(), &mut certificates).unwrap();
            assert_eq!(certificates.len(), 2);
        }
    }

    #[cfg(unix)]
    #[test]
    fn in_a_directory_links_are_followed_and_everything_but_certificates_is_left_out() {
        use std::os::unix::fs::symlink;
        let folder = std::env::temp_dir().join(format!("greenapi-places-{}", std::process::id()));
        let directory = folder.join("directory");
        fs::create_dir_all(directory.join("directory")).unwrap();
        let [a, b, c] = ["a", "b", "c"].map(|name| identity(name, &[], LATER, None).pem);
        fs::write(folder.join("a.pem"), format!("{}{a}", pem("!!!!"))).unwrap();
        fs::write(directory.join("b.pem"), format!("{b}{a}")).unwrap();
        fs::write(directory.join("directory/c.pem"), c).unwrap();
        fs::write(directory.join("text"), "-----BEGIN").unwrap();
        let large = fs::File::create(directory.join("large")).unwrap();
        large.set_len(LARGEST_FILE * 1024 * 1024 + 1).unwrap();
        for (target, name) in [
            ("../a.pem", "01234567.0"),
            ("b.pem", "89abcdef.0"),
            ("nowhere", "dangling"),
            ("/dev/zero", "device"),
            ("loop", "loop"),
        ] {
            symlink(target, directory.join(name)).unwrap();
        }
        let found = |file: Option<&Path>, directory: Option<&Path>| {
            let locations = Locations {
                file: file.map(PathBuf::from),
                directories: directory.map(PathBuf::from).into_iter().collect(),
            };
            let found = find(&locations).unwrap();
            (found.certificates.len(), found.about_file)
        };
        assert_eq!(found(None, Some(&directory)), (2, None));
        let links = directory.join("01234567.0");
        assert_eq!(found(Some(&links), None), (1, None));
        assert_eq!(found(Some(&links), Some(&directory)), (2, None));
        for (file, what) in [
            (directory.join("device"), "is a device"),
            (directory.join("large"), "has more than 16 MiB"),
            (directory.clone(), "is a directory"),
            (
                folder.join("nowhere"),
                "cannot be read (no such file or directory)",
            ),
        ] {
            assert_eq!(found(Some(&file), None), (0, Some(what.into())));
            assert_eq!(found(Some(&file), Some(&directory)).0, 2);
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
