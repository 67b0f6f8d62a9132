/**
 * mt-ksm protect: at `end`, sets what the kernel kills first when memory runs out: guests, in the given order,
 * before the programs that manage them; with --memory in a memory cgroup of their own. Emits one `sample`.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { err, ok, type Result } from "neverthrow";
import { hostOf, runFilterCommand } from "../../../shared/cli/filter-command.ts";
import type { Run } from "../../../shared/cli/invocation.ts";
import { fail, type MtError, toMtError } from "../../../shared/errors.ts";
import { guestDir } from "../../../shared/host/names.ts";
import {
  type OomOrder,
  oomFile,
  oomPlan,
  oomScore,
  placeGuest,
  readOomPlan,
} from "../../../shared/host/oom.ts";
import { writeOwn } from "../../../shared/own-place.ts";
import type { Guest } from "../../../shared/records/index.ts";
import { guestMembers } from "../../../shared/records/members.ts";
import { makeCgroup } from "../protection/cgroup.ts";
import { guestQemus, keepers } from "../protection/qemu.ts";
import type { spec } from "../spec.ts";

/** oom_score_adj of the programs that manage guests, where we may lower it. */
const KEEP_SCORE = -500;

export const protect: Run<typeof spec, "protect"> = async (invocation) => {
  const { args } = invocation;
  const host = hostOf(invocation);
  const { order, memory: limit_mib } = args;
  let experiment: string | undefined;
  const guests: Guest[] = [];
  return runFilterCommand(invocation, {
    changes: true,
    reads: {
      experiment: (e) => {
        experiment = e.id;
      },
      guest: (g, context) => {
        if (g.host !== host) return;
        const members = guestMembers(g);
        if (members.isErr()) context.note(members.error);
        else for (const member of members.value) guests.push(member);
      },
    },
    onEnd: (context) => {
      const time = new Date().toISOString();
      const base = { kind: "sample", id: "protect", host, time, ...(experiment ? { experiment } : {}) };
      const done =
        experiment === undefined
          ? fail<object>("data", "Cannot protect: no experiment record came")
          : decide(host, experiment, order, guests, limit_mib);
      if (done.isOk()) return context.emit({ ...base, order, guests: guests.length, ...done.value });
      context.note(done.error);
      context.emit({ ...base, state: "failed", error: { by: context.by, ...done.error } });
    },
  });
};

/** Writes the order down for guests that start later, and applies it to those that run. */
function decide(
  host: string,
  experiment: string,
  order: OomOrder,
  guests: readonly Guest[],
  limit_mib: number | undefined,
): Result<object, MtError> {
  let cgroup = readOomPlan(experiment)?.cgroup;
  if (limit_mib !== undefined) {
    const made = makeCgroup(experiment, limit_mib);
    if (made.isErr()) return err(made.error);
    cgroup = made.value;
  }
  const plan = oomPlan(order, guests, cgroup);
  try {
    writeOwn(oomFile(experiment), JSON.stringify(plan));
  } catch (thrown) {
    return err(toMtError(thrown));
  }
  const byDir = new Map(guests.map((g) => [guestDir(experiment, g.id), g]));
  let running = 0;
  for (const { pid, dir } of guestQemus(experiment)) {
    const guest = byDir.get(dir);
    if (guest === undefined) continue;
    const why = placeGuest(pid, plan, guest);
    if (why !== undefined)
      return fail(
        "permission",
        `Cannot set who dies first: ${why} for QEMU ${pid} of ${guest.id}`,
        "run it as root, or as who started the guests",
      );
    running++;
  }
  const scores = guests.map((g) => oomScore(plan, g));
  return ok({
    running,
    ...(guests.length > 0 ? { score_least: Math.min(...scores), score_most: Math.max(...scores) } : {}),
    ...keep(keepers(host, experiment)),
    ...(cgroup === undefined ? {} : { cgroup }),
    ...(limit_mib === undefined ? {} : { memory_mib: limit_mib }),
  });
}

/** Lowers the scores of the managing programs as far as the kernel allows: how many they are, and the highest score. */
function keep(pids: readonly number[]): { kept: number; kept_score?: number } {
  const scores: number[] = [];
  for (const pid of pids) {
    const file = `/proc/${pid}/oom_score_adj`;
    try {
      // Without CAP_SYS_RESOURCE a score cannot go below its parent's: then it stays as it is.
      for (const score of [KEEP_SCORE, 0]) {
        if (Number(readFileSync(file, "utf8")) <= score) break;
        try {
          writeFileSync(file, String(score));
        } catch {}
      }
      scores.push(Number(readFileSync(file, "utf8")));
    } catch {
      // It ended meanwhile.
    }
  }
  return { kept: scores.length, ...(scores.length > 0 ? { kept_score: Math.max(...scores) } : {}) };
}
