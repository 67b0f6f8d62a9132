/**
 * Which prefix a segment gets. Links: /31 from 10.255.0.0/16, then from 100.64.0.0/10. LANs: from
 * 10.0.0.0 to 10.253.255.255, a /16 each while there are few, else one length for all.
 */
import { ok, type Result } from "neverthrow";
import { type Cidr, formatCidr, formatIp, networkOf, parseCidr } from "../../../shared/addresses.ts";
import { fail, type MtError } from "../../../shared/errors.ts";

const ip = (a: number, b: number) => (a * 256 + b) * 65536;
const LINK_POOLS = [
  { from: ip(10, 255), count: 2 ** 15 },
  { from: ip(100, 64), count: 2 ** 21 },
] as const;
export const LINK_PREFIX_COUNT_MAX = LINK_POOLS[0].count + LINK_POOLS[1].count;

/** The k-th link's prefix and the addresses of its two ends; k from 0. */
export function linkIps(k: number): { prefix: string; ips: [string, string] } {
  const first = k < LINK_POOLS[0].count;
  const address = first ? LINK_POOLS[0].from + 2 * k : LINK_POOLS[1].from + 2 * (k - LINK_POOLS[0].count);
  return {
    prefix: `${formatIp(address)}/31`,
    ips: [`${formatIp(address)}/31`, `${formatIp(address + 1)}/31`],
  };
}

/** The network of an address as text. The text must be a CIDR. */
export const networkText = (cidr: string) => formatCidr(networkOf(parseCidr(cidr)._unsafeUnwrap()));

/** Networks as sorted intervals of addresses, `to` excluded; one inside another is left out. */
export function blocksOf(cidrs: readonly string[]): { from: number; to: number }[] {
  let end = 0;
  return cidrs
    .map((text) => networkOf(parseCidr(text)._unsafeUnwrap()))
    .map(({ address, length }) => ({ from: address, to: address + 2 ** (32 - length) }))
    .sort((a, b) => a.from - b.from || b.to - a.to)
    .filter(({ to }) => to > end && (end = to));
}

const LAN_FROM = ip(10, 0);
const LAN_TO = ip(10, 254);
const LAN_SIXTEENS_MAX = 250;
/** Addresses of a LAN that guests do not get: network, router, some for additions by hand, broadcast. */
const LAN_SPARE = 16;
/** Guests' addresses begin here in their LAN. */
export const FIRST_GUEST = 10;

/**
 * Prefixes for new LANs, all of one length, apart from those in use.
 * @param lans how many are wanted
 * @param guests of the largest of them
 * @param used prefixes of the segments that are there
 */
export function lanPrefixes(lans: number, guests: number, used: readonly string[]): Result<Cidr[], MtError> {
  const taken = blocksOf(used).filter(({ from, to }) => to > LAN_FROM && from < LAN_TO);
  const need = guests + LAN_SPARE;
  if (lans <= LAN_SIXTEENS_MAX && need <= 2 ** 16) {
    const sixteens = cut(lans, 16, LAN_FROM + 2 ** 16, LAN_FROM + (LAN_SIXTEENS_MAX + 1) * 2 ** 16, taken);
    if (sixteens) return ok(sixteens);
  }
  for (let length = 9; length <= 31 && 2 ** (32 - length) >= need; length++) {
    const blocks = cut(lans, length, LAN_FROM, LAN_TO, taken);
    if (blocks) return ok(blocks);
  }
  return fail(
    "data",
    `Cannot number ${lans} LANs of up to ${guests} guests: they do not fit into 10.0.0.0 to 10.253.255.255`,
    "take fewer guests, or more routers for them",
  );
}

/** The first `n` blocks of a length between two addresses that overlap none of `taken` (sorted). */
function cut(
  n: number,
  length: number,
  from: number,
  to: number,
  taken: readonly { from: number; to: number }[],
): Cidr[] | undefined {
  const size = 2 ** (32 - length);
  if ((to - from) / size < n) return undefined;
  const blocks: Cidr[] = [];
  let t = 0;
  for (let address = from; address + size <= to && blocks.length < n; address += size) {
    while (t < taken.length && taken[t]!.to <= address) t++;
    if (t < taken.length && taken[t]!.from < address + size) continue;
    blocks.push({ address, length });
  }
  return blocks.length === n ? blocks : undefined;
}
