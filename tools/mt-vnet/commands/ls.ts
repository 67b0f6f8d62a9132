/** mt-vnet ls: the segments that are there now, from the kernel alone: one `switch` record each. */
import { hostOf } from "../../../shared/cli/filter-command.ts";
import type { Run } from "../../../shared/cli/invocation.ts";
import { tableLines } from "../../../shared/cli/table.ts";
import { EXIT, MtFailure, orThrow } from "../../../shared/errors.ts";
import { findProgram } from "../../../shared/host/process.ts";
import { isTerminal } from "../../../shared/stream/descriptors.ts";
import { LineWriter } from "../../../shared/stream/writer.ts";
import type { SwitchHere } from "../fabric/fabric.ts";
import { fabricHere } from "../fabric/fabrics.ts";
import type { spec } from "../spec.ts";

export const ls: Run<typeof spec, "ls"> = async (invocation) => {
  const { args } = invocation;
  const program = findProgram("ip");
  if (program.isErr()) throw new MtFailure(program.error);
  const switches = orThrow(await (await fabricHere()).switches(hostOf(invocation)));
  const rows = switches.filter((r) => args.experiment === undefined || r.experiment === args.experiment);
  const writer = new LineWriter();
  const human = args.human ?? isTerminal(1);
  for (const line of human ? table(rows) : rows.map((r) => JSON.stringify(r))) writer.line(line);
  writer.flush();
  return EXIT.ok;
};

function table(rows: readonly SwitchHere[]): string[] {
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
