/**
 * Scripts that run on a host before it has any tool of ours: for a POSIX sh, with the programs of a bare host. Each
 * reports what it found or did in lines `@mt KEY …`, the last of them `@mt end`; `@mt failed CODE WHY` says why it could
 * not. Each line begins with a newline, because a profile may have left its last line unfinished.
 */
import { type MtError, mtError } from "../../../../shared/errors.ts";
import { CHUNK_BYTES } from "../../link/frames.ts";
import { AGENT_ENVIRONMENT } from "../../node/agent-environment.ts";
import { MARK } from "../marker.ts";

/**
 * The beginning of all scripts. Variables that are set before it: host; tree, which identifies the tree; of the binary
 * name, digest, sha (the first 16 characters of the digest), size, line (what it prints for --version), and version (the
 * same, or empty where that does not tell it from other builds).
 */
const COMMON = `
umask_was=$(umask); umask 077
PATH=$PATH:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin
say() { printf '\\n${MARK}%s\\n' "$*" || exit 1; }
end() { say end; exit \${code:-0}; }
die() { say "failed $*"; end; }
nap() { sleep 0.1 2>/dev/null || sleep 1; }
cache=\${HOME:-/nonexistent}/.cache/megatux; own=$cache/$sha
# A user's runtime directory is removed with the last login, except where the user lingers.
if [ -n "\${MT_RUN:-}" ]; then run=$MT_RUN
elif [ "$(id -u)" = 0 ]; then run=/run/megatux
elif [ -n "\${XDG_RUNTIME_DIR:-}" ] && [ -e "/var/lib/systemd/linger/$(id -un)" ]; then run=$XDG_RUNTIME_DIR/megatux
else top=/tmp/run-$(id -u) run=/tmp/run-$(id -u)/megatux; fi
: "\${top:=$run}"
# Clouds give names that are too long for a file name.
short=$host
[ \${#host} -le 100 ] || short=$(printf %s "$host" | cut -c1-90)~$(printf %s "$host" | cksum | cut -d' ' -f1)
dir=$run/agents/$tree.$short
# The same checks as in shared/own-place.ts: every directory on the path to $dir belongs to root or to us, and nobody
# else may write to it; from $top down all of them are ours, and none is a link. With "make" missing ones are made.
own() {
  way=$dir at= me=$(id -u)
  while [ -n "$way" ]; do
    way=\${way#/} part=\${way%%/*}
    case $way in */*) way=\${way#*/} ;; *) way= ;; esac
    [ -n "$part" ] || continue
    at=$at/$part
    if [ ! -e "$at" ] && [ ! -L "$at" ]; then
      [ "$1" = make ] || return 0
      why=$(mkdir -m 700 "$at" 2>&1) || [ -d "$at" ] || die "io $why"
    fi
    for follow in '' L; do
      inside=
      case $at/ in "$top"/*) inside=yes ;; esac
      [ "$follow$inside" != Lyes ] || continue
      read -r mode _ owner _ <<EOF
$(LC_ALL=C ls -ldn$follow "$at" 2>/dev/null)
EOF
      case $owner$inside in "$me"|"$me"yes|0) ;; *) die "permission $at is another's" ;; esac
      case $mode in
      l*) [ -z "$inside" ] || die "permission $at is a link" ;;
      ?????????[tT]*) ;;
      ?????w*|????????w*) die "permission others may write to $at" ;;
      esac
    done
  done
}
# Sets how mt-tree of our release is called here: bin, the file, and word, its first argument; from: where it was found.
find_binary() {
  word=
  bin=$(command -v mt-tree) && [ -n "$version" ] && [ "$("$bin" --version 2>/dev/null </dev/null)" = "$version" ] &&
    from=path && return 0
  [ "$name" != mt ] || word=mt-tree
  bin=$own/$name
  [ -x "$bin" ] && [ "$(wc -c <"$bin")" -eq "$size" ] && from=cache && return 0
  from=none; return 1
}
# Whether the agent of this tree runs. The command line is checked, too, because pids are used again; where the agent's
# directory is gone, all processes are searched.
is_agent() {
  tr '\\0' ' ' 2>/dev/null <"/proc/$1/cmdline" | grep -qF -- "agent --config $dir/agent.json" && shares_path "$1"
}
# Whether $dir is for this process what it is for us: another host may share our process table.
shares_path() {
  there=$dir
  until [ -e "\${there:=/}" ]; do there=\${there%/*}; done
  [ "/proc/$1/root$there" -ef "$there" ]
}
alive() {
  pid=$(cat "$dir/agent.pid" 2>/dev/null) && [ -n "$pid" ] && is_agent "$pid" && return 0
  for file in $(grep -lsF -- "$dir/agent.json" /proc/[0-9]*/cmdline); do
    pid=\${file#/proc/} pid=\${pid%/cmdline}
    if is_agent "$pid"; then return 0; fi
  done
  return 1
}
end_agent() {
  n=0
  while alive; do
    case $n in 0) kill "$pid" 2>/dev/null ;; 30) kill -9 "$pid" 2>/dev/null ;; 80) return 1 ;; esac
    n=$((n + 1)); nap
  done
}
`;

/** Makes the agent's directory with its configuration, and sets the environment of the agent and its commands. */
const SETTLE = `
settle() {
  own make
  rm -f "$dir/agent.ready" "$dir/agent.pid"
  { printf '%s\\n' "$config" >"$dir/agent.json" && printf '%s\\n' "$line" >"$dir/release"; } 2>/dev/null || die "space $dir"
  unset SSH_CONNECTION SSH_CLIENT SSH_TTY SSH_AUTH_SOCK DISPLAY NODE_OPTIONS BUN_OPTIONS BUN_BE_BUN BUN_INSPECT
  MT_HOST=$host MT_RUN=$run MT_AGENT_DIR=$dir PATH=\${bin%/*}:$PATH
  export MT_HOST MT_RUN MT_AGENT_DIR PATH
  export ${Object.entries(AGENT_ENVIRONMENT)
    .map((pair) => pair.join("="))
    .join(" ")}
  session=; command -v setsid >/dev/null && session=setsid
}
`;

/** Reports what a host is and has. */
export const PROBE = `${COMMON}
set -- \${SSH_CONNECTION:-}
say "connection \${1:-} \${3:-}"
say "system $(uname -s) $(uname -m)"
say "cores $(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)"
say "memory_kib $(sed -n 's/^MemTotal: *\\([0-9]*\\) kB$/\\1/p' /proc/meminfo)"
find_binary
say "binary $from"
end
`;

/** Fetches a URL, given in three parts, with whatever program the host has, and writes the body to fd 3. */
export const FETCH = `
fetch() { # address port path
  unset http_proxy https_proxy all_proxy ALL_PROXY
  if command -v curl; then curl -fsS --connect-timeout 5 --max-time 240 "http://$1:$2/$3" >&3
  elif command -v wget; then wget -q -T 20 -O - "http://$1:$2/$3" >&3
  elif command -v bash; then bash -c '
    exec 4<>"/dev/tcp/$1/$2" && printf "GET /%s HTTP/1.0\\r\\n\\r\\n" "$3" >&4 || exit 1
    while IFS= read -r line <&4 && [ "$line" != "$(printf "\\r")" ]; do :; done
    exec cat <&4 >&3' bash "$@"
  elif command -v perl; then perl -MIO::Socket::INET -e '
    my $s = IO::Socket::INET->new(PeerAddr => $ARGV[0], PeerPort => $ARGV[1], Timeout => 5) or exit 1;
    print $s "GET /$ARGV[2] HTTP/1.0\\r\\n\\r\\n"; while (<$s>) { last if $_ eq "\\r\\n" }
    open(my $to, ">&=", 3); my $b; print $to $b while read($s, $b, ${CHUNK_BYTES})' "$@"
  elif command -v python3; then python3 -c '
import shutil, sys, urllib.request
shutil.copyfileobj(urllib.request.urlopen("http://%s:%s/%s" % tuple(sys.argv[1:4]), timeout=20), open(3, "wb"))' "$@"
  else return 1; fi
}
`;

/**
 * Gets the binary where it is missing, and starts the agent. More variables: mode (have: do without it; fetch: from
 * from_addr, from_port, from_path; stream: from stdin); upgrade; replace: an agent that runs is ended first; no_port: the
 * agent is not started here, LINK does that. stdin: the configuration in one line, then in mode stream the binary, packed.
 */
export const START = `${COMMON}${SETTLE}${FETCH}
place() { # the packed binary on stdin
  why=$(mkdir -p "$own" 2>&1) || die "io $why"
  find "$own" -name '.new.*' -mtime +0 -exec rm -f {} + 2>/dev/null
  new=$own/.new.$host.$$
  trap 'rm -f "$new"' EXIT; trap 'exit 1' HUP INT TERM PIPE
  why=$(LC_ALL=C; export LC_ALL; gzip -dc 2>&1 >"$new") || case $why in *space*|*quota*) die "space $own" ;; esac
  got=$( (sha256sum "$new" || openssl dgst -sha256 -r "$new") 2>/dev/null)
  case $got in
  "$digest"*) ;;
  '') die "unavailable neither sha256sum nor openssl is there" ;;
  *) [ "$mode" = fetch ] && { say need; end; }; die "data the binary came damaged: $why" ;;
  esac
  why=$(chmod 700 "$new" 2>&1 && mv -f "$new" "$bin" 2>&1) || die "io $why"
  now=$("$bin" $word --version 2>&1 </dev/null)
  [ "$now" = "$line" ] || { rm -f "$bin"; die "unavailable the binary does not run there: $now"; }
  [ "$name" != mt ] || "$bin" --links || die "io cannot make links in $own"
}
IFS= read -r config || exit 1
if ! find_binary; then
  case $mode in
  have) say need; end ;;
  # place runs in a subshell here: where it has reported why it failed, the script ends. What curl prints is dropped.
  fetch)
    code=3
    fetch "$from_addr" "$from_port" "$from_path" 3>&1 >/dev/null 2>/dev/null | place || exit 0
    code= ;;
  stream) place ;;
  esac
fi
say "binary $from"
say "dir $dir"
[ -z "$no_port" ] || end
own
if alive; then
  old=$(cat "$dir/release" 2>/dev/null)
  # Where its directory is gone its release is not known, and counts as ours; where it does not join, replace is set.
  if [ "\${old:-$line}" = "$line" ] && [ -z "$replace" ]; then say running; end; fi
  [ -n "$upgrade$replace" ] || die "old $old"
  end_agent || die "busy the agent that is there does not end (pid $pid)"
fi
settle
begun=$(wc -c 2>/dev/null <"$dir/node.log" || echo 0)
cd /; umask "$umask_was"
nohup $session "$bin" $word agent --config "$dir/agent.json" </dev/null >>"$dir/node.log" 2>&1 &
pid=$! n=0
until [ -e "$dir/agent.ready" ]; do
  kill -0 $pid 2>/dev/null || die "agent $(tail -c +$((begun + 1)) "$dir/node.log" | head -n 3 | tr '\\n' ' ')"
  [ $n -lt 150 ] || die "timeout the agent does not get ready"
  n=$((n + 1)); nap
done
say started
end
`;

/**
 * Becomes the agent, which talks over this connection after `@mt link`. stdin: the configuration in one line, then
 * frames. The agent ends with the connection; one that an earlier head left is ended first.
 */
export const LINK = `${COMMON}${SETTLE}
IFS= read -r config || exit 1
own
find_binary || die "unavailable no mt of this release is there any more"
end_agent || die "busy the agent that is there does not end (pid $pid)"
settle
cd /; umask "$umask_was"
say link
exec "$bin" $word agent --config "$dir/agent.json" --stdio 2>>"$dir/node.log"
`;

/** The last line of the agent's log, if possible one of our own. */
export const LAST_LOG_LINE = `${COMMON}
log=$(tail -c 4096 "$dir/node.log" 2>/dev/null | grep '^[^ ]')
said=$(printf '%s\\n' "$log" | grep '^mt' | tail -n 1)
say "log \${said:-$(printf '%s\\n' "$log" | tail -n 1)}"
end
`;

/** Serves the binary to other hosts, at the paths that come on stdin, until that is closed. */
export const HAND_ON = `${COMMON}
set -- \${SSH_CONNECTION:-}
word=; [ "$name" != mt ] || word=mt-tree
bin=$own/$name
[ -x "$bin" ] && [ "$(wc -c <"$bin")" -eq "$size" ] || die "unavailable it has no $bin"
exec "$bin" $word hand-on --addr "$3"
`;

/** Ends the agent of this tree and removes its files; with purge set, also every binary that was brought. */
export const STOP = `${COMMON}
own
end_agent || die "busy the agent does not end (pid $pid)"
# Kills groups of commands that a killed agent left, as the next agent would (command.ts). Where the leader is younger
# than the file, the pid belongs to another process now.
booted=$(($(date +%s) - $(cut -d. -f1 /proc/uptime)))
for group in "$dir"/groups/*; do
  written=$(date -r "$group" +%s 2>/dev/null) || continue
  leader=\${group##*/}
  set -- $(sed 's/.*) //' "/proc/$leader/stat" 2>/dev/null)
  [ "$written" -lt "$booted" ] || [ $((booted + \${20:-0} / 100)) -gt $((written + 2)) ] || kill -9 "-$leader"
done 2>/dev/null
rm -rf "$dir"
rmdir "$run/agents" "$run" 2>/dev/null
if [ -n "$purge" ]; then
  for file in "$cache"/*/mt "$cache"/*/mt-tree; do
    [ ! -f "$file" ] || [ -L "$file" ] || rm -rf "\${file%/*}"
  done
  rmdir "$cache" 2>/dev/null
fi
end
`;

/** What follows `failed` as an error of this host. */
export function bootstrapError(host: string, failed: string, port: number): MtError {
  const [code = "", ...rest] = failed.split(" ");
  const why = rest.join(" ").trim();
  const cannot = `Cannot start the agent on ${host}`;
  switch (code) {
    case "space":
      return mtError(
        "io",
        `${cannot}: no room for ${why} (disk full)`,
        "make room there (df), then mt-tree up",
      );
    case "old":
      return oldAgent(host, why);
    case "agent":
      if (/EADDRINUSE|in use|listens on/i.test(why))
        return mtError(
          "busy",
          `${cannot}: port ${port} is in use there`,
          "if another tree is there, mt-tree down where it was made ends it; or choose another port with --port",
        );
      return mtError("failed", `${cannot}: it ended at once: ${why}`);
    case "permission":
    case "unavailable":
    case "data":
    case "busy":
    case "timeout":
    case "io":
      return mtError(code, `${cannot}: ${why}`);
    default:
      return mtError("failed", `${cannot}: ${failed}`);
  }
}

export const oldAgent = (host: string, release: string): MtError =>
  mtError(
    "data",
    `Cannot use the agent on ${host}: it is of another release than this mt-tree (${release})`,
    "mt-tree up --upgrade ends it and brings this one",
  );
