#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Writes two headers for one target kernel:
#
#   vhost_layout.h  the private structs of vhost, vhost_net and tun, printed by
#                   pahole from that kernel's own BTF, with a static assertion
#                   for the size of each and the offset of every member; and
#                   LAYOUT_* for the places of single members of the bridge's;
#   kernel_api.h    HAVE_* for the exported symbols and the members of public
#                   structs that compat.h asks about.
#
# The structs are in no headers package, and a copy of vhost.h would be right
# for one release only: BTF is what the kernel that will run says of itself.
set -eu

usage()
{
	cat <<-END
	Usage: gen-layout.sh --kver RELEASE --kdir DIR --out DIR [--vmlinux FILE] [--modroot DIR]

	  --kver     release of the target kernel (uname -r)
	  --kdir     its build directory (for Module.symvers)
	  --out      where the headers go; they are replaced only when they change
	  --vmlinux  image with .BTF (default: KDIR/vmlinux, /sys/kernel/btf/vmlinux of
	             the running kernel, or /boot/vmlinuz-RELEASE, unpacked)
	  --modroot  directory above lib/modules (default: /)
	END
}

die()
{
	echo "gen-layout: $*" >&2
	exit 1
}

kver='' kdir='' out='' vmlinux='' modroot=''
while [ $# -gt 0 ]; do
	case $1 in
	-h|--help) usage; exit 0 ;;
	--kver|--kdir|--out|--vmlinux|--modroot)
		[ $# -ge 2 ] || { usage >&2; exit 2; }
		eval "${1#--}=\$2"
		shift 2 ;;
	*) usage >&2; exit 2 ;;
	esac
done
[ -n "$kver" ] && [ -n "$kdir" ] && [ -n "$out" ] || { usage >&2; exit 2; }

# need TOOL PACKAGE
need()
{
	command -v "$1" >/dev/null ||
		die "$1 is missing: install the package '$2' (apt-get install $2)"
}

need pahole dwarves
need readelf binutils

mkdir -p "$out"
tmp=$(mktemp -d "${TMPDIR:-/tmp}/gen-layout.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM

running=$(uname -r)

has_btf()
{
	case $1 in
	/sys/kernel/btf/*) [ -r "$1" ] ;;
	*) [ -r "$1" ] && readelf -SW "$1" 2>/dev/null | grep -q '[[:space:]]\.BTF[[:space:]]' ;;
	esac
}

# The target's vmlinux, with BTF.
if [ -z "$vmlinux" ]; then
	if has_btf "$kdir/vmlinux"; then
		vmlinux=$kdir/vmlinux
	elif [ "$kver" = "$running" ] && has_btf /sys/kernel/btf/vmlinux; then
		vmlinux=/sys/kernel/btf/vmlinux
	elif [ -r "$modroot/boot/vmlinuz-$kver" ]; then
		unpack=$(ls "$kdir/scripts/extract-vmlinux" "$kdir/source/scripts/extract-vmlinux" \
			 /usr/src/linux-headers-*/scripts/extract-vmlinux \
			 /usr/lib/linux-kbuild-*/scripts/extract-vmlinux 2>/dev/null | head -n 1)
		[ -n "$unpack" ] ||
			die "no extract-vmlinux for $modroot/boot/vmlinuz-$kver: pass VMLINUX=<uncompressed image with .BTF>"
		vmlinux=$tmp/vmlinux
		sh "$unpack" "$modroot/boot/vmlinuz-$kver" > "$vmlinux" ||
			die "cannot unpack $modroot/boot/vmlinuz-$kver: pass VMLINUX=<uncompressed image with .BTF>"
	else
		die "no image of kernel $kver found: install its linux-image package, or pass VMLINUX=<uncompressed image with .BTF>"
	fi
fi
has_btf "$vmlinux" ||
	die "$vmlinux has no BTF: the target kernel needs CONFIG_DEBUG_INFO_BTF=y"

# find_btf MODULE SUBDIR: sets $btf to something pahole can read
find_btf()
{
	for f in "$modroot/lib/modules/$kver/kernel/$2/$1.ko" "$kdir/$2/$1.ko"; do
		for z in '' .xz .zst .gz; do
			[ -r "$f$z" ] || continue
			case $z in
			'') btf=$f; return ;;
			.xz) need xz xz-utils; xz -dc "$f$z" > "$tmp/$1.ko" ;;
			.zst) need zstd zstd; zstd -qdc "$f$z" > "$tmp/$1.ko" ;;
			.gz) gzip -dc "$f$z" > "$tmp/$1.ko" ;;
			esac
			btf=$tmp/$1.ko
			return
		done
	done
	if [ "$kver" = "$running" ] && [ -r "/sys/kernel/btf/$1" ]; then
		btf=/sys/kernel/btf/$1
	elif grep -qs "/$1\.ko" "$modroot/lib/modules/$kver/modules.builtin" \
			       "$kdir/modules.builtin"; then
		# Its types are in the image itself.
		btf=$vmlinux
	else
		die "no $1 module of kernel $kver found: install its linux-image package, or pass MODROOT=<directory above lib/modules>"
	fi
}

# print_structs MODULE SUBDIR STRUCT...
print_structs()
{
	mod=$1
	find_btf "$1" "$2"
	shift 2
	if [ "$btf" != "$vmlinux" ]; then
		has_btf "$btf" ||
			die "$mod of kernel $kver has no BTF: the target kernel needs CONFIG_DEBUG_INFO_BTF_MODULES=y"
		base="--btf_base=$vmlinux"
	else
		base=''
	fi
	for s in "$@"; do
		# shellcheck disable=SC2086 # $base is one word or none
		pahole -F btf $base -C "$s" "$btf" > "$tmp/$s" 2>"$tmp/err" || true
		grep -q "^struct $s {" "$tmp/$s" || {
			cat "$tmp/err" >&2
			die "pahole finds no 'struct $s' in the BTF of $mod of kernel $kver: either this pahole is too old for that kernel, or vhost_crosstalk does not understand its $mod"
		}
		cat "$tmp/$s"
	done
}

{
	print_structs vhost_net drivers/vhost \
		vhost_work vhost_poll vhost_log vhost_vring_call vhost_virtqueue \
		vhost_dev vhost_net_buf vhost_net_virtqueue vhost_net
	print_structs tun drivers/net tun_file tun_flow_entry tun_struct
} > "$tmp/structs"

# What the module cannot do without.
# require STRUCT MEMBER...
require()
{
	struct=$1
	shift
	for member in "$@"; do
		grep -q "[^a-z_]$member\(\[[0-9]*\]\)\?;" "$tmp/$struct" ||
			grep -q "[^a-z_]$member __attribute__" "$tmp/$struct" ||
			die "struct $struct of kernel $kver has no member '$member': vhost_crosstalk does not understand this kernel's vhost"
	done
}

require vhost_work fn
require vhost_poll work
require vhost_virtqueue mutex num desc avail used call_ctx error_ctx poll \
	last_avail_idx avail_idx last_used_idx used_flags signalled_used \
	signalled_used_valid log_used iov umem iotlb private_data \
	acked_features is_le busyloop_timeout
require vhost_dev mm vqs nvqs weight byte_weight
require vhost_net_virtqueue vq vhost_hlen sock_hlen ubufs
require vhost_net dev vqs poll
require tun_file socket tun napi_enabled napi_frags_enabled
require tun_struct dev tfiles numqueues flags vnet_hdr_sz sndbuf txflt \
	filter_attached lock flows flow_gc_timer ageing_time flow_count \
	steering_prog filter_prog
require tun_flow_entry hash_link tun rxhash rps_rxhash queue_index updated

# layout STRUCT MEMBER...: size of a struct and places of members, from what
# print_structs has left. For structs that embed too many others to be compiled.
layout()
{
	struct=$1
	shift
	awk -v s="$struct" '/^\t\/\* size: [0-9]+,/ {
		sub(/,.*/, ""); print "#define LAYOUT_" s "_size " $3; exit
	}' "$tmp/$struct"
	for member in "$@"; do
		sed -n "s|^	[^	].*[^a-z_]$member; *	*/\\* *\\([0-9]*\\) .*|#define LAYOUT_${struct}_$member \\1|p" \
			"$tmp/$struct" | grep . ||
			die "struct $struct of kernel $kver has no member '$member': vhost_crosstalk does not understand this kernel's bridge"
	done
}

print_structs bridge net/bridge net_bridge_port net_bridge_vlan_group \
	net_bridge_vlan > /dev/null
{
	layout net_bridge_port vlgrp
	layout net_bridge_vlan_group vlan_list
	layout net_bridge_vlan vid state vlist
} > "$tmp/layouts"

# pahole's comments carry offset and size: they become assertions, so that a
# struct that the compiler lays out in another way stops the build.
awk -v kver="$kver" -v layouts="$tmp/layouts" '
# Annotations that BTF does not carry and sparse wants.
function annotate(line)
{
	if (cur == "vhost_virtqueue" && line ~ /[ *](desc|avail|used|log_base);/)
		sub(/ \*/, " __user *", line)
	if ((cur == "vhost_virtqueue" && line ~ /[ *]worker;/) ||
	    (cur == "tun_file" && line ~ /[ *]tun;/) ||
	    (cur == "tun_struct" && line ~ /[ *](xdp_prog|steering_prog|filter_prog);/) ||
	    (cur == "tun_struct" && line ~ /[ *]tfiles\[/))
		sub(/ \*/, " __rcu *", line)
	return line
}
BEGIN {
	print "/* SPDX-License-Identifier: GPL-2.0 */"
	print "/* Made by gen-layout.sh from the BTF of kernel " kver ": do not edit. */"
	print "#ifndef _CROSSTALK_VHOST_LAYOUT_H"
	print "#define _CROSSTALK_VHOST_LAYOUT_H\n"
	while ((getline line < layouts) > 0)
		print line
	print ""
}
/^struct [a-z_]+ \{/ {
	cur = $2
	depth = 1
	print
	next
}
cur != "" && /^}/ {
	print
	print asserts
	print ""
	asserts = ""
	cur = ""
	next
}
cur != "" && /^\t\/\* size: [0-9]+,/ {
	match($0, /size: [0-9]+/)
	asserts = asserts sprintf("static_assert(sizeof(struct %s) == %s);\n",
				  cur, substr($0, RSTART + 6, RLENGTH - 6))
	next
}
cur != "" {
	line = $0
	off = ""
	if (match(line, /\/\* +[0-9]+ +[0-9]+ \*\//)) {
		c = substr(line, RSTART, RLENGTH)
		split(c, part, " ")
		off = part[2]
	}
	gsub(/\/\*[^*]*\*\//, "", line)
	sub(/[ \t]+$/, "", line)
	if (line ~ /^[ \t]*$/)
		next
	# Members of the struct itself only, not of anonymous unions inside it.
	if (off != "" && line ~ /^\t[^\t]/ && line !~ /}/ && line !~ /\(\*/ && line !~ /:[0-9]+;/) {
		name = line
		sub(/ __attribute__.*/, "", name)
		sub(/;$/, "", name)
		sub(/\[.*/, "", name)
		sub(/.*[ *]/, "", name)
		asserts = asserts sprintf("static_assert(offsetof(struct %s, %s) == %s);\n",
					  cur, name, off)
	}
	print annotate(line)
}
END { print "#endif /* _CROSSTALK_VHOST_LAYOUT_H */" }
' "$tmp/structs" > "$tmp/vhost_layout.h"

symvers=$kdir/Module.symvers
[ -r "$symvers" ] ||
	die "$symvers is missing: install the headers package of kernel $kver, or build that kernel's modules"

have()
{
	if awk -v s="$1" '$2 == s { found = 1 } END { exit !found }' "$symvers"; then
		echo "#define HAVE_$2 1"
	else
		echo "/* no $1() */"
	fi
}

# have_member STRUCT MEMBER: of a struct in a public header
have_member()
{
	[ -s "$tmp/public_$1" ] ||
		pahole -F btf -C "$1" "$vmlinux" > "$tmp/public_$1" 2>"$tmp/err" ||
		{ cat "$tmp/err" >&2; die "pahole finds no 'struct $1' in the BTF of $vmlinux"; }
	name=HAVE_$(echo "$1_$2" | tr '[:lower:]' '[:upper:]')
	if grep -q "[^a-z_]$2\(\[[0-9]*\]\)\?;" "$tmp/public_$1"; then
		echo "#define $name 1"
	else
		echo "/* no struct $1.$2 */"
	fi
}

{
	echo "/* SPDX-License-Identifier: GPL-2.0 */"
	echo "/* Made by gen-layout.sh from Module.symvers and BTF of kernel $kver: do not edit. */"
	have page_frag_cache_drain PAGE_FRAG_CACHE_DRAIN
	have copy_splice_read COPY_SPLICE_READ
	have eventfd_signal EVENTFD_SIGNAL_COUNT
	have nop_mnt_idmap NOP_MNT_IDMAP
	have simple_inode_init_ts SIMPLE_INODE_INIT_TS
	have vhost_vq_has_work VHOST_VQ_HAS_WORK
	have vhost_vq_work_queue VHOST_VQ_WORK_QUEUE
	have_member net_device gso_ipv4_max_size
	have_member net_device miniq_ingress
	have_member net_device nf_hooks_egress
	have_member net_device nf_hooks_ingress
	have_member net_device tcx_ingress
	have_member netns_nf hooks_bridge
} > "$tmp/kernel_api.h"

for f in vhost_layout.h kernel_api.h; do
	cmp -s "$tmp/$f" "$out/$f" || cp "$tmp/$f" "$out/$f"
done
