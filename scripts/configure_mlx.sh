#!/bin/bash
# Raises how much memory the GPU of a Mac may keep resident, for models that nearly fill it.
# It shows what it would set, and asks. The setting is gone after a restart. Written for the bash 3.2 that macOS has.
set -eu

usage() {
    cat <<'TEXT'
Usage: configure_mlx.sh [--dry-run] [--yes] [MEGABYTES | --reset]

Sets iogpu.wired_limit_mb, on macOS 15 or newer. Without MEGABYTES it leaves a fifth of the memory to the system: 4 GB
at least, 8 GB at most. --reset goes back to what the system chooses by itself.

  --dry-run  show what would be set, and set nothing
  --yes      do not ask
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
        *[!0-9]* | '') fail "'$1' is no number of megabytes; see --help" 2 ;;
        *) limit=$1 ;;
    esac
    shift
done

[ "$(uname -s)" = Darwin ] || fail "this setting exists on macOS alone"
version=$(sw_vers -productVersion)
[ "${version%%.*}" -ge 15 ] || fail "macOS 15 or newer is needed, this is $version"

total=$(($(sysctl -n hw.memsize) / 1024 / 1024))
now=$(sysctl -n iogpu.wired_limit_mb)

if [ -z "$limit" ]; then
    reserve=$((total / 5))
    [ "$reserve" -ge 4096 ] || reserve=4096
    [ "$reserve" -le 8192 ] || reserve=8192
    limit=$((total - reserve))
    [ "$limit" -ge 4096 ] || fail "$total MB are too little to give more of it to the GPU"
fi
[ "$limit" -lt "$total" ] || fail "$limit MB are not less than the $total MB that there are"

describe() {
    if [ "$1" -eq 0 ]; then echo "0 (the system chooses)"; else echo "$1 MB"; fi
}
echo "Memory:                $total MB"
echo "iogpu.wired_limit_mb:  $(describe "$now") now, $(describe "$limit") then"
[ "$limit" -eq 0 ] || echo "Left to the system:    $((total - limit)) MB"

if [ "$now" -eq "$limit" ]; then
    echo "There is nothing to do."
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
            echo "Nothing was changed."
            exit 1
            ;;
    esac
fi
if [ "$(id -u)" -eq 0 ]; then
    sysctl "iogpu.wired_limit_mb=$limit"
else
    sudo sysctl "iogpu.wired_limit_mb=$limit"
fi
