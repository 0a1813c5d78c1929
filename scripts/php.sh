#!/usr/bin/env bash
# Prints the path of a PHP for the command line: the one that PHP names, else
# one that is installed. As root on Debian it installs one.
set -euo pipefail

say() { echo "php: $*" >&2; }

# VersionedConnection needs 8.1, as the AWS SDK for PHP does, and sessions.
usable() {
  local found
  found=$(command -v "$1") || return 1
  "$found" -r 'exit(PHP_VERSION_ID >= 80100 && extension_loaded("session") ? 0 : 1);' >/dev/null 2>&1 || {
    say "$found is no PHP 8.1 or later with sessions"
    return 1
  }
  echo "$found"
}

words="The tests beside PHP need PHP 8.1 or later for the command line, with sessions: install php-cli, or set PHP to its path."
if [ -n "${PHP:-}" ]; then
  usable "$PHP" && exit 0
  say "PHP=$PHP cannot be used. $words"
  exit 1
fi
usable php && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  say "$words"
  exit 1
fi
say "installing php-cli"
export DEBIAN_FRONTEND=noninteractive
{ apt-get update -qq && apt-get install -y -qq --no-install-recommends php-cli >/dev/null; } </dev/null >&2 || true
hash -r
usable php || {
  say "could not install php-cli. $words"
  exit 1
}
