//! How tests in Rust call the library: they load the release library like any other program.

use std::ffi::{c_char, c_int, c_void, CStr, CString};
use std::ptr;
use std::sync::OnceLock;

use libloading::{Library, Symbol};

/// `greenapi_result`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RawResult {
    pub tag: u64,
    pub id: i64,
    pub status: i32,
    pub code: i32,
    pub http_status: i32,
    pub attempts: u32,
    pub message: [c_char; 224],
}

/// `greenapi_options`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RawOptions {
    pub size: usize,
    pub timeout_ms: u32,
    pub connect_timeout_ms: u32,
    pub max_retries: u32,
    pub max_in_flight: u32,
    pub requests_per_second: f64,
    pub session: u32,
    pub flags: u32,
    pub ca_file: *const c_char,
    pub proxy: *const c_char,
    pub user_agent: *const c_char,
    pub ca_pem: *const c_char,
    pub instance_url: *const c_char,
    pub journal: *const c_char,
}

impl RawResult {
    pub fn zeroed() -> Self {
        Self {
            tag: 0,
            id: 0,
            status: -1,
            code: 0,
            http_status: 0,
            attempts: 0,
            message: [0; 224],
        }
    }

    pub fn message(&self) -> String {
        let bytes: Vec<u8> = self.message.iter().map(|c| *c as u8).collect();
        CStr::from_bytes_until_nul(&bytes)
            .expect("a message ends")
            .to_str()
            .expect("a message is UTF-8")
            .to_owned()
    }
}

impl std::fmt::Debug for RawResult {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "id {} status {} code {} http {} attempts {}: {}",
            self.id,
            self.status,
            self.code,
            self.http_status,
            self.attempts,
            self.message()
        )
    }
}

/// `greenapi_instance`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RawInstance {
    pub id: i64,
    pub created: i64,
    pub deleted: i64,
    pub expires: i64,
    pub flags: u32,
    pub state: i32,
    pub kind: [c_char; 16],
    pub tariff: [c_char; 32],
    pub name: [c_char; 168],
}

impl RawInstance {
    pub fn text(chars: &[c_char]) -> String {
        let bytes: Vec<u8> = chars.iter().map(|c| *c as u8).collect();
        CStr::from_bytes_until_nul(&bytes)
            .expect("a text ends")
            .to_str()
            .expect("a text is UTF-8")
            .to_owned()
    }
}

fn library() -> &'static Library {
    static LOADED: OnceLock<Library> = OnceLock::new();
    LOADED.get_or_init(|| {
        let path = std::env::var_os("GREENAPI_TEST_LIBRARY")
            .map_or_else(super::library, std::path::PathBuf::from);
        unsafe { Library::new(path) }.expect("the library loads")
    })
}

/// Looks up a function of the library. The caller has to give its true type.
macro_rules! function {
    ($name:ident: $type:ty) => {{
        let symbol: Symbol<'static, $type> =
            unsafe { library().get(concat!(stringify!($name), "\0").as_bytes()) }
                .expect(stringify!($name));
        symbol
    }};
}

pub fn status_name(status: i32) -> &'static str {
    let name = function!(greenapi_status_name: unsafe extern "C" fn(i32) -> *const c_char);
    unsafe { CStr::from_ptr(name(status)) }
        .to_str()
        .expect("a name is UTF-8")
}

pub fn options() -> RawOptions {
    let init = function!(greenapi_options_init: unsafe extern "C" fn(*mut RawOptions, usize));
    let mut options = std::mem::MaybeUninit::uninit();
    unsafe {
        init(options.as_mut_ptr(), size_of::<RawOptions>());
        options.assume_init()
    }
}

/// `greenapi_delete_instance`: returns the status and the code.
pub fn delete_instance(url: &str, token: &str, id: i64) -> (i32, i32) {
    let call = function!(
        greenapi_delete_instance: unsafe extern "C" fn(*const c_char, *const c_char, i64, *mut c_int) -> i32
    );
    let (url, token) = (c_string(url), c_string(token));
    let mut code = -1;
    let status = unsafe { call(url.as_ptr(), token.as_ptr(), id, &mut code) };
    (status, code)
}

pub fn c_string(text: &str) -> CString {
    CString::new(text).expect("the text has no NUL")
}

/// `greenapi_client`, freed when it is dropped.
pub struct Client(*mut c_void);

unsafe impl Send for Client {}
unsafe impl Sync for Client {}

impl Client {
    pub fn new(
        url: &str,
        token: &str,
        options: Option<&RawOptions>,
    ) -> Result<Self, Box<RawResult>> {
        let raw = options.map_or(ptr::null(), |options| ptr::from_ref(options).cast());
        unsafe { Self::from_bytes(url, token, raw) }
    }

    /// Makes a client with the bytes at `options`, which may be invalid.
    pub unsafe fn from_bytes(
        url: &str,
        token: &str,
        options: *const c_void,
    ) -> Result<Self, Box<RawResult>> {
        let new = function!(
            greenapi_client_new: unsafe extern "C" fn(
                *const c_char, *const c_char, *const c_void, *mut *mut c_void, *mut RawResult) -> i32
        );
        let (url, token) = (c_string(url), c_string(token));
        let mut client = ptr::dangling_mut();
        let mut error = RawResult::zeroed();
        let status = unsafe {
            new(
                url.as_ptr(),
                token.as_ptr(),
                options,
                &mut client,
                &mut error,
            )
        };
        assert_eq!(status, error.status);
        match status {
            0 => Ok(Self(client)),
            _ => {
                assert!(client.is_null());
                Err(Box::new(error))
            }
        }
    }

    pub fn delete_instance(&self, id: i64) -> RawResult {
        let call = function!(
            greenapi_client_delete_instance: unsafe extern "C" fn(*mut c_void, i64, *mut RawResult) -> i32
        );
        let mut result = RawResult::zeroed();
        let status = unsafe { call(self.0, id, &mut result) };
        assert_eq!((status, result.id), (result.status, id));
        result
    }

    pub fn delete_instances(&self, ids: &[i64]) -> Vec<RawResult> {
        let call = function!(
            greenapi_client_delete_instances: unsafe extern "C" fn(
                *mut c_void, *const i64, usize, *mut RawResult, *const c_void, *const c_void) -> i32
        );
        let mut results = vec![RawResult::zeroed(); ids.len()];
        let status = unsafe {
            call(
                self.0,
                ids.as_ptr(),
                ids.len(),
                results.as_mut_ptr(),
                ptr::null(),
                ptr::null(),
            )
        };
        let first = results.iter().find(|result| result.status > 9);
        assert_eq!(status, first.map_or(0, |result| result.status));
        results
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let free = function!(greenapi_client_free: unsafe extern "C" fn(*mut c_void));
        unsafe { free(self.0) };
    }
}

/// `greenapi_queue`, freed when it is dropped.
pub struct Queue(*mut c_void);

unsafe impl Send for Queue {}
unsafe impl Sync for Queue {}

impl Queue {
    pub fn new() -> Self {
        let new = function!(greenapi_queue_new: unsafe extern "C" fn(*mut *mut c_void) -> i32);
        let mut queue = ptr::null_mut();
        assert_eq!(unsafe { new(&mut queue) }, 0);
        Self(queue)
    }

    pub fn fd(&self) -> c_int {
        let fd = function!(greenapi_queue_fd: unsafe extern "C" fn(*const c_void) -> c_int);
        unsafe { fd(self.0) }
    }

    pub fn submit(&self, client: &Client, id: i64, tag: u64) -> i32 {
        let submit = function!(
            greenapi_queue_submit: unsafe extern "C" fn(*mut c_void, *mut c_void, i64, u64) -> i32
        );
        unsafe { submit(self.0, client.0, id, tag) }
    }

    pub fn cancel(&self, tag: u64) -> usize {
        let cancel =
            function!(greenapi_queue_cancel: unsafe extern "C" fn(*mut c_void, u64) -> usize);
        unsafe { cancel(self.0, tag) }
    }

    pub fn take(&self, capacity: usize, timeout_ms: c_int) -> Vec<RawResult> {
        let take = function!(
            greenapi_queue_take: unsafe extern "C" fn(*mut c_void, *mut RawResult, usize, c_int) -> usize
        );
        let mut results = vec![RawResult::zeroed(); capacity];
        let count = unsafe { take(self.0, results.as_mut_ptr(), capacity, timeout_ms) };
        results.truncate(count);
        results
    }

    /// Whether the descriptor is readable now.
    pub fn is_readable(&self) -> bool {
        let mut poll = libc::pollfd {
            fd: self.fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        unsafe { libc::poll(&mut poll, 1, 0) == 1 }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let free = function!(greenapi_queue_free: unsafe extern "C" fn(*mut c_void));
        unsafe { free(self.0) };
    }
}

/// `greenapi_list`, freed when it is dropped.
pub struct List(*mut c_void);

unsafe impl Send for List {}
unsafe impl Sync for List {}

impl List {
    pub fn of(client: &Client, flags: u32) -> Result<Self, Box<RawResult>> {
        let begin = function!(
            greenapi_client_list_instances: unsafe extern "C" fn(
                *mut c_void, u32, *mut *mut c_void, *mut RawResult) -> i32
        );
        let mut list = ptr::dangling_mut();
        let mut error = RawResult::zeroed();
        let status = unsafe { begin(client.0, flags, &mut list, &mut error) };
        assert_eq!(status, error.status);
        match status {
            0 => Ok(Self(list)),
            _ => {
                assert!(list.is_null());
                Err(Box::new(error))
            }
        }
    }

    pub fn take(&self, capacity: usize, timeout_ms: c_int) -> Vec<RawInstance> {
        let take = function!(
            greenapi_list_take: unsafe extern "C" fn(*mut c_void, *mut RawInstance, usize, c_int) -> usize
        );
        let mut instances = Vec::with_capacity(capacity);
        unsafe {
            let count = take(self.0, instances.as_mut_ptr(), capacity, timeout_ms);
            instances.set_len(count);
        }
        instances
    }

    /// How the list ended; `None` while more instances may come.
    pub fn ended(&self) -> Option<RawResult> {
        let ended = function!(
            greenapi_list_ended: unsafe extern "C" fn(*const c_void, *mut RawResult) -> bool
        );
        let mut result = RawResult::zeroed();
        let has = unsafe { ended(self.0, &mut result) };
        assert!(has || result.status == -1, "written before the list ended");
        has.then_some(result)
    }

    /// All instances, and how the list ended.
    pub fn all(&self) -> (Vec<RawInstance>, RawResult) {
        let mut all = Vec::new();
        loop {
            let taken = self.take(256, -1);
            if taken.is_empty() {
                let end = self
                    .ended()
                    .expect("an empty take means that the list ended");
                return (all, end);
            }
            all.extend(taken);
        }
    }

    pub fn fd(&self) -> c_int {
        let fd = function!(greenapi_list_fd: unsafe extern "C" fn(*const c_void) -> c_int);
        unsafe { fd(self.0) }
    }

    /// Whether the descriptor is readable within `timeout_ms`.
    pub fn is_readable(&self, timeout_ms: c_int) -> bool {
        let mut poll = libc::pollfd {
            fd: self.fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        unsafe { libc::poll(&mut poll, 1, timeout_ms) == 1 }
    }
}

impl Drop for List {
    fn drop(&mut self) {
        let free = function!(greenapi_list_free: unsafe extern "C" fn(*mut c_void));
        unsafe { free(self.0) };
    }
}
