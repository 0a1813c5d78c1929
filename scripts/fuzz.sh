#!/usr/bin/env bash
# Runs every fuzz target of every module for FUZZTIME (default 30s), as many at
# a time as FUZZJOBS (default 2) says, one worker each.
set -euo pipefail
cd "$(dirname "$0")/.."

time=${FUZZTIME:-30s}
jobs=${FUZZJOBS:-2}
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

# "folder target" per line.
targets=$(
  find . -name '*_test.go' -not -path './.*' | sort | while read -r file; do
    sed -nE "s|^func (Fuzz[A-Za-z0-9_]*)\(.*|$(dirname "$file") \1|p" "$file"
  done
)
if [ -z "$targets" ]; then
  echo "fuzz: no fuzz target"
  exit 1
fi

# one FOLDER TARGET: quiet, unless it finds something. The end of FUZZTIME may
# come out as a failure of its own; what is found always writes its input.
one() {
  local log=$logs/$2.$RANDOM
  echo "fuzz $2 for $time"
  if (cd "$1" && go test -run='^$' -fuzz="^$2\$" -fuzztime="$time" -parallel=1 .) >"$log" 2>&1 ||
    { grep -q 'context deadline exceeded' "$log" && ! grep -qE 'Failing input written|panic:' "$log"; }; then
    echo "ok   $2: $(grep -E '^fuzz: elapsed' "$log" | tail -n 1)"
  else
    echo "FAIL $2"
    cat "$log"
    return 1
  fi
}
export -f one
export logs time

echo "$targets" | xargs -P "$jobs" -n 2 bash -euc 'one "$@"' one
