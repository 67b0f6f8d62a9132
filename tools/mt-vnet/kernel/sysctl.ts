/** Settings of single links, in the namespace that this process is in. Each returns why it could not be set. */
import { existsSync, writeFileSync } from "node:fs";
import { stateOf } from "../../../shared/errors.ts";

/** A file that is not there is no error: the link has gone, or the kernel has no IPv6. */
function set(path: string, value: string): string | undefined {
  const file = `/proc/sys/net/${path}`;
  try {
    writeFileSync(file, value);
  } catch (thrown) {
    if (existsSync(file)) return `${file}: ${stateOf(thrown as NodeJS.ErrnoException)}`;
  }
  return undefined;
}

export const withoutIpv6 = (link: string): string | undefined => set(`ipv6/conf/${link}/disable_ipv6`, "1");

/**
 * Keeps the host's own stack out of a bridge, beside its seal (seal.ts): no IPv6, no ARP (set with the link), and
 * reverse-path filtering: no route leads to a link without an address, so only packets from 0.0.0.0 pass.
 */
export const sealed = (bridge: string): string | undefined =>
  withoutIpv6(bridge) ??
  set(`ipv4/conf/${bridge}/rp_filter`, "1") ??
  set(`ipv4/conf/${bridge}/forwarding`, "0");
