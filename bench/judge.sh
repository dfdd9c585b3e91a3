# What the scripts that judge figures share; they source it. A mark prints PASS or FAIL with the figure, and `failed` is 1 when one failed.
longwire=${LONGWIRE:-target/release/longwire}
out=${OUT:-target/figures}
mkdir -p "$out"
failed=0
command -v jq >/dev/null || { echo "${0##*/} needs jq" >&2; exit 2; }
[ -x "$longwire" ] || { echo "no $longwire: cargo build --release" >&2; exit 2; }

# Stands before each verdict; the script sets it.
of=

verdict() {
    echo "$of$1: $2"
    [ "$1" = PASS ] || failed=1
}

# mark TEXT FIGURE CONDITION: both are jq filters over the last JSON; null, or no JSON at all, is a FAIL.
mark() {
    figure=$(jq -r "$2 | if type == \"number\" then (. * 1000 | round) / 1000 else . end" "$file" 2>/dev/null)
    if jq -es "length == 1 and (.[0] | ($2) as \$x | \$x != null and ($3))" "$file" >/dev/null 2>&1; then
        verdict PASS "$1: ${figure:-none}"
    else
        verdict FAIL "$1: ${figure:-none}"
    fi
}
