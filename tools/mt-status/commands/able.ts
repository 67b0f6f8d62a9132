/**
 * `mt-status able`, before a launch: checks programs, kernel features, memory, limits and disk of this host, and writes
 * what it found on the host's own record. `mt-status hosts` shows it.
 */

import { accessSync, constants, existsSync, readFileSync, statfsSync } from "node:fs";
import { release } from "node:os";
import { dirname } from "node:path";
import { runFilterCommand } from "../../../shared/cli/filter-command.ts";
import type { Run } from "../../../shared/cli/invocation.ts";
import { mtError } from "../../../shared/errors.ts";
import { availableMib } from "../../../shared/host/memory.ts";
import { stateDir } from "../../../shared/host/names.ts";
import { findProgram, run } from "../../../shared/host/process.ts";
import type { Host } from "../../../shared/records/index.ts";
import type { spec } from "../spec.ts";

/** One check: what was found, and how to mend it where a launch needs it. */
export interface Ability {
  found: string;
  mend?: string;
}
export type Abilities = Record<string, Ability>;

const PROGRAMS: Record<string, { program: string; version: string[]; package: string }> = {
  qemu: { program: "qemu-system-x86_64", version: ["--version"], package: "qemu-system-x86" },
  bird: { program: "bird", version: ["--version"], package: "bird2" },
  iproute: { program: "ip", version: ["-V"], package: "iproute2" },
  nsenter: { program: "nsenter", version: ["--version"], package: "util-linux" },
};
/** With less than these even a small launch fails. */
const FILES_MIN = 4096;
const PROCESSES_MIN = 4096;
const DISK_MIB_MIN = 512;
const MEMORY_MIB_MIN = 512;

export const able: Run<typeof spec, "able"> = (invocation) =>
  runFilterCommand(invocation, {
    changes: false,
    owns: {
      host: async (host, context) => {
        const abilities = await abilitiesHere();
        const lacking = Object.entries(abilities).filter(([, a]) => a.mend !== undefined);
        const seen = { ...host, able: abilities } as Host;
        if (lacking.length === 0) return seen;
        const what = lacking.map(([name, a]) => `${name}: ${a.found}`).join("; ");
        const error = mtError(
          "unavailable",
          `Cannot launch on ${host.id}: ${what}`,
          lacking.map(([, a]) => a.mend).join("; "),
        );
        return context.failed(seen, error);
      },
    },
  });

export async function abilitiesHere(): Promise<Abilities> {
  const out: Abilities = { kernel: { found: release() } };
  for (const [name, p] of Object.entries(PROGRAMS)) out[name] = await programHere(p);
  out.vxlan = await vxlanHere();
  out.tap = canOpen("/dev/net/tun") ? { found: "yes" } : { found: "no /dev/net/tun", mend: "modprobe tun" };
  // Guests boot without it too, but use more memory.
  out.ksm = { found: canOpen("/sys/kernel/mm/ksm/run") ? "yes" : "no: guests' memory is not merged" };
  out.kvm = { found: canOpen("/dev/kvm") ? "/dev/kvm opens" : "no: guests are translated" };
  out.memory = atLeast(availableMib(), MEMORY_MIB_MIN, "MiB", "free some memory");
  out.disk = atLeast(diskMib(), DISK_MIB_MIN, "MiB", `free some disk at ${stateDir()}`);
  out.files = atLeast(limit("Max open files"), FILES_MIN, "", `ulimit -n ${FILES_MIN}`);
  out.processes = atLeast(limit("Max processes"), PROCESSES_MIN, "", `ulimit -u ${PROCESSES_MIN}`);
  return out;
}

async function programHere(p: { program: string; version: string[]; package: string }): Promise<Ability> {
  const path = findProgram(p.program);
  if (path.isErr()) return { found: "missing", mend: `apt-get install ${p.package}` };
  const said = await run(p.program, p.version, { timeout_s: 10 });
  const text = said.isOk() ? `${said.value.stdout}${said.value.stderr}` : "";
  return { found: /\d+(?:\.\d+)+/.exec(text)?.[0] ?? "there" };
}

/** Makes a VXLAN interface for real, in a namespace that ends with the program. */
async function vxlanHere(): Promise<Ability> {
  const words = ["--net", "ip", "link", "add", "probe", "type", "vxlan", "id", "1", "dstport", "4789"];
  const tried = await run("unshare", words, { timeout_s: 10 });
  if (tried.isOk() && tried.value.code === 0) return { found: "yes" };
  const why = tried.isErr() ? tried.error.message : tried.value.stderr.trim().split("\n")[0] || "refused";
  return { found: `no: ${why}`, mend: process.getuid?.() === 0 ? "modprobe vxlan" : "run it as root" };
}

function canOpen(path: string): boolean {
  try {
    accessSync(path, constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

function atLeast(value: number, least: number, unit: string, mend: string): Ability {
  const found =
    value === Number.POSITIVE_INFINITY ? "unlimited" : `${Math.floor(value)}${unit && ` ${unit}`}`;
  return value >= least ? { found } : { found: `${found}, less than ${least}`, mend };
}

/** Free space where the state directory is, or will be. */
function diskMib(): number {
  let dir = stateDir();
  while (!existsSync(dir) && dirname(dir) !== dir) dir = dirname(dir);
  const disk = statfsSync(dir);
  return (disk.bavail * disk.bsize) / 2 ** 20;
}

function limit(name: string): number {
  const soft = new RegExp(`^${name}\\s+(\\S+)`, "m").exec(readFileSync("/proc/self/limits", "utf8"))?.[1];
  return soft === "unlimited" ? Number.POSITIVE_INFINITY : Number(soft ?? 0);
}
