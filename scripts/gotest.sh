#!/usr/bin/env bash
# Obtains what the tests need and runs them, with -race, in the module folders
# given, all modules if none is. GOTESTFLAGS adds flags for go test.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "gotest: $*" >&2; }

# shellcheck disable=SC2046
if [ $# = 0 ]; then set -- $(scripts/modules.sh); fi

# The race detector needs cgo, and that a C compiler.
cc=$(go env CC)
if ! command -v "${cc%% *}" >/dev/null 2>&1; then
  words="go test -race needs a C compiler: install gcc or clang."
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    say "$words"
    exit 1
  fi
  say "installing gcc"
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc libc6-dev >/dev/null; } </dev/null >&2 || {
    say "could not install gcc. $words"
    exit 1
  }
fi
export CGO_ENABLED=1

for dir in "$@"; do
  if [ -f "$dir/go.mod" ] && grep -q chromedp "$dir/go.mod"; then
    CHROME=$(scripts/chromium.sh)
    export CHROME
  fi
  if [ -f "$dir/go.mod" ] && grep -q go-redis "$dir/go.mod"; then
    REDIS_SERVER=$(scripts/redis.sh)
    export REDIS_SERVER
  fi
  if [ "$dir" = integration ]; then
    PHP=$(scripts/php.sh)
    export PHP
  fi
done

# shellcheck disable=SC2086
exec go run scripts/gotest.go -flags "-race -count=1 -timeout=30m ${GOTESTFLAGS:-}" "$@"
