/**
 * `mt-boot stats`: what guests use, by the kernel's counters of their QEMU processes and taps: one `sample` a host with
 * the least, the median and the most of them, or with --each one a guest.
 */
import type { Run } from "../../../shared/cli/invocation.ts";
import { tableLines } from "../../../shared/cli/table.ts";
import { EXIT, mtError, orThrow } from "../../../shared/errors.ts";
import { guestDir } from "../../../shared/host/names.ts";
import { fold } from "../../../shared/nodeset/ranges.ts";
import type { Guest } from "../../../shared/records/index.ts";
import { isTerminal } from "../../../shared/stream/descriptors.ts";
import { LineWriter } from "../../../shared/stream/writer.ts";
import { ask, supervisorPid } from "../client/client.ts";
import { failedExit, type Group, overGuests } from "../client/targets.ts";
import { whoIsHere } from "../client/who-is-here.ts";
import { type Cost, costOf, type Links, readLinks } from "../machine/cost.ts";
import { livingGuests } from "../machine/processes.ts";
import { hasLedger } from "../persist/ledger.ts";
import type { spec } from "../spec.ts";

/** A guest, and what it uses if it runs. */
interface Measured {
  id: string;
  state: string;
  restarts: number;
  cost?: Cost;
}

export const stats: Run<typeof spec, "stats"> = async (invocation) => {
  const { args } = invocation;
  const { set = "" } = args;
  const human = args.human || (isTerminal(1) && set !== "");
  const all: Measured[] = [];
  let now: Promise<Snapshot> | undefined;
  let where: Pick<Group, "experiment" | "host"> | undefined;
  const code = await overGuests(invocation, {
    set,
    changes: false,
    example: "mt-boot stats 'g[0-99]'",
    work: async (group) => {
      where = group;
      now ??= snapshot(group);
      const { known } = await now;
      const ids = group.targets.map(({ id }) => id);
      const missing = ids.filter((id) => !known.has(id));
      all.push(
        ...measure(
          group,
          ids.filter((id) => known.has(id)),
          await now,
        ),
      );
      for (const id of fold(missing)) {
        const hint = whoIsHere(id, known.keys());
        const why = mtError("failed", `Cannot measure ${id}: the guest is not there`, hint);
        group.emit(failedExit(id, group.host, why));
      }
      return missing.length === 0 ? EXIT.ok : EXIT.failed;
    },
    finish: async (emit) => {
      if (!where || all.length === 0) return;
      const { experiment, host } = where;
      const common = { host, time: new Date().toISOString(), experiment };
      if (human) table(args.each ? eachRows(all) : summaryRows(all));
      else if (args.each)
        for (const { id, cost, state, restarts } of all)
          emit({ kind: "sample", id, ...common, guest: id, guest_state: state, restarts, ...cost });
      else emit({ kind: "sample", id: "guests", ...common, ...summary(all) });
    },
  });
  return code;
};

/** Taken once, when the first guest is measured. */
interface Snapshot {
  known: Map<string, { guest: Guest; restarts: number }>;
  pids: Map<string, number>;
  links: Links;
}

async function snapshot(group: Group): Promise<Snapshot> {
  const { experiment } = group;
  const known: Snapshot["known"] = new Map();
  if (hasLedger(experiment) || supervisorPid(experiment) !== undefined)
    orThrow(
      await ask(group, "ls", undefined, (line) => {
        if (line.kind === "list") known.set(line.guest.id, line);
      }),
    );
  const pids = new Map(livingGuests(experiment).map(({ dir, pid }) => [dir, pid]));
  return { known, pids, links: readLinks() };
}

function measure(
  { experiment }: Group,
  ids: readonly string[],
  { known, pids, links }: Snapshot,
): Measured[] {
  return ids.map((id) => {
    const { guest, restarts } = known.get(id)!;
    const pid = pids.get(guestDir(experiment, id));
    const cost = pid === undefined ? undefined : costOf(experiment, guest, pid, links);
    return { id, state: guest.state ?? "running", restarts, ...(cost ? { cost } : {}) };
  });
}

/** The least, the median and the most of each measure. */
interface Spread {
  min: number;
  median: number;
  max: number;
}

function summary(all: readonly Measured[]): Record<string, unknown> {
  const states: Record<string, number> = {};
  for (const { state } of all) states[state] = (states[state] ?? 0) + 1;
  const costs = all.flatMap(({ cost }) => cost ?? []);
  const names = Object.keys(costs[0] ?? {}) as (keyof Cost)[];
  const spreads = names.map((name): [string, Spread] => [name, spread(costs.map((cost) => cost[name]))]);
  const restarts = all.reduce((sum, guest) => sum + guest.restarts, 0);
  const pss_sum_mib = Math.round(costs.reduce((sum, cost) => sum + cost.pss_mib, 0) * 10) / 10;
  return { guests: all.length, ...states, restarts, pss_sum_mib, ...Object.fromEntries(spreads) };
}

function spread(values: number[]): Spread {
  const sorted = values.sort((a, b) => a - b);
  return { min: sorted[0]!, median: sorted[Math.floor(sorted.length / 2)]!, max: sorted[sorted.length - 1]! };
}

const titles = (names: readonly string[]) => names.map((name) => name.toUpperCase());

function eachRows(all: readonly Measured[]): string[][] {
  const names = Object.keys(all.find(({ cost }) => cost)?.cost ?? {}) as (keyof Cost)[];
  return [
    ["GUEST", "STATE", "RESTARTS", ...titles(names)],
    ...all.map(({ id, state, restarts, cost }) => [
      id,
      state,
      String(restarts),
      ...names.map((name) => String(cost?.[name] ?? "-")),
    ]),
  ];
}

function summaryRows(all: readonly Measured[]): string[][] {
  const rows = [["MEASURE", "ALL", "MIN", "MEDIAN", "MAX"]];
  for (const [name, value] of Object.entries(summary(all)))
    if (typeof value === "object") {
      const { min, median, max } = value as Spread;
      rows.push([name, "", String(min), String(median), String(max)]);
    } else rows.push([name, String(value), "", "", ""]);
  return rows;
}

function table(rows: string[][]): void {
  const writer = new LineWriter();
  for (const line of tableLines(rows)) writer.line(line);
  writer.flush();
}
