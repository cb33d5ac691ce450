#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Compares vhost-net alone with the module, in one boot, taking turns.
#
# Usage: bench_hook.sh [OPTION...] [CASE...]
#
#   --rounds N      rounds (5); in each one all cases are measured both ways
#   --scale P       per cent of the usual number of frames (100)
#   --reload        "unhooked" is without the module (rmmod); otherwise it is
#                   loaded and switched off (enable = 0)
#   --clock NAME    what the figures mean, for the results: icount or wall
#   --json FILE     write all values there, too (scripts/bench-report reads it)
#
# CASE: see "bench_pair -h"; default: all. Prints for each case the medians and
# the ratio of speeds, hooked / unhooked, with its spread over the rounds.

set -eu
here=$(cd "$(dirname "$0")" && pwd)
rounds=5 scale=100 reload=0 clock=wall json=''
while [ $# -gt 0 ]; do
	case $1 in
	--rounds) rounds=$2; shift ;;
	--scale) scale=$2; shift ;;
	--reload) reload=1 ;;
	--clock) clock=$2; shift ;;
	--json) json=$2; shift ;;
	-h | --help) sed -n '3,/^$/s/^# \{0,1\}//p' "$0"; exit ;;
	-*) echo "bench_hook.sh: unknown option $1; see --help" >&2; exit 2 ;;
	*) break ;;
	esac
	shift
done

bench=${BENCH_PAIR:-$here/bench_pair}
[ -x "$bench" ] || {
	echo "bench_hook.sh: no $bench: run 'make -C selftests', or set BENCH_PAIR" >&2
	exit 2
}
sys=/sys/kernel/vhost_crosstalk
raw=$(mktemp)
trap 'rm -f "$raw"' EXIT

load()
{
	[ -d $sys ] && return
	if [ -n "${CROSSTALK_KO:-}" ]; then
		insmod "$CROSSTALK_KO"
	else
		modprobe vhost_crosstalk
	fi
}

mode()
{
	case $1$reload in
	unhooked1) [ ! -d $sys ] || rmmod vhost_crosstalk ;;
	unhooked0) load; echo 0 >$sys/enable ;;
	hooked*) load; echo 1 >$sys/enable ;;
	esac
}

for round in $(seq "$rounds"); do
	# Every other round the other way round, against drifts.
	order="unhooked hooked"
	[ $((round % 2)) = 1 ] || order="hooked unhooked"
	for m in $order; do
		mode "$m"
		"$bench" -s "$scale" "$@" |
			sed "s/^{/{\"contender\": \"$m\", \"round\": $round, /" >>"$raw"
	done
	echo "# round $round of $rounds done" >&2
done

CLOCK=$clock JSON=$json python3 - "$raw" <<'END'
import json, os, platform, statistics, sys

cases, kept = {}, []
for line in open(sys.argv[1]):
    r = json.loads(line)
    c = cases.setdefault(r["case"], {"unhooked": [], "hooked": [], "row": r})
    c[r["contender"]].append(r["value"])

for name, c in cases.items():
    row = c["row"]
    higher = row["better"] == "higher"
    ratio = [h / u if higher else u / h
             for u, h in zip(c["unhooked"], c["hooked"])]
    print(f'{name:20} unhooked {statistics.median(c["unhooked"]):12.1f}  '
          f'hooked {statistics.median(c["hooked"]):12.1f} {row["unit"]:9} '
          f'speed ratio {statistics.median(ratio):.3f} '
          f'({min(ratio):.3f} to {max(ratio):.3f})')
    for who in ("unhooked", "hooked"):
        kept.append({
            "case": name, "contender": who, "clock": os.environ["CLOCK"],
            "metric": row["metric"], "unit": row["unit"],
            "better": row["better"], "values": c[who],
            "kernel": platform.release(), "cpus": os.cpu_count(),
        })

if os.environ["JSON"]:
    with open(os.environ["JSON"], "w") as f:
        json.dump(kept, f, indent=1)
END
