#!/bin/bash
# `make demonstration`: the gate closes on V11 of the 2021 series, and in the right place. The kernel is wrong on
# purpose, so that its run fails; that it fails in exactly the tests its profile lists is what passes here.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
"$root/runner/setup/bootstrap.sh" test
export PATH="$root/node_modules/.bin:$PATH"
out=${OUT:-$root/out/v11-6.1}

code=0
node "$root/runner/cli/fusegate.js" run --profile v11-6.1 --out "$out" || code=$?
if [[ $code != 1 ]]; then
  echo "the run of V11 ended with $code instead of 1" >&2
  exit "$((code == 0 ? 1 : code))"
fi
node "$root/runner/cli/fusegate.js" expected "$out"
