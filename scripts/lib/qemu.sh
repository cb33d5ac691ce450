# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Starting and stopping QEMU and its file servers, for scripts/vm.

VIRTIOFSD=/usr/lib/qemu/virtiofsd

# What the initramfs must load before it can mount anything
BOOT_MODULES="virtio_pci virtio_console virtiofs overlay"

# One archive per run: making it takes less time than knowing whether it is
# current.
make_initramfs()
{
	local tree=$TMP/initramfs m n=100
	mkdir -p "$tree/bin" "$tree/modules" "$tree/proc" "$tree/sys" "$tree/dev"
	cp /bin/busybox "$tree/bin/"
	ln -s busybox "$tree/bin/sh"
	cp "$SCRIPTS/lib/vm-init" "$tree/init"
	for m in $BOOT_MODULES; do
		/sbin/modprobe -d "$MODROOT" -S "$KVER" --show-depends "$m"
	done | sed -n 's/^insmod //p' | awk '!seen[$1]++ { print $1 }' |
		while read -r m; do
			n=$((n + 1))
			case $m in
			*.xz) xz -dc "$m" >"$tree/modules/$n-$(basename "$m" .xz)" ;;
			*) cp "$m" "$tree/modules/$n-$(basename "$m")" ;;
			esac
		done
	( cd "$tree" && find . | cpio --quiet -o -H newc ) >"$TMP/initramfs.cpio"
	rm -rf "$tree"
}

# /dev/kvm may open and yet no ordinary kernel run in it: boot this one for a
# few seconds, and remember the answer until the machine is booted again.
kvm_works()
{
	local boot known=$CACHE/kernels/$NAME/kvm answer=no
	[ -w /dev/kvm ] || return 1
	boot=$(cat /proc/sys/kernel/random/boot_id)
	if ! grep -qs "^$boot " "$known"; then
		say "trying whether KVM works on this machine"
		if timeout 30 qemu-system-x86_64 -M q35 -accel kvm -cpu host -m 512 \
			-nodefaults -no-user-config -nographic -no-reboot \
			-serial stdio -kernel "$IMAGE" \
			-initrd "$TMP/initramfs.cpio" \
			-append "console=ttyS0 panic=-1 crosstalk.probe=1" \
			</dev/null 2>&1 | grep -q crosstalk-alive; then
			answer=yes
		fi
		echo "$boot $answer" >"$known"
	fi
	grep -q "^$boot yes" "$known"
}

kvm_nests() { grep -qs '[Y1]' /sys/module/kvm_*/parameters/nested; }

choose_accelerator()
{
	local tcg=(-accel tcg,thread=multi,tb-size=512)
	# No "rep movsb": TCG would copy byte by byte
	CPU=EPYC,+svm,-erms,-fsrm
	if [ $ICOUNT = 1 ]; then
		ACCEL="tcg, counting instructions"
		accel=(-accel tcg,thread=single -icount "shift=0,sleep=off")
	elif [ "$NESTED" = 1 ] && ! kvm_nests; then
		ACCEL="tcg (no nested KVM here)"
		accel=("${tcg[@]}")
	elif kvm_works; then
		ACCEL=kvm
		CPU=host
		accel=(-accel kvm)
	else
		ACCEL="tcg (/dev/kvm does not work here)"
		accel=("${tcg[@]}")
	fi
}

# qemu_prepare: everything that does not change when a boot is tried again
qemu_prepare()
{
	TMP=$(mktemp -d /tmp/crosstalk-vm.XXXXXX)
	make_initramfs
	choose_accelerator
	local kmemleak=off
	if [ $KMEMLEAK = 1 ]; then kmemleak=on; fi
	# clocksource: an emulated TSC is as good as any, do not measure it
	APPEND="console=ttyS0 loglevel=6 panic=-1 mitigations=off \
tsc=reliable softlockup_panic=1 watchdog_thresh=10 nokaslr \
unknown_nmi_panic panic_print=0x41 kmemleak=$kmemleak \
sysctl.kernel.hung_task_panic=1 sysctl.kernel.hung_task_timeout_secs=90 \
crosstalk.job=$JOB crosstalk.build=$ROOT/build \
crosstalk.init=$SCRIPTS/lib/guest-init $APPEND"
	if [ $SHELL_WANTED = 1 ]; then
		OUTPUT=/dev/hvc0
		port=(-device "virtconsole,chardev=out")
	else
		OUTPUT=/dev/vport0p1
		port=(-device "virtserialport,chardev=out,nr=1")
	fi
}

# serve TAG DIR ro|rw: a virtiofsd in a mount name space of its own; "ro" makes
# this machine's root read-only in there, whatever the VM tries
serve()
{
	local cache=always
	[ "$3" = ro ] || cache=auto
	# shellcheck disable=SC2016  # expanded by the inner shell
	setsid unshare -m --propagation private sh -eu -c '
		mkdir -p /run/virtiofsd
		mount -t tmpfs none /run/virtiofsd
		mount --bind "$1" "$1"
		[ "$2" = rw ] || mount -o remount,bind,ro /
		shift 2
		exec "$@"' sh "$TMP" "$3" \
		$VIRTIOFSD --socket-path="$TMP/$1.sock" -o source="$2" \
		-o cache=$cache -o sandbox=chroot -o log_level=err \
		>"$TMP/$1.log" 2>&1 &
	servers+=($!)
	for _ in $(seq 100); do
		[ -S "$TMP/$1.sock" ] && return
		sleep 0.05
	done
	cat "$TMP/$1.log" >&2
	die "virtiofsd does not start (see above)"
}

share()
{
	echo "-chardev socket,id=fs-$1,path=$TMP/$1.sock"
	echo "-device vhost-user-fs-pci,chardev=fs-$1,tag=$1,queue-size=512"
}

qemu_start()
{
	local mem=${MEM:-2048}M watched=()
	servers=()
	rm -f "$TMP"/*.sock
	# An emulated host of guests now and then loses a timer's interrupt
	# (testing.rst).
	if [ "$NESTED" = 1 ] && [ "$CPUS" = 1 ] && [ "$ACCEL" != kvm ]; then
		watched=(-monitor unix:"$TMP/watched",server=on,wait=off)
		"$SCRIPTS/lib/monitor" "$TMP/watched" watch </dev/null &
		servers+=($!)
	fi
	serve rootfs / ro
	serve build "$ROOT/build" rw
	# It dies with us, even if we are killed without a chance to clean up;
	# the file servers leave when QEMU does.
	# shellcheck disable=SC2046  # words
	setpriv --pdeathsig KILL \
	qemu-system-x86_64 -M q35 "${accel[@]}" "${plugin[@]}" -cpu "$CPU$CPU_FLAGS" \
		-smp "$CPUS" -m "$mem" \
		-nodefaults -no-user-config -nographic -no-reboot \
		-object memory-backend-memfd,id=mem,size="$mem",share=on \
		-numa node,memdev=mem \
		-kernel "$IMAGE" -initrd "$TMP/initramfs.cpio" -append "$APPEND" \
		-serial file:"$KERNEL_LOG" \
		-monitor unix:"$TMP/monitor",server=on,wait=off "${watched[@]}" \
		-device virtio-serial-pci -chardev stdio,id=out,signal=off "${port[@]}" \
		$(share rootfs) $(share build) \
		<&"$IN" >&"$OUT" 2>"$TMP/qemu.log" &
	qemu=$!
}

qemu_alive() { kill -0 "$qemu" 2>/dev/null; }

# An NMI makes the kernel panic, and a panic shows what every processor and
# every task is doing.
qemu_backtrace()
{
	"$SCRIPTS/lib/monitor" "$TMP/monitor" nmi || :
	for _ in $(seq 100); do
		qemu_alive || return 0
		sleep 0.1
	done
}

qemu_stop()
{
	local pid
	[ -n "${qemu:-}" ] || return 0
	kill -KILL "$qemu" 2>/dev/null || :
	wait "$qemu" 2>/dev/null || :
	qemu=
	# QEMU says why it would not start
	if [ -s "$TMP/qemu.log" ]; then
		grep -v "TCG doesn't support requested feature" "$TMP/qemu.log" >&2 || :
	fi
	for pid in "${servers[@]}"; do
		kill -KILL -- "-$pid" 2>/dev/null || kill -KILL "$pid" 2>/dev/null || :
		wait "$pid" 2>/dev/null || :
	done
	servers=()
}
