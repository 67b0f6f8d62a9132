/** KSM as the kernel shows it in /sys/kernel/mm/ksm, and the CPU time of its thread. */
import { accessSync, constants, existsSync, readFileSync } from "node:fs";
import { type MtError, mtError } from "../../../shared/errors.ts";
import { allPids, readProc, statOf } from "../../../shared/host/processes.ts";

export const KSM = "/sys/kernel/mm/ksm";
const MIB = 1024 * 1024;

/** A counter; 0 where this kernel does not have it. */
export function counter(name: string): number {
  try {
    return Number(readFileSync(`${KSM}/${name}`, "utf8"));
  } catch {
    return 0;
  }
}

export const has = (name: string) => existsSync(`${KSM}/${name}`);

/** Why KSM cannot be used here; with `change`, also why not set. */
export function whatIsMissing(change: boolean): MtError | undefined {
  if (!existsSync(`${KSM}/run`))
    return mtError("unavailable", "Cannot merge memory: this kernel has no KSM", "a kernel with CONFIG_KSM");
  if (change && process.getuid?.() !== 0)
    return mtError("permission", "Cannot set KSM: not root", "run it as root");
  return undefined;
}

/**
 * Why root may not set KSM here, though the kernel has it: in a user namespace only the machine's own root may, and in
 * a container /sys is read-only. Guests run without it too, so that is no error.
 */
export function whyNotSettable(): string | undefined {
  try {
    accessSync(`${KSM}/run`, constants.W_OK);
    return undefined;
  } catch (thrown) {
    return (thrown as NodeJS.ErrnoException).code === "EROFS"
      ? `${KSM} is read-only here`
      : `only the machine's own root may set ${KSM}`;
  }
}

let pageBytes = 0;
/** Size of a page, from the kernel's own description of our memory. */
export function pageSize(): number {
  pageBytes ||=
    Number(/^KernelPageSize:\s+(\d+) kB/m.exec(readFileSync("/proc/self/smaps", "utf8"))?.[1] ?? 4) * 1024;
  return pageBytes;
}

export const toMib = (bytes: number) => Math.round((bytes / MIB) * 10) / 10;

/** What merging saves now, machine-wide: the fields of a sample. */
export function savings() {
  const sharing = counter("pages_sharing");
  return {
    /** Pages that are shared by several. */
    pages_shared: counter("pages_shared"),
    /** Pages saved: uses of a shared page beyond the first. */
    pages_sharing: sharing,
    saved_mib: toMib(sharing * pageSize()),
    ...(has("general_profit") ? { general_profit_mib: toMib(counter("general_profit")) } : {}),
    full_scans: counter("full_scans"),
  };
}

let ksmdPid: number | undefined;
/** CPU seconds that the kernel's merging thread has used; undefined where it cannot be seen (a container). */
export function ksmdCpuSeconds(): number | undefined {
  ksmdPid ??= allPids().find((pid) => readProc(pid, "comm")?.trim() === "ksmd");
  return ksmdPid === undefined ? undefined : statOf(ksmdPid)?.cpu_s;
}
