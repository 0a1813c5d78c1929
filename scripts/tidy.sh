#!/usr/bin/env bash
# Writes go.work from the modules that are here, and runs go mod tidy in each.
# The version at which the modules require each other need not exist yet: go
# finds them in this tree, by replace directives that go.mod itself never has.
# With a VERSION it moves them all to that one.
set -euo pipefail
cd "$(dirname "$0")/.."

root=$PWD
self=$(sed -n 's/^module //p' go.mod)
version=${1:-$(sed -nE 's/.* (v[^ ]+) => .*/\1/p' go.work | head -n 1)}
modules=$(scripts/modules.sh)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# path FOLDER: the path of its module.
path() { sed -n 's/^module //p' "$1/go.mod"; }
paths=$(for m in $modules; do path "$m"; done)
# required FOLDER: the paths of our modules that its module requires.
required() { sed -nE "s#^(require)?[[:space:]]+($self[^[:space:]]*) v.*#\2#p" "$1/go.mod"; }

{
  echo "// Written by make tidy."
  echo "go $(for m in $modules; do sed -n 's/^go //p' "$m/go.mod"; done | sort -V | tail -n 1)"
  echo "use ("
  for m in $modules; do echo "./${m#.}"; done | LC_ALL=C sort
  echo ")"
  echo "replace ("
  for m in $modules; do echo "$(path "$m") $version => ./${m#.}"; done | LC_ALL=C sort
  echo ")"
} >"$tmp/go.work"
go work edit -fmt "$tmp/go.work"
cp "$tmp/go.work" go.work

for m in $modules; do
  echo "tidy $m"
  touch "$m/go.sum"
  cp "$m/go.mod" "$tmp/go.mod"
  grep -v "^$self[ /]" "$m/go.sum" >"$tmp/go.sum" || true
  for other in $modules; do go mod edit -replace "$(path "$other")=$root/$other" "$tmp/go.mod"; done
  for p in $(required "$m"); do
    echo "$paths" | grep -qx "$p" || go mod edit -droprequire "$p" "$tmp/go.mod" # it is gone
  done
  (cd "$m" && GOWORK=off go mod tidy -modfile="$tmp/go.mod")
  for other in $modules; do go mod edit -dropreplace "$(path "$other")" "$tmp/go.mod"; done
  cp "$tmp/go.mod" "$m/go.mod"
  for p in $(required "$m"); do go mod edit -require "$p@$version" "$m/go.mod"; done
  # Sums of our own modules come with a release, and stay as long as the version does.
  for p in $(required "$m"); do grep -F "$p $version" "$m/go.sum" || true; done >>"$tmp/go.sum"
  cp "$tmp/go.sum" "$m/go.sum"
done

# go.work.sum has what the modules need together and none of them alone. Tools
# that list all modules would add to it otherwise.
rm -f go.work.sum
go list -m all >/dev/null
# shellcheck disable=SC2046
go list -deps -test $(for m in $modules; do echo "./$m/..."; done) >/dev/null
