//! Options of programs that were built with an older or a newer header, and invalid values.

mod support;

use std::ptr;

use greenapi_standin::{Config, Standin};
use support::abi::{c_string, options, Client, RawOptions};

const URL: &str = "https://api.green-api.com";
const TOKEN: &str = "gac.0w1x2y3z";
const SIZE: usize = size_of::<RawOptions>();

/// Makes a client with these bytes as its options.
fn with_bytes(bytes: &[u8]) -> Result<Client, String> {
    // A struct in C is aligned.
    let mut room = vec![0u64; bytes.len().div_ceil(8)];
    unsafe {
        ptr::copy_nonoverlapping(bytes.as_ptr(), room.as_mut_ptr().cast(), bytes.len());
        Client::from_bytes(URL, TOKEN, room.as_ptr().cast()).map_err(|error| error.message())
    }
}

fn bytes_of(options: &RawOptions) -> Vec<u8> {
    unsafe { std::slice::from_raw_parts(ptr::from_ref(options).cast::<u8>(), SIZE) }.to_vec()
}

fn refused(change: impl FnOnce(&mut RawOptions)) -> String {
    let mut options = options();
    change(&mut options);
    let error = Client::new(URL, TOKEN, Some(&options))
        .err()
        .expect("the option is refused");
    assert_eq!(error.status, 20);
    error.message()
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let options = options();
    assert_eq!(options.size, SIZE);
    assert_eq!(
        (options.timeout_ms, options.connect_timeout_ms),
        (30_000, 10_000)
    );
    assert_eq!((options.max_retries, options.max_in_flight), (3, 64));
    assert_eq!((options.session, options.flags), (0, 0));
    assert!(options.requests_per_second == 0.0);
    assert!(options.ca_file.is_null() && options.proxy.is_null() && options.user_agent.is_null());
    assert!(
        options.ca_pem.is_null() && options.instance_url.is_null() && options.journal.is_null()
    );
    assert!(Client::new(URL, TOKEN, Some(&options)).is_ok());
    assert!(Client::new(URL, TOKEN, None).is_ok());
}

/// Older headers have fewer fields. The memory after the struct may hold anything.
#[test]
fn options_of_an_older_header_are_accepted() {
    let whole = bytes_of(&options());
    for size in size_of::<usize>()..SIZE {
        let mut bytes = whole.clone();
        bytes[..8].copy_from_slice(&size.to_ne_bytes());
        bytes[size..].fill(0xff);
        assert!(with_bytes(&bytes).is_ok(), "size {size}");
    }
}

#[test]
fn options_of_a_newer_header_are_accepted_if_the_new_fields_are_zero() {
    for more in [1, 8, 64] {
        let mut bytes = bytes_of(&options());
        bytes.resize(SIZE + more, 0);
        bytes[..8].copy_from_slice(&(SIZE + more).to_ne_bytes());
        assert!(with_bytes(&bytes).is_ok());
        *bytes.last_mut().unwrap() = 1;
        let message = with_bytes(&bytes)
            .err()
            .expect("a set field that the library does not know is refused");
        assert!(message.contains("does not know"), "{message}");
    }
}

#[test]
fn options_that_were_not_initialized_are_refused() {
    for size in [0usize, 1, 7, 5_000, usize::MAX] {
        let mut bytes = bytes_of(&options());
        bytes[..8].copy_from_slice(&size.to_ne_bytes());
        let message = with_bytes(&bytes).err().expect("the size is refused");
        assert!(message.contains("greenapi_options_init"), "{message}");
    }
}

#[test]
fn the_message_names_an_invalid_option() {
    assert!(refused(|o| o.timeout_ms = 0).starts_with("timeout_ms"));
    assert!(refused(|o| o.connect_timeout_ms = 0).starts_with("connect_timeout_ms"));
    assert!(refused(|o| o.max_in_flight = 0).starts_with("max_in_flight"));
    for rate in [-1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert!(refused(|o| o.requests_per_second = rate).starts_with("requests_per_second"));
    }
    assert!(refused(|o| o.session = 4).starts_with("session"));
    assert!(refused(|o| o.flags = 2).starts_with("flags"));
    assert!(refused(|o| o.flags = 3).starts_with("flags"));
    for agent in ["a\nb", "a\rb", "\u{7f}", &"x".repeat(2_000)] {
        let agent = c_string(agent);
        assert!(refused(|o| o.user_agent = agent.as_ptr()).starts_with("user_agent"));
    }
    for proxy in ["ftp://proxy", "http://", "http://user:s3cr3t-w0rd@", "a b"] {
        let url = c_string(proxy);
        let message = refused(|o| o.proxy = url.as_ptr());
        assert!(message.starts_with("proxy"), "{message}");
        assert!(!support::shows(&message, "s3cr3t-w0rd"), "{message}");
    }
    // Copies of longer texts would be large allocations, which may fail.
    let long = c_string(&"x".repeat(40_000));
    for message in [
        refused(|o| o.ca_file = long.as_ptr()),
        refused(|o| o.proxy = long.as_ptr()),
        refused(|o| o.user_agent = long.as_ptr()),
        refused(|o| o.instance_url = long.as_ptr()),
        refused(|o| o.journal = long.as_ptr()),
    ] {
        assert!(message.contains(" is longer than "), "{message}");
    }
    for text in [c"\xff".as_ptr(), c"\xc3\x28".as_ptr()] {
        assert!(refused(|o| o.user_agent = text).starts_with("user_agent is not UTF-8"));
        assert!(refused(|o| o.proxy = text).starts_with("proxy is not UTF-8"));
        assert!(refused(|o| o.ca_file = text).starts_with("ca_file is not UTF-8"));
    }
}

/// `ca_pem` is trusted, refused together with `ca_file`, and named when it contains no certificate.
#[test]
fn certificates_may_be_given_as_text() {
    let standin = Standin::start(Config::default()).unwrap();
    let endpoints = standin.endpoints();
    let pem = std::fs::read_to_string(&endpoints.ca_file).unwrap();
    let delete = |pem: &str, id: i64| {
        let pem = c_string(pem);
        let mut options = options();
        options.ca_pem = pem.as_ptr();
        options.max_retries = 0;
        let client = Client::new(&endpoints.https, &endpoints.token, Some(&options)).unwrap();
        client.delete_instance(id).status
    };
    assert_eq!(delete(&pem, 1101000001), 0);
    let other = Standin::start(Config::default()).unwrap();
    let another = std::fs::read_to_string(&other.endpoints().ca_file).unwrap();
    assert_eq!(delete(&another, 1101000002), 22);

    let path = c_string(&endpoints.ca_file.display().to_string());
    let pem = c_string(&pem);
    let both = refused(|o| (o.ca_file, o.ca_pem) = (path.as_ptr(), pem.as_ptr()));
    assert!(
        both.starts_with("ca_pem") && both.contains("ca_file"),
        "{both}"
    );
    for text in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nMIIB\n"] {
        let text = c_string(text);
        assert!(refused(|o| o.ca_pem = text.as_ptr()).starts_with("ca_pem "));
    }
    let long = "-----BEGIN CERTIFICATE-----\n".to_owned() + &"A".repeat(300_000);
    let long = c_string(&long);
    assert!(refused(|o| o.ca_pem = long.as_ptr()).contains("too long"));
}

#[test]
fn the_message_names_an_unusable_ca_file() {
    let folder = support::scratch("ca_files");
    let file = |name: &str, content: &str| {
        let path = folder.join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let pem =
        |body: &str| format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
    for path in [
        folder.join("missing.pem").display().to_string(),
        folder.display().to_string(),
        file("empty.pem", ""),
        file("text.pem", "this is no PEM\n"),
        file("cut.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n"),
        file("nonsense.pem", &pem("AAAA")),
        file("not-base64.pem", &pem("!!!!")),
    ] {
        let text = c_string(&path);
        let message = refused(|o| o.ca_file = text.as_ptr());
        let start = &path[..path.len().min(60)];
        assert!(
            message.starts_with(&format!("ca_file {start}")),
            "{path}: {message}"
        );
    }
    let empty = c_string("");
    assert!(refused(|o| o.ca_file = empty.as_ptr()).starts_with("ca_file"));
}
