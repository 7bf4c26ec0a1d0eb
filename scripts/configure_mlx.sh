#!/bin/bash
# Raises the limit of the memory that the GPU of a Mac may keep resident, for large models.
# Shows the new value and asks for confirmation. A restart resets it. Written for bash 3.2, the version of macOS.
set -eu

usage() {
    cat <<'TEXT'
Usage: configure_mlx.sh [--dry-run] [--yes] [MEGABYTES | --reset]

Sets iogpu.wired_limit_mb, on macOS 15 or newer. Without MEGABYTES, a fifth of the memory, between 4 and 8 GB, is left
to the system. --reset restores the system's default.

  --dry-run  show the new value without setting it
  --yes      do not ask for confirmation
TEXT
}

fail() {
    echo "configure_mlx.sh: $1" >&2
    exit "${2:-1}"
}

dry_run=
yes=
limit=
while [ $# -gt 0 ]; do
    case $1 in
        --dry-run) dry_run=1 ;;
        --yes) yes=1 ;;
        --reset) limit=0 ;;
        -h | --help)
            usage
            exit 0
            ;;
        *[!0-9]* | '') fail "invalid argument '$1': expected a number of megabytes or an option, see --help" 2 ;;
        *) limit=$1 ;;
    esac
    shift
done

[ "$(uname -s)" = Darwin ] || fail "only macOS has this setting; this is $(uname -s)"
version=$(sw_vers -productVersion)
[ "${version%%.*}" -ge 15 ] || fail "macOS 15 or newer is required; this is $version"

total=$(($(sysctl -n hw.memsize) / 1024 / 1024))
now=$(sysctl -n iogpu.wired_limit_mb)

if [ -z "$limit" ]; then
    reserve=$((total / 5))
    [ "$reserve" -ge 4096 ] || reserve=4096
    [ "$reserve" -le 8192 ] || reserve=8192
    limit=$((total - reserve))
    [ "$limit" -ge 4096 ] || fail "$total MB of memory are too few to raise the limit"
fi
[ "$limit" -lt "$total" ] || fail "invalid limit $limit MB: it must be less than the memory of $total MB"

describe() {
    if [ "$1" -eq 0 ]; then echo "0 (the system chooses)"; else echo "$1 MB"; fi
}
echo "Memory:                $total MB"
echo "iogpu.wired_limit_mb:  currently $(describe "$now"), new $(describe "$limit")"
[ "$limit" -eq 0 ] || echo "Left to the system:    $((total - limit)) MB"

if [ "$now" -eq "$limit" ]; then
    echo "The limit is already set."
    exit 0
fi
if [ -n "$dry_run" ]; then
    echo "Would run: sudo sysctl iogpu.wired_limit_mb=$limit"
    exit 0
fi
if [ -z "$yes" ]; then
    printf 'Set it, until the next restart? [y/N] '
    read -r answer || answer=
    case $answer in
        y | Y | yes) ;;
        *)
            echo "Not changed."
            exit 1
            ;;
    esac
fi
if [ "$(id -u)" -eq 0 ]; then
    sysctl "iogpu.wired_limit_mb=$limit"
else
    sudo sysctl "iogpu.wired_limit_mb=$limit"
fi
