#!/bin/sh
# Debian packages that the tests use: PostgreSQL, PgBouncer, Prometheus and Chromium run from them, debootstrap makes the
# homes of the schedulers. Only what is missing is installed, nothing is started, and without root nothing is done.
set -eu

wanted=""
[ -x "$(command -v debootstrap || true)" ] || wanted="$wanted debootstrap"
[ -x "$(command -v promtool || true)" ] || wanted="$wanted prometheus"
[ -x "$(command -v amtool || true)" ] || wanted="$wanted prometheus-alertmanager"
[ -x "$(command -v initdb || true)" ] || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || wanted="$wanted postgresql"
[ -x /usr/sbin/pgbouncer ] || wanted="$wanted pgbouncer"
[ -x "$(command -v chromium || true)" ] || wanted="$wanted chromium fonts-dejavu-core"
[ -n "$wanted" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "not installed:$wanted; the tests that need them will be skipped"
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
apt-get update -qq
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $wanted >/dev/null
