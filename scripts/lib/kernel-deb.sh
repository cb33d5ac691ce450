# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Debian's kernels, for scripts/kernel: $name and $dir are set.
#
# Image and headers are unpacked into the cache, not installed: an installed
# image builds an initrd for a minute and changes what the machine boots next
# (and the headers of 6.12 depend on the image).

# The releases that the archive has both image and headers of, newest first
deb_releases()
{
	local re flavour=amd64 kver
	case $name in
	6.1-*) re='6\.1\.0-[0-9]+' ;;
	6.12-*) re='6\.12\.[0-9]+\+deb12' ;;
	esac
	case $name in *-cloud) flavour=cloud-amd64 ;; esac
	# pkgnames also lists names that other packages only mention
	apt-cache pkgnames linux-image-6 |
		sed -nE "s/^linux-image-($re-$flavour)$/\1/p" | sort -rV |
		while read -r kver; do
			apt-cache show --no-all-versions "linux-image-$kver" \
				"linux-headers-$kver" >/dev/null 2>&1 || continue
			echo "$kver"
		done
}

# The packages that make up headers: KVER's own, the common ones, the tools
deb_header_packages()
{
	echo "linux-headers-$1"
	apt-cache depends --important "linux-headers-$1" |
		sed -nE 's/.*Depends: (linux-(headers-.*-common|kbuild-.*))$/\1/p'
}

deb_current() { :; }

deb_path()
{
	case $1 in
	kdir) echo "$dir/root/usr/src/linux-headers-$kver" ;;
	vmlinux | image) echo "$dir/vmlinux" ;;
	esac
}

# deb_unpack_vmlinux VMLINUZ OUT: the compressed ELF inside a bzImage starts
# with its format's magic; try each place where one occurs
deb_unpack_vmlinux()
{
	local magic tool at
	while read -r magic tool; do
		for at in $(LC_ALL=C grep -aobUP "$magic" "$1" |
				LC_ALL=C cut -d: -f1); do
			tail -c+$((at + 1)) "$1" | $tool >"$2" 2>/dev/null || :
			if [ "$(head -c4 "$2" | tail -c3)" = ELF ]; then
				return
			fi
		done
	done <<-'END'
		\xfd7zXZ\x00 xz -dc
		\x28\xb5\x2f\xfd zstd -dc
		\x02\x21\x4c\x18 lz4 -dc
		\x1f\x8b\x08 gzip -dc
	END
	die "$name: no ELF found in $1; is its compression new?"
}

# deb_download DIR PACKAGE...: once more after "apt-get update", because the
# lists may name files that are gone
deb_download()
{
	local where=$1 log=$LOGS/apt-$name.log
	shift
	# apt drops its rights to _apt, who may not write there
	set -- apt-get -q -o APT::Sandbox::User=root download "$@"
	mkdir -p "$where"
	( cd "$where" && "$@" ) >"$log" 2>&1 && return
	deb_update
	( cd "$where" && "$@" ) >"$log" 2>&1 ||
		{ tail -n 15 "$log" >&2; die "the download failed: $log"; }
}

deb_update()
{
	say "$name: apt-get update"
	as_root apt-get -qq update
}

deb_get()
{
	local kver deb common new=$dir/new

	"$SCRIPTS/deps" vm
	if $update; then deb_update; fi
	kver=$(deb_releases | head -n1)
	if [ -z "$kver" ]; then
		deb_update
		kver=$(deb_releases | head -n1)
	fi
	[ -n "$kver" ] || die "$name: apt knows no such kernel; are bookworm" \
		"and bookworm-security among its sources?"
	if [ "$kver" = "$(cat "$dir/kver" 2>/dev/null)" ]; then
		return
	fi

	say "$name: fetching image and headers of $kver"
	rm -rf "$new"
	# shellcheck disable=SC2046  # these are several names
	deb_download "$new/deb" "linux-image-$kver" $(deb_header_packages "$kver")
	say "$name: unpacking"
	for deb in "$new"/deb/*.deb; do
		dpkg -x "$deb" "$new/root"
	done
	rm -rf "$new/deb"
	deb_unpack_vmlinux "$new/root/boot/vmlinuz-$kver" "$new/vmlinux"
	# links to the headers where Debian would have installed them
	rm -f "$new/root/lib/modules/$kver/build" \
		"$new/root/lib/modules/$kver/source"
	/sbin/depmod -b "$new/root" "$kver"
	# the headers name their common part by its absolute path
	common=$(basename "$new"/root/usr/src/linux-headers-*-common)
	sed -i "s|/usr/src/$common|$dir/root/usr/src/$common|" \
		"$new/root/usr/src/linux-headers-$kver/Makefile"

	rm -rf "$dir/kver" "$dir/root" "$dir/vmlinux"
	mv "$new/root" "$new/vmlinux" "$dir/"
	rmdir "$new"
	echo "$kver" >"$dir/kver"
}
