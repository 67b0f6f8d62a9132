/** What of a plan is on this host: segments, and the ends of links between routers. */
import { formatIp, parseCidr } from "../../../shared/addresses.ts";
import { routerNamespace } from "../../../shared/host/names.ts";
import type { Router, Segment } from "../../../shared/records/index.ts";
import { MTU_USUAL, TUNNEL_OVERHEAD } from "../../../shared/records/segment.ts";

/** Whether this host has a part of the segment. */
export function isHere(segment: Segment, host: string): boolean {
  if (segment.hosts) return segment.hosts.includes(host);
  return segment.members === undefined || segment.members.some((m) => m.host === host);
}

/** The end on this host of a link between two routers. */
export interface LinkEnd {
  router: string;
  segment: string;
  netns: string;
  mtu: number;
  /** Address of the other end. */
  peer_ip: string;
  /** The host of the other end and its underlay address; absent where it is this host. */
  other?: { host: string; addr: string | undefined };
}

/** The ends of this router's point-to-point links: those whose prefix tells the address of the other end. */
export function linkEnds(
  experiment: string,
  host: string,
  router: Router,
  segments: ReadonlyMap<string, Segment>,
): LinkEnd[] {
  return router.interfaces.flatMap(({ segment: id, ip, peer }): LinkEnd[] => {
    const segment = segments.get(id);
    const cidr = parseCidr(ip);
    if (!segment || peer === undefined || cidr.isErr() || cidr.value.length !== 31) return [];
    const other = segment.members?.find((m) => m.router === peer && m.host !== host);
    return [
      {
        router: router.id,
        segment: id,
        netns: routerNamespace(host, experiment, router.id),
        mtu: segment.mtu ?? (other ? MTU_USUAL - TUNNEL_OVERHEAD : MTU_USUAL),
        peer_ip: formatIp((cidr.value.address ^ 1) >>> 0),
        ...(other ? { other: { host: other.host, addr: other.underlay } } : {}),
      },
    ];
  });
}
