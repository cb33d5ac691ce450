# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What scripts/vm and scripts/uml share: the options, the job that they hand to
# guest-init through a directory below build/, and the verdict afterwards.

# job_options ARGS...: the options of both; another option is given to the
# function "option", which sets $eaten to the number of words that it took
job_options()
{
	NAME=${NAME:-6.1-cloud} MODULE=0 SHELL_WANTED=0 KMEMLEAK=0 COMMAND=()
	TIMEOUT=600 LOG='' MEM=''
	while [ $# -gt 0 ]; do
		eaten=2
		case $1 in
		-h | --help) usage; exit 0 ;;
		--) shift; COMMAND=("$@"); break ;;
		--module) MODULE=1; eaten=1 ;;
		--shell) SHELL_WANTED=1; eaten=1 ;;
		--kmemleak) KMEMLEAK=1; eaten=1 ;;
		--timeout) TIMEOUT=${2:-} ;;
		--mem) MEM=${2:-} ;;
		--log) LOG=${2:-} ;;
		*) option "$@" ;;
		esac
		[ $# -ge $eaten ] || die "$1 wants a value; see --help"
		shift $eaten
	done
	case $TIMEOUT in
	'' | *[!0-9]*) die "--timeout wants seconds, not '$TIMEOUT'" ;;
	esac
	case $MEM in
	*[!0-9]*) die "--mem wants megabytes, not '$MEM'" ;;
	esac
	if [ $SHELL_WANTED = 1 ]; then
		[ ${#COMMAND[@]} -eq 0 ] || die "a command or --shell, not both"
		[ -t 0 ] || die "--shell wants a terminal; for a script, give a command"
		TIMEOUT=1000000
	elif [ ${#COMMAND[@]} -eq 0 ]; then
		die "no command; see --help (or --shell)"
	fi
}

# job_create: the kernel's paths, the logs' names, the job's directory
job_create()
{
	KVER=$("$SCRIPTS/kernel" path "$NAME" kver)
	IMAGE=$("$SCRIPTS/kernel" path "$NAME" image)
	MODROOT=$("$SCRIPTS/kernel" path "$NAME" modroot)
	mkdir -p "$LOGS" "$ROOT/build/run"
	JOB=$(mktemp -d "$ROOT/build/run/$NAME.XXXXXX")
	LOG=${LOG:-$LOGS/$PROG-$NAME-$(date +%Y%m%d-%H%M%S)-$$.log}
	LOG=$(realpath -m "$LOG")
	mkdir -p "$(dirname "$LOG")"
	KERNEL_LOG=${LOG%.log}.kernel.log
	: >"$KERNEL_LOG"
}

# job_write OUTPUT: what guest-init reads; OUTPUT is the guest's device that
# the command's output goes to
job_write()
{
	local JOB_ROOT=$ROOT JOB_CACHE=$CACHE JOB_NAME=$NAME JOB_KVER=$KVER
	local JOB_MODROOT=$MODROOT JOB_MODULE=$MODULE JOB_SHELL=$SHELL_WANTED
	local JOB_KMEMLEAK=$KMEMLEAK JOB_OUTPUT=$1 JOB_ROWS=24 JOB_COLS=80
	local JOB_COMMAND=("${COMMAND[@]}")
	if [ -t 0 ]; then
		read -r JOB_ROWS JOB_COLS < <(stty size)
	fi
	declare -p JOB_ROOT JOB_CACHE JOB_NAME JOB_KVER JOB_MODROOT JOB_MODULE \
		JOB_SHELL JOB_KMEMLEAK JOB_OUTPUT JOB_ROWS JOB_COLS \
		JOB_COMMAND >"$JOB/job"
}

# job_output_open: $OUT is for the emulator to write the command's output to. A
# pipe, because emulators make what they write to non-blocking, and the
# terminal is not theirs alone.
job_output_open()
{
	exec {OUT}> >(exec tee "$LOG")
	OUT_READER=$!
}

# job_output_close: everything has been passed on when this returns
job_output_close()
{
	exec {OUT}>&-
	wait "$OUT_READER" || :
}

job_started() { [ -e "$JOB/started" ]; }

# job_verdict TIMED_OUT(0|1): says what happened, returns the exit status:
# the command's own, 124 on a time-out, 125 when the kernel complained or died
job_verdict()
{
	local status splat=0
	status=$(cat "$JOB/status" 2>/dev/null || echo none)
	[ -s "$JOB/dmesg" ] && cp "$JOB/dmesg" "${KERNEL_LOG%.kernel.log}.dmesg"
	"$SCRIPTS/check-splat" "$KERNEL_LOG" || splat=1
	if [ "$1" = 1 ]; then
		say "timed out after $TIMEOUT s"
		status=124
	elif [ $splat = 1 ]; then
		say "failed: the kernel complained (the command: $status)"
		status=125
	elif [ "$status" = none ]; then
		say "failed: the kernel died"
		tail -n 15 "$KERNEL_LOG" | cut -c1-160 >&2
		status=125
	fi
	[ "$status" = 0 ] || say "logs: $LOG and $(basename "$KERNEL_LOG")"
	return "$status"
}
