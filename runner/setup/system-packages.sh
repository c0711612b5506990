# shellcheck shell=bash
# Sourced by bootstrap.sh: the distribution's packages.
# root, setup, cache and lock come from there.
# shellcheck disable=SC2154

# Names of packages.txt's lists $@ whose probe fails, one a line.
missing_packages() {
  local list need package probe
  while read -r need package probe _; do
    for list in "$@"; do
      if [[ $need == "$list" ]] && ! has "$probe"; then echo "$package"; fi
    done
  done <"$setup/packages.txt"
}

# Runs apt-get as root, asking nothing; its words go to the log.
apt_as_root() {
  local become=()
  if (($(id -u) != 0)); then become=(sudo -n); fi
  "${become[@]}" env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 \
    apt-get -o DPkg::Lock::Timeout=600 "$@" >>"$cache/setup/apt.log" 2>&1 </dev/null {lock}>&-
}

refresh_empty_lists() {
  if ! has apt-get || compgen -G '/var/lib/apt/lists/*Packages*' >/dev/null; then return; fi
  require_root 'make setup'
  say 'fetching the package lists'
  apt_as_root update || apt_failed
}

# require_root COMMAND: dies unless this process is root or becomes it without a password.
require_root() {
  if (($(id -u) == 0)); then return; fi
  has sudo ||
    die E_NOT_ROOT 'system packages are missing, this user is not root and there is no sudo' "as root: $1"
  sudo -n true 2>/dev/null ||
    die E_NOT_ROOT 'system packages are missing and sudo would ask for a password' "sudo $1"
}

install_packages() {
  local command="apt-get install --no-install-recommends $*"
  has apt-get ||
    die E_NO_APT "these packages are missing and there is no apt to install them: $*" \
      'install what your distribution calls them, then run the command again'
  require_root "$command"
  : >"$cache/setup/apt.log"
  refresh_empty_lists
  say "installing $# system packages: $*"
  if apt_as_root install -y --no-install-recommends "$@"; then return; fi
  say 'fetching the package lists and trying once more'
  apt_as_root update || apt_failed
  apt_as_root install -y --no-install-recommends "$@" || apt_failed
}

apt_failed() {
  local log=$cache/setup/apt.log
  if grep -qE 'resolving|connect|timed out|unreachable' "$log"; then
    die E_NETWORK 'the package mirror of this machine cannot be reached' "see $log; check the network and /etc/apt"
  fi
  die E_APT_FAILED "apt-get failed: $(grep -m1 '^E: ' "$log" || tail -n1 "$log")" "see $log"
}
