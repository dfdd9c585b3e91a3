#!/bin/sh
# Which system calls the shard threads make under load. Epoll with its timeout is the only call that may wait; a futex that waits, a
# read or write of a file, a connect or an fsync here would break the promise that shards never block.
#
#   bench/shard-syscalls.sh            needs strace and a release build (cargo build --release)
set -eu
cd "$(dirname "$0")/.."
longwire=${LONGWIRE:-target/release/longwire}
work=$(mktemp -d)
"$longwire" serve --dev >"$work/ready" 2>"$work/log" &
server=$!
trap 'kill $server 2>/dev/null; wait $server 2>/dev/null; rm -rf "$work"' EXIT
for _ in $(seq 100); do [ -s "$work/ready" ] && break; sleep 0.1; done
field() { sed -n "s/.*\"$1\":\"\\{0,1\\}\\([^\",}]*\\).*/\\1/p" "$work/ready"; }
threads=$(for task in /proc/"$server"/task/*; do
    case $(cat "$task/comm") in shard-*) echo "-p ${task##*/}" ;; esac
done)
# shellcheck disable=SC2086
strace -c -S calls -o "$work/summary" $threads &
tracer=$!
sleep 1
load() {
    "$longwire" bench "$@" --target "$(field device)" --api "$(field api)" --app-key "$(field app_key)" \
        --app-secret "$(field app_secret)" --pid "$server" 2>"$work/bench"
}
load fanout --all --devices 2000 --turns 5 --no-limit
load fanout --stored --devices 1000 --turns 5 --no-limit
load unicast --devices 500 --pushes 20000
kill -INT $tracer 2>/dev/null || true
wait $tracer 2>/dev/null || true
cat "$work/summary"
