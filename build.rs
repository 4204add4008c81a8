//! Generates the C header and passes the linker the options of the shared library.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=src");
    println!("cargo:rerun-if-changed=cbindgen.toml");
    println!("cargo:rerun-if-changed=include/greenapi.h");
    write_header();
    name_library();
}

/// Generates `include/greenapi.h` from src/ffi, and writes the file only when its text changes. A
/// failure to write is only a warning: a read-only copy of the sources (from a package registry,
/// say) contains the finished header.
fn write_header() {
    let root = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let path = Path::new(&root).join("include/greenapi.h");
    let mut config = cbindgen::Config::from_root_or_default(&root);
    let version =
        |part: &str| env::var(format!("CARGO_PKG_VERSION_{part}")).expect("cargo sets it");
    config.after_includes = Some(format!(
        "\n/** The version of this header; greenapi_version() gives the version of the loaded library. */\n\
         #define GREENAPI_VERSION_MAJOR {}\n\
         /** See GREENAPI_VERSION_MAJOR. */\n#define GREENAPI_VERSION_MINOR {}\n\
         /** See GREENAPI_VERSION_MAJOR. */\n#define GREENAPI_VERSION_PATCH {}",
        version("MAJOR"),
        version("MINOR"),
        version("PATCH"),
    ));
    let mut header = Vec::new();
    cbindgen::Builder::new()
        .with_crate(&root)
        .with_config(config)
        .generate()
        .expect("cbindgen can read src/ffi")
        .write(&mut header);
    let header = String::from_utf8(header).expect("cbindgen writes UTF-8");
    let header = constants_behind_enums(&header);
    let header = with_parameters(&in_c89(&without_safety(&header)));
    if fs::read_to_string(&path).is_ok_and(|current| current == header) {
        return;
    }
    if let Err(error) = fs::write(&path, header) {
        println!("cargo:warning=include/greenapi.h is out of date and cannot be written: {error}");
    }
}

/// Moves the constants behind the enums and before the structs whose members take them as values.
/// cbindgen writes all constants first, where nothing has explained their purpose yet.
fn constants_behind_enums(header: &str) -> String {
    let is_constant = |block: &str| {
        let code = block.rsplit("*/\n").next().unwrap_or_default();
        code.starts_with("#define GREENAPI_")
            && !block.contains("#ifndef")
            && !block.contains("GREENAPI_VERSION_MAJOR")
    };
    let (constants, mut blocks): (Vec<&str>, Vec<&str>) =
        header.split("\n\n").partition(|block| is_constant(block));
    let enums_end = blocks
        .iter()
        .rposition(|block| block.contains("\nenum greenapi_"))
        // The block after an enum holds its typedef, which belongs to the enum.
        .and_then(|last| {
            (last..blocks.len()).find(|index| blocks[*index].contains("typedef int32_t"))
        });
    let place = enums_end.expect("the header has enums") + 1;
    blocks.splice(place..place, constants);
    blocks.join("\n\n")
}

/// Turns "`name`: …" and "Returns …" of the Rust docstrings into `\param` and `\return`, from which
/// Doxygen makes tables. The Rust docstrings avoid these commands because rustdoc would print them.
fn with_parameters(header: &str) -> String {
    let mut blocks: Vec<String> = Vec::new();
    for block in header.split("\n\n") {
        let Some((comment, code)) = block.rsplit_once("*/\n") else {
            blocks.push(block.into());
            continue;
        };
        let is_function = code.contains('(') && !code.starts_with(['#', 't', '}', 'e', ' ']);
        if !is_function
            && !code.starts_with("enum greenapi_effect greenapi_")
            && !code.starts_with("enum greenapi_status greenapi_")
        {
            blocks.push(block.into());
            continue;
        }
        let mut lines: Vec<String> = Vec::new();
        for line in comment.lines() {
            let text = line.trim_start().trim_start_matches('*').trim_start();
            if let Some(text) = text.strip_prefix("Returns ") {
                lines.push(format!(" * \\return {text}"));
                continue;
            }
            match named_parameters(text) {
                Some((names, text)) => lines.push(format!(" * \\param {names} {text}")),
                None => lines.push(line.into()),
            }
        }
        blocks
            .push(format!("{}\n*/\n{code}", lines.join("\n").trim_end()).replace("\n*/", "\n */"));
    }
    blocks.join("\n\n")
}

/// Splits "`a`, `b`: text" into "a,b" and "text"; `None` for any other line.
fn named_parameters(text: &str) -> Option<(String, &str)> {
    let (names, rest) = text.split_once("`: ")?;
    let names = names.strip_prefix('`')?.replace("`, `", ",");
    let are_names = names
        .chars()
        .all(|c| c.is_ascii_lowercase() || c == '_' || c == ',');
    are_names.then_some((names, rest))
}

/// Removes the "# Safety" sections, which Rust's conventions require and which only repeat the
/// description of the parameters.
fn without_safety(header: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    let mut skipping = false;
    for line in header.lines() {
        if line.trim() == "* # Safety" {
            skipping = true;
            if lines.last().is_some_and(|last| last.trim() == "*") {
                lines.pop();
            }
        }
        if line.trim() == "*/" {
            skipping = false;
        }
        if !skipping {
            lines.push(line);
        }
    }
    lines.join("\n") + "\n"
}

/// Makes the header valid C89: turns the `//` comments that cbindgen writes after `#endif` and `}`
/// into `/* */`, and removes the comma after the last enumerator. C89 does not define
/// `__STDC_VERSION__`, which -Wundef reports.
fn in_c89(header: &str) -> String {
    let mut text = String::new();
    for line in header.lines() {
        match line.split_once("//") {
            Some((code, comment)) if matches!(code.trim(), "#endif" | "}") => {
                text += &format!("{} /* {} */\n", code.trim_end(), comment.trim());
            }
            _ => text += &format!("{line}\n"),
        }
    }
    // cbindgen turns every usize into size_t, but on Windows greenapi_fd holds a SOCKET, which is a
    // uintptr_t.
    text.replace(",\n}", "\n}")
        .replace(
            "__STDC_VERSION__ >= 202311L",
            "(defined(__STDC_VERSION__) && __STDC_VERSION__ >= 202311L)",
        )
        .replace(
            "typedef size_t greenapi_fd;",
            "typedef uintptr_t greenapi_fd;",
        )
}

/// Sets the library's SONAME. Its number changes only when the ABI breaks.
fn name_library() {
    let os = env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    let abi = "0";
    match os.as_str() {
        "linux" | "android" | "freebsd" => {
            println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libgreenapi.so.{abi}");
            // dlclose() must not unmap the code that the library's threads run.
            println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
            if os == "linux" {
                bind_memory();
            }
        }
        "macos" => {
            println!(
                "cargo:rustc-cdylib-link-arg=-Wl,-install_name,@rpath/libgreenapi.{abi}.dylib"
            );
        }
        "windows" => describe_dll(),
        _ => {}
    }
}

/// Makes the shared library call the replacements in src/memory/linked.rs instead of these C
/// functions, because code that calls them directly, not through Rust's allocator, would end the
/// process when memory runs out. The static library keeps the C functions: wrapping them there
/// would replace them for the whole program.
fn bind_memory() {
    let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    if !["x86_64", "aarch64"].contains(&arch.as_str()) {
        return;
    }
    for name in ["malloc", "free", "__cxa_thread_atexit_impl"] {
        println!("cargo:rustc-cdylib-link-arg=-Wl,--wrap={name}");
    }
}

/// Gives the DLL its version resource, which Windows shows and by which installers tell versions
/// apart. The static library gets none, because a program has its own.
fn describe_dll() {
    println!("cargo:rerun-if-env-changed=WINDRES");
    let variable = |name: &str| env::var(name).unwrap_or_default();
    if variable("CARGO_CFG_TARGET_ENV") != "gnu" {
        println!(
            "cargo:warning=greenapi.dll has no version resource, which is made for MinGW only"
        );
        return;
    }
    // The same sources give the same bytes: no date, and no symbols, whose names hold the path of
    // the build.
    println!("cargo:rustc-cdylib-link-arg=-Wl,--no-insert-timestamp,--strip-all");
    let place = variable("OUT_DIR");
    let [source, object] = ["version.rc", "version.o"].map(|name| Path::new(&place).join(name));
    fs::write(&source, version_resource()).expect("cargo's directory can be written to");
    let prefixed = format!("{}-w64-mingw32-windres", variable("CARGO_CFG_TARGET_ARCH"));
    let tools = match env::var("WINDRES") {
        Ok(tool) => vec![tool],
        Err(_) => vec![prefixed, "windres".into()],
    };
    let compiled = tools.iter().any(|tool| {
        let run = Command::new(tool).arg(&source).arg(&object).status();
        run.is_ok_and(|status| status.success())
    });
    if compiled {
        println!("cargo:rustc-cdylib-link-arg={}", object.display());
    } else {
        println!("cargo:warning=greenapi.dll has no version resource, because windres is missing or failed");
    }
}

/// A resource script for windres.
fn version_resource() -> String {
    let package = |name: &str| env::var(format!("CARGO_PKG_{name}")).expect("cargo sets it");
    let parts = ["MAJOR", "MINOR", "PATCH"].map(|part| package(&format!("VERSION_{part}")));
    let numbers = format!("{},0", parts.join(","));
    let strings = [
        ("CompanyName", "The greenapi authors"),
        ("FileDescription", &package("DESCRIPTION")),
        ("FileVersion", &package("VERSION")),
        ("InternalName", "greenapi"),
        ("LegalCopyright", "2026, The greenapi authors. MIT license"),
        ("OriginalFilename", "greenapi.dll"),
        ("ProductName", "greenapi"),
        ("ProductVersion", &package("VERSION")),
    ]
    .map(|(name, text)| format!("      VALUE \"{name}\", \"{text}\"\n"))
    .concat();
    // VOS_NT_WINDOWS32 and VFT_DLL; 0409 04B0 is American English in UTF-16.
    format!(
        "1 VERSIONINFO
FILEVERSION {numbers}
PRODUCTVERSION {numbers}
FILEOS 0x40004
FILETYPE 2
BEGIN
  BLOCK \"StringFileInfo\"
  BEGIN
    BLOCK \"040904B0\"
    BEGIN
{strings}    END
  END
  BLOCK \"VarFileInfo\"
  BEGIN
    VALUE \"Translation\", 0x0409, 0x04B0
  END
END
"
    )
}
