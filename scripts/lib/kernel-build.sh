# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The debug kernel and User Mode Linux, for scripts/kernel: $name, $dir are set.
# Both are built outside one unpacked copy of Debian's linux-source-6.12.

SOURCE_PACKAGE=linux-source-6.12

# What is installed; where nothing is, what the cached kernel was built from
build_source_version()
{
	dpkg-query -W -f '${Version}' $SOURCE_PACKAGE 2>/dev/null ||
		cat "$dir/source" 2>/dev/null || :
}

build_source_dir() { echo "$CACHE/src/linux-$(build_source_version)"; }

build_fragment()
{
	cat "$SCRIPTS/kernels/common.config" "$SCRIPTS/kernels/$name.config"
}

# What decides whether to build again: source, options, compiler
build_stamp()
{
	{
		build_source_version
		gcc -dumpfullversion 2>/dev/null || :
		build_fragment
		[ "$name" != uml ] || echo $XSAVE_BYTES
	} | sha256sum | cut -d' ' -f1
}

build_current() { [ "$(build_stamp)" = "$(cat "$dir/stamp" 2>/dev/null)" ]; }

build_path()
{
	case $1 in
	kdir) echo "$dir/build" ;;
	vmlinux) echo "$dir/build/vmlinux" ;;
	image) echo "$dir/image" ;;
	esac
}

build_make()
{
	local arch=x86_64
	[ "$name" = uml ] && arch=um
	nice make -C "$(build_source_dir)" O="$dir/build" ARCH=$arch "$@"
}

# Until 6.13 User Mode Linux has room for 2,696 bytes of the registers that XSAVE
# keeps, and the host takes them back only all at once: where it has more, as with
# AMX (11,008), the first program crashes ("ptrace set fp regs failed").
XSAVE_BYTES=12288
build_mend()
{
	local file
	file=$1/arch/x86/um/user-offsets.c
	sed -i "s/(HOST_FP_SIZE, 2696)/(HOST_FP_SIZE, $XSAVE_BYTES)/" "$file"
	grep -q "(HOST_FP_SIZE, $XSAVE_BYTES)" "$file" ||
		die "no HOST_FP_SIZE in $file: see build_mend() in $SCRIPTS/lib/kernel-build.sh"
}

# Unpack to another name first: a half unpacked tree must not look complete.
build_unpack()
{
	local src
	src=$(build_source_dir)
	[ -d "$src" ] && return
	say "unpacking /usr/src/$SOURCE_PACKAGE.tar.xz"
	rm -rf "$src.new"
	mkdir -p "$src.new"
	tar -xf "/usr/src/$SOURCE_PACKAGE.tar.xz" -C "$src.new" \
		--strip-components=1
	mv "$src.new" "$src"
}

# Kconfig drops silently what cannot be had: compare with what was asked for.
build_check_config()
{
	local line option missing=0
	while read -r line; do
		case $line in
		CONFIG_*)
			grep -qxF -e "$line" "$dir/build/.config" && continue ;;
		"# CONFIG_"*" is not set")
			option=${line#\# }
			option=${option%% *}
			grep -q "^$option=" "$dir/build/.config" || continue ;;
		*) continue ;;
		esac
		say "$name: not as asked for: $line"
		missing=1
	done <"$dir/build/fragment.config"
	[ $missing -eq 0 ] || die "$name: see the dependencies of these options" \
		"(make -C $dir/build menuconfig), then mend scripts/kernels/"
}

# One line for whoever waits; the totals are those of the fragments as of 6.12
build_report()
{
	local done_ total=1240
	[ "$name" = debug ] && total=1790
	done_=$(grep -cE '^  (CC|AS|LD) ' "$1" || :)
	printf '%s: %s: %s of about %s objects, %d s\n' "$PROG" "$name" \
		"$done_" "$total" "$SECONDS"
}

build_run()
{
	local log=$LOGS/kernel-$name.log
	progress 10 build_report "$log"
	build_make "$@" >>"$log" 2>&1 || {
		progress_end
		grep -E 'error|Error|\*\*\*' "$log" | tail -n 15 >&2
		die "$name: the build failed: $log"
	}
	progress_end
}

# Unpacked sources that neither kernel was built from any more
build_forget_sources()
{
	local src
	for src in "$CACHE"/src/linux-*; do
		grep -qxF -e "${src##*/linux-}" "$CACHE"/kernels/*/source ||
			rm -rf "$src"
	done
}

build_get()
{
	local stamp

	"$SCRIPTS/deps" kernels
	# on a fresh machine only the compiler may have been missing
	if ! $update && ready; then return; fi
	stamp=$(build_stamp)
	build_unpack
	[ "$name" != uml ] || build_mend "$(build_source_dir)"
	# A changed option is an incremental build; make sorts that out. Another
	# source is another directory, so that is a new build.
	rm -f "$dir/kver"
	if $update || [ "$(build_source_version)" != "$(cat "$dir/source" 2>/dev/null)" ]; then
		rm -rf "$dir/build"
	fi
	mkdir -p "$dir/build"
	build_source_version >"$dir/source"
	build_fragment >"$dir/build/fragment.config"

	say "$name: building in $dir/build"
	SECONDS=0
	: >"$LOGS/kernel-$name.log"
	build_run KCONFIG_ALLCONFIG="$dir/build/fragment.config" allnoconfig
	build_check_config
	build_run -j"$(nproc)" vmlinux modules

	# The build tree keeps the debug information; what is booted and loaded
	# does not need it (BTF is not touched by strip -g).
	rm -rf "$dir/root"
	build_run INSTALL_MOD_PATH="$dir/root" INSTALL_MOD_STRIP=1 modules_install
	objcopy -g "$dir/build/vmlinux" "$dir/image"
	build_forget_sources
	echo "$stamp" >"$dir/stamp"
	cat "$dir/build/include/config/kernel.release" >"$dir/kver"
}
