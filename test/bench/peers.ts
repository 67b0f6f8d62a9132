/**
 * Other programs that run a command on many hosts, each on the same hosts of test/testbed: real sshd, real Slurm.
 * The processor time includes the hosts' daemons: all of it runs in one cgroup.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmdirSync } from "node:fs";
import { resolve } from "node:path";
import { memoryMb } from "./processes.ts";

const TESTBED = resolve(import.meta.dirname, "../testbed");
/** What its hosts are called. */
const NAME = "mtbp";
/** Up to so many hosts Debian's Slurm is a fair peer on one machine. */
const SLURM_HOSTS_MAX = 64;

export interface Peer {
  name: string;
  /** Of each run, the whole command. */
  seconds: number[];
  /** User and system, all hosts and the command itself, of one run. */
  cpu_s: number;
}

/** A cgroup that counts the processor time of all that is started in it, also of what has ended. */
export function cpuGroup(name: string) {
  const base = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].find((b) => existsSync(`${b}/cgroup.procs`));
  if (!base) throw new Error("Cannot count processor time: there is no cgroup2 file system");
  const dir = `${base}/${name}`;
  mkdirSync(dir, { recursive: true });
  return {
    /** A shell line that moves the shell into it. */
    join: `echo $$ >${dir}/cgroup.procs`,
    seconds: () => Number(/^usage_usec (\d+)/m.exec(readFileSync(`${dir}/cpu.stat`, "utf8"))![1]) / 1e6,
    remove: () => rmdirSync(dir),
  };
}

/** A shell line that prints when each of `times` runs of `line` began and ended; bash starts once. */
export const timing = (times: number, line: string) =>
  `for i in $(seq ${times}); do s=$EPOCHREALTIME; { ${line}; } >/dev/null </dev/null || exit; echo $s $EPOCHREALTIME; done`;

/** What `timing` said, in seconds. */
export const seconds = (said: string): number[] =>
  said
    .trim()
    .split("\n")
    .map((line) => {
      const [began, ended] = line.split(" ").map(Number);
      return ended! - began!;
    });

/** `hostname` on so many hosts by each of them, and what their daemons take. */
export function measurePeers(n: number): { peers: Peer[]; daemons: { name: string; mb: number }[] } {
  const group = cpuGroup("mt-bench-peers");
  const script = (words: string[], timeout_s = 300): string => {
    const done = spawnSync("bash", ["-c", `${group.join}; exec "$0" "$@"`, TESTBED, ...words], {
      env: { ...process.env, TESTBED: NAME, LC_ALL: "C" },
      encoding: "utf8",
      timeout: timeout_s * 1000,
    });
    if (done.status !== 0) throw new Error(`${words.join(" ")}: ${done.stderr}`);
    return done.stdout;
  };
  const on0 = (line: string) => script(["run", "bash", "-c", line]);
  const set = `'${NAME}[1-${n}]'`;
  const measure = (name: string, times: number, line: string): Peer => {
    const there = Number(on0(`${line} | grep -o '${NAME}[0-9]*$' | sort -u | wc -l`));
    if (there !== n) throw new Error(`${name}: ${there} of ${n} hosts answered`);
    const before = group.seconds();
    const took = seconds(on0(timing(times, line)));
    return { name, seconds: took, cpu_s: (group.seconds() - before) / times };
  };
  const [slow, fast] = n > SLURM_HOSTS_MAX ? [1, 1] : [3, 7];
  const slurm = n <= SLURM_HOSTS_MAX;
  script(["down"]);
  try {
    script(["up", String(n), ...(slurm ? ["--slurm"] : [])]);
    const daemons = ["sshd", ...(slurm ? ["slurmd"] : [])].map((name) => {
      const pids = spawnSync("ip", ["netns", "pids", `${NAME}${n}`], { encoding: "utf8" })
        .stdout.split("\n")
        .filter((pid) => pid !== "" && readFileSync(`/proc/${pid}/comm`, "utf8").trim() === name);
      return { name, mb: pids.reduce((sum, pid) => sum + memoryMb(Number(pid)).pss_mb, 0) };
    });
    const peers: Peer[] = [];
    if (slurm) {
      const job = `--jobid=$(squeue -h -o %i)`;
      on0(`salloc -Q --no-shell -N${n}`);
      peers.push(measure("srun, inside an allocation", fast, `srun ${job} -N${n} hostname`));
    }
    peers.push(measure("clush", slow, `clush -w ${set} hostname`));
    on0(`seq -f ${NAME}%.0f ${n} >/root/hosts`);
    peers.push(measure("taktuk", slow, `taktuk -f /root/hosts broadcast exec [ hostname ]`));
    // A lasting connection to every host: the best that ssh can do. Its masters keep the descriptors that they were given.
    on0(
      `printf '%s\\n' 'Host *' 'ControlMaster auto' 'ControlPath ~/.ssh/master-%h' 'ControlPersist 900' >/root/.ssh/config
      clush -w ${set} true >/dev/null 2>&1 </dev/null`,
    );
    peers.push(measure("clush, warm ControlMaster", fast, `clush -w ${set} hostname`));
    peers.push(measure("pdsh, warm ControlMaster", fast, `pdsh -R ssh -f 64 -w ${set} hostname`));
    return { peers, daemons };
  } finally {
    script(["down"]);
    group.remove();
  }
}
