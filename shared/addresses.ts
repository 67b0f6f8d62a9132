/**
 * Addresses as functions of the plan: MACs from an index, IPs that count up, prefixes. IPv4 addresses are unsigned
 * 32-bit numbers here, dotted text in records. Text that is no address is a `data` error.
 */
import { ok, type Result } from "neverthrow";
import { fail, type MtError } from "./errors.ts";

/** An address with its prefix length, as `10.1.0.10/16`. */
export interface Cidr {
  address: number;
  length: number;
}

/** `10.1.0.10` as a number. */
export function parseIp(text: string): Result<number, MtError> {
  const m = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  const parts = m?.slice(1).map(Number);
  if (!parts || parts.some((p) => p > 255))
    return fail("data", `Cannot read address ${JSON.stringify(text)}: it is no IPv4 address`);
  return ok(parts.reduce((sum, p) => sum * 256 + p, 0));
}

export function formatIp(address: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(address / 2 ** shift) % 256).join(".");
}

/** `10.1.0.10/16`: the address keeps its host part. */
export function parseCidr(text: string): Result<Cidr, MtError> {
  const [ip, length, ...rest] = text.split("/");
  if (rest.length > 0 || !length || !/^\d{1,2}$/.test(length) || Number(length) > 32)
    return fail(
      "data",
      `Cannot read address ${JSON.stringify(text)}: expected address/length, as 10.1.0.10/16`,
    );
  return parseIp(ip!).map((address) => ({ address, length: Number(length) }));
}

export function formatCidr({ address, length }: Cidr): string {
  return `${formatIp(address)}/${length}`;
}

/** The network that an address is in: `10.1.0.10/16` → `10.1.0.0/16`. */
export function networkOf({ address, length }: Cidr): Cidr {
  const size = 2 ** (32 - length);
  return { address: Math.floor(address / size) * size, length };
}

/** The address `k` further on, which member k of a range gets; `data` if it leaves the network. */
export function cidrPlus(text: string, k: number): Result<string, MtError> {
  if (k === 0) return ok(text);
  return parseCidr(text).andThen((c) => {
    const next = { address: c.address + k, length: c.length };
    if (networkOf(next).address !== networkOf(c).address)
      return fail<string>(
        "data",
        `Cannot count ${text} up by ${k}: it leaves the network`,
        "use a larger prefix or fewer guests a segment",
      );
    return ok(formatCidr(next));
  });
}

/** A MAC: first byte, interface number, index in four bytes. Guests begin with 02:, routers with 06:. */
function mac(first: number, nic: number, index: number): string {
  const bytes = [
    first,
    nic,
    Math.floor(index / 2 ** 24) % 256,
    (index >>> 16) & 255,
    (index >>> 8) & 255,
    index & 255,
  ];
  return bytes.map((b) => b.toString(16).padStart(2, "0")).join(":");
}
/** A guest's MAC. `index`: of the guest, 32 bits; `nic`: which of its interfaces, from 0. */
export const guestMac = (index: number, nic: number) => mac(0x02, nic, index);
/** The index in a guest's MAC; undefined if it is not a guest's. */
export function guestIndexOf(mac: string): number | undefined {
  const bytes = mac.split(":").map((byte) => Number.parseInt(byte, 16));
  if (bytes.length !== 6 || bytes[0] !== 0x02) return undefined;
  return bytes.slice(2).reduce((index, byte) => index * 256 + byte, 0);
}
/** A router's MAC, as `guestMac`. */
export const routerMac = (index: number, nic: number) => mac(0x06, nic, index);
