/** The settings of KSM, under leases: the first user saves them, the last one restores them. */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { ok, type Result } from "neverthrow";
import { inform } from "../../../shared/cli/stderr.ts";
import { fail, type MtError } from "../../../shared/errors.ts";
import { acquireLease, releaseLease, type Settings } from "../../../shared/host/lease.ts";
import { clearDead, readHolder } from "../../../shared/host/lock.ts";
import { availableMib } from "../../../shared/host/memory.ts";
import { leaseDir } from "../../../shared/host/names.ts";
import { counter, has, KSM, pageSize, toMib } from "./kernel.ts";

const path = (name: string) => `${KSM}/${name}`;

/** Held by the one process of this machine that steers. */
export const steeringLock = () => join(leaseDir(), "ksm-steer.lock");
/** Held by the one `watch` of this lease holder; contains its pid. */
export const watchLock = (holder: string) => join(leaseDir(), `ksm-watch-${fileName(holder)}.lock`);
/** A holder, which contains the whole MT_RUN, as part of a file name of at most 255 characters. */
function fileName(holder: string): string {
  const name = encodeURIComponent(holder);
  return name.length <= 180 ? name : createHash("sha256").update(holder).digest("hex");
}

/** While nobody steers, 1,000 pages (4 MiB) a second: a thousandth of a core. */
const SLOW = { pages_to_scan: "100", sleep_millisecs: "100" };

function settings(values: Record<string, string>): Settings {
  const out: Settings = {};
  for (const [name, value] of Object.entries(values)) if (has(name)) out[path(name)] = value;
  return out;
}

/**
 * Turns merging on at the slow rate. advisor_mode comes first: while the advisor is on, the kernel lets nobody else
 * set pages_to_scan.
 */
export const mergeSlowly = (holder: string) =>
  acquireLease("ksm", holder, settings({ advisor_mode: "none", ...SLOW, run: "1" }));

let set: string | undefined;

/** Sets the controller's rate, unless it is about that already. */
export async function setRate(
  holder: string,
  rate: { pages_to_scan: number; sleep_millisecs: number },
): Promise<Result<boolean, MtError>> {
  const there = counter("pages_to_scan");
  const near =
    rate.sleep_millisecs === counter("sleep_millisecs") && Math.abs(there - rate.pages_to_scan) <= there / 8;
  if (set === holder && near) return ok(false);
  const taken = await acquireLease(
    "ksm-scan",
    holder,
    settings({
      sleep_millisecs: String(rate.sleep_millisecs),
      pages_to_scan: String(rate.pages_to_scan),
    }),
  );
  if (taken.isOk()) {
    set = holder;
    // Drops the lease of a process that steered before and died.
    return releaseLease("ksm-scan", (h) => h !== holder);
  }
  return taken;
}

/** Releases the rate: nobody steers now. */
export async function stopSetting(): Promise<Result<boolean, MtError>> {
  set = undefined;
  return releaseLease("ksm-scan", () => true);
}

/** Notes that KSM cannot be set; true for the first caller on this machine, which then tells the user. */
export const noteOff = (holder: string) => acquireLease("ksm-off", holder, {});

/** Releases all leases. The last holder unmerges all pages where merging was off before. */
export async function giveBack(holder: string): Promise<Result<boolean, MtError>> {
  // A process that died while it steered left its rate set.
  clearDead(steeringLock());
  const steered = readHolder(steeringLock()) !== undefined;
  const scanning = await releaseLease("ksm-scan", (h) => !steered || h === holder);
  if (scanning.isErr()) return scanning;
  const off = await releaseLease("ksm-off", (h) => h === holder);
  if (off.isErr()) return off;
  return releaseLease(
    "ksm",
    (h) => h === holder,
    async (saved) => {
      if (saved[path("run")] === "1") return ok(undefined);
      return unmerge();
    },
  );
}

/** Gives every process its own copy of each page again, unless the machine would run out of memory by that. */
async function unmerge(): Promise<Result<void, MtError>> {
  const bytes = counter("pages_sharing") * pageSize();
  const available = availableMib() * 2 ** 20;
  if (bytes > available * 0.9) {
    inform(
      `${toMib(bytes)} MiB stay merged, since only ${toMib(available)} MiB are free; they are unmerged as their processes write or end`,
    );
    return ok(undefined);
  }
  const { writeFile } = await import("node:fs/promises");
  try {
    await writeFile(path("run"), "2");
    return ok(undefined);
  } catch (thrown) {
    const { code } = thrown as NodeJS.ErrnoException;
    return fail("failed", `Cannot unmerge pages: ${code ?? thrown} at ${path("run")}`);
  }
}
