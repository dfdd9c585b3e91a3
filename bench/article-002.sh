#!/bin/sh
# Article 002 replayed: peers behind a firewall that drops every packet, a server that goes on sending to them, and little memory. The
# articles' node failed after 90,000 sends and passed 270,000 after the repair.
#
# The server runs in one network namespace under a memory cgroup, the peers to be stuck in another one; nftables drops their packets in
# the middle of the run. `longwire bench stuck` gives the load and prints the figures. What it needs: root, iproute2, nftables (both are
# installed on Debian when missing), a release build.
#
#   bench/article-002.sh                          100 stuck peers, 200 healthy devices, 1,000,000 sends of 1 KiB, 128 MiB
#   STUCK=1000 SENDS=1000000 bench/article-002.sh [more options of bench stuck]
set -eu
cd "$(dirname "$0")/.."
longwire=$(realpath "${LONGWIRE:-target/release/longwire}")
memory_mib=${MEMORY_MIB:-128}
near=lw-server-$$ far=lw-stuck-$$
work=$(mktemp -d)
server= group=
say() { echo "article-002: $*" >&2; }

[ "$(id -u)" = 0 ] || { say "needs root: network namespaces and a cgroup"; exit 2; }
for pair in ip:iproute2 nft:nftables; do
    command -v "${pair%%:*}" >/dev/null || { say "installing ${pair##*:}"; apt-get install -qqy --no-install-recommends "${pair##*:}" >&2; }
done

finish() {
    # The server drains towards peers that hear nothing; there is nothing to wait for.
    [ -z "$server" ] || { kill -9 "$server" 2>/dev/null; wait "$server" 2>/dev/null; } || true
    ip netns delete "$near" 2>/dev/null || true
    ip netns delete "$far" 2>/dev/null || true
    for _ in 1 2 3 4 5; do
        [ -n "$group" ] && [ -d "$group" ] && { rmdir "$group" 2>/dev/null || sleep 0.2; }
    done || true
    [ -z "${own_mount:-}" ] || umount "$own_mount" 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

# A memory cgroup: version 1 if mounted, else version 2, else version 2 in a private mount of this script.
limit_memory() {
    bytes=$((memory_mib * 1024 * 1024))
    root=$(awk '$3 == "cgroup" && $4 ~ /(^|,)memory(,|$)/ { print $2; exit }' /proc/mounts)
    if [ -n "$root" ]; then
        group=$root/longwire-article-002-$$
        mkdir "$group" && echo $bytes >"$group/memory.limit_in_bytes" && say "memory cgroup (v1) of $memory_mib MiB" && return
    fi
    root=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
    if [ -z "$root" ]; then
        root=$work/cgroup
        mkdir "$root" && mount -t cgroup2 none "$root" && own_mount=$root
    fi
    echo +memory >"$root/cgroup.subtree_control" 2>/dev/null || true
    group=$root/longwire-article-002-$$
    mkdir "$group" && echo $bytes >"$group/memory.max" && { echo 0 >"$group/memory.swap.max" || true; } 2>/dev/null &&
        say "memory cgroup (v2) of $memory_mib MiB" && return
    rmdir "$group" 2>/dev/null || true
    group=
}
if [ -z "${own_mount:-}" ]; then own_mount=; fi
limit_memory 2>"$work/cgroup-errors" || group=
cat "$work/cgroup-errors" >&2
if [ -n "$group" ]; then
    confine="echo \$\$ >$group/cgroup.procs;"
    limited=
else
    # Not the same thing: address space and not memory, so the limit is wider.
    say "NOTE: no memory cgroup here; the server's address space is limited to 2 GiB instead, and RSS tells the rest"
    confine=
    limited="prlimit --as=$((2 * 1024 * 1024 * 1024))"
fi

ip netns add "$near"
ip netns add "$far"
ip -n "$near" link add to-far type veth peer name to-near netns "$far"
ip -n "$near" address add 10.77.0.1/24 dev to-far
ip -n "$far" address add 10.77.0.2/24 dev to-near
for side in "$near:to-far" "$far:to-near"; do
    ip -n "${side%%:*}" link set lo up
    ip -n "${side%%:*}" link set "${side##*:}" up
done

# The cgroup is entered first: inside the namespace /sys is another mount, without cgroups.
# shellcheck disable=SC2016,SC2086
sh -c "$confine"' exec "$@"' sh ip netns exec "$near" $limited "$longwire" serve --dev --data-dir "$work/store" \
    >"$work/ready" 2>"$work/log" &
server=$!
for _ in $(seq 300); do [ -s "$work/ready" ] && break; sleep 0.1; done
field() { sed -n "s/.*\"$1\":\"\\{0,1\\}\\([^\",}]*\\).*/\\1/p" "$work/ready"; }
device=$(field device)
[ -n "$device" ] || { say "the server did not start:"; cat "$work/log" >&2; exit 1; }
[ -z "$group" ] || grep -qx "$server" "$group/cgroup.procs" || { say "the server is not in its cgroup"; exit 1; }
# --dev serves the loopback only, so what arrives at 10.77.0.1 is led there.
ip netns exec "$near" sysctl -qw net.ipv4.conf.all.route_localnet=1
ip netns exec "$near" nft -f - <<RULES
table ip article {
    chain arriving {
        type nat hook prerouting priority -100;
        ip daddr 10.77.0.1 tcp dport ${device##*:} dnat to 127.0.0.1
    }
    chain own {
        type nat hook output priority -100;
        ip daddr 10.77.0.1 tcp dport ${device##*:} dnat to 127.0.0.1
    }
}
RULES
cat >"$work/cut.nft" <<RULES
table inet article {
    chain arriving { type filter hook input priority filter; ip saddr 10.77.0.1 counter drop; }
    chain leaving { type filter hook output priority filter; ip daddr 10.77.0.1 counter drop; }
}
RULES
printf '#!/bin/sh\nexec ip netns exec %s %s "$@"\n' "$far" "$longwire" >"$work/far-longwire"
chmod +x "$work/far-longwire"

code=0
ip netns exec "$near" "$longwire" bench stuck --target "10.77.0.1:${device##*:}" --api "$(field api)" \
    --app-key "$(field app_key)" --app-secret "$(field app_secret)" --pid "$server" \
    --stuck "${STUCK:-100}" --healthy "${HEALTHY:-200}" --sends "${SENDS:-1000000}" \
    --stuck-program "$work/far-longwire" --cut "ip netns exec $far nft -f $work/cut.nft" "$@" || code=$?

echo
echo "packets dropped:"
ip netns exec "$far" nft list table inet article 2>/dev/null | sed -n 's/^.*counter/  counter/p'
echo "sockets in CLOSE_WAIT at the server: $(ip netns exec "$near" ss -Htn state close-wait "sport = :${device##*:}" | wc -l)"
for file in memory.max_usage_in_bytes memory.failcnt memory.peak memory.events; do
    [ -n "$group" ] && [ -r "$group/$file" ] && echo "$file: $(tr '\n' ' ' <"$group/$file")" || true
done
kill -0 "$server" 2>/dev/null || { say "the server has died:"; tail -5 "$work/log" >&2; code=1; }
exit "$code"
