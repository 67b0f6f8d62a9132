/**
 * What keeps guests from their host, and its tables small, whatever they send. A bridge passes up to its host what is
 * for its own MAC, and every broadcast; a port takes for itself what is for 01:80:c2:00:00:0X, IP too. And a bridge
 * learns every MAC that it sees. So frames that go up are dropped where they arrive, link-local protocols are passed on
 * like all else (but pause frames, which the kernel drops), and the bridge is told who is behind a port.
 */
import type { Command } from "../kernel/batch.ts";
import type { Link } from "../kernel/kernel.ts";

/** All but pause frames. */
const GROUPS = "0xfffd";
/** Classic BPF that returns TC_ACT_SHOT: it needs no module of actions. */
const DROP = 'bpf da bytecode "1,6 0 0 2,"';

/** For tc: whatever a bridge would give to its host is dropped. */
export function sealLines(bridge: string, there: Link | undefined): string[] {
  return [
    ...(there?.seal ? [] : [`qdisc add dev ${bridge} clsact`]),
    `filter replace dev ${bridge} ingress pref 1 handle 1 ${DROP}`,
  ];
}

/**
 * For ip, before the port is up.
 * @param flood whether it is given what is for a MAC that the plan does not have
 * @param there as it is on this bridge already
 */
export function portLine(name: string, flood: boolean, there: Link | undefined): string | undefined {
  const now = there?.port;
  if (now?.learning === false && now.flood === flood && now.group_fwd_mask === GROUPS) return undefined;
  return `link set dev ${name} type bridge_slave learning off flood ${flood ? "on" : "off"} group_fwd_mask ${GROUPS}`;
}

/** For bridge: who is behind the port. */
export function macCommands(
  name: string,
  mac: string,
  there: Link | undefined,
  failed: Command["failed"],
): Command[] {
  const known = there?.macs ?? [];
  return [
    ...(known.includes(mac) ? [] : [{ line: `fdb replace ${mac} dev ${name} master static`, failed }]),
    // Of an index that it had before; another port may have it by now.
    ...known
      .filter((older) => older !== mac)
      .map((older) => ({ line: `fdb del ${older} dev ${name} master`, failed: () => {} })),
  ];
}
