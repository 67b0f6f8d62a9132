/** Checks that all that records of a plan refer to is there (segments, images, routers, hosts), and addresses fit. */
import { ok, type Result } from "neverthrow";
import { cidrPlus } from "../../../shared/addresses.ts";
import { fail, type MtError } from "../../../shared/errors.ts";
import type { Guest, Router } from "../../../shared/records/index.ts";
import { BRIDGE_PORTS_MAX } from "../../../shared/records/segment.ts";
import { guestCount, type Plan } from "../plan/plan.ts";
import { networkText } from "../plan/prefixes.ts";

/** @param hosts names of all hosts that the plan may use */
export function checkReferences(plan: Plan, hosts: ReadonlySet<string>): Result<void, MtError> {
  const prefixes = new Map(plan.segments.map(({ record }) => [record.id, networkText(record.prefix!)]));
  const routers = new Set(plan.routers.map(({ record }) => record.id));
  const images = new Set(plan.images.map(({ record }) => record.id));
  for (const { record } of plan.routers) {
    const bad =
      common(record, prefixes, hosts) ??
      missing(
        "router",
        record.interfaces.map((i) => i.peer),
        routers,
      );
    if (bad) return refuse(record, bad);
  }
  for (const { record } of plan.guests) {
    const bad = common(record, prefixes, hosts) ?? missing("image", [record.image], images);
    if (bad) return refuse(record, bad);
    const count = guestCount(record);
    for (const { ip } of record.interfaces) {
      const last = ip === undefined ? ok("") : cidrPlus(ip, count - 1);
      if (last.isErr()) return refuse(record, last.error.message);
    }
  }
  return ok(undefined);
}

/** Checks that no bridge of a placed plan has more ports than Linux allows. */
export function checkPorts(plan: Plan): Result<void, MtError> {
  const ports = new Map<string, Map<string, number>>();
  const add = (segment: string, host: string, n: number) => {
    const on = ports.get(segment) ?? new Map<string, number>();
    ports.set(segment, on.set(host, (on.get(host) ?? 0) + n));
  };
  for (const { record } of plan.routers)
    for (const { segment } of record.interfaces) add(segment, record.host!, 1);
  for (const { record } of plan.guests)
    for (const { segment } of record.interfaces) add(segment, record.host!, guestCount(record));
  for (const [segment, on] of ports)
    for (const [host, n] of on) {
      const tunnel = on.size > 1 ? 1 : 0;
      if (n + tunnel > BRIDGE_PORTS_MAX)
        return fail(
          "data",
          `Cannot place segment ${segment}: it would have ${n + tunnel} ports on host ${host}, and a Linux bridge takes ${BRIDGE_PORTS_MAX}`,
          "use more hosts, or more and smaller segments",
        );
    }
  return ok(undefined);
}

const refuse = (record: Router | Guest, why: string) =>
  fail("data", `Cannot place ${record.kind} ${record.id.slice(0, 60)}: ${why}`);

function missing(
  kind: string,
  names: readonly (string | undefined)[],
  known: ReadonlySet<string> | ReadonlyMap<string, unknown>,
): string | undefined {
  const name = names.find((n) => n !== undefined && !known.has(n));
  return name === undefined ? undefined : `${kind} ${name} does not exist`;
}

function common(
  record: Router | Guest,
  prefixes: ReadonlyMap<string, string>,
  hosts: ReadonlySet<string>,
): string | undefined {
  const none =
    missing(
      "segment",
      record.interfaces.map((i) => i.segment),
      prefixes,
    ) ?? missing("host", [record.host], hosts);
  if (none !== undefined) return none;
  for (const { segment, ip } of record.interfaces) {
    const prefix = prefixes.get(segment);
    if (ip !== undefined && networkText(ip) !== prefix)
      return `its address ${ip} is not in ${prefix}, the prefix of segment ${segment}`;
  }
  return undefined;
}
