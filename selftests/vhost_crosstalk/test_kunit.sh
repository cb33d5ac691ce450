#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Loads the KUnit module, whose suites run at once, and prints their results,
# which are in the kernel log, as one flat list.
#
# Usage: test_kunit.sh       CROSSTALK_TEST_KO: path of vhost_crosstalk_test.ko

set -eu
export LC_ALL=C
name=vhost_crosstalk_test
ko=${CROSSTALK_TEST_KO:-}

if [ -z "$ko" ] || [ ! -e "$ko" ]; then
	echo "TAP version 13"
	echo "1..0 # SKIP no KUnit module: the kernel has no CONFIG_KUNIT, or CROSSTALK_TEST_KO is not set"
	exit 4
fi

mark="crosstalk-kunit-$$-$RANDOM"
echo "$mark" >/dev/kmsg
was_loaded=0
if [ -d "/sys/module/$name" ]; then
	was_loaded=1
	rmmod "$name"
fi
modprobe -q kunit || true
# The suites call the module's functions.
main_was_loaded=1
if [ ! -d /sys/module/vhost_crosstalk ]; then
	main_was_loaded=0
	if [ -n "${CROSSTALK_KO:-}" ]; then
		insmod "$CROSSTALK_KO"
	else
		modprobe vhost_crosstalk
	fi
fi
status=0
insmod "$ko" || status=$?
[ $was_loaded = 1 ] || rmmod "$name" || status=1
[ $main_was_loaded = 1 ] || rmmod vhost_crosstalk || status=1

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
