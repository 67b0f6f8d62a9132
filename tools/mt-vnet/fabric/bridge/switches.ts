/** The segments that the kernel has, from the aliases of links alone. */
import type { Link } from "../../kernel/kernel.ts";
import type { SwitchHere } from "../fabric.ts";

export function switchesOf(links: ReadonlyMap<string, Link>, host: string): SwitchHere[] {
  const rows = new Map<string, SwitchHere>();
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
