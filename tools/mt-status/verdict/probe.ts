/**
 * Has guests ping, through `mt-tree map -- mt-boot exec`, which gets a small plan of the guests with their targets and
 * gives `exit` records. Targets are arguments of the script in the guest, never part of its text.
 */
import { spawn } from "node:child_process";
import { type MtError, mtError } from "../../../shared/errors.ts";
import { cleanEnv, toolCommand } from "../../../shared/host/process.ts";
import type { Exit, Experiment, Host } from "../../../shared/records/index.ts";
import { validate } from "../../../shared/records/validate.ts";
import { LineSplitter } from "../../../shared/stream/lines.ts";
import type { GuestRun } from "./census.ts";
import type { Source, Target } from "./pairs.ts";

/**
 * Prints those of its arguments that answer: ADDRESS/BYTES where a ping of that size does, ADDRESS where only a
 * small one does. All at once, each up to three times: the first ping may be lost while neighbours are still being
 * found, and the first of full size tells the guest what the narrowest link on the way takes (path MTU discovery).
 * Five seconds is what a loaded host may need for an answer.
 */
export const PING_SCRIPT = `
answers() {
  ping -c 1 "$@" >/dev/null 2>&1
}
reach() {
  address=\${1%%/*}
  size=\${1#"$address"}
  small=
  wait_s=1
  for attempt in 1 2 3; do
    if [ -n "$size" ] && answers -W "$wait_s" -s "\${size#/}" "$address"; then
      echo "$1"
      return
    fi
    wait_s=5
    if [ -z "$small" ] && answers -W 5 "$address"; then
      small=1
      echo "$address"
      [ -n "$size" ] || return
    fi
  done
}
for target in "$@"; do reach "$target" & done
wait
`;
/** Part of the time limit that is kept for the way there and back. */
const MARGIN_S = 10;
const KILL_AFTER_MS = 5000;

/** The plan that the guests get: their own records with their targets, and the records of their hosts. */
export function probePlan(
  experiment: Experiment,
  hosts: readonly Host[],
  sources: readonly Source[],
): string {
  const asked = new Set(sources.map(({ run }) => run.guest.host));
  const theirs = hosts.filter((host) => asked.has(host.id));
  const guests = sources.map(({ run, targets }) => ({
    ...run.guest,
    targets: targets.map((t) => wordOf(run, t)),
  }));
  const guest = sources.reduce((sum, s) => sum + s.run.count, 0);
  const end = { kind: "end", id: experiment.id, counts: { host: theirs.length, guest } };
  return [experiment, ...theirs, ...guests, end].map((line) => `${JSON.stringify(line)}\n`).join("");
}

/** IPv4 and ICMP headers of a ping. */
const PING_HEADERS = 28;

/** A target as the script takes it, with the bytes of a ping that fills the source's MTU, where the plan says that. */
export function wordOf({ guest }: GuestRun, { ip }: Target): string {
  const mtu = guest.interfaces.find((nic) => nic.ip)?.mtu;
  return mtu === undefined ? ip : `${ip}/${mtu - PING_HEADERS}`;
}

export function probeCommand(timeout_s: number): string[] {
  const exec_s = Math.max(Math.min(5, timeout_s), timeout_s - MARGIN_S);
  const exec = ["mt-boot", "exec", "--timeout", String(Math.ceil(exec_s))];
  return [
    ...toolCommand("mt-tree"),
    "map",
    "--",
    ...exec,
    "--",
    "/bin/sh",
    "-c",
    PING_SCRIPT,
    "probe",
    "{targets}",
  ];
}

/** Runs the pings. Returns what went wrong with the command itself; guests that do not answer are no error here. */
export function probe(
  plan: string,
  hear: (exit: Exit) => void,
  options: { timeout_s: number; signal: AbortSignal },
): Promise<MtError | undefined> {
  const { timeout_s, signal } = options;
  const [file, ...args] = probeCommand(timeout_s);
  const child = spawn(file!, args, { stdio: ["pipe", "pipe", "pipe"], env: cleanEnv() });
  const splitter = new LineSplitter();
  let complaint = "";
  let late = false;
  const stop = () => {
    child.kill("SIGTERM");
    setTimeout(() => child.kill("SIGKILL"), KILL_AFTER_MS).unref();
  };
  const timer = setTimeout(() => {
    late = true;
    stop();
  }, timeout_s * 1000);
  signal.addEventListener("abort", stop, { once: true });
  const take = (text: string) => {
    // Guest records and the rest of the plan come back too: only exit records matter.
    if (!text.includes('"exit"')) return;
    try {
      const record = JSON.parse(text);
      if (record.kind === "exit" && validate("exit", record).isOk()) hear(record);
    } catch {
      // No record: a guest that is not heard counts as not reached.
    }
  };
  child.stdout.on("data", (chunk: Buffer) => {
    for (const line of splitter.push(chunk)) take(line.text);
  });
  child.stderr.on("data", (chunk: Buffer) => {
    complaint = (complaint + chunk.toString()).slice(-4096);
  });
  // It may end before it has read all: its exit code tells.
  child.stdin.on("error", () => {});
  child.stdin.end(plan);
  return new Promise((resolve) => {
    const done = (error: MtError | undefined) => {
      clearTimeout(timer);
      signal.removeEventListener("abort", stop);
      resolve(error);
    };
    child.on("error", (thrown: NodeJS.ErrnoException) =>
      done(
        mtError(
          "unavailable",
          `Cannot run ${file}: ${thrown.code ?? thrown.message}`,
          "make build, or make install",
        ),
      ),
    );
    child.on("close", (code, by) => {
      for (const line of splitter.end()) take(line.text);
      if (late)
        return done(
          mtError(
            "timeout",
            `Cannot finish the pings: no end after ${timeout_s} s`,
            "--timeout gives them longer",
          ),
        );
      if (code === 0) return done(undefined);
      done(
        mtError(
          "failed",
          `Cannot have every guest ping: mt-tree map ended with ${code ?? by}`,
          complaint.trim().split("\n")[0] || undefined,
        ),
      );
    });
  });
}
