#!/usr/bin/env bash
# Prints the path of a Chromium or Chrome: the one that CHROME names, else
# one that is installed. As root on Debian it installs one.
set -euo pipefail

say() { echo "chromium: $*" >&2; }

find_chromium() {
  local c
  for c in chromium chromium-browser google-chrome google-chrome-stable chrome \
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome" \
    "/Applications/Chromium.app/Contents/MacOS/Chromium"; do
    command -v "$c" && return
  done
  return 1
}

if [ -n "${CHROME:-}" ]; then
  command -v "$CHROME" && exit 0
  say "CHROME=$CHROME is no program"
  exit 1
fi
find_chromium && exit 0
words="The tests of the web application need Chromium or Chrome: install one, or set CHROME to its path."
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  say "$words"
  exit 1
fi
say "installing chromium"
export DEBIAN_FRONTEND=noninteractive
{ apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; } </dev/null >&2 || true
hash -r
find_chromium || {
  say "could not install chromium. $words"
  exit 1
}
