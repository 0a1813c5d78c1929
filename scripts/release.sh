#!/usr/bin/env bash
# Makes a release of what is checked out: a commit with the sums of our own
# modules, and a tag for each module that is released, the root first. It
# pushes nothing, and says at its end what to push. CONTRIBUTING.md says what
# to do before.
#
#   scripts/release.sh [--tested] VERSION
#
# --tested says that .ci/run has passed on this commit. Without it, make lint
# and make test run first.
set -euo pipefail
cd "$(dirname "$0")/.."

die() { echo "release: $*" >&2; exit 1; }

tested=""
if [ "${1:-}" = --tested ]; then tested=1; shift; fi
version=${1:-}
[[ $version =~ ^v[01]\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$ ]] || die "usage: scripts/release.sh [--tested] VERSION, such as v0.2.0"

self=$(sed -n 's/^module //p' go.mod)
released=$(scripts/modules.sh released)
# required FOLDER: "path version" of each of our modules that its module requires.
required() { sed -nE "s#^(require)?[[:space:]]+($self[^[:space:]]*) (v[^[:space:]]+).*#\2 \3#p" "$1/go.mod"; }
# tag FOLDER
tag() { if [ "$1" = . ]; then echo "$version"; else echo "$1/$version"; fi; }

[ -z "$(git status --porcelain)" ] || die "there are changes that are not committed"
grep -qE "^## ${version#v}( |\$)" CHANGELOG.md || die "CHANGELOG.md has no heading \"## ${version#v}\""
before=" "
for m in $released; do
  ! git rev-parse -q --verify "refs/tags/$(tag "$m")" >/dev/null || die "the tag $(tag "$m") exists"
  ! grep -nE '^(replace|exclude)' "$m/go.mod" || die "$m/go.mod has a directive that keeps go install from working"
  while read -r path v; do
    [ -n "$path" ] || continue
    [ "$v" = "$version" ] || die "$m/go.mod requires $path $v: run scripts/tidy.sh $version, and commit"
    [[ $before == *" $path "* ]] || die "$m/go.mod requires $path, which is not released before it"
  done <<<"$(required "$m")"
  before="$before$(sed -n 's/^module //p' "$m/go.mod") "
done
[ -n "$tested" ] || make lint test

# A copy of the repository takes the tags one by one, and go reads the modules
# from it as it will from the server: so each go.sum gets the sums of those
# before it, which no proxy has yet.
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
git clone -q . "$tmp/copy"
in_copy() { git -C "$tmp/copy" -c user.name=release -c user.email=release@localhost \
  -c commit.gpgsign=false -c tag.gpgsign=false "$@"; }
for m in $released; do
  if [ -n "$(required "$m")" ]; then
    { grep -v "^$self[ /]" "$m/go.sum" || true; required "$m" | while read -r path _; do cat "$tmp/$path/sums"; done; } >"$tmp/copy/$m/go.sum"
    in_copy commit -q --allow-empty -am "$m"
  fi
  in_copy tag "$(tag "$m")"
  path=$(sed -n 's/^module //p' "$m/go.mod")
  mkdir -p "$tmp/$path"
  (cd "$tmp" && GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0="url.file://$tmp/copy.insteadOf" GIT_CONFIG_VALUE_0="https://$self" \
    GOMODCACHE="$tmp/modules" GOFLAGS=-modcacherw GOWORK=off GOPROXY=direct GOPRIVATE="$self" \
    go mod download -json "$path@$version") |
    sed -nE "s#.*\"Sum\": \"(.*)\".*#$path $version \1#p; s#.*\"GoModSum\": \"(.*)\".*#$path $version/go.mod \1#p" >"$tmp/$path/sums"
done

tags=""
for m in $released; do
  [ ! -f "$m/go.sum" ] || cp "$tmp/copy/$m/go.sum" "$m/go.sum"
  tags="$tags $(tag "$m")"
done
git diff --quiet || git commit -qam "Release $version"
for t in $tags; do git tag -a -m "$t" "$t"; done
echo "Released here, and not pushed. To publish:"
echo "  git push --atomic origin HEAD$tags"
