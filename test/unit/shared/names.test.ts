import { describe, expect, test } from "vitest";
import {
  bridgeName,
  experimentDir,
  guestDir,
  hostNamespace,
  routerDir,
  routerNamespace,
  routerNamespacePrefix,
  routerPortName,
  runDir,
  shortName,
  stateDir,
  storePath,
  supervisorSocket,
  tapName,
  vxlanName,
} from "../../../shared/host/names.ts";
import { socketName } from "../../../shared/own-place.ts";
import { withEnv } from "./fixtures.ts";

const LONG = "x".repeat(40);

test("directories that are given are found from every directory", () => {
  withEnv({ MT_RUN: "here/run", MT_STATE: "/there" });
  expect(runDir()).toBe(`${process.cwd()}/here/run`);
  expect(stateDir()).toBe("/there");
});

describe("links", () => {
  const makers = [
    bridgeName("abilene", "lan-chi"),
    vxlanName("abilene", "lan-chi"),
    tapName("abilene", "g0", 0),
    routerPortName("abilene", "chi", 12),
    bridgeName(LONG, LONG),
    tapName(LONG, LONG, 255),
  ];
  test.each(makers)("%s fits into the kernel's 15 characters", (name) => {
    expect(name).toMatch(/^[bxtv][a-z2-7]{12}$/);
    expect(name.length).toBeLessThanOrEqual(15);
  });

  test("200,000 of them are 200,000, and every bit of the 60 is used", () => {
    const seen = new Set<string>();
    const letters = Array.from({ length: 12 }, () => new Set<string>());
    for (let i = 0; i < 200_000; i++) {
      const name = tapName("abilene", `g${i >> 1}`, i & 1);
      seen.add(name);
      for (let k = 0; k < 12; k++) letters[k]!.add(name[k + 1]!);
    }
    expect(seen.size).toBe(200_000);
    expect(letters.map((l) => l.size)).toEqual(Array(12).fill(32));
  });

  test("what is written together is not confused", () => {
    const pairs: [string, string][] = [
      [bridgeName("a.b", "c"), bridgeName("a", "b.c")],
      [bridgeName("ab", "c"), bridgeName("a", "bc")],
      [tapName("a", "g1", 11), tapName("a", "g11", 1)],
      [tapName("a", "segment", 0).slice(1), bridgeName("a", "guest").slice(1)],
      [routerPortName("a", "x", 0).slice(1), tapName("a", "x", 0).slice(1)],
      [routerNamespace("h", "a.b", "c"), routerNamespace("h", "a", "b.c")],
      [routerNamespace("h-a", "b", "c"), routerNamespace("h", "a-b", "c")],
      [guestDir("a", LONG), guestDir("a", `${LONG.slice(0, 39)}y`)],
      [guestDir("a", "x"), routerDir("a", "x")],
      [experimentDir(`${LONG}`), experimentDir(LONG.slice(1))],
    ];
    for (const [a, b] of pairs) expect(a).not.toBe(b);
  });

  test("names do not change from release to release: `down` must find what an older `up` made", () => {
    expect([
      bridgeName("abilene", "chi-nyc"),
      tapName("abilene", "g0", 0),
      shortName(LONG),
    ]).toMatchInlineSnapshot(`
      [
        "bifxpp4cnb2ru",
        "tp7jjbx5pmvwj",
        "xxxxxxx~xwit75uc",
      ]
    `);
  });
});

describe("namespaces", () => {
  test("one prefix finds those of one experiment on one host, and no other's", () => {
    const prefix = routerNamespacePrefix("kn1", "abi");
    expect(routerNamespace("kn1", "abi", "chi").startsWith(prefix)).toBe(true);
    for (const other of [
      routerNamespace("kn1", "abilene", "chi"),
      routerNamespace("kn11", "abi", "chi"),
      routerNamespace("kn", "1", "abi"),
      hostNamespace("kn1"),
    ])
      expect(other.startsWith(prefix)).toBe(false);
  });

  test("fit into a file name", () => {
    expect(routerNamespace(LONG, LONG, LONG).length).toBeLessThanOrEqual(255);
    // Names of hosts may be longer than other ids; two that differ only at their ends still give different names.
    const hosts = ["a", "b"].map((end) => "h".repeat(254) + end);
    for (const name of [...hosts.map(hostNamespace), ...hosts.map((h) => routerNamespace(h, LONG, LONG))])
      expect(name.length).toBeLessThanOrEqual(255);
    expect(hostNamespace(hosts[0]!)).not.toBe(hostNamespace(hosts[1]!));
    expect(routerNamespace(hosts[0]!, "x", "r").startsWith(routerNamespacePrefix(hosts[0]!, "x"))).toBe(true);
    expect(routerNamespace(hosts[1]!, "x", "r").startsWith(routerNamespacePrefix(hosts[0]!))).toBe(false);
  });
});

describe("files", () => {
  test("short names are directory names: one level, 16 characters, distinct", () => {
    const ids = ["a", "x".repeat(16), "x".repeat(17), LONG, `${LONG.slice(0, 39)}y`, "a.b"];
    const short = ids.map(shortName);
    for (const s of short) expect(s).toMatch(/^[A-Za-z0-9_][A-Za-z0-9._~-]{0,15}$/);
    expect(new Set(short).size).toBe(ids.length);
  });

  test("sockets of the longest ids fit where MT_RUN is the usual one, also on a local host", () => {
    for (const run of ["/run/megatux", `/run/megatux/hosts/${shortName(LONG)}`]) {
      withEnv({ MT_RUN: run });
      for (const path of [supervisorSocket(LONG), `${guestDir(LONG, LONG)}/console.sock`])
        expect(socketName(path)).toBe(path);
    }
  });

  test("a socket whose path is too long for the kernel is called by its name alone; bytes count, not characters", () => {
    const [fits, long] = [`/${"x".repeat(106)}`, `/${"x".repeat(105)}/s`];
    expect(socketName(fits)).toBe(fits);
    expect(socketName(long)).toBe("s");
    expect(socketName(`/${"ä".repeat(60)}/s`)).toBe("s");
  });

  test.each([
    "sha256:../../etc/passwd",
    `sha256:${"A".repeat(64)}`,
    `sha256:${"a".repeat(63)}`,
    `sha256:${"a".repeat(64)}\n`,
    "a".repeat(64),
    "",
  ])("the store has no place for %j", (digest) => expect(storePath(digest).isErr()).toBe(true));

  test("MT_RUN and MT_STATE come first; root's are under /run and /var/lib, others' in their own", () => {
    withEnv({ MT_RUN: "/r", MT_STATE: "/s" });
    expect([runDir(), stateDir()]).toEqual(["/r", "/s"]);
    withEnv({
      MT_RUN: undefined,
      MT_STATE: undefined,
      XDG_RUNTIME_DIR: "/run/user/7",
      XDG_STATE_HOME: "/home/x/state",
    });
    const root = process.getuid?.() === 0;
    expect([runDir(), stateDir()]).toEqual(
      root ? ["/run/megatux", "/var/lib/megatux"] : ["/run/user/7/megatux", "/home/x/state/megatux"],
    );
  });
});
