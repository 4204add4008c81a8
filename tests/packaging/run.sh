#!/usr/bin/env bash
# Installs the library as a user would, builds programs against the installed files in every
# documented way, and runs the programs against the stand-in.
#
#   GREENAPI_STANDIN=…/greenapi-standin tests/packaging/run.sh
#
# GREENAPI_STANDIN  the stand-in's program (cargo build -p greenapi-standin)
# LIBRARY_DIR       a directory with a built libgreenapi.so and libgreenapi.a; without it the
#                   library is built first
# CC, CXX, RUSTC    the compilers
set -euo pipefail
export LC_ALL=C

# Contains the version of the ABI. Changing it means that every program has to be rebuilt.
soname=libgreenapi.so.0

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cc=${CC:-cc}
cxx=${CXX:-c++}
rustc=${RUSTC:-rustc}

fail() {
    printf 'packaging: %s\n' "$*" >&2
    exit 1
}

equal() { # what, expected, got
    [ "$2" = "$3" ] || fail "$1 is \"$3\" instead of \"$2\""
}

# --- requirements -----------------------------------------------------------------------------

[ "$(uname -s)" = Linux ] || fail "this test supports only the file names and tools of Linux"
missing=()
need() {
    command -v "$1" >/dev/null || missing+=("$1 (Debian: apt install $2)")
}
need make make
need "$cc" gcc
need "$cxx" g++
need cmake cmake
need pkg-config pkg-config
need readelf binutils
need "$rustc" rustc
[ ${#missing[@]} = 0 ] ||
    fail "install $(printf '%s, ' "${missing[@]}")or name other compilers in CC, CXX and RUSTC"
[ -x "${GREENAPI_STANDIN:-}" ] ||
    fail "GREENAPI_STANDIN has to name the stand-in's program: cargo build -p greenapi-standin"

work=$(mktemp -d)
standin=
finish() {
    [ -z "$standin" ] || kill "$standin"
    rm -rf "$work"
}
trap finish EXIT

echo 'int main(void) { return 0; }' | "$cc" -static -x c -o "$work/static" - 2>/dev/null ||
    fail "$cc -static finds no static C library: install it (Fedora: dnf install glibc-static)"

exec 3< <(exec "$GREENAPI_STANDIN" --stay --instances 100)
standin=$!
read -r endpoints <&3 || fail "the stand-in did not start"
endpoint() {
    sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" <<<"$endpoints"
}
# Over HTTPS, so that the programs use all parts of the library.
GREENAPI_URL=$(endpoint https)
GREENAPI_TOKEN=$(endpoint token)
GREENAPI_CA_FILE=$(endpoint ca_file)
export GREENAPI_URL GREENAPI_TOKEN GREENAPI_CA_FILE
unset HTTPS_PROXY https_proxy ALL_PROXY all_proxy

# --- steps --------------------------------------------------------------------------------------

version=$(sed -n '/^\[package\]/,/^\[dep/s/^version *= *"\(.*\)"/\1/p' "$root/Cargo.toml")
# These would pass the variables of an outer make to this script's makes.
unset MAKEFLAGS MAKEOVERRIDES PREFIX LIBDIR INCLUDEDIR DESTDIR
run_make() {
    make --silent -C "$root" ${LIBRARY_DIR:+LIBRARY_DIR="$LIBRARY_DIR"} "$@" >"$work/make.log"
}

next_id=1101000001
named() { # SONAME or NEEDED, a library or program
    readelf -d "$2" | sed -n "s/.*($1).*\[\(libgreenapi.*\)\]/\1/p"
}

# Runs a program that deletes an instance, and checks which library it is linked to.
try() { # how it was built, shared or static, the program
    local printed needed
    # The limit is for a child that waits for ever, for a thread that only its parent has.
    printed=$(timeout 60 "$3" "$next_id") || fail "$1: the program failed (status $?)"
    next_id=$((next_id + 1))
    equal "$1: the output" "header $version library $version" "$printed"
    needed=$(named NEEDED "$3")
    case $2 in
    shared) equal "$1: the needed library" "$soname" "$needed" ;;
    static) equal "$1: the needed shared library" "" "$needed" ;;
    esac
    echo "ok: $1"
}

exported() { # -D for a shared library or -g for a static one, the library
    nm "$1" --defined-only "$2" | awk 'NF == 3 { print $3 }' | sort -u
}

check_files() { # libdir, includedir
    local libdir=$1 declared
    equal "the link libgreenapi.so" "$soname" "$(readlink "$libdir/libgreenapi.so")"
    equal "the link $soname" "libgreenapi.so.$version" "$(readlink "$libdir/$soname")"
    if [ ! -f "$libdir/libgreenapi.so.$version" ] || [ -L "$libdir/libgreenapi.so.$version" ]; then
        fail "libgreenapi.so.$version is not a plain file"
    fi
    equal "the SONAME" "$soname" "$(named SONAME "$libdir/libgreenapi.so")"

    declared=$(grep -o 'greenapi_[a-z_]*(' "$2/greenapi.h" | tr -d '(' | sort -u)
    equal "the shared library's exports" "$declared" "$(exported -D "$libdir/libgreenapi.so")"
    equal "the static library's exports" "$declared" "$(exported -g "$libdir/libgreenapi.a")"

    for package in greenapi greenapi-static; do
        equal "the version of $package.pc" "$version" "$(pkg-config --modversion "$package")"
    done
    echo "ok: names, links, SONAME, exports, versions"
}

build() { # language, program, arguments of pkg-config
    local compiler source warnings=(-Wall -Wextra -Werror)
    case $1 in
    c) compiler=("$cc" -std=gnu99) source=$here/c/delete.c ;;
    cpp) compiler=("$cxx" -std=c++17) source=$here/cpp/delete.cpp ;;
    esac
    if [ "$3" = --static ]; then
        # With glibc the linker warns that looking up host names needs shared libraries at run time.
        compiler+=(-static) warnings=(-w)
    fi
    # shellcheck disable=SC2046 # pkg-config's words are meant to be split
    "${compiler[@]}" "${warnings[@]}" "$source" -o "$2" $(pkg-config --cflags --libs "${@:3}") \
        2>"$work/error" || fail "${compiler[*]}: $(cat "$work/error")"
}

build_all_ways() { # name of the layout, libdir, includedir, CMake's option for the location
    local libdir=$2 bin=$work/bin
    export PKG_CONFIG_PATH=$libdir/pkgconfig
    rm -rf "$bin" "$work/build"
    mkdir "$bin"
    cd "$work"
    check_files "$libdir" "$3"

    build c "$bin/c" greenapi
    build cpp "$bin/cpp" greenapi
    build c "$bin/c_inside" greenapi-static
    build cpp "$bin/cpp_inside" greenapi-static
    build c "$bin/c_static" --static greenapi
    export LD_LIBRARY_PATH=$libdir
    try "$1, C, pkg-config" shared "$bin/c"
    try "$1, C++, pkg-config" shared "$bin/cpp"
    unset LD_LIBRARY_PATH
    try "$1, C, pkg-config greenapi-static" static "$bin/c_inside"
    try "$1, C++, pkg-config greenapi-static" static "$bin/cpp_inside"
    try "$1, C, cc -static and pkg-config --static" static "$bin/c_static"

    for language in c cpp; do
        bin=$work/build/$language
        CC=$cc CXX=$cxx cmake -S "$here/$language" -B "$bin" "$4" >"$work/log" 2>&1 ||
            fail "cmake: $(cat "$work/log")"
        equal "CMake's version" "$version" "$(sed -n 's/^-- version: //p' "$work/log")"
        cmake --build "$bin" >"$work/log" 2>&1 || fail "cmake --build: $(cat "$work/log")"
        try "$1, $language, CMake" shared "$bin/delete_shared"
        try "$1, $language, CMake static" static "$bin/delete_static"
    done
}

# --- the tests ----------------------------------------------------------------------------------

run_make install PREFIX="$work/plain"
build_all_ways "a prefix" "$work/plain/lib" "$work/plain/include" "-DCMAKE_PREFIX_PATH=$work/plain"

if run_make install LIBRARY_DIR="$work/nothing" PREFIX="$work/none" 2>"$work/error"; then
    fail "make install succeeded without a library"
fi
grep -q "There is no $work/nothing/libgreenapi.so" "$work/error" ||
    fail "make install without a library says: $(cat "$work/error")"
mkdir "$work/newer"
cat >"$work/newer/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.13)
project(newer NONE)
find_package(greenapi 99 REQUIRED)
END
if cmake -S "$work/newer" -B "$work/newer/build" -DCMAKE_PREFIX_PATH="$work/plain" \
    >"$work/error" 2>&1; then
    fail "CMake took $version for version 99"
fi
grep -q "version: $version" "$work/error" || fail "CMake, asked for version 99: $(cat "$work/error")"
echo "ok: no library, and a library that is too old"

# FetchContent and add_subdirectory: the library as part of another project's build.
fetched="include(FetchContent)
FetchContent_Declare(greenapi URL \"$root\" SOURCE_DIR \"$root\" DOWNLOAD_COMMAND \"\")
FetchContent_MakeAvailable(greenapi)"
for way in fetched:c added:cpp; do
    language=${way#*:}
    project=$work/outer-$language
    mkdir "$project"
    {
        echo 'cmake_minimum_required(VERSION 3.14)'
        echo 'project(outer LANGUAGES C CXX)'
        echo 'set(CMAKE_CXX_STANDARD 17)'
        if [ "${way%:*}" = fetched ]; then echo "$fetched"; else echo "add_subdirectory(\"$root\" greenapi)"; fi
        echo "add_executable(delete_shared \"$here/$language/delete.$language\")"
        echo "add_executable(delete_static \"$here/$language/delete.$language\")"
        echo 'target_link_libraries(delete_shared PRIVATE greenapi::greenapi)'
        echo 'target_link_libraries(delete_static PRIVATE greenapi::greenapi-static)'
    } >"$project/CMakeLists.txt"
    CC=$cc CXX=$cxx cmake -S "$project" -B "$project/build" \
        ${LIBRARY_DIR:+-DGREENAPI_LIBRARY_DIR="$LIBRARY_DIR"} >"$work/log" 2>&1 ||
        fail "cmake: $(cat "$work/log")"
    cmake --build "$project/build" >"$work/log" 2>&1 || fail "cmake --build: $(cat "$work/log")"
    try "${way%:*} by CMake, $language" shared "$project/build/delete_shared"
    try "${way%:*} by CMake, $language, static" static "$project/build/delete_static"
    # What the outer project installs is its own.
    cmake --install "$project/build" --prefix "$project/installed" >"$work/log" 2>&1 ||
        fail "cmake --install: $(cat "$work/log")"
    equal "the list of files that the outer project installs" "" \
        "$(find "$project/installed" ! -type d 2>/dev/null)"
done
if ! cmake -S "$work/outer-c" -B "$work/outer-c/build" -DGREENAPI_INSTALL=ON >"$work/log" 2>&1 ||
    ! cmake --install "$work/outer-c/build" --prefix "$work/outer-c/installed" >"$work/log" 2>&1; then
    fail "cmake with GREENAPI_INSTALL: $(cat "$work/log")"
fi
[ -e "$work/outer-c/installed/lib/libgreenapi.so" ] || fail "GREENAPI_INSTALL installs nothing"
echo "ok: GREENAPI_INSTALL"

# The system libraries that Rust needs, except those that C compilers add themselves.
needed=$("$rustc" -O --crate-type staticlib --print native-static-libs "$here/other.rs" \
    -o "$work/libother.a" 2>&1 | sed -n 's/^note: native-static-libs: //p')
sorted() {
    tr ' ' '\n' | grep -v -x -e '' -e -lgreenapi -e -lgcc_s -e -lc | sort -u
}
equal "the list of the static library's needs" "$(sorted <<<"$needed")" \
    "$(pkg-config --static --libs-only-l greenapi | sorted)"

# Two static libraries in Rust, in either order.
ours=$work/plain/lib/libgreenapi.a
other=$work/libother.a
for order in "$ours $other" "$other $ours"; do
    # shellcheck disable=SC2086 # two words
    "$cc" "$here/both.c" -I"$work/plain/include" -o "$work/both" $order -lpthread -lm -ldl
    "$work/both" || fail "a program with two static libraries in Rust fails"
done
echo "ok: beside another static library in Rust"

# Installing over an older copy, then uninstalling.
run_make install PREFIX="$work/plain"
run_make uninstall PREFIX="$work/plain"
equal "the list of files left by uninstalling" "" "$(find "$work/plain" ! -type d)"
[ ! -e "$work/plain/lib/cmake/greenapi" ] || fail "uninstalling left the directory lib/cmake/greenapi"
echo "ok: uninstall"

run_make install STATIC_ONLY=1 PREFIX="$work/static-only"
equal "the library installed by STATIC_ONLY" "libgreenapi.a" \
    "$(cd "$work/static-only/lib" && echo libgreenapi*)"
PKG_CONFIG_PATH=$work/static-only/lib/pkgconfig build c "$work/c_only" greenapi-static
try "STATIC_ONLY" static "$work/c_only"

# For musl the machine's own compiler is the wrong one, which make has to say.
musl=aarch64-unknown-linux-musl
cat >"$work/cargo" <<END
#!/bin/sh
# Imitates a build that links with glibc.
mkdir -p "$work/cross/$musl/release/deps"
cp -L "$work/stage-of-musl/lib/libgreenapi.so" "$work/stage-of-musl/lib/libgreenapi.a" "$work/cross/$musl/release"
END
chmod +x "$work/cargo"
run_make install PREFIX="$work/stage-of-musl"
refused() { # what make has to say, variable=value...
    if env -u LIBRARY_DIR -u CC -u TARGET_CC "${@:2}" make --silent -C "$root" install PREFIX="$work/none" WITH_MAN= \
        CARGO="$work/cargo" CARGO_TARGET_DIR="$work/cross" CARGO_BUILD_TARGET=$musl 2>"$work/error" >&2; then
        fail "make install for musl succeeded with glibc's compiler"
    fi
    grep -q "$1" "$work/error" || fail "make install for musl says: $(cat "$work/error")"
    [ ! -e "$work/none" ] || fail "make install for musl installed something"
}
refused 'needs a compiler for musl'
refused 'was linked with glibc' CC_aarch64_unknown_linux_musl="$cc"
# Cargo would take the wrong files for finished ones.
equal "the list of files left by the wrong linker" "" "$(find "$work/cross" -name 'libgreenapi*')"
echo "ok: no compiler for musl"

# Staged for a package, with a library directory like Debian's, and then moved.
run_make install DESTDIR="$work/stage" PREFIX=/usr LIBDIR=/usr/lib/some-linux-gnu
mkdir "$work/moved"
mv "$work/stage/usr" "$work/moved/here"
equal "the list of files outside the prefix" "" "$(find "$work/stage" ! -type d)"
libdir=$work/moved/here/lib/some-linux-gnu
if grep -r -e "$work/stage" -e /usr "$libdir/pkgconfig" "$libdir/cmake"; then
    fail "an installed file contains the path of its installation"
fi
build_all_ways "staged and moved" "$libdir" "$work/moved/here/include" "-Dgreenapi_DIR=$libdir/cmake/greenapi"
