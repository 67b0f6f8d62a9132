/** mt-tree status: prints the hosts of the tree, as records, or as a table for people. */
import type { Run } from "../../../shared/cli/invocation.ts";
import { tableLines } from "../../../shared/cli/table.ts";
import { EXIT, mtError, orThrow } from "../../../shared/errors.ts";
import type { Host } from "../../../shared/records/index.ts";
import { isTerminal } from "../../../shared/stream/descriptors.ts";
import { writeAll } from "../../../shared/stream/writer.ts";
import type { HostStatus } from "../link/messages.ts";
import { readTree } from "../node/tree-file.ts";
import { TreeClient } from "../session/client.ts";
import type { spec } from "../spec.ts";

/** How long hosts have to answer how they are; a host that does not is shown without load and memory. */
export const PROBE_MS = 2_000;

export const status: Run<typeof spec, "status"> = async ({ args }) => {
  const client = orThrow(await TreeClient.connect());
  const hosts = orThrow(await client.list());
  const probed = await client.probe(
    hosts.flatMap((h) => (h.present ? [h.host] : [])),
    PROBE_MS,
  );
  client.close();
  // Each node knows the round trips to its children.
  const rtts = new Map([...probed.values()].flatMap(({ links }) => Object.entries(links)));
  const known = new Map((readTree()?.hosts ?? []).map((h) => [h.id, h]));
  const table = args.human || (isTerminal(1) && !args.records);
  const records = hosts.map((h): Host => {
    const { cores = 0, mem_mib = 0 } = known.get(h.host) ?? {};
    const vitals = probed.get(h.host)?.vitals;
    const rtt = h.rtt_ms ?? rtts.get(h.host);
    return {
      kind: "host",
      id: h.host,
      addr: h.addr,
      cores,
      mem_mib,
      mtu: vitals?.mtu,
      state: h.present ? "up" : "failed",
      error: h.present ? undefined : missing(h),
      parent: h.parent,
      depth: h.depth,
      since: h.since,
      rtt_ms: rtt === undefined ? undefined : Number(rtt.toFixed(2)),
      release: h.release,
      load: vitals?.load,
      mem_available_mib: vitals?.mem_available_mib,
      agent_rss_mib: vitals?.rss_mib,
    };
  });
  const text = table ? asTable(records) : records.map((r) => JSON.stringify(r));
  if (text.length > 0) writeAll(1, Buffer.from(`${text.join("\n")}\n`));
  return hosts.every((h) => h.present) ? EXIT.ok : EXIT.failed;
};

const missing = (h: HostStatus) => ({
  by: "mt-tree",
  ...mtError("lost", `Cannot hear from ${h.host}: it is gone since ${h.since}`, "mt-tree up brings it back"),
});

function asTable(hosts: Host[]): string[] {
  const rows = [
    [
      "HOST",
      "ADDR",
      "STATE",
      "SINCE",
      "PARENT",
      "DEPTH",
      "RTT MS",
      "LOAD",
      "FREE MIB",
      "AGENT MIB",
      "RELEASE",
    ],
  ];
  const or = (value: string | number | undefined) => String(value ?? "-");
  for (const h of hosts)
    rows.push([
      h.id,
      or(h.addr),
      h.state === "up" ? "up" : "MISSING",
      or(h.since),
      or(h.parent),
      or(h.depth),
      or(h.rtt_ms?.toFixed(2)),
      or(h.load?.toFixed(2)),
      or(h.mem_available_mib),
      or(h.agent_rss_mib),
      or(h.release),
    ]);
  return tableLines(rows);
}
