/**
 * A router's BIRD configuration, from its record alone (and the delays of its segments).
 * Only checked ids, addresses and numbers stand in it.
 */
import type { Router } from "../../../../shared/records/index.ts";

/**
 * Hello and dead interval of a link, in seconds. Measured with 11 routers: 7.2 s to converge with a hello
 * of 1 s as of 2 s (what takes the time is OSPF's 5 s between two versions of an LSA), and 7.3 s with 44
 * busy loops on the same 2 cores, no neighbour lost. Five hellos may be missed.
 */
const HELLO_S = 2;
const DEAD_S = 10;
const RETRANSMIT_S = 2;
const COST_MAX = 65_535;
/** Where nothing is known of a segment. */
export const COST_DEFAULT = 10;
/** A delay as an OSPF cost: tenths of a millisecond, so that 5.7 ms is 57. */
const COST_PER_MS = 10;

/** The OSPF cost of a segment with this one-way delay. */
export function costOfDelay(delay_ms: number | undefined): number {
  if (delay_ms === undefined) return COST_DEFAULT;
  return Math.min(COST_MAX, Math.max(1, Math.round(delay_ms * COST_PER_MS)));
}

/** The first address, which is the router's id in OSPF; from its index where it has none. */
function routerId(router: Router): string {
  const first = router.interfaces[0];
  if (first) return first.ip.split("/")[0]!;
  const n = router.index + 1;
  return [24, 16, 8, 0].map((shift) => (n >>> shift) & 255).join(".");
}

/** @param delays one-way delay in ms by segment, of the segments that were seen */
export function birdConfig(
  experiment: string,
  router: Router,
  delays: ReadonlyMap<string, number | undefined>,
): string {
  const interfaces = router.interfaces.map((nic, n) => {
    const cost = Math.min(COST_MAX, nic.cost ?? costOfDelay(delays.get(nic.segment)));
    // On a LAN nobody speaks OSPF: a guest must not be able to become a neighbour.
    const how =
      nic.peer === undefined
        ? "stub yes;"
        : `type ptp; hello ${HELLO_S}; dead ${DEAD_S}; retransmit ${RETRANSMIT_S};`;
    return `    interface "eth${n}" { cost ${cost}; ${how} };\n`;
  });
  // `direct` outranks OSPF for connected prefixes, so that only what has a next hop goes to the kernel.
  return `# router ${router.id} of experiment ${experiment}; written by mt-route
log stderr { warning, error, auth, fatal, bug };
router id ${routerId(router)};
protocol device { scan time 10; }
protocol direct { ipv4; }
protocol kernel {
  scan time 60;
  ipv4 { import none; export where source ~ [ RTS_OSPF, RTS_OSPF_IA, RTS_OSPF_EXT1, RTS_OSPF_EXT2 ]; };
}
protocol ospf v2 {
  ipv4 { import all; export none; };
  area 0 {
${interfaces.join("")}  };
}
`;
}
