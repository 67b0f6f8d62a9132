import { describe, expect, test } from "vitest";
import {
  cidrPlus,
  formatCidr,
  formatIp,
  guestMac,
  networkOf,
  parseCidr,
  parseIp,
  routerMac,
} from "../../../shared/addresses.ts";

describe("IPv4", () => {
  test.each([
    ["0.0.0.0", 0],
    ["10.1.0.10", 167837706],
    ["127.255.255.255", 2 ** 31 - 1],
    ["128.0.0.0", 2 ** 31],
    ["255.255.255.255", 2 ** 32 - 1],
  ])("%s and back", (text, number) => {
    expect(parseIp(text)._unsafeUnwrap()).toBe(number);
    expect(formatIp(number)).toBe(text);
  });

  test.each([
    "",
    "10.1.0",
    "10.1.0.256",
    "10.1.0.0.0",
    "10.1.0.-1",
    "10.1.0.1\n",
    " 10.1.0.1",
    "a.b.c.d",
    "1e1.0.0.0",
    "::1",
  ])("%j is none", (text) => expect(parseIp(text).isErr()).toBe(true));

  test.each([
    "10.0.0.1",
    "10.0.0.1/",
    "10.0.0.1/33",
    "10.0.0.1/-1",
    "10.0.0.1/8/8",
    "/8",
    "10.0.0.1/8\n",
    "10.0.0.1/0x8",
  ])("%j has no prefix length", (text) => expect(parseCidr(text).isErr()).toBe(true));

  test.each([
    ["10.1.2.3/16", "10.1.0.0/16"],
    ["10.255.0.3/31", "10.255.0.2/31"],
    ["200.1.2.3/32", "200.1.2.3/32"],
    ["200.1.2.3/0", "0.0.0.0/0"],
    ["255.255.255.255/1", "128.0.0.0/1"],
  ])("%s is in %s", (text, network) => {
    expect(formatCidr(networkOf(parseCidr(text)._unsafeUnwrap()))).toBe(network);
  });

  test.each([
    ["10.1.0.10/16", 0, "10.1.0.10/16"],
    ["10.1.0.10/16", 246, "10.1.1.0/16"],
    ["10.1.0.10/16", 65525, "10.1.255.255/16"],
    ["223.255.255.255/1", 1, "224.0.0.0/1"],
    ["10.0.0.0/31", 1, "10.0.0.1/31"],
  ])("%s, %d further: %s", (from, k, to) => {
    expect(cidrPlus(from, k)._unsafeUnwrap()).toBe(to);
  });

  test.each([
    ["10.1.0.10/16", 65526],
    ["10.0.0.1/31", 1],
    ["10.0.0.1/32", 1],
    ["255.255.255.255/1", 1],
  ])("%s, %d further leaves the network", (from, k) => {
    expect(cidrPlus(from, k)._unsafeUnwrapErr().message).toMatch(/leaves the network/);
  });
});

describe("MACs", () => {
  test.each([
    [guestMac(0, 0), "02:00:00:00:00:00"],
    [guestMac(258, 3), "02:03:00:00:01:02"],
    [guestMac(2 ** 32 - 1, 255), "02:ff:ff:ff:ff:ff"],
    [guestMac(2 ** 31, 0), "02:00:80:00:00:00"],
    [routerMac(1, 2), "06:02:00:00:00:01"],
  ])("%s", (mac, expected) => {
    expect(mac).toBe(expected);
  });

  test("are unicast, locally administered, and no two alike", () => {
    const all = new Set<string>();
    for (const make of [guestMac, routerMac])
      for (const index of [0, 1, 255, 256, 65535, 65536, 2 ** 24, 2 ** 31, 2 ** 32 - 1])
        for (const nic of [0, 1, 255]) {
          const mac = make(index, nic);
          expect(Number.parseInt(mac.slice(0, 2), 16) & 3).toBe(2);
          all.add(mac);
        }
    expect(all.size).toBe(2 * 9 * 3);
  });
});
