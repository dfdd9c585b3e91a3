#!/bin/sh
# Longwire beside other MQTT brokers on this machine: the same clients, the same settings, by turns. Nothing else should run meanwhile.
#
#   bench/mqtt-compare.sh                     every row, every broker that is found, three repetitions: about an hour
#   bench/mqtt-compare.sh memory storm        these rows
#   BROKERS="longwire mosquitto" REPEAT=5 bench/mqtt-compare.sh fanout0-1k-64
#   INSTALL=1 bench/mqtt-compare.sh           first installs what is missing: Mosquitto by apt-get, rumqttd and rmqttd by cargo (30 minutes at most)
#
# A broker is found by its name in PATH or $TOOLS/bin (default: target/mqtt-brokers), or where LONGWIRE, MOSQUITTO, RUMQTTD, RMQTTD, FLASHMQ,
# NANOMQ say. Each run has a broker of its own, on a free loopback port, with a configuration written into a temporary folder: nothing kept
# for clean sessions, no log, no limit on rates, queues of 10,000 messages where there must be one. VERSION is 3.1.1 (default) or 5. Figures
# go to $OUT/<row>.<broker>.<repetition>.json (default: target/mqtt-compare), the table to the terminal: median (min to max) over all repetitions.
set -eu
cd "$(dirname "$0")/.."
tools=$(realpath -m "${TOOLS:-target/mqtt-brokers}")
PATH=$PATH:/usr/sbin:$tools/bin
longwire=$(realpath "${LONGWIRE:-target/release/longwire}")
out=$(realpath -m "${OUT:-target/mqtt-compare}")
version=${VERSION:-3.1.1} repeat=${REPEAT:-3} turns=${TURNS:-5} turn_ms=${TURN_MS:-2000}
# A run that hangs ends its row, not the script.
run_time=${RUN_TIME:-300}
work=$(mktemp -d)
mkdir -p "$out"
pid=
say() { echo "mqtt-compare: $*" >&2; }

stop() {
    [ -n "$pid" ] || return 0
    kill -TERM "$pid" 2>/dev/null || true
    for _ in $(seq 100); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
    pid=
}
finish() {
    stop
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

install_missing() {
    command -v mosquitto >/dev/null || apt-get install -qqy --no-install-recommends mosquitto >&2 || say "no Mosquitto from apt"
    for crate in rumqttd:rumqttd rmqttd:rmqttd; do
        command -v "${crate##*:}" >/dev/null && continue
        timeout 900 cargo install --quiet --root "$tools" "${crate%%:*}" >&2 || say "no ${crate##*:} from the registry"
    done
}
[ -z "${INSTALL:-}" ] || install_missing

program_of() {
    case $1 in
    longwire) echo "$longwire" ;;
    mosquitto) command -v "${MOSQUITTO:-mosquitto}" ;;
    rumqttd) command -v "${RUMQTTD:-rumqttd}" ;;
    rmqttd) command -v "${RMQTTD:-rmqttd}" ;;
    flashmq) command -v "${FLASHMQ:-flashmq}" ;;
    nanomq) command -v "${NANOMQ:-nanomq}" ;;
    *) say "no broker is called $1" && exit 2 ;;
    esac
}

# Writes the broker's configuration into $home and starts it; $pid is its process.
start() {
    broker=$1 port=$2 home=$work/$1
    rm -rf "$home" && mkdir -p "$home"
    program=$(program_of "$broker")
    case $broker in
    longwire)
        set -- serve --dev --device-bind 127.0.0.1:"$port" --data-dir "$home/data" --log-level error \
            --set limits.inbound_messages_per_s=0 --set limits.inbound_bytes_per_s=0 --set limits.ping_s=0
        ;;
    mosquitto)
        printf '%s\n' "listener $port 127.0.0.1" "allow_anonymous true" "persistence false" "log_dest none" \
            "max_connections -1" "max_queued_messages 10000" "max_inflight_messages 20" "set_tcp_nodelay true" >"$home/conf"
        set -- -c "$home/conf"
        ;;
    rumqttd)
        section=v4 && [ "$version" = 3.1.1 ] || section=v5
        printf '%s\n' "id = 0" "[router]" "id = 0" "max_connections = 20000" "max_outgoing_packet_count = 200" \
            "max_segment_size = 104857600" "max_segment_count = 10" "[$section.1]" "name = \"bench\"" \
            "listen = \"127.0.0.1:$port\"" "next_connection_delay_ms = 0" "[$section.1.connections]" \
            "connection_timeout_ms = 60000" "max_payload_size = 65536" "max_inflight_count = 100" "dynamic_filters = true" >"$home/conf.toml"
        set -- --config "$home/conf.toml" --quiet
        ;;
    rmqttd)
        printf '%s\n' "task.exec_workers = 1000" "task.exec_queue_max = 300000" "node.id = 1" "rpc.server_addr = \"127.0.0.1:$((port + 1))\"" \
            "plugins.dir = \"$home/\"" "plugins.default_startups = []" "log.to = \"off\"" "log.level = \"error\"" "log.dir = \"$home\"" \
            "[listener.tcp.external]" "addr = \"127.0.0.1:$port\"" "workers = 4" "max_connections = 20000" "max_handshaking_limit = 20000" \
            "handshake_timeout = \"30s\"" "max_packet_size = \"1M\"" "backlog = 4096" "allow_anonymous = true" "max_mqueue_len = 10000" \
            "max_inflight = 20" "nodelay = true" >"$home/conf.toml"
        set -- --config "$home/conf.toml"
        ;;
    flashmq)
        printf '%s\n' "listen {" "  protocol mqtt" "  port $port" "  inet4_bind_address 127.0.0.1" "}" "allow_anonymous true" \
            "log_level error" "max_qos_msg_pending_per_client 10000" >"$home/conf"
        set -- --config-file "$home/conf"
        ;;
    nanomq)
        printf '%s\n' "mqtt { max_packet_size = 1MB, max_mqueue_len = 10000 }" "listeners.tcp { bind = \"127.0.0.1:$port\" }" \
            "auth { allow_anonymous = true, no_match = allow }" "log { to = [], level = error }" >"$home/conf"
        set -- start --conf "$home/conf"
        ;;
    esac
    "$program" "$@" >"$home/log" 2>&1 &
    pid=$!
    for _ in $(seq 60); do
        if bench storm --target 127.0.0.1:"$port" --devices 1 --seconds 5 >"$home/probe" 2>&1; then return 0; fi
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.25
    done
    say "$broker does not take clients: $(tail -n 3 "$home/log" "$home/probe" | tr '\n' ' ')"
    stop
    return 1
}

bench() {
    scenario=$1
    shift
    timeout "$run_time" "$longwire" bench "$scenario" --protocol mqtt --mqtt-version "$version" "$@"
}

# One row against the broker at $target.
row() {
    case $1 in
    memory) set -- idle --levels 2000,5000,8000,11000,14000 ;;
    fanout0-1k-64) set -- fanout --devices 1000 --bytes 64 ;;
    fanout0-1k-1024) set -- fanout --devices 1000 --bytes 1024 ;;
    fanout0-10k-64) set -- fanout --devices 10000 --bytes 64 ;;
    fanout0-10k-1024) set -- fanout --devices 10000 --bytes 1024 ;;
    fanout1-1k-64) set -- fanout --devices 1000 --bytes 64 --qos 1 ;;
    unicast0) set -- unicast --devices 10000 --qos 0 ;;
    unicast1) set -- unicast --devices 10000 --qos 1 ;;
    storm) set -- storm --devices 15000 --seconds 120 ;;
    latency) set -- fanout --devices 1000 --bytes 64 --rate 20000 ;;
    *) say "no row is called $1" && return 2 ;;
    esac
    case $1 in
    fanout) set -- "$@" --turns "$turns" --turn-ms "$turn_ms" ;;
    unicast) set -- "$@" --seconds $((turns * turn_ms / 1000)) --turn-ms "$turn_ms" ;;
    esac
    bench "$@" --target "$target" --pid "$pid" --json
}

# A number of a line of JSON; that of the run stands before those of its turns.
number() { grep -o "\"$1\":-\?[0-9][0-9.e+-]*" "$2" | head -n 1 | cut -d : -f 2; }
# Median (min to max) of the numbers on standard input.
spread() {
    sort -g | awk '{ v[NR] = $1 } END {
        if (!NR) { printf "-"; exit }
        m = NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2
        form = m < 100 ? "%.2f" : "%.0f"
        printf form " (" form " to " form ")", m, v[1], v[NR]
    }'
}
of_all() {
    for file in "$out/$1.$2".*.json; do [ ! -s "$file" ] || number "$3" "$file"; done | spread
}

rows=${*:-memory fanout0-1k-64 fanout0-1k-1024 fanout0-10k-64 fanout0-10k-1024 fanout1-1k-64 unicast0 unicast1 storm latency}
found=
for broker in ${BROKERS:-longwire mosquitto rumqttd rmqttd flashmq nanomq}; do
    if program_of "$broker" >/dev/null; then found="$found $broker"; else say "$broker is not installed: left out"; fi
done
port=$((28000 + $$ % 1000 * 4))
for name in $rows; do
    for turn in $(seq "$repeat"); do
        for broker in $found; do
            file=$out/$name.$broker.$turn
            rm -f "$file.json" "$file.txt"
            # Each broker its own port: the last one's connections may still be closing.
            port=$((port + 2))
            target=127.0.0.1:$port
            start "$broker" "$port" || continue
            say "$name, $broker, $turn of $repeat"
            if row "$name" >"$file.txt" 2>&1; then
                tail -n 1 "$file.txt" >"$file.json"
            else
                say "$name against $broker failed: $(tail -n 1 "$file.txt")"
            fi
            stop
        done
    done
done

printf '\n%-18s %-10s %-34s %-28s %-26s %s\n' row broker "figure" "CPU-s per million" "p99, ms" lost
for name in $rows; do
    case $name in
    memory) figure=bytes_per_connection unit="bytes a connection" ;;
    storm) figure=all_welcomed_s unit=s ;;
    *) figure=deliveries_per_s unit=/s ;;
    esac
    for broker in $found; do
        printf '%-18s %-10s %-34s %-28s %-26s %s\n' "$name" "$broker" "$(of_all "$name" "$broker" $figure) $unit" \
            "$(of_all "$name" "$broker" cpu_s_per_million)" "$(of_all "$name" "$broker" p99)" "$(of_all "$name" "$broker" lost)"
    done
done
