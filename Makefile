# Builds greenapi and installs it for C and C++. Needs GNU make, cargo and a C compiler.
#
#   make                                  build the shared and the static library
#   make install PREFIX=/usr/local        install; builds only files that are out of date, so
#                                         "make && sudo make install" compiles nothing as root
#   make uninstall PREFIX=/usr/local      remove the installed files
#   make test                             run every test in Rust, C, C++, Python and Go; first installs
#                                         missing tools with the package manager (tests/setup.sh)
#   make dist                             build the release for every target, and first install the
#                                         tools that are missing: see packaging/dist
#   make docs                             build the reference of the headers as HTML and man pages
#                                         (needs Doxygen)
#
# Variables
#   PREFIX, LIBDIR, INCLUDEDIR, MANDIR   the directories to install into
#   DESTDIR                      a prefix for these directories, for packagers
#   LIBRARY_DIR                  a directory with a built libgreenapi.so and libgreenapi.a, which
#                                are installed instead of building the library
#   CARGO, CARGOFLAGS, CARGO_TARGET_DIR, CARGO_BUILD_TARGET, RUSTFLAGS
#   CC_<target>, CARGO_TARGET_<TARGET>_LINKER   in the environment, for cross compiling: the target's
#                                compiler. For musl on another system both have to name one for musl,
#                                which has libgcc_s. packaging/dist needs none of them
#   STATIC_ONLY=1                do not install the shared library, nor files that refer to it
#   LD, AR, NM, OBJCOPY, DLLTOOL, SYSTEM   for cross compiling; SYSTEM is the target's `uname -s`, or
#                                Windows, for which the others are MinGW's
#
# Why a Makefile: C programmers and packagers expect `make install`, they already have make, and
# installing only copies a handful of files. cargo-c does the same, but every user would first have
# to compile cargo-c; CMake would be required even of those who do not use it.

PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
MANDIR ?= $(PREFIX)/share/man
DESTDIR ?=
CARGO ?= cargo
CARGOFLAGS ?=
INSTALL ?= install
NM ?= nm
OBJCOPY ?= objcopy
READELF ?= readelf
DLLTOOL ?= dlltool
DOXYGEN ?= doxygen
SYSTEM ?= $(shell uname -s)

# Only Cargo.toml defines the version, and only build.rs the version of the ABI.
VERSION := $(shell sed -n '/^\[package\]/,/^\[dep/s/^version *= *"\(.*\)"/\1/p' Cargo.toml)
ABI := $(shell sed -n 's/^ *let abi = "\(.*\)";/\1/p' build.rs)
ifeq ($(and $(VERSION),$(ABI)),)
  $(error Cargo.toml's version or build.rs' number of the ABI was not found: run make beside them)
endif

# The system libraries that the static library needs: the output of
#   cargo rustc --release --lib --crate-type staticlib -- --print native-static-libs
# without -lc and -lgcc_s, which C compilers add themselves where they exist (-static has no
# libgcc_s). tests/packaging compares the two lists.
ifeq ($(SYSTEM),Darwin)
  BUILT_NAME := libgreenapi.dylib
  REAL_NAME := libgreenapi.$(VERSION).dylib
  SONAME := libgreenapi.$(ABI).dylib
  STATIC_LIBS := -framework Security -framework CoreFoundation -liconv -lSystem -lm
else ifeq ($(SYSTEM),Windows)
  STATIC_LIBS := -ladvapi32 -lbcrypt -lcrypt32 -lncrypt -lsecur32 -lsynchronization \
    -lkernel32 -lntdll -luserenv -lws2_32 -ldbghelp
  # REAL_NAME is relative to LIBDIR, which holds the import libraries.
  BUILT_NAME := greenapi.dll
  REAL_NAME := ../bin/greenapi.dll
  SONAME := greenapi.dll
else
  BUILT_NAME := libgreenapi.so
  REAL_NAME := libgreenapi.so.$(VERSION)
  SONAME := libgreenapi.so.$(ABI)
  ifeq ($(SYSTEM),Linux)
    STATIC_LIBS := -lutil -lrt -lpthread -lm -ldl
  else
    STATIC_LIBS := -lutil -lrt -lpthread -lm -lexecinfo
  endif
endif
LINK_NAME := $(if $(filter Windows,$(SYSTEM)),libgreenapi.dll.a,$(BUILT_NAME))

ifndef LIBRARY_DIR
  BUILD_DIR := $(or $(CARGO_TARGET_DIR),target)
  LIBRARY_DIR := $(BUILD_DIR)/$(if $(CARGO_BUILD_TARGET),$(CARGO_BUILD_TARGET)/)release
  SOURCES := Cargo.toml Cargo.lock build.rs cbindgen.toml $(shell find src -name '*.rs')
endif
STATIC := $(LIBRARY_DIR)/libgreenapi.a
SHARED := $(if $(STATIC_ONLY),,$(LIBRARY_DIR)/$(BUILT_NAME))

# By default Rust links musl statically, and then builds no shared library.
HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
TARGET := $(or $(CARGO_BUILD_TARGET),$(HOST))
ifneq ($(findstring -musl,$(TARGET)),)
  BUILD_RUSTFLAGS := $(strip $(RUSTFLAGS) -C target-feature=-crt-static)
else
  BUILD_RUSTFLAGS := $(RUSTFLAGS)
endif

# The machine's own compiler builds for glibc, and Rust's default is to link by it even for musl.
ifneq ($(findstring -musl,$(filter-out $(HOST),$(TARGET))),)
  UNDERSCORED := $(subst -,_,$(TARGET))
  LINKER_VARIABLE := CARGO_TARGET_$(shell printf '%s' '$(UNDERSCORED)' | tr a-z A-Z)_LINKER
  # Those that the crate cc looks for.
  COMPILERS := "$${CC_$(UNDERSCORED)-}" "$$(printenv 'CC_$(TARGET)')" "$${TARGET_CC-}" "$${CC-}" \
    $(firstword $(subst -, ,$(TARGET)))-linux-musl-gcc
define find_compiler
	@for one in $(COMPILERS); do \
	  if command -v "$${one%% *}" >/dev/null; then exit 0; fi; \
	done; \
	echo "greenapi for $(TARGET) needs a compiler for musl that has libgcc_s (Debian's musl-gcc has not): set CC_$(UNDERSCORED) and $(LINKER_VARIABLE) to it, or use packaging/dist, which needs none" >&2; \
	exit 1
endef
define check_linked
	@if [ -e '$(SHARED)' ] && $(READELF) -d '$(SHARED)' | grep -q 'NEEDED.*\[libc\.so\.6\]'; then \
	  rm -f '$(LIBRARY_DIR)'/libgreenapi.* '$(LIBRARY_DIR)'/deps/libgreenapi*; \
	  echo "libgreenapi.so for $(TARGET) was linked with glibc: set CC_$(UNDERSCORED) and $(LINKER_VARIABLE) to a compiler for musl, or use packaging/dist" >&2; \
	  exit 1; \
	fi
endef
endif

# The installed files refer to each other by relative paths, so the installed tree may be moved. Only
# a LIBDIR or an INCLUDEDIR outside the prefix is named by its full path.
under_prefix = $(filter $(PREFIX)/%,$(1))
up_from = $(shell printf '%s' '$(patsubst $(PREFIX)/%,%,$(1))' | sed 's,[^/][^/]*,..,g')
# The prefix relative to LIBDIR, starting from the directory $(1), which is $(2) below LIBDIR.
prefix_from = $(if $(call under_prefix,$(LIBDIR)),$(1)/$(2)/$(call up_from,$(LIBDIR)),$(PREFIX))
with_prefix = $(patsubst $(PREFIX)/%,$(1)/%,$(2))

PKGCONFIG_DIR := $(LIBDIR)/pkgconfig
CMAKE_DIR := $(LIBDIR)/cmake/greenapi
DATADIR := $(PREFIX)/share/greenapi

HEADERS := greenapi.h greenapi.hpp
INSTALLED := \
  $(HEADERS:%=$(INCLUDEDIR)/%) $(DATADIR)/valgrind.supp $(DATADIR)/tsan.supp \
  $(LIBDIR)/$(LINK_NAME) $(LIBDIR)/$(SONAME) $(LIBDIR)/$(REAL_NAME) $(LIBDIR)/libgreenapi.a \
  $(PKGCONFIG_DIR)/greenapi.pc $(PKGCONFIG_DIR)/greenapi-static.pc \
  $(CMAKE_DIR)/greenapiConfig.cmake $(CMAKE_DIR)/greenapiConfigVersion.cmake \
  $(if $(filter Windows,$(SYSTEM)),$(LIBDIR)/greenapi.def $(LIBDIR)/greenapi.lib)

FILL = sed \
  -e 's|@VERSION@|$(VERSION)|g' \
  -e 's|@REAL_NAME@|$(REAL_NAME)|g' \
  -e 's|@SONAME@|$(SONAME)|g' \
  -e 's|@STATIC_LIBS@|$(STATIC_LIBS)|g'
FILL_PC = $(FILL) \
  -e 's|@PREFIX@|$(call prefix_from,$${pcfiledir},..)|g' \
  -e 's|@LIBDIR@|$(call with_prefix,$${prefix},$(LIBDIR))|g' \
  -e 's|@INCLUDEDIR@|$(call with_prefix,$${prefix},$(INCLUDEDIR))|g'
FILL_CMAKE = $(FILL) \
  -e 's|@PREFIX@|$(call prefix_from,$${_greenapi_here},../..)|g' \
  -e 's|@LIBDIR@|$(call with_prefix,$${_greenapi_prefix},$(LIBDIR))|g' \
  -e 's|@INCLUDEDIR@|$(call with_prefix,$${_greenapi_prefix},$(INCLUDEDIR))|g'

# rustc's archive has the global symbols of Rust's standard library, so a program cannot link two
# such archives ("multiple definition of std::panicking::EMPTY_PANIC"). The installed archive is one
# object whose only global symbols are the public ones. Without the debug information of its
# dependencies it is a third of the size. This needs GNU binutils; elsewhere the archive is copied.
ifeq ($(SYSTEM),Linux)
define install_static
	$(LD) -r --force-group-allocation --whole-archive '$(1)' -o '$(2).o'
	$(OBJCOPY) --strip-debug --remove-section .llvmbc --remove-section .llvmcmd \
	  --localize-hidden --wildcard --keep-global-symbol 'greenapi_*' '$(2).o'
	rm -f '$(2).a'
	$(AR) rcs '$(2).a' '$(2).o'
	rm -f '$(2).o'
	chmod 644 '$(2).a'
endef
else ifeq ($(SYSTEM),Windows)
# The same with MinGW's binutils (2.40), which need help:
# - rustc's objects for importing DLLs are left out: their names hold the path of the build, and
#   MinGW's import libraries (STATIC_LIBS) have all that is needed except ProcessPrng.
# - `ld -r` asks for a definition of _tls_used, which is the C library's: it gets another name.
# - `ld -r` sorts the contents of .pdata without their relocations, and then no exception finds its
#   handler: .pdata has another name meanwhile.
# - Of .refptr sections with the same name a linker keeps one, perhaps another library's: they get
#   names of their own.
# - A linker plugin of another LLVM complains of Rust's bitcode, which is shown only on failure.
define install_static
	rm -rf '$(2).parts' && mkdir '$(2).parts'
	cp '$(1)' '$(2).parts/all.a'
	cd '$(2).parts' && $(AR) dS all.a $$($(AR) t all.a | grep -e '\.dwo$$' -e '\.[a-z]\{3\}\([ht]\|s[0-9]*\)\.o$$') && \
	  $(OBJCOPY) --strip-debug --remove-section .llvmbc --remove-section .llvmcmd \
	    --remove-section .drectve --rename-section .pdata=.greenapi all.a 2>objcopy.log || \
	    { cat objcopy.log >&2; exit 1; }; \
	  $(LD) -r --no-insert-timestamp --wrap=_tls_used --whole-archive all.a -o greenapi.obj && \
	  $(OBJCOPY) --redefine-sym __wrap__tls_used=_tls_used --rename-section .greenapi=.pdata \
	    --wildcard --keep-global-symbol 'greenapi_*' greenapi.obj && \
	  $(OBJCOPY) $$($(NM) greenapi.obj | \
	    sed -n 's/.* r \(\.rdata\$$\.refptr\)\(\..*\)/\1\2=\1.greenapi\2/p' | \
	    sed 's/.*/--rename-section & --redefine-sym &/') greenapi.obj && \
	  printf 'LIBRARY bcryptprimitives.dll\nEXPORTS\nProcessPrng\n' > random.def && \
	  $(DLLTOOL) --deterministic-libraries -t greenapi -d random.def -l greenapi_random.a && \
	  $(AR) x greenapi_random.a && \
	  rm -f ../libgreenapi.a && $(AR) rcsD ../libgreenapi.a greenapi.obj greenapi*.o
	rm -rf '$(2).parts'
	chmod 644 '$(2).a'
endef
else
define install_static
	$(INSTALL) -m 644 '$(1)' '$(2).a'
endef
endif

# A man page for each function, if Doxygen is installed; `WITH_MAN=` leaves the man pages out.
WITH_MAN ?= $(shell command -v $(DOXYGEN))
MAN_PAGE := target/doxygen/man/man3/greenapi.h.3

.PHONY: all install uninstall test dist docs clean
all: $(SHARED) $(STATIC) $(if $(WITH_MAN),$(MAN_PAGE))

ifdef BUILD_DIR
$(STATIC): $(SOURCES)
	$(find_compiler)
	CARGO_TARGET_DIR='$(BUILD_DIR)' $(if $(BUILD_RUSTFLAGS),RUSTFLAGS='$(BUILD_RUSTFLAGS)') \
	  $(CARGO) build --release --locked --lib $(CARGOFLAGS)
	@for built in $(STATIC) $(SHARED); do \
	  test -s $$built || \
	    { echo "cargo made no $$built: use STATIC_ONLY=1 if $(TARGET) has no shared libraries" >&2; \
	      exit 1; }; \
	done
	$(check_linked)
	@# Cargo does not write files whose contents are the same, but make compares the times.
	@touch $(STATIC) $(SHARED)
$(SHARED): $(STATIC)
else
$(SHARED) $(STATIC):
	$(error There is no $@: LIBRARY_DIR has to name the directory of a built library)
endif

# Warnings of another version of Doxygen must not prevent installing.
$(MAN_PAGE): $(HEADERS:%=include/%) docs/Doxyfile docs/mainpage.md
	@$(MAKE) -s docs || echo 'There will be no man pages, as Doxygen could not make them.' >&2

install: all
	$(INSTALL) -d '$(DESTDIR)$(INCLUDEDIR)' '$(DESTDIR)$(PKGCONFIG_DIR)' '$(DESTDIR)$(CMAKE_DIR)' \
	  '$(DESTDIR)$(DATADIR)'
	$(INSTALL) -m 644 $(HEADERS:%=include/%) '$(DESTDIR)$(INCLUDEDIR)'
	$(INSTALL) -m 644 packaging/valgrind.supp packaging/tsan.supp '$(DESTDIR)$(DATADIR)'
	$(call install_static,$(STATIC),$(DESTDIR)$(LIBDIR)/libgreenapi)
ifndef STATIC_ONLY
ifeq ($(SYSTEM),Windows)
	$(INSTALL) -d '$(DESTDIR)$(LIBDIR)/../bin'
	$(INSTALL) -m 755 '$(SHARED)' '$(DESTDIR)$(LIBDIR)/$(REAL_NAME)'
	$(INSTALL) -m 644 '$(LIBRARY_DIR)/$(LINK_NAME)' '$(DESTDIR)$(LIBDIR)'
	@# For MSVC's lib and link, and for the linkers of other languages.
	{ echo 'LIBRARY greenapi.dll'; echo EXPORTS; \
	  sed -n '/^ \*/!s/^[a-z].*[ *]\(greenapi_[a-z_]*\)(.*/    \1/p' include/greenapi.h | sort; \
	} > '$(DESTDIR)$(LIBDIR)/greenapi.def'
	@# There, as names in it are made of the path that dlltool is given.
	cd '$(DESTDIR)$(LIBDIR)' && \
	  $(DLLTOOL) --deterministic-libraries -t greenapi -d greenapi.def -l greenapi.lib
	chmod 644 '$(DESTDIR)$(LIBDIR)'/greenapi.def '$(DESTDIR)$(LIBDIR)/greenapi.lib'
else
	@# Replace the old file instead of overwriting it, because running programs have it mapped.
	$(INSTALL) -m 755 '$(SHARED)' '$(DESTDIR)$(LIBDIR)/$(REAL_NAME).new'
	mv -f '$(DESTDIR)$(LIBDIR)/$(REAL_NAME).new' '$(DESTDIR)$(LIBDIR)/$(REAL_NAME)'
	ln -sf '$(REAL_NAME)' '$(DESTDIR)$(LIBDIR)/$(SONAME)'
	ln -sf '$(SONAME)' '$(DESTDIR)$(LIBDIR)/$(LINK_NAME)'
endif
	$(FILL_PC) packaging/greenapi.pc.in > '$(DESTDIR)$(PKGCONFIG_DIR)/greenapi.pc'
endif
	$(FILL_PC) packaging/greenapi-static.pc.in > '$(DESTDIR)$(PKGCONFIG_DIR)/greenapi-static.pc'
	$(FILL_CMAKE) packaging/greenapiConfig.cmake.in > '$(DESTDIR)$(CMAKE_DIR)/greenapiConfig.cmake'
	$(FILL_CMAKE) packaging/greenapiConfigVersion.cmake.in \
	  > '$(DESTDIR)$(CMAKE_DIR)/greenapiConfigVersion.cmake'
	chmod 644 '$(DESTDIR)$(PKGCONFIG_DIR)'/greenapi*.pc '$(DESTDIR)$(CMAKE_DIR)'/*.cmake
ifdef WITH_MAN
	if [ -e $(MAN_PAGE) ]; then \
	  $(INSTALL) -d '$(DESTDIR)$(MANDIR)/man3' && \
	  $(INSTALL) -m 644 $(dir $(MAN_PAGE))greenapi* '$(DESTDIR)$(MANDIR)/man3'; \
	fi
endif
ifeq ($(DESTDIR)$(STATIC_ONLY)$(filter Windows,$(SYSTEM)),)
	@echo 'Installed greenapi $(VERSION) under $(PREFIX). If programs do not find $(SONAME)'
	@echo 'when they start: run ldconfig as root, or link them with -Wl,-rpath,$(LIBDIR).'
endif

# Directories that other packages may use are not removed.
uninstall:
	rm -f $(INSTALLED:%='$(DESTDIR)%') '$(DESTDIR)$(MANDIR)'/man3/greenapi*.3
	rmdir '$(DESTDIR)$(CMAKE_DIR)' '$(DESTDIR)$(DATADIR)' 2>/dev/null || true

# The flags of this make are not meant for the makes that the tests start.
test:
	@tests/setup.sh install
	env -u MAKEFLAGS -u MAKELEVEL $(CARGO) test

docs:
	mkdir -p target/doxygen
	GREENAPI_VERSION='$(VERSION)' $(DOXYGEN) docs/Doxyfile
	@# Doxygen omits a header without an @file comment, and does not report that.
	@for page in greenapi_8h greenapi_8hpp; do \
	  test -e target/doxygen/html/$$page.html || \
	    { echo "Doxygen made no $$page.html: does the header have an @file comment?" >&2; exit 1; }; \
	done
	@# Doxygen sets code in the font C, which terminals do not have and mandoc does not know.
	@for page in $$(grep -l '\\fC' $(dir $(MAN_PAGE))*); do \
	  sed 's/\\fC/\\fB/g' $$page > $$page.new && mv $$page.new $$page || exit 1; \
	done

dist:
	@tests/setup.sh install dist
	packaging/dist

# Prints a variable, for CMakeLists.txt.
print-%:
	@echo '$($*)'

clean:
	$(if $(BUILD_DIR),CARGO_TARGET_DIR='$(BUILD_DIR)' $(CARGO) clean)
