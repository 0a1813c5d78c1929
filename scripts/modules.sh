#!/usr/bin/env bash
# Prints the folders of the modules in this repository, a module after those
# of ours that it requires. With "released" it prints only the ones that a
# release tags: a go.mod that begins with "// Not released" is left out.
set -euo pipefail
cd "$(dirname "$0")/.."

self=$(sed -n 's/^module //p' go.mod)
for mod in go.mod */go.mod */*/go.mod; do
  [ "${1:-}" = released ] && grep -q '^// Not released' "$mod" && continue
  dir=$(dirname "$mod")
  echo "$dir $dir"
  sed -nE "s#^(require)?[[:space:]]+($self[^[:space:]]*) v.*#\2#p" "$mod" | while read -r needed; do
    needed=${needed#"$self"}
    [ -z "$needed" ] && needed=/.
    echo "${needed#/} $dir"
  done
done | tsort | while read -r dir; do [ ! -f "$dir/go.mod" ] || echo "$dir"; done
