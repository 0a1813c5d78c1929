#!/usr/bin/env bash
# Makes a container image of DynamoDB Local without a container registry, for
# CI without one: a trimmed Java runtime, the C libraries that it needs, and
# the distribution. Prints nothing if the image is there. Needs a Docker
# engine, and apt as root on Debian.
#
# Elsewhere nothing of this is needed: the tests pull amazon/dynamodb-local.
# The licence of DynamoDB Local does not allow passing the image on.
set -euo pipefail
umask 022

image=${SESSION_DYNAMODB_IMAGE:-session-test/dynamodb-local:3.3.1}
recipe=1 # raise it when what the image holds changes here

here=$(cd "$(dirname "$0")" && pwd)
trap 'echo "dynamodb-image: line $LINENO failed" >&2' ERR
say() { echo "dynamodb-image: $*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }

[ "$(docker image inspect -f '{{index .Config.Labels "session-test.recipe"}}' "$image" 2>/dev/null)" = "$recipe" ] && exit 0

jdk=""
find_jdk() {
  have jlink || return 1
  jdk=$(dirname "$(dirname "$(readlink -f "$(command -v jlink)")")")
  [ -d "$jdk/jmods" ]
}
if ! find_jdk; then
  if [ "$(id -u)" != 0 ] || ! have apt-get; then
    say "no jlink: install a JDK, version 17 or later, with its jmods"
    exit 1
  fi
  say "installing openjdk-17-jdk-headless"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends openjdk-17-jdk-headless >/dev/null
  hash -r
  find_jdk
fi
dist=$("$here/dynamodb-local.sh" fetch)

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root/opt" "$root/etc" "$root/tmp"
chmod 1777 "$root/tmp"
chmod 755 "$root"
# Compression would make the image smaller and each start slower.
jlink --output "$root/opt/java" --strip-java-debug-attributes --no-header-files --no-man-pages --add-modules \
  java.base,java.desktop,java.logging,java.management,java.naming,java.sql,jdk.crypto.ec,jdk.unsupported,jdk.zipfs
"$root/opt/java/bin/java" -Xshare:dump >/dev/null
mkdir "$root/opt/dynamodb"
cp -R "$dist/." "$root/opt/dynamodb"
echo 'nobody:x:65534:65534::/tmp:/bin/false' >"$root/etc/passwd"
echo 'nogroup:x:65534:' >"$root/etc/group"

# Every C library that the runtime and SQLite name, where the loader looks.
# ldd fails on libraries for other machines: those need nothing here.
find "$root/opt" \( -name '*.so' -o -path '*/bin/java' \) -print |
  while read -r file; do
    LD_LIBRARY_PATH="$root/opt/java/lib:$root/opt/java/lib/server" ldd "$file" 2>/dev/null || true
  done |
  grep -oE '(/usr)?/lib[^ ]+\.so[^ ]*' | sort -u |
  while read -r lib; do
    if [ -f "$lib" ]; then
      mkdir -p "$root$(dirname "$lib")"
      cp -L "$lib" "$root$lib"
    fi
  done

tar -C "$root" --owner=0 --group=0 --numeric-owner -cf - . | docker import \
  --change 'ENTRYPOINT ["/opt/java/bin/java"]' --change 'CMD ["-jar","DynamoDBLocal.jar","-inMemory"]' \
  --change 'WORKDIR /opt/dynamodb' --change 'USER nobody' --change 'EXPOSE 8000' \
  --change "LABEL session-test.recipe=$recipe" - "$image" >/dev/null
say "made $image"
