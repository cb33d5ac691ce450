#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Runs test programs one after the other and prints their KTAP as subtests.
#
# Usage: run_tests.sh COLLECTION PROGRAM...
#
# TESTS="name..." in the environment selects some by name. LOGDIR, when set,
# gets one log a program. The exit status is 0 if none failed.

set -eu
case ${1:-} in '' | -h | --help)
	sed -n '3,/^$/s/^# \{0,1\}//p' "$0"
	exit 2
	;;
esac

collection=$1
shift
dir=$(dirname "$0")/$collection
timeout=$(sed -n 's/^timeout=//p' "$dir/settings" 2>/dev/null || true)
timeout=$((${timeout:-600} * ${CROSSTALK_SLOWNESS:-1}))

selected()
{
	[ -n "${TESTS:-}" ] || return 0
	for t in $TESTS; do
		case $1 in "$t" | "test_$t" | "test_$t.sh") return 0 ;; esac
	done
	return 1
}

n=0
for prog; do
	if selected "$(basename "$prog")"; then n=$((n + 1)); fi
done
echo "TAP version 13"
echo "1..$n"

status=$(mktemp)
trap 'rm -f "$status"' EXIT
i=0
failed=0
for prog; do
	name=$(basename "$prog")
	selected "$name" || continue
	i=$((i + 1))
	log=/dev/null
	if [ -n "${LOGDIR:-}" ]; then
		mkdir -p "$LOGDIR"
		log=$LOGDIR/$name.log
	fi
	echo "# selftests: $collection: $name"
	{
		rc=0
		timeout --foreground "$timeout" "$prog" 2>&1 || rc=$?
		echo "$rc" >"$status"
	} | tee "$log" | sed -u 's/^/# /'
	rc=$(cat "$status")
	case $rc in
	0) echo "ok $i selftests: $collection: $name" ;;
	4) echo "ok $i selftests: $collection: $name # SKIP" ;;
	124)
		echo "not ok $i selftests: $collection: $name # TIMEOUT $timeout seconds"
		failed=1
		;;
	*)
		echo "not ok $i selftests: $collection: $name # exit=$rc"
		failed=1
		;;
	esac
done
exit $failed
