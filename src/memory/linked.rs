//! Replacements of `malloc`, `free` and `__cxa_thread_atexit_impl` for the shared library and the
//! copy of Rust's standard library in it; `build.rs` makes the linker use them. They are not
//! exported. The static library does not use them, because there these names belong to the program.
//!
//! Rust's standard library allocates a thread's handle with malloc and ends the process if that
//! fails. glibc also ends the process if it has no memory to register the destructor of a
//! thread-local.

use std::alloc::Layout;
use std::arch::global_asm;
use std::ffi::{c_int, c_void};

use super::{refused, reserve};
use crate::process::run_at_thread_exit;

/// The alignment that malloc guarantees.
const ALIGN: usize = 16;

unsafe extern "C" fn malloc(
    size: usize,
    system: unsafe extern "C" fn(usize) -> *mut c_void,
) -> *mut c_void {
    let block = unsafe { system(size) };
    match (block.is_null(), Layout::from_size_align(size, ALIGN)) {
        (true, Ok(layout)) => refused(layout).cast(),
        _ => block,
    }
}

unsafe extern "C" fn free(block: *mut c_void, system: unsafe extern "C" fn(*mut c_void)) {
    match reserve::holds(block.cast()) {
        true => unsafe { reserve::give_back(block.cast()) },
        false => unsafe { system(block) },
    }
}

unsafe extern "C" fn thread_atexit(
    destructor: unsafe extern "C" fn(*mut c_void),
    object: *mut c_void,
    _library: *mut c_void,
) -> c_int {
    run_at_thread_exit(destructor, object);
    0
}

/// Defines a function with the name that the linker option `--wrap` looks for. In assembly, because
/// Rust would export every function with an unmangled name. The function passes the system's
/// function, which only the linker of the shared library knows, as an additional argument.
macro_rules! bind {
    ($name:literal, $($line:literal,)* to $function:ident) => {
        global_asm!(
            concat!(".pushsection .text.__wrap_", $name, ",\"ax\",%progbits"),
            concat!(".weak __real_", $name),
            concat!(".globl __wrap_", $name),
            concat!(".hidden __wrap_", $name),
            concat!(".type __wrap_", $name, ",%function"),
            concat!("__wrap_", $name, ":"),
            $($line,)*
            ".popsection",
            function = sym $function,
        );
    };
}

#[cfg(target_arch = "x86_64")]
mod bound {
    use super::*;

    bind!("malloc", "mov rsi, qword ptr [rip + __real_malloc@GOTPCREL]", "jmp {function}", to malloc);
    bind!("free", "mov rsi, qword ptr [rip + __real_free@GOTPCREL]", "jmp {function}", to free);
    bind!("__cxa_thread_atexit_impl", "jmp {function}", to thread_atexit);
}

#[cfg(target_arch = "aarch64")]
mod bound {
    use super::*;

    bind!("malloc", "adrp x1, :got:__real_malloc", "ldr x1, [x1, :got_lo12:__real_malloc]", "b {function}", to malloc);
    bind!("free", "adrp x1, :got:__real_free", "ldr x1, [x1, :got_lo12:__real_free]", "b {function}", to free);
    bind!("__cxa_thread_atexit_impl", "b {function}", to thread_atexit);
}
