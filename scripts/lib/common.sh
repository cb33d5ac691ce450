# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Sourced by the scripts beside it: where things are, and how to talk.

# The checkout, wherever it is.
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
SCRIPTS=$ROOT/scripts
LOGS=$ROOT/build/logs

# Kernels and packages are kept outside the tree: a new clone finds them again.
CACHE=${CROSSTALK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vhost-crosstalk}

PROG=${0##*/}

say() { printf '%s: %s\n' "$PROG" "$*" >&2; }
die() { say "$*"; exit 1; }

# usage: prints the comment block at the top of the calling script
usage() { sed -n '/^# Usage/,/^$/s/^# \{0,1\}//p' "$0"; }

# as_root CMD...: apt needs root; a person may run us as themselves
as_root()
{
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		die "needs root for: $* (become root, or install sudo)"
	fi
}

# progress SECONDS COMMAND...: runs COMMAND (prints one line) every SECONDS
# in the background; the caller kills $PROGRESS_PID
progress()
{
	local every=$1
	shift
	( while sleep "$every"; do "$@" >&2; done ) &
	PROGRESS_PID=$!
}

progress_end()
{
	kill "$PROGRESS_PID" 2>/dev/null || :
	wait "$PROGRESS_PID" 2>/dev/null || :
}
