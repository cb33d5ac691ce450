#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Loads the KUnit modules, whose suites run at once, and prints their results,
# which are in the kernel log, as one flat list.
#
# Usage: test_kunit.sh       CROSSTALK_TEST_KO: path of vhost_crosstalk_test.ko,
#                            CROSSTALK_GUESTRAM_TEST_KO: of guestram's

set -eu
export LC_ALL=C
tests="${CROSSTALK_TEST_KO:-} ${CROSSTALK_GUESTRAM_TEST_KO:-}"

# suites NAME KO TEST_KO: loads module NAME, whose functions the suites call, if
# need be, and its tests
suites()
{
	local status=0 was_loaded=1 main_was_loaded=1
	if [ -d "/sys/module/$1_test" ]; then
		rmmod "$1_test"
	else
		was_loaded=0
	fi
	if [ ! -d "/sys/module/$1" ]; then
		main_was_loaded=0
		if [ -n "$2" ]; then insmod "$2"; else modprobe "$1"; fi
	fi
	insmod "$3" || status=$?
	[ $was_loaded = 1 ] || rmmod "$1_test" || status=1
	[ $main_was_loaded = 1 ] || rmmod "$1" || status=1
	return $status
}

found=0
for ko in $tests; do
	[ ! -e "$ko" ] || found=1
done
if [ $found = 0 ]; then
	echo "TAP version 13"
	echo "1..0 # SKIP no KUnit modules: the kernel has no CONFIG_KUNIT, or CROSSTALK_TEST_KO is not set"
	exit 4
fi

mark="crosstalk-kunit-$$-$RANDOM"
echo "$mark" >/dev/kmsg
modprobe -q kunit || true
status=0
if [ -n "${CROSSTALK_TEST_KO:-}" ]; then
	suites vhost_crosstalk "${CROSSTALK_KO:-}" "$CROSSTALK_TEST_KO" || status=$?
fi
if [ -n "${CROSSTALK_GUESTRAM_TEST_KO:-}" ]; then
	suites vhost_crosstalk_guestram "${CROSSTALK_GUESTRAM_KO:-}" \
		"$CROSSTALK_GUESTRAM_TEST_KO" || status=$?
fi

dmesg | sed -n "/$mark/,\$p" | sed -E 's/^(<[0-9]+>)?\[ *[0-9.]+\] //' |
	awk -v status="$status" '
	{ depth = match($0, /[^ ]/) - 1; text = substr($0, depth + 1) }
	depth == 4 && text ~ /^# Subtest: / { suite = substr(text, 12) }
	depth == 0 && text ~ /^# Subtest: / { suite = substr(text, 12) }
	depth == 4 && text ~ /^(not )?ok [0-9]+ / {
		bad = text ~ /^not/
		sub(/^(not )?ok [0-9]+ (- )?/, "", text)
		line[++n] = (bad ? "not ok " : "ok ") n " " suite ":" text
		if (bad) failed = suite_failed[suite] = 1
		next
	}
	depth == 0 && text ~ /^not ok / && !suite_failed[suite] {
		sub(/^not ok [0-9]+ (- )?/, "", text)
		line[++n] = "not ok " n " " text
		failed = 1
		next
	}
	# why it failed
	depth >= 4 && text ~ /^# / && text !~ /^# (Subtest|module|.*: pass:|Totals)/ {
		line[n + 1] = ""
		diag[n + 1] = diag[n + 1] "# " substr(text, 3) "\n"
	}
	END {
		print "TAP version 13"
		print "1.." (n ? n : 1)
		for (i = 1; i <= n; i++)
			printf "%s%s\n", diag[i], line[i]
		if (!n) {
			print "not ok 1 kunit # no results (insmod: " status ")"
			exit 1
		}
		exit failed || status
	}'
