#!/usr/bin/env bash
# Runs the nine nodes of this directory's configurations as processes of their own on loopback.
#
#   ./regions.sh start [NODE...]   start all nodes, or those named, and wait until they are ready
#   ./regions.sh stop [NODE...]    stop them cleanly and wait until they have ended
#   ./regions.sh kill NODE...      kill -9
#   ./regions.sh status            say which nodes run and which are ready
#   ./regions.sh clean             stop all, and delete their data
#
# Data, logs and process ids are below run/. ATOLL names the program; ../../bin/atoll if unset.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

atoll=${ATOLL:-../../bin/atoll}
all=(eu-1 eu-2 eu-3 us-1 us-2 us-3 ap-1 ap-2 ap-3)
patience=60 # seconds

api_of() { # the API's address of a node: the line "api:" of its own entry in its configuration
	awk -v node="$1" '$1 == "-" && $2 == "name:" {own = $3 == node} own && $1 == "api:" {print $2; exit}' "$1.yaml"
}

pid_of() { # the process id of a node if it runs
	local file=run/$1/pid pid
	[[ -f $file ]] && pid=$(<"$file") && kill -0 "$pid" 2>/dev/null && grep -qz -- "$1.yaml" "/proc/$pid/cmdline" 2>/dev/null && echo "$pid"
}

ready() { curl --silent --fail --max-time 2 --output /dev/null "http://$(api_of "$1")/readyz"; }

wait_until() { # wait_until WHAT NODE COMMAND...: poll a command until it succeeds
	local what=$1 node=$2 deadline=$((SECONDS + patience))
	shift 2
	until "$@"; do
		if ((SECONDS >= deadline)); then
			echo "$node is not $what after $patience seconds; see run/$node/log" >&2
			return 1
		fi
		sleep 0.1
	done
}

gone() { ! pid_of "$1" >/dev/null; }

ready_or_gone() { gone "$1" || ready "$1"; }

start() {
	local node
	command -v "$atoll" >/dev/null || { echo "no program $atoll: run 'make build' at the top of the repository" >&2; exit 1; }
	for node in "$@"; do
		if pid_of "$node" >/dev/null; then continue; fi
		mkdir -p "run/$node"
		nohup "$atoll" server --config "$node.yaml" >>"run/$node/log" 2>&1 </dev/null &
		echo $! >"run/$node/pid"
	done
	for node in "$@"; do
		wait_until ready "$node" ready_or_gone "$node"
		if gone "$node"; then
			echo "$node ended; the end of run/$node/log:" >&2
			tail -n 5 "run/$node/log" >&2
			return 1
		fi
		echo "$node is ready at http://$(api_of "$node")"
	done
}

stop() {
	local node pid
	for node in "$@"; do
		if pid=$(pid_of "$node"); then kill -TERM "$pid"; fi
	done
	for node in "$@"; do
		wait_until stopped "$node" gone "$node"
		rm -f "run/$node/pid"
	done
}

status() {
	local node state
	for node in "${all[@]}"; do
		state=stopped
		if pid_of "$node" >/dev/null; then
			state="running, not ready"
			if ready "$node"; then state=ready; fi
		fi
		printf '%-5s %-16s %s\n' "$node" "$(api_of "$node")" "$state"
	done
}

check_names() {
	local node
	for node in "$@"; do
		[[ -f $node.yaml ]] || { echo "no node $node; there are: ${all[*]}" >&2; exit 2; }
	done
}

verb=${1:-help}
[[ $# -gt 0 ]] && shift
check_names "$@"
case $verb in
start) start "${@:-${all[@]}}" ;;
stop) stop "${@:-${all[@]}}" ;;
kill) for node in "$@"; do if pid=$(pid_of "$node"); then kill -KILL "$pid"; fi; done ;;
status) status ;;
clean) stop "${all[@]}" && rm -rf run ;;
*) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$(basename "${BASH_SOURCE[0]}")" && exit 2 ;;
esac
