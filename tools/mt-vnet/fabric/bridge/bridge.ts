/** The fabric of the Linux kernel: a bridge a segment, a VXLAN tunnel where other hosts have members. */
import { err, ok, type Result } from "neverthrow";
import { type MtError, orThrow } from "../../../../shared/errors.ts";
import { bridgeName, routerNamespacePrefix, vxlanName } from "../../../../shared/host/names.ts";
import type { Segment } from "../../../../shared/records/index.ts";
import {
  isOf,
  type Link,
  namespaces,
  notOurs,
  readDetails,
  readLinks,
  whatIsMissing,
} from "../../kernel/kernel.ts";
import { remove as removeNow } from "../../kernel/remove.ts";
import type { Shaper } from "../../shape/shaper.ts";
import type { Building, Fabric, Port, RouterWork, SegmentState, Switch } from "../fabric.ts";
import { removeMoved } from "./moved.ts";
import { buildPorts } from "./ports.ts";
import { type BridgePlan, planSegment } from "./segment-plan.ts";
import { buildSegments } from "./segments.ts";
import { switchesOf } from "./switches.ts";
import { packetsReceived, whyLost } from "./why-lost.ts";

export const bridge: Fabric = {
  missing: whatIsMissing,
  open,
  segmentLinks: (experiment, segment) => [bridgeName(experiment, segment), vxlanName(experiment, segment)],
  remove,
  removeAll,
  switches: async (host) => (await readLinks()).map((links) => switchesOf(links, host)),
  received: packetsReceived,
  whyLost,
};

async function open(experiment: string, host: string, shaper: Shaper): Promise<Result<Building, MtError>> {
  const links = await readLinks();
  if (links.isErr()) return err(links.error);
  const details = await readDetails(links.value, experiment);
  if (details.isErr()) return err(details.error);
  return ok(new BridgeBuilding(experiment, host, links.value, shaper));
}

class BridgeBuilding implements Building {
  readonly #plans = new Map<string, BridgePlan>();
  readonly #experiment: string;
  readonly #host: string;
  readonly #links: Map<string, Link>;
  readonly #shaper: Shaper;

  constructor(experiment: string, host: string, links: Map<string, Link>, shaper: Shaper) {
    this.#experiment = experiment;
    this.#host = host;
    this.#links = links;
    this.#shaper = shaper;
  }

  plan(segment: Segment): Result<BridgePlan, MtError> {
    const plan = planSegment(this.#experiment, segment, this.#host, this.#links);
    if (plan.isOk()) this.#plans.set(segment.id, plan.value);
    return plan;
  }

  async segments(states: readonly SegmentState[]): Promise<void> {
    await buildSegments(states, this.#plans, this.#links);
    await removeMoved(states, this.#plans, this.#links);
  }

  ports(ports: readonly Port[], routers: readonly RouterWork[]): Promise<void> {
    return buildPorts(ports, routers, this.#plans, this.#links, this.#shaper);
  }

  switchOf(segment: string): Switch | undefined {
    const plan = this.#plans.get(segment);
    if (!plan) return undefined;
    const { bridge, tunnel } = plan;
    return tunnel ? { bridge, tunnel: tunnel.link, vni: tunnel.vni, udp_port: tunnel.udp_port } : { bridge };
  }
}

async function remove(
  experiment: string,
  segments: readonly string[],
  ports: Iterable<string>,
  namespacesWanted: Iterable<string>,
): Promise<Map<string, MtError>> {
  const there = orThrow(await readLinks());
  const links = new Set([...ports, ...segments.flatMap((id) => bridge.segmentLinks(experiment, id))]);
  // Guests that the plan has on other hosts now may have left ports here: those go with their bridge.
  const bridges = new Set(segments.map((id) => bridgeName(experiment, id)));
  for (const link of there.values())
    if (link.master !== undefined && bridges.has(link.master) && isOf(experiment, link))
      links.add(link.ifname);
  const strangers = new Map<string, MtError>();
  for (const name of links) {
    const link = there.get(name);
    const error = link && notOurs(link, experiment);
    if (error) strangers.set(name, error);
  }
  for (const name of strangers.keys()) links.delete(name);
  const present = new Set(namespaces(""));
  const left = await removeNow(
    { links, namespaces: [...namespacesWanted].filter((name) => present.has(name)) },
    there,
  );
  return new Map([...left, ...strangers]);
}

async function removeAll(experiment: string, host: string): Promise<Map<string, MtError>> {
  const there = orThrow(await readLinks());
  const ours = [...there.values()].filter((link) => isOf(experiment, link)).map((link) => link.ifname);
  return removeNow(
    { links: new Set(ours), namespaces: namespaces(routerNamespacePrefix(host, experiment)) },
    there,
  );
}
