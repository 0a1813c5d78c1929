#!/usr/bin/env bash
# Releases this tree into a file proxy in a temporary folder, and uses it as a
# stranger would: installs the programs, gets every released module from a new
# module and builds all of its packages, and runs README's first program.
# Other people's modules come from the module cache or the proxy that is set.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "release-test: $*, $SECONDS s"; }
die() { echo "release-test: $*" >&2; exit 1; }
# path FOLDER: the path of its module.
path() { sed -n 's/^module //p' "$1/go.mod"; }

# at FOLDER COMMAND...: quiet, unless it fails.
at() {
  (cd "$1" && "${@:2}") >"$tmp/out" 2>&1 || { cat "$tmp/out"; die "failed: ${*:2}"; }
}

self=$(path .)
version=$(sed -nE 's/.* (v[^ ]+) => .*/\1/p' go.work | head -n 1)
released=$(scripts/modules.sh released)
downloads=$(go env GOMODCACHE)/cache/download
proxy=$(go env GOPROXY)
tmp=$(mktemp -d)
server=""
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$tmp"' EXIT

# A repository with the tree as it is here, committed or not.
mkdir "$tmp/repo"
git -c safe.directory="$PWD" ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' f; do
  if [ -e "$f" ]; then printf '%s\0' "$f"; fi
done | tar --null -cf - -T - | tar -C "$tmp/repo" -xf -
cd "$tmp/repo"
git init -q
git config user.name release-test
git config user.email release-test@localhost
git config commit.gpgsign false
git config tag.gpgsign false
heading="## ${version#v}"
{ echo "$heading"; grep -v "^$heading" CHANGELOG.md; } >"$tmp/changelog"
cp "$tmp/changelog" CHANGELOG.md
git add -A
git commit -qm "the tree"

# refused WORDS: so is the release, and the tree goes back to what it was.
refused() {
  if scripts/release.sh --tested "$version" >"$tmp/out" 2>&1; then die "a release was made where this was to be said: $1"; fi
  grep -q "$1" "$tmp/out" || { cat "$tmp/out"; die "this was to be said: $1"; }
  git reset -q --hard start
}
git tag start
echo >>README.md
refused "not committed"
grep -v "^$heading" CHANGELOG.md >"$tmp/changelog"
cp "$tmp/changelog" CHANGELOG.md
git commit -qam "no heading"
refused "has no heading"
for m in $released; do last=$m; done
go mod edit -replace example.com/x=../x "$last/go.mod"
git commit -qam "replace"
refused "keeps go install from working"
go mod edit -require "$self@v0.0.1" "$last/go.mod"
git commit -qam "an old version"
refused "requires $self v0.0.1"
at . scripts/release.sh --tested "$version"
grep -q "git push" "$tmp/out" || die "the release does not say what to push"
git tag -f start >/dev/null
refused "exists"
say "released $version of" $released

# What go downloads from the repository, it keeps in the form of a proxy.
export GOFLAGS="-modcacherw -trimpath" GOWORK=off GOSUMDB=off GOTOOLCHAIN=local
# shellcheck disable=SC2046
at "$tmp" env GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0="url.file://$tmp/repo.insteadOf" GIT_CONFIG_VALUE_0="https://$self" \
  GOMODCACHE="$tmp/own" GOPROXY=direct go mod download $(for m in $released; do echo "$(path "$m")@$version"; done)
export GOMODCACHE="$tmp/cache" GOPROXY="file://$tmp/own/cache/download,file://$downloads,$proxy"

for m in $released; do
  at "$m" go build ./... # with the sums that the release wrote
  list=$(cd "$m" && go list -f '{{.Name}} {{.ImportPath}}' ./... | grep -v /internal/)
  for p in $(sed -n 's/^main //p' <<<"$list"); do
    at "$tmp" env GOBIN="$tmp/bin" go install "$p@$version"
    at "$tmp" "bin/${p##*/}" --help
    say "installed $p@$version"
  done
  packages=$(sed -n '/^main /!s/^[^ ]* //p' <<<"$list")
  [ -n "$packages" ] || continue
  new=$(mktemp -d "$tmp/new.XXXXXX")
  at "$new" go mod init example.com/new
  {
    echo "package main"
    for p in $packages; do echo "import _ \"$p\""; done
    echo "func main() {}"
  } >"$new/main.go"
  # shellcheck disable=SC2046
  at "$new" go get $(for p in $packages; do echo "$p@$version"; done)
  at "$new" go build -o program .
  at "$new" ./program
  say "a new module builds with $(path "$m"), packages: $(wc -w <<<"$packages" | tr -d ' ')"
done

mkdir "$tmp/first"
awk '/^```go/ { on = 1; next } /^```/ && on { exit } on' README.md >"$tmp/first.go"
while port=$((20000 + RANDOM % 20000)) && (: >"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
sed "s/127.0.0.1:8080/127.0.0.1:$port/" "$tmp/first.go" >"$tmp/first/main.go"
grep -q "127.0.0.1:$port" "$tmp/first/main.go" || die "README's first program does not listen on 127.0.0.1:8080"
at "$tmp/first" go mod init example.com/first
at "$tmp/first" go get "$self@$version"
at "$tmp/first" go build -o first .
"$tmp/first/first" &
server=$!
until (: >"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
  kill -0 "$server" || die "README's first program does not run"
  sleep 0.1
done
exec 3<>"/dev/tcp/127.0.0.1/$port"
printf 'GET / HTTP/1.0\r\n\r\n' >&3
answer=$(cat <&3)
[[ $answer == "HTTP/1."?" 200 OK"* && $answer == *"Set-Cookie: "* ]] || die "README's first program answers $answer"
say "README's first program answers"
