/** `mt-boot ls`: the guests on this host and their states, as records or as a table. */

import { hostOf } from "../../../shared/cli/filter-command.ts";
import type { Run } from "../../../shared/cli/invocation.ts";
import { warn } from "../../../shared/cli/stderr.ts";
import { tableLines } from "../../../shared/cli/table.ts";
import { EXIT, mtError, orThrow } from "../../../shared/errors.ts";
import { expandSet, fold, parseSet, setHas } from "../../../shared/nodeset/ranges.ts";
import type { Guest } from "../../../shared/records/index.ts";
import { isTerminal } from "../../../shared/stream/descriptors.ts";
import { LineWriter } from "../../../shared/stream/writer.ts";
import { textOf } from "../client/came-as.ts";
import { ask, experimentsHere } from "../client/client.ts";
import { foldGuests } from "../client/fold.ts";
import { whoIsHere } from "../client/who-is-here.ts";
import type { spec } from "../spec.ts";

export const ls: Run<typeof spec, "ls"> = async (invocation) => {
  const { args, signal } = invocation;
  const host = hostOf(invocation);
  const here = await experimentsHere();
  const set = args.set || undefined;
  const ranges = set === undefined ? undefined : orThrow(parseSet(set));
  const known = new Set<string>();
  const wanted = here.filter((id) => args.experiment === undefined || id === args.experiment);
  const rows: string[][] = [
    ["EXPERIMENT", "GUEST", "STATE", "IMAGE", "CORES", "MEM_MIB", "ADDRESS", "ERROR"],
  ];
  const writer = new LineWriter();
  const human = args.human || isTerminal(1);
  for (const experiment of wanted) {
    const guests: Guest[] = [];
    orThrow(
      await ask({ experiment, host, signal }, "ls", undefined, (line) => {
        if (line.kind !== "list") return;
        known.add(line.guest.id);
        if (ranges && !setHas(ranges, line.guest.id)) return;
        if (args.state === undefined || line.guest.state === args.state) guests.push(line.guest);
      }),
    );
    guests.sort((a, b) => a.index - b.index);
    for (const guest of foldGuests(guests)) {
      if (human) rows.push(rowOf(experiment, guest));
      else {
        const { kind, id, ...rest } = guest;
        writer.line(textOf({ kind, id, ...rest, experiment }));
      }
    }
  }
  if (human) for (const line of tableLines(rows)) writer.line(line);
  writer.flush();
  const missing = set === undefined ? [] : fold(orThrow(expandSet(set)).filter((id) => !known.has(id)));
  for (const id of missing)
    warn(mtError("failed", `Cannot list ${id}: the guest is not there`, whoIsHere(id, known)));
  return missing.length === 0 ? EXIT.ok : EXIT.failed;
};

const rowOf = (experiment: string, g: Guest): string[] => [
  experiment,
  g.id,
  g.state ?? "",
  g.image,
  String(g.cores),
  String(g.mem_mib),
  g.interfaces.map((nic) => nic.ip ?? "-").join(","),
  g.error?.message ?? "",
];
