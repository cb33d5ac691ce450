#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Real Linux guests with stock QEMU over the direct path; see guests/cases.py.
#
# Usage: test_guests.sh [--list | CASE...]
#
# CROSSTALK_GUEST_KERNEL     what the guests boot (/boot/vmlinuz-$(uname -r))
# CROSSTALK_GUEST_INITRAMFS  theirs, with guest_io in it (made here)
# CROSSTALK_GUEST_CASES      which cases, if none are named (all of them)
# CROSSTALK_GUEST_RAM        directory for files with the guests' RAM, such as a
#                            mounted guestram (none: anonymous memory); the
#                            cases of remapping have a mount of their own
# CROSSTALK_KO               path of vhost_crosstalk.ko (modprobe)
# CROSSTALK_GUESTRAM_KO      path of vhost_crosstalk_guestram.ko (modprobe)
# LOGDIR                     directory for the guests' consoles

set -eu
dir=$(dirname "$(realpath "$0")")

skip()
{
	echo "TAP version 13"
	echo "1..0 # SKIP $*"
	exit 4
}

[ -e /dev/kvm ] || modprobe -q kvm_amd || modprobe -q kvm_intel ||
	skip "no KVM: neither kvm_amd nor kvm_intel finds its hardware"
[ -e /dev/kvm ] || skip "no /dev/kvm"

kver=$(uname -r)
kernel=${CROSSTALK_GUEST_KERNEL:-/boot/vmlinuz-$kver}
initramfs=${CROSSTALK_GUEST_INITRAMFS:-}
logs=${LOGDIR:-}
if [ -z "$initramfs" ] || [ -z "$logs" ]; then
	tmp=$(mktemp -d)
	trap 'rm -rf "$tmp"' EXIT
	logs=${logs:-$tmp}
fi
if [ -z "$initramfs" ]; then
	initramfs=$tmp/guest.cpio
	make -s -C "$dir" OUTPUT="$tmp" "$tmp/guest_io"
	"$dir/guests/make-initramfs" "$kver" / "$initramfs" "$tmp/guest_io"
fi

# shellcheck disable=SC2086 # a list of words
[ $# -gt 0 ] || set -- ${CROSSTALK_GUEST_CASES:-}

status=0
PYTHONDONTWRITEBYTECODE=1 python3 "$dir/guests/cases.py" --kernel "$kernel" \
	--initramfs "$initramfs" --logs "$logs" "$@" || status=$?
exit $status
