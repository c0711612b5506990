# shellcheck shell=bash
# Sourced by bootstrap.sh: virtme-ng, from the distribution or, where it has none, unpacked into the cache.
# root, setup, cache and lock come from there.
# shellcheck disable=SC2154

virtme_ng_dir=$cache/tools/virtme-ng
# As OLDEST in runner/machine/virtme.ts has it.
virtme_ng_oldest=1.33

# Starting Python to ask for the version costs more than everything else here, so the answer is kept for as
# long as the program is the same file.
virtme_ng_present() {
  [[ ! -x $virtme_ng_dir/usr/bin/vng ]] || return 0
  local program known
  program=$(command -v vng) || return 1
  known="$program $(stat -L -c '%Y %s' "$program")"
  [[ ! -f $cache/setup/vng || $(<"$cache/setup/vng") != "$known" ]] || return 0
  new_enough "$(vng --version 2>/dev/null | grep -oE '[0-9]+(\.[0-9]+)+' | head -n1)" || return 1
  mkdir -p "$cache/setup" && echo "$known" >"$cache/setup/vng"
}

new_enough() {
  [[ -n $1 && $(printf '%s\n' "$virtme_ng_oldest" "$1" | sort -V | head -n1) == "$virtme_ng_oldest" ]]
}

virtme_ng_in_distribution() {
  has apt-cache && new_enough "$(apt-cache policy virtme-ng 2>/dev/null | sed -nE 's/^ *Candidate: ([0-9].*)/\1/p')"
}

# The oldest suite with a virtme-ng that is new enough, and its component. It is one package of Python, the
# same for every architecture.
virtme_ng_suite() {
  case $1 in
    ubuntu) echo resolute universe ;;
    *) echo trixie main ;;
  esac
}

# Where this machine's apt gets the main component of release $1 from, security and updates aside:
# "ADDRESS SOURCES-FILE".
apt_mirror() {
  # The fields are apt's, not the shell's.
  # shellcheck disable=SC2016
  apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI) $(SOURCESENTRY)' 'Created-By: Packages' |
    awk -v release="$1" '$1 == release && $2 == "main" { sub(/:[0-9]*$/, "", $4); print $3, $4; exit }'
}

# File with the keys that sources file $1 trusts; nothing where it names none, so that apt's own keys count.
apt_keyring() {
  sed -nE 's/.*[Ss]igned-[Bb]y *[:=] *(\/[^] ,]*).*/\1/p' "$1" | head -n1
}

# Downloads and unpacks the package with an apt of its own directories: the machine's is not changed,
# signatures are verified as ever.
unpack_virtme_ng() {
  local distribution release mirror sources suite component keyring work log=$cache/setup/virtme-ng.log
  # shellcheck disable=SC1091
  read -r distribution release < <(. /etc/os-release && echo "${ID:-} ${VERSION_CODENAME:-}")
  read -r suite component < <(virtme_ng_suite "$distribution")
  has apt-get || die E_NO_APT 'virtme-ng is missing and there is no apt to fetch it' 'install virtme-ng so that vng is in PATH'
  read -r mirror sources < <(apt_mirror "$release") ||
    die E_APT_FAILED "apt has no mirror for $release main" 'see apt-get indextargets, or install virtme-ng so that vng is in PATH'
  keyring=$(apt_keyring "$sources")
  say "unpacking virtme-ng of $suite from this machine's own mirror"
  work=$(mktemp -d "$cache/setup/virtme-ng.XXXXXX")
  mkdir -p "$work"/{lists,archives,tree}
  printf 'deb %s%s %s %s\n' "${keyring:+[signed-by=$keyring] }" "$mirror" "$suite" "$component" >"$work/sources.list"
  local own=(-o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$work/lists"
    -o "Dir::Cache=$work" -o APT::Sandbox::User=root -o Acquire::Languages=none)
  if ! (cd "$work/archives" && apt-get "${own[@]}" update && apt-get "${own[@]}" download virtme-ng &&
    dpkg-deb -x virtme-ng_*.deb "$work/tree") >"$log" 2>&1 </dev/null {lock}>&-; then
    rm -rf "$work"
    die E_NETWORK "virtme-ng could not be fetched: $(grep -m1 '^E: ' "$log" || tail -n1 "$log")" "see $log; check the network and the mirror in /etc/apt"
  fi
  mkdir -p "$cache/tools"
  rm -rf "$virtme_ng_dir"
  mv "$work/tree" "$virtme_ng_dir"
  rm -rf "$work"
}
