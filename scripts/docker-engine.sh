#!/usr/bin/env bash
# Sees to it that a Docker engine answers. As root on Debian it installs one
# and starts it by hand, which is for CI: on your own machine, start Docker.
set -euo pipefail

say() { echo "docker-engine: $*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }
answers() { docker version >/dev/null 2>&1; }

have docker && answers && exit 0

if [ -n "${DOCKER_HOST:-}" ]; then
  say "no engine answers at DOCKER_HOST=$DOCKER_HOST"
  exit 1
fi
if [ "$(id -u)" != 0 ] || ! have apt-get; then
  say "no Docker engine answers. Install and start Docker, then run this again."
  exit 1
fi

missing=""
for tool in docker:docker.io dockerd:docker.io containerd:containerd runc:runc iptables:iptables; do
  have "${tool%%:*}" || missing="$missing ${tool#*:}"
done
if [ -n "$missing" ]; then
  say "installing$missing"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  # shellcheck disable=SC2086
  apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi

if ! answers; then
  log=/var/log/dockerd.log
  # A pid file that outlived its engine keeps the next one from starting.
  if [ -f /var/run/docker.pid ] && ! grep -qs dockerd "/proc/$(cat /var/run/docker.pid)/comm"; then
    rm -f /var/run/docker.pid
  fi
  say "starting dockerd, log in $log"
  setsid nohup dockerd >"$log" 2>&1 </dev/null &
  for _ in $(seq 240); do
    answers && break
    sleep 0.25
  done
  if ! answers; then
    say "dockerd did not start:"
    tail -n 30 "$log" >&2
    exit 1
  fi
fi
say "engine $(docker version -f '{{.Server.Version}}') answers"
