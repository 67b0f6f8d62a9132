/** mt-vnet ls: the segments that are there now, from the aliases of links: one `switch` record each. */

import { hostOf } from "../../../shared/cli/filter-command.ts";
import type { Run } from "../../../shared/cli/invocation.ts";
import { tableLines } from "../../../shared/cli/table.ts";
import { EXIT, MtFailure, orThrow } from "../../../shared/errors.ts";
import { findProgram } from "../../../shared/host/process.ts";
import { isTerminal } from "../../../shared/stream/descriptors.ts";
import { LineWriter } from "../../../shared/stream/writer.ts";
import { type Link, readLinks } from "../kernel/kernel.ts";
import type { spec } from "../spec.ts";

interface Row {
  kind: "switch";
  id: string;
  host: string;
  experiment: string;
  state: "up" | "down";
  bridge: string;
  tunnel?: string;
  vni?: number;
  udp_port?: number;
  ports: number;
  mtu: number;
}

export const ls: Run<typeof spec, "ls"> = async (invocation) => {
  const { args } = invocation;
  const program = findProgram("ip");
  if (program.isErr()) throw new MtFailure(program.error);
  const links = orThrow(await readLinks());
  const rows = switchesOf(links, hostOf(invocation)).filter(
    (r) => args.experiment === undefined || r.experiment === args.experiment,
  );
  const writer = new LineWriter();
  const human = args.human ?? isTerminal(1);
  for (const line of human ? table(rows) : rows.map((r) => JSON.stringify(r))) writer.line(line);
  writer.flush();
  return EXIT.ok;
};

/** Bridges whose alias says that they are segments, with what stands on them. */
export function switchesOf(links: ReadonlyMap<string, Link>, host: string): Row[] {
  const rows = new Map<string, Row>();
  for (const link of links.values()) {
    const [mt, experiment, what, id] = (link.alias ?? "").split(":");
    if (mt !== "mt" || what !== "segment" || link.kind !== "bridge" || !experiment || !id) continue;
    rows.set(link.ifname, {
      kind: "switch",
      id,
      host,
      experiment,
      state: link.up ? "up" : "down",
      bridge: link.ifname,
      ports: 0,
      mtu: link.mtu,
    });
  }
  for (const link of links.values()) {
    const row = link.master === undefined ? undefined : rows.get(link.master);
    if (!row) continue;
    if (link.kind === "vxlan")
      Object.assign(row, { tunnel: link.ifname, vni: link.vni, udp_port: link.udp_port });
    else row.ports++;
  }
  return [...rows.values()].sort(
    (a, b) => a.experiment.localeCompare(b.experiment) || a.id.localeCompare(b.id),
  );
}

function table(rows: readonly Row[]): string[] {
  const cells = [
    ["EXPERIMENT", "SEGMENT", "STATE", "PORTS", "MTU", "BRIDGE", "TUNNEL"],
    ...rows.map((r) => [
      r.experiment,
      r.id,
      r.state,
      String(r.ports),
      String(r.mtu),
      r.bridge,
      r.tunnel ?? "-",
    ]),
  ];
  return tableLines(cells);
}
