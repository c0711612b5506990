#!/bin/bash
# Called by the Makefile: sets up what is missing, turns make's variables into options, runs the program.
# Usage: fusegate.sh node|check|test COMMAND
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
"$root/runner/setup/bootstrap.sh" "$1"
command=$2

# Most shells leave a tilde after `=` alone in an argument.
untilde() {
  case $1 in
    \~) printf '%s' "$HOME" ;;
    \~/*) printf '%s' "$HOME/${1#??}" ;;
    *) printf '%s' "$1" ;;
  esac
}

args=()
for variable in PROFILE SUITE MATCH ACCEL JOBS; do
  if [[ -n ${!variable:-} ]]; then args+=("--${variable,,}" "${!variable}"); fi
done
for variable in SERIES OUT TREE KERNEL BASE; do
  if [[ -n ${!variable:-} ]]; then args+=("--${variable,,}" "$(untilde "${!variable}")"); fi
done
# xargs splits at blanks and understands quotes, but runs nothing that is in the text.
if [[ -n ${ARGS:-} ]]; then
  if ! split=$(mktemp); then exit 3; fi
  trap 'rm -f "$split"' EXIT
  if ! printf '%s' "$ARGS" | xargs -r printf '%s\0' >"$split" 2>/dev/null; then
    echo 'E_USAGE: ARGS has a quote without its other half' >&2
    exit 2
  fi
  mapfile -d '' -t -O "${#args[@]}" args <"$split"
  rm -f "$split"
  trap - EXIT
fi

# The program runs make for the kernel: none of this make's variables may reach that one.
unset PROFILE SERIES SUITE MATCH ACCEL OUT TREE KERNEL BASE JOBS ARGS MAKEFLAGS MFLAGS MAKEOVERRIDES MAKELEVEL

export PATH="$root/node_modules/.bin:$PATH"
exec node "$root/runner/cli/fusegate.js" "$command" "${args[@]}"
