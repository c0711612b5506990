#!/bin/bash
# Installs what must be there before the pinned Node can take over, and nothing that is there already.
# When nothing is missing it ends within milliseconds, takes no lock and touches no network.
# Usage: bootstrap.sh node|check|test      Exit: 0, or 3 with one sentence and what to do.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
setup=$root/runner/setup
need=${1:-test}
# As cacheDir() in runner/lib/paths.ts has it.
cache=${FUSEGATE_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/fusegate}

say() { printf 'setup: %s\n' "$*" >&2; }

# die CODE SENTENCE HINT
die() {
  printf '%s: %s\n' "$1" "$2" >&2
  printf '  hint: %s\n' "$3" >&2
  exit 3
}

# Debian keeps some tools out of a user's PATH.
has() {
  case $1 in
    /*) compgen -G "$1" >/dev/null ;;
    *) command -v "$1" >/dev/null || [[ -x /usr/sbin/$1 || -x /sbin/$1 ]] ;;
  esac
}

# shellcheck source-path=SCRIPTDIR source=system-packages.sh
. "$setup/system-packages.sh"
# shellcheck source-path=SCRIPTDIR source=virtme-ng.sh
. "$setup/virtme-ng.sh"
# shellcheck source-path=SCRIPTDIR source=node-packages.sh
. "$setup/node-packages.sh"

case $need in
  node) lists=(node) ;;
  check) lists=(node check) ;;
  test) lists=(node check test) ;;
  *) die E_USAGE "bootstrap.sh knows node, check and test, not '$need'" 'run make help' ;;
esac

complete() {
  node_packages_present && [[ -z $(missing_packages "${lists[@]}") ]] || return 1
  [[ $need != test ]] || virtme_ng_present
}

if complete; then exit 0; fi

mkdir -p "$cache/setup" 2>/dev/null ||
  die E_CACHE_UNWRITABLE "the cache $cache cannot be written" 'set FUSEGATE_CACHE to a directory of yours'
has flock || die E_TOOL_MISSING 'flock is not installed' 'install the package util-linux'
exec {lock}>"$cache/setup/lock"
if ! flock -n "$lock"; then
  say 'another set-up is at work; waiting for it'
  flock "$lock"
fi

wanted=$(missing_packages "${lists[@]}")
if ! node_packages_present; then
  has node || wanted+=' nodejs'
  has npm || wanted+=' npm'
fi
if [[ $need == test ]] && ! virtme_ng_present; then
  refresh_empty_lists
  if virtme_ng_in_distribution; then
    wanted+=' virtme-ng'
  else
    wanted+=" $(missing_packages vng)"
  fi
fi
read -r -a packages <<<"${wanted//$'\n'/ }"
if ((${#packages[@]} > 0)); then install_packages "${packages[@]}"; fi
if [[ $need == test ]] && ! virtme_ng_present; then unpack_virtme_ng; fi
if ! node_packages_present; then install_node_packages; fi
