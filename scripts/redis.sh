#!/usr/bin/env bash
# Prints the path of a Redis server: the one that REDIS_SERVER names, else one
# that is installed, Valkey too. As root on Debian it installs one, and leaves
# it stopped.
set -euo pipefail

say() { echo "redis: $*" >&2; }

find_server() { command -v redis-server || command -v valkey-server; }

if [ -n "${REDIS_SERVER:-}" ]; then
  command -v "$REDIS_SERVER" && exit 0
  say "REDIS_SERVER=$REDIS_SERVER is no program"
  exit 1
fi
find_server && exit 0
words="The tests of the Redis packages need redis-server or valkey-server: install one, or set REDIS_SERVER to its path."
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  say "$words"
  exit 1
fi
say "installing redis-server"
export DEBIAN_FRONTEND=noninteractive
# The tests start their own servers: the package must not start one.
policy=/usr/sbin/policy-rc.d
made=""
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod +x "$policy"
  made=1
fi
{ apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server >/dev/null; } </dev/null >&2 || true
if [ -n "$made" ]; then rm -f "$policy"; fi
hash -r
find_server || {
  say "could not install redis-server. $words"
  exit 1
}
