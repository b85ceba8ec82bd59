#!/bin/sh
# Sees to it that a container engine answers.
#
#   engine.sh ensure   nothing if one answers at DOCKER_HOST or /var/run/docker.sock;
#                      else installs Docker (Debian, as root or with sudo) and starts it
#   engine.sh stop     ends the engine that an earlier "ensure" of this directory started, and no other
set -eu

cd "$(dirname "$0")/.."
state=${TINE_ENGINE_DIR:-data/engine} # log and process id of an engine that this script started
deadline=60                           # seconds for a new engine to answer, and for one to end
packages="docker.io iptables ca-certificates tini"

say() { printf '%s\n' "==> $*" >&2; }
fail() {
	printf '%s\n' "engine.sh: $*" >&2
	exit 1
}

# root runs a command as root.
root() {
	if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

can_be_root() {
	[ "$(id -u)" = 0 ] || command -v sudo >/dev/null 2>&1
}

# answers asks the engine for a sign of life. Docker's client is not on every
# machine that has an engine; perl-base is on every Debian.
answers() {
	if command -v docker >/dev/null 2>&1; then
		timeout 10 docker version >/dev/null 2>&1
		return
	fi
	case ${DOCKER_HOST:-unix:///var/run/docker.sock} in
	unix://*) ;;
	*) return 0 ;; # whoever set another address knows that it works, and finds out if not
	esac
	socket=${DOCKER_HOST:-unix:///var/run/docker.sock}
	socket=${socket#unix://}
	[ -S "$socket" ] || return 1
	timeout 10 perl -MIO::Socket::UNIX -e '
		my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or exit 1;
		print $s "GET /_ping HTTP/1.0\r\n\r\n";
		exit(<$s> =~ / 200 / ? 0 : 1);' "$socket" >/dev/null 2>&1
}

install_engine() {
	command -v apt-get >/dev/null 2>&1 ||
		fail "no container engine answers, and only Debian's can be installed here; install Docker 20.10 or newer and start it, or set DOCKER_HOST"
	say "Installing a container engine: apt-get install $packages"
	log=$state/install.log
	root env DEBIAN_FRONTEND=noninteractive sh -c "apt-get update && apt-get install -y --no-install-recommends $packages" >"$log" 2>&1 </dev/null || {
		tail -n 20 "$log" >&2
		fail "the packages cannot be installed, see above and $log"
	}
}

# identity prints a process's number and when it started, which together are
# not used again.
identity() {
	if started=$(cut -d ' ' -f 22 "/proc/$1/stat" 2>/dev/null); then printf '%s %s\n' "$1" "$started"; fi
}

# is_dockerd tells whether a process id is that of a dockerd.
is_dockerd() {
	case $1 in '' | *[!0-9]*) return 1 ;; esac
	[ "$(cat "/proc/$1/comm" 2>/dev/null)" = dockerd ]
}

# running_engine prints the id of a dockerd that uses the usual socket, if any.
running_engine() {
	pid=$(cat /var/run/docker.pid 2>/dev/null || true)
	if is_dockerd "$pid"; then printf '%s\n' "$pid"; fi
}

start_engine() {
	pid=$(running_engine)
	[ -z "$pid" ] || fail "dockerd runs as process $pid but does not answer you; use its group (usually docker) or root, or restart it"
	# dockerd refuses to start beside the file of one that was killed if some
	# other process has its number now.
	if [ -e /var/run/docker.pid ]; then
		say "Removing /var/run/docker.pid, which an engine that is gone left behind"
		root rm -f /var/run/docker.pid
	fi
	say "Starting dockerd, its log is $state/dockerd.log"
	# The inner shell becomes dockerd, so its identity is that of dockerd.
	# shellcheck disable=SC2016 # the inner shell expands it
	root setsid sh -c 'echo "$$ $(cut -d " " -f 22 /proc/$$/stat)" >"$1/dockerd.pid"
		exec dockerd >"$1/dockerd.log" 2>&1 </dev/null' sh "$state" >/dev/null 2>&1 </dev/null & # a caller's pipe must not stay open
}

await_engine() {
	waited=0
	until answers; do
		if [ -S /var/run/docker.sock ] && [ ! -w /var/run/docker.sock ]; then
			fail "dockerd runs, but its socket is not yours to use; add yourself to the group docker (sudo usermod -aG docker \"\$USER\") and log in again"
		fi
		if [ "$waited" -ge "$deadline" ]; then
			tail -n 20 "$state/dockerd.log" >&2 2>/dev/null || true
			fail "dockerd did not answer within $deadline seconds, see above and $state/dockerd.log"
		fi
		sleep 1
		waited=$((waited + 1))
	done
}

ensure() {
	if answers; then return; fi
	if [ -n "${DOCKER_HOST:-}" ]; then
		fail "no container engine answers at DOCKER_HOST=$DOCKER_HOST; start it there, or unset DOCKER_HOST"
	fi
	can_be_root ||
		fail "no container engine answers; install and start Docker 20.10 or newer as root (apt-get install $packages), or set DOCKER_HOST"
	mkdir -p "$state"
	command -v dockerd >/dev/null 2>&1 || [ -x /usr/sbin/dockerd ] || install_engine
	PATH=$PATH:/usr/sbin:/sbin
	export PATH
	if [ -d /run/systemd/system ]; then
		say "Starting Docker's service"
		root systemctl start docker # it belongs to the system from here on, so stop leaves it
	else
		start_engine
	fi
	await_engine
	say "The container engine answers"
}

stop() {
	[ -e "$state/dockerd.pid" ] || return 0
	ours=$(cat "$state/dockerd.pid")
	pid=${ours%% *}
	if is_dockerd "$pid" && [ "$(identity "$pid")" = "$ours" ]; then
		root kill "$pid"
		waited=0
		while [ "$(identity "$pid")" = "$ours" ]; do
			[ "$waited" -lt "$deadline" ] || fail "dockerd, process $pid, did not end within $deadline seconds"
			sleep 1
			waited=$((waited + 1))
		done
		say "Stopped the container engine"
	fi
	root rm -f "$state/dockerd.pid"
}

case ${1:-} in
ensure) ensure ;;
stop) stop ;;
*) fail "usage: engine.sh ensure|stop" ;;
esac
