/** Why frames on a link get lost, and what mends it: from what the bridges, tunnels and the underlay show. */
import { readFileSync } from "node:fs";
import { type MtError, mtError } from "../../../../shared/errors.ts";
import { TUNNEL_PORTS, tunnelPort, vxlanName } from "../../../../shared/host/names.ts";
import { run } from "../../../../shared/host/process.ts";
import { TUNNEL_OVERHEAD } from "../../../../shared/records/segment.ts";
import type { LinkEnd } from "../plan-here.ts";
import { ping, type Tried } from "../try-link.ts";

const LAST_PORT = TUNNEL_PORTS.first + TUNNEL_PORTS.count - 1;
const UNDERLAY_PING_BYTES = 84;

export async function whyLost(
  experiment: string,
  host: string,
  end: LinkEnd,
  tried: Exclude<Tried, { is: "whole" }>,
  received_before: number | undefined,
  signal: AbortSignal,
): Promise<MtError> {
  if (!end.other) return bridgeError(host, end, tried);
  const { host: other, addr } = end.other;
  if (tried.is === "narrow")
    return mtError(
      "failed",
      `Cannot send packets of ${end.mtu} bytes from ${host} to ${other}: up to ${tried.carries} get through, so the network between them takes ${tried.carries + TUNNEL_OVERHEAD} and not the ${end.mtu + TUNNEL_OVERHEAD} of a full tunnel packet`,
      `on ${host} and ${other}: ip link set dev DEVICE mtu ${tried.carries + TUNNEL_OVERHEAD}, then mt-topo place takes that; or let the network between them carry more`,
    );
  const received = await packetsReceived(experiment, end);
  const answers = addr === undefined || (await ping(undefined, addr, UNDERLAY_PING_BYTES, signal));
  let how = "no frame of ours is answered";
  if (received !== undefined && received_before !== undefined)
    how =
      received > received_before
        ? "frames come from there, and none of ours is answered"
        : "nothing comes from there";
  const beside = answers ? "" : `; ${addr} does not answer a ping either`;
  const ports = `${TUNNEL_PORTS.first}:${LAST_PORT}`;
  return mtError(
    "failed",
    `Cannot reach ${other} from ${host} through a tunnel: ${how}${beside}`,
    `on ${other} and ${host}, let UDP ports ${TUNNEL_PORTS.first} to ${LAST_PORT} through (this was ${tunnelPort(experiment)}): iptables -I INPUT -p udp --dport ${ports} -j ACCEPT; and see what ${other} says of its own bridges`,
  );
}

function bridgeError(host: string, end: LinkEnd, tried: Exclude<Tried, { is: "whole" }>): MtError {
  if (tried.is === "narrow")
    return mtError(
      "failed",
      `Cannot pass packets of ${end.mtu} bytes over a bridge of ${host}: up to ${tried.carries} get through`,
      "nft list ruleset: a rule for bridged packets drops large ones",
    );
  if (filtersBridges())
    return mtError(
      "failed",
      `Cannot pass frames over a bridge of ${host}: its firewall drops what bridges forward (bridge-nf-call-iptables is 1, as Docker sets it: packets on bridges go through the FORWARD chain)`,
      `on ${host}: sysctl -w net.bridge.bridge-nf-call-iptables=0; or, where others need it: iptables -I FORWARD -m physdev --physdev-is-bridged -j ACCEPT. Where neither helps, nft list ruleset (or ebtables -L) shows a rule of family bridge`,
    );
  return mtError(
    "failed",
    `Cannot pass frames over a bridge of ${host}: none gets through`,
    `on ${host}: nft list ruleset (or ebtables -L) shows which rule of family bridge drops them`,
  );
}

/** Whether the packets that this host's bridges forward go through its iptables and nft tables for IP. */
function filtersBridges(): boolean {
  try {
    return readFileSync("/proc/sys/net/bridge/bridge-nf-call-iptables", "utf8").trim() === "1";
  } catch {
    return false;
  }
}

/** Packets that have come out of the tunnel of a link; undefined where it has none, or the kernel does not say. */
export async function packetsReceived(experiment: string, end: LinkEnd): Promise<number | undefined> {
  if (!end.other) return undefined;
  const words = ["-s", "-j", "link", "show", "dev", vxlanName(experiment, end.segment)];
  const shown = await run("ip", words, { timeout_s: 10 });
  if (shown.isErr()) return undefined;
  try {
    const [found] = JSON.parse(shown.value.stdout) as { stats64?: { rx?: { packets?: number } } }[];
    return found?.stats64?.rx?.packets;
  } catch {
    return undefined;
  }
}
