/**
 * Keeps guests from their host, and the host's tables small, whatever guests send. By default a bridge gives its host
 * every broadcast and every frame for the bridge's own MAC; a port keeps frames for 01:80:c2:00:00:0X to itself; and a
 * bridge learns every MAC that it sees. Here frames for the host are dropped at the bridge, link-local protocols are
 * forwarded like all else (but for pause frames, which the kernel drops), and MACs are set, never learnt.
 */
import { type MtError, mtError } from "../../../../shared/errors.ts";
import type { Command } from "../../kernel/batch.ts";
import type { Link } from "../../kernel/kernel.ts";

/** All but pause frames. */
const GROUPS = "0xfffd";
/** Classic BPF that returns TC_ACT_SHOT: it needs no module of actions. */
const DROP = 'bpf da bytecode "1,6 0 0 2,"';

/** A setting of a link could not be written. */
export const notSealed = (why: string): MtError =>
  mtError(
    "unavailable",
    `Cannot keep this host off the bridges of guests: ${why}`,
    "/proc/sys/net must be writable: in a container, mount -o remount,rw /proc/sys",
  );

/** Lines for tc: drop whatever the bridge would give to its host. */
export function sealLines(bridge: string, there: Link | undefined): string[] {
  return [
    ...(there?.seal ? [] : [`qdisc add dev ${bridge} clsact`]),
    `filter replace dev ${bridge} ingress pref 1 handle 1 ${DROP}`,
  ];
}

/**
 * A line for ip, to run before the port is up; undefined where its flags are right.
 * @param flood whether it gets frames for MACs that the bridge does not know
 * @param there the port, where it is on this bridge already
 */
export function portLine(name: string, flood: boolean, there: Link | undefined): string | undefined {
  const now = there?.port;
  if (now?.learning === false && now.flood === flood && now.group_fwd_mask === GROUPS) return undefined;
  return `link set dev ${name} type bridge_slave learning off flood ${flood ? "on" : "off"} group_fwd_mask ${GROUPS}`;
}

/** Lines for bridge: the port's MAC. */
export function macCommands(
  name: string,
  mac: string,
  there: Link | undefined,
  failed: Command["failed"],
): Command[] {
  const known = there?.macs ?? [];
  return [
    ...(known.includes(mac) ? [] : [{ line: `fdb replace ${mac} dev ${name} master static`, failed }]),
    // MACs of an older plan: another port may have them now. Where one cannot be removed it is gone already.
    ...known
      .filter((older) => older !== mac)
      .map((older) => ({ line: `fdb del ${older} dev ${name} master`, failed: () => {} })),
  ];
}
