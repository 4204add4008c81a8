//! The options of a client, as C sees them.

use std::ffi::c_char;
use std::mem::{offset_of, size_of};
use std::ptr;

use super::text;
use crate::endpoint::InstanceUrl;
use crate::options::{self, Options};
use crate::outcome::Outcome;
use crate::secret::Secret;
use crate::transport::{Proxies, Trust};

/// The longest text of an option except `ca_pem`, in bytes: as long as the longest path of any
/// system, and short enough to be copied even when memory is short.
const LONGEST_TEXT: usize = 32 * 1024;

/// The options of a client. Set them up with greenapi_options_init, then change what you need;
/// greenapi_client_new copies them, so they may be on the stack. No text is longer than 32768 bytes,
/// except `ca_pem`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct greenapi_options {
    /// sizeof(greenapi_options), set by greenapi_options_init. The size lets later versions add
    /// fields: a smaller size comes from an older program, and the fields that it lacks take their
    /// defaults; a larger size comes from a newer program, and is accepted only while the extra
    /// bytes are zero.
    pub size: usize,
    /// Milliseconds for a whole call, retries included: 1 or more, default 30000. In a queue and in
    /// greenapi_client_delete_instances they count from the moment when the request is started.
    pub timeout_ms: u32,
    /// Milliseconds to get a connection, TLS included: 1 or more, default 10000.
    pub connect_timeout_ms: u32,
    /// Attempts after the first: default 3; 0 = one attempt. Retried are failed and lost
    /// connections, requests that the server did not process, a 408 to a deletion on a connection
    /// that had been kept, and the answers 429, 499, 500, 502, 503, 504, with growing random pauses
    /// (the first up to 200 ms, none longer than 5 s unless `Retry-After` asks for more), never past
    /// the timeout.
    pub max_retries: u32,
    /// Requests of this client under way at once, whatever their method: 1 or more, default 64.
    /// Further requests wait. If both deletions and requests of a list wait, they take turns. (A
    /// list that is not being read because the caller is slow to take instances does not count.)
    pub max_in_flight: u32,
    /// Greatest number of requests that this client starts in a second, evenly spaced; default 0 =
    /// no limit. (The API documents no limit for partner methods; its general limit was 50.)
    pub requests_per_second: f64,
    /// One of GREENAPI_SESSION_…: what to do about the session on a linked device, which a deletion
    /// does not end. Default GREENAPI_SESSION_IGNORE.
    pub session: u32,
    /// 0, or GREENAPI_FLAG_… added up.
    pub flags: u32,
    /// Path of a PEM bundle of certificates (a file of at most 16 MiB) to trust instead of the
    /// system's; NULL = the system's. Read once, by greenapi_client_new.
    pub ca_file: *const c_char,
    /// URL of the proxy for all requests: http://, https://, socks5:// or socks5h:// (the proxy
    /// looks names up), with user:password@ if the proxy needs a login. "" = no proxy. NULL = the
    /// environment's https_proxy, all_proxy and no_proxy, in lower or upper case (for plain http://
    /// http_proxy, in lower case only), which greenapi_client_new reads as libcurl does, and
    /// ignores in a set-user-ID program. Plain http:// to loopback never takes a proxy from the
    /// environment.
    pub proxy: *const c_char,
    /// Text put before the library's own name in the `User-Agent` header, at most 1024 bytes, no
    /// control characters; NULL = none.
    pub user_agent: *const c_char,
    /// PEM text of certificates to trust instead of the system's; NULL = none. Not together with
    /// ca_file.
    pub ca_pem: *const c_char,
    /// Address of an instance's own methods (its state, its logout): a URL like `url`, in which
    /// `{pool}` stands for the first four digits of the instance's id, as in
    /// `https://{pool}.api.greenapi.com`; NULL = `url`. The instance's token is sent to this
    /// address only.
    pub instance_url: *const c_char,
    /// Path of the journal, UTF-8; NULL = no journal. The journal is a file in which each deletion
    /// is recorded durably before its request is sent, and its outcome afterwards, so that a later
    /// process with the same file continues where this one stopped, even after a crash. An id whose
    /// deletion ended with 0–9 gets the same status and code again without a request, with
    /// `attempts` 0. An id whose deletion has no recorded outcome, or ended with 30–49, is sent
    /// again, and a 404 then means GREENAPI_STATUS_GONE.
    ///
    /// The file is created with mode 0600 if it does not exist; symbolic links are not followed.
    /// One process at a time holds the journal, with any number of clients of one address (url and
    /// prefix), until the last of these clients is freed and its calls have ended; a forked child
    /// does not hold the journal, and its calls with such a client end in
    /// GREENAPI_STATUS_INVALID_ARGUMENT. When the disk is full or fails, calls end in
    /// GREENAPI_STATUS_OUT_OF_RESOURCES, and nothing is sent. Use another file for each account: the
    /// token may change, so nothing checks that. Each open journal has a thread of the library.
    /// docs/JOURNAL.md lists what the journal protects against.
    pub journal: *const c_char,
}

/// `session`: delete without asking for the instance's state: only the documented call is made.
pub const GREENAPI_SESSION_IGNORE: u32 = 0;
/// `session`: ask for the instance's state first, and delete the instance only if it is logged out
/// (`notAuthorized`), or if the API says that it is deleted although the account's list still shows
/// it. In any other state GREENAPI_STATUS_SESSION_ACTIVE; if the instance cannot be asked or is
/// starting, GREENAPI_STATUS_SESSION_UNKNOWN (`starting` is asked again while there is time); if the
/// list does not show it as living, GREENAPI_STATUS_NOT_FOUND. Then nothing is deleted.
pub const GREENAPI_SESSION_REQUIRE_LOGGED_OUT: u32 = 1;
/// `session`: log the instance out unless it already is, wait for the confirmation, then delete the
/// instance; without a confirmation GREENAPI_STATUS_SESSION_ACTIVE, and nothing is deleted. If the
/// instance cannot be asked or is not in the list, as GREENAPI_SESSION_REQUIRE_LOGGED_OUT. Every
/// result of a call that logged the instance out, or may have, says so in its message.
pub const GREENAPI_SESSION_LOG_OUT: u32 = 2;
/// `session`: try to log the instance out, and delete it in any case once the API has answered the
/// logout or refused to be asked about the instance (it has expired, is being created or starting,
/// or its token is refused); the message says so. A lost answer, a 5xx, and a refusal by another
/// server (an HTML page, like a firewall's, or a 4xx that the API does not document) are not taken for
/// the API's answer: GREENAPI_STATUS_SESSION_UNKNOWN (for a page with 401 or 403
/// GREENAPI_STATUS_UNAUTHORIZED or GREENAPI_STATUS_FORBIDDEN), or GREENAPI_STATUS_SESSION_ACTIVE if the
/// state shows a session after that; nothing is deleted. A 404 page counts as the API's answer.
pub const GREENAPI_SESSION_TRY_LOG_OUT: u32 = 3;

/// `flags`: allow plain http:// to any host. Everybody on the network path can then read the token.
pub const GREENAPI_FLAG_ALLOW_HTTP: u32 = 1;

/// More than the size of any version's options; a larger size means that greenapi_options_init was
/// forgotten.
const SIZE_LIMIT: usize = 4096;

/// Sets every option to its default and `size` to what the caller was compiled with.
///
/// `options`: the options to set up; NULL does nothing.
/// `size`: sizeof(greenapi_options); that many bytes are written.
///
/// Any thread.
///
/// # Safety
/// `options` is NULL or points to `size` bytes that may be written to.
#[no_mangle]
pub unsafe extern "C" fn greenapi_options_init(options: *mut greenapi_options, size: usize) {
    if options.is_null() {
        return;
    }
    let mut defaults = defaults();
    defaults.size = size;
    let known = size.min(size_of::<greenapi_options>());
    let bytes = options.cast::<u8>();
    // Copied as bytes, because the caller's struct may be an older, shorter one.
    unsafe {
        ptr::copy_nonoverlapping(ptr::from_ref(&defaults).cast::<u8>(), bytes, known);
        ptr::write_bytes(bytes.add(known), 0, size - known);
    }
}

fn defaults() -> greenapi_options {
    let options = Options::default();
    greenapi_options {
        size: size_of::<greenapi_options>(),
        timeout_ms: options.timeout.as_millis() as u32,
        connect_timeout_ms: options.connect_timeout.as_millis() as u32,
        max_retries: options.max_retries,
        max_in_flight: options.max_in_flight,
        requests_per_second: 0.0,
        session: GREENAPI_SESSION_IGNORE,
        flags: 0,
        ca_file: ptr::null(),
        proxy: ptr::null(),
        user_agent: ptr::null(),
        ca_pem: ptr::null(),
        instance_url: ptr::null(),
        journal: ptr::null(),
    }
}

/// The options that a program of any version gave, as this version's struct.
///
/// # Safety
/// `options` points to as many readable bytes as its `size` says.
unsafe fn read(options: *const greenapi_options) -> Result<greenapi_options, Outcome> {
    let size = unsafe { ptr::addr_of!((*options).size).read_unaligned() };
    if !(size_of::<usize>()..=SIZE_LIMIT).contains(&size) {
        return Err(Outcome::invalid(format!(
            "options.size is {size}: call greenapi_options_init(&options, sizeof options) first."
        )));
    }
    let bytes = options.cast::<u8>();
    let known = size_of::<greenapi_options>();
    for position in known..size {
        if unsafe { bytes.add(position).read() } != 0 {
            return Err(Outcome::invalid(format!(
                "options has a field set that this version ({}) does not know, {position} bytes in: use a newer greenapi.",
                env!("CARGO_PKG_VERSION")
            )));
        }
    }
    let mut current = defaults();
    macro_rules! take {
        ($($field:ident),*) => {$(
            // A field that extends past the caller's struct counts as missing.
            if offset_of!(greenapi_options, $field) + size_of_val(&current.$field) <= size {
                current.$field = unsafe { ptr::addr_of!((*options).$field).read_unaligned() };
            }
        )*};
    }
    take!(
        timeout_ms,
        connect_timeout_ms,
        max_retries,
        max_in_flight,
        requests_per_second,
        session,
        flags,
        ca_file,
        proxy,
        user_agent,
        ca_pem,
        instance_url,
        journal
    );
    Ok(current)
}

/// Checks the options that a caller gave. `token` is hidden in the paths of messages.
///
/// # Safety
/// `given` is NULL or points to options as greenapi_client_new wants them.
pub(super) unsafe fn check(
    given: *const greenapi_options,
    token: &Secret,
) -> Result<Options, Outcome> {
    if given.is_null() {
        return Ok(Options::default());
    }
    let given = unsafe { read(given) }?;
    if given.max_in_flight == 0 {
        return Err(Outcome::invalid(
            "max_in_flight is 0, which would let no request start: give 1 or more.",
        ));
    }
    if given.flags & !GREENAPI_FLAG_ALLOW_HTTP != 0 {
        return Err(Outcome::invalid(format!(
            "flags is {:#x}: give 0 or GREENAPI_FLAG_ALLOW_HTTP, because this version knows no other bit.",
            given.flags
        )));
    }
    let optional = |name, pointer: *const c_char| match pointer.is_null() {
        true => Ok(None),
        false => match unsafe { text(name, pointer) }? {
            long if long.len() > LONGEST_TEXT && name != "ca_pem" => Err(Outcome::invalid(
                format!("{name} is longer than {LONGEST_TEXT} bytes: give a shorter one."),
            )),
            text => Ok(Some(text)),
        },
    };
    let ca = match (
        optional("ca_file", given.ca_file)?,
        optional("ca_pem", given.ca_pem)?,
    ) {
        (Some(_), Some(_)) => {
            return Err(Outcome::invalid(
                "ca_pem and ca_file are both given: give only one of them.",
            ))
        }
        (Some(""), None) => {
            return Err(Outcome::invalid(
                "ca_file is an empty path: give the path of a PEM bundle, or leave it out.",
            ))
        }
        (Some(path), None) => Some(Trust::from_file(path, token)?),
        (None, Some(pem)) => Some(Trust::from_pem(pem)?),
        (None, None) => None,
    };
    let allow_http = given.flags & GREENAPI_FLAG_ALLOW_HTTP != 0;
    let instance_url = match optional("instance_url", given.instance_url)? {
        Some(template) => Some(InstanceUrl::parse(template, allow_http)?),
        None => None,
    };
    let proxy = match optional("proxy", given.proxy)? {
        Some(url) => Some(Proxies::from_option(url)?),
        None => None,
    };
    Ok(Options {
        timeout: options::milliseconds("timeout_ms", given.timeout_ms)?,
        connect_timeout: options::milliseconds("connect_timeout_ms", given.connect_timeout_ms)?,
        max_retries: given.max_retries,
        max_in_flight: given.max_in_flight,
        independent: false,
        interval: options::interval(given.requests_per_second)?,
        session: options::session(given.session)?,
        allow_http,
        shares_connections: false,
        instance_url,
        ca,
        proxy,
        user_agent: options::user_agent(optional("user_agent", given.user_agent)?.unwrap_or(""))?,
        journal: match optional("journal", given.journal)? {
            Some("") => {
                return Err(Outcome::invalid(
                    "journal is an empty path: give the path of a file, or leave it out.",
                ))
            }
            path => path.map(str::to_owned),
        },
    })
}
