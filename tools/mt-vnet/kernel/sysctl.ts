/** Settings of single links, written for the namespace that this process is in. */
import { writeFileSync } from "node:fs";

/** Errors are the kernel's word that there is nothing to switch off: no such link, no IPv6 at all. */
function set(path: string, value: string): void {
  try {
    writeFileSync(`/proc/sys/net/${path}`, value);
  } catch {}
}

export function withoutIpv6(link: string): void {
  set(`ipv6/conf/${link}/disable_ipv6`, "1");
}

/**
 * What keeps the host out of a bridge, beside its seal (seal.ts): no IPv6, no ARP (set with the link), and a
 * reverse-path check, which no address passes but 0.0.0.0: no route leads to a link without an address.
 */
export function sealed(bridge: string): void {
  withoutIpv6(bridge);
  set(`ipv4/conf/${bridge}/rp_filter`, "1");
  set(`ipv4/conf/${bridge}/forwarding`, "0");
}
