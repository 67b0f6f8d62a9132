/** mt-tree status: the hosts of the tree, as records, or as a table for people. */

import type { Invocation } from "../../shared/cli/start.ts";
import { tableLines } from "../../shared/cli/table.ts";
import { EXIT, mtError, orThrow } from "../../shared/errors.ts";
import { writeAll } from "../../shared/stream/writer.ts";
import { TreeClient } from "./client.ts";
import type { HostStatus } from "./messages.ts";
import { readTree } from "./tree-file.ts";

export async function status({ args }: Invocation): Promise<number> {
  const client = orThrow(await TreeClient.connect());
  const hosts = orThrow(await client.list());
  client.close();
  const table = args.human === true || (process.stdout.isTTY && args.records !== true);
  const known = new Map((readTree()?.hosts ?? []).map((h) => [h.id, h]));
  const text = table
    ? asTable(hosts)
    : hosts.map((h) => {
        const { cores = 1, mem_mib = 1 } = known.get(h.host) ?? {};
        const record = { kind: "host", id: h.host, addr: h.addr, cores, mem_mib };
        const extra = {
          parent: h.parent,
          depth: h.depth,
          rtt_ms: h.rtt_ms === undefined ? undefined : Number(h.rtt_ms.toFixed(2)),
          since: h.since,
        };
        return JSON.stringify(
          h.present
            ? { ...record, state: "up", ...extra }
            : { ...record, state: "failed", error: missing(h), ...extra },
        );
      });
  if (text.length > 0) writeAll(1, Buffer.from(`${text.join("\n")}\n`));
  return hosts.every((h) => h.present) ? EXIT.ok : EXIT.failed;
}

const missing = (h: HostStatus) => ({
  by: "mt-tree",
  ...mtError("lost", `Cannot hear from ${h.host}: it is gone since ${h.since}`, "mt-tree up brings it back"),
});

function asTable(hosts: HostStatus[]): string[] {
  const rows = [["HOST", "ADDR", "STATE", "SINCE", "PARENT", "DEPTH", "RTT MS"]];
  for (const h of hosts)
    rows.push([
      h.host,
      h.addr,
      h.present ? "up" : "MISSING",
      h.since,
      h.parent ?? "-",
      String(h.depth ?? "-"),
      h.rtt_ms?.toFixed(2) ?? "-",
    ]);
  return tableLines(rows);
}
