/**
 * A local host for benches of guests: a plan of so many of them on one LAN laid, brought up and taken down, by the
 * compiled tools. An interrupted step throws, so that the bench cleans up.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { benchLab } from "./measure.ts";
import { qemusOf } from "./processes.ts";

/** Guests of a LAN: each of them hears all broadcasts of the others, which costs processor time. */
const LAN_GUESTS = 10;

/** How many LANs n guests are on, the same number on each. */
export function lansOf(n: number): number {
  for (let lans = Math.ceil(n / LAN_GUESTS); lans < n; lans++) if (n % lans === 0) return lans;
  return 1;
}

export interface Sample extends Record<string, number> {}
export interface Up {
  seconds: number;
  code: number;
  sample: Sample;
  /** Processor time of the mt-boot command and of its supervisor. */
  tool_cpu_s: number;
}

/** A shell line that runs `mt-boot up` with flags and then prints its processor time. */
export const TIMED = `TIMEFORMAT="%U %S"; time mt-boot up "$@"; exit`;

/** @param host the name of the local host, `mt-tree up` makes it */
export function guestLab(host: string) {
  const lab = benchLab();
  const { dir, env } = lab;
  // A cache of our own, so that we know whether the template is there already.
  env.MT_CACHE = join(dir, "cache");
  // `timeout` and Ctrl-C end what is being waited for, which fails the step, and then we clean up.
  const state = { stopped: false };
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const)
    process.on(signal, () => {
      state.stopped = true;
    });
  const sh = (line: string, timeout_s?: number) => {
    const out = lab.sh(line, timeout_s);
    if (state.stopped) throw new Error("interrupted");
    return out;
  };
  const lines = (file: string): Record<string, unknown>[] =>
    readFileSync(join(dir, file), "utf8")
      .split("\n")
      .filter(Boolean)
      .map((line) => JSON.parse(line));

  /** The network of a plan of n guests, their image on the host. */
  function lay(n: number, lans = lansOf(n)): void {
    sh(
      `mt-topo gen ring --routers ${lans} --id bench | mt-topo guests ${n} --image tux | mt-topo place hosts >plan`,
    );
    sh("mt-push <plan | mt-tree map -- mt-vnet up >laid");
  }
  /** `mt-boot up` of what is laid, to its end. */
  function up(flags = "", timeout_s = 1200): Up {
    const began = performance.now();
    // The last line of its stderr is what the shell measured.
    const command = `mt-tree map -- bash -c '${TIMED}' bash ${flags} <laid >out 2>said; echo $?`;
    const code = Number(sh(command, timeout_s).trim());
    const seconds = (performance.now() - began) / 1000;
    return { seconds, code, ...toldOfUp() };
  }
  function toldOfUp(): { sample: Sample; tool_cpu_s: number } {
    const sample = lines("out").find((r) => r.kind === "sample" && r.id === "boot") as Sample | undefined;
    const said = readFileSync(join(dir, "said"), "utf8");
    if (!sample) throw new Error(`mt-boot up told nothing: ${said.slice(-2000)}`);
    const [, user, system] = /(\d+\.\d+) (\d+\.\d+)\s*$/.exec(said) ?? [];
    return { sample, tool_cpu_s: Number(user) + Number(system) + sample.supervisor_cpu_s! };
  }
  function down(): void {
    sh("mt-tree map -- mt-boot down <laid | mt-tree map -- mt-vnet down >/dev/null", 120);
  }
  const ksmReport = (): Sample =>
    JSON.parse(
      JSON.parse(sh(`mt-tree exec ${host} -- mt-ksm report --experiment bench`, 120)).stdout.split("\n")[0],
    );
  /** Takes down whatever is left of the experiment. */
  const clean = () => {
    const here = (tool: string) =>
      `timeout 120 mt-tree exec ${host} -- ${tool} down --experiment bench >/dev/null 2>&1`;
    lab.sh(["mt-boot", "mt-ksm", "mt-vnet"].map(here).join("; ").concat("; true"), 400);
  };
  const remove = () => {
    try {
      clean();
    } finally {
      // In case the tree does not answer any more.
      for (const pid of qemusOf(dir)) process.kill(pid, "SIGKILL");
      lab.remove();
    }
  };
  return { dir, env, state, sh, lines, lay, up, toldOfUp, down, ksmReport, clean, remove };
}
