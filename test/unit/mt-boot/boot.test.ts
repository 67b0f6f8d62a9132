/** mt-boot without an image: command lines, identity, folding, words, turns. */
import { describe, expect, test } from "vitest";
import { tapName } from "../../../shared/host/names.ts";
import type { Guest } from "../../../shared/records/index.ts";
import { guestMembers, type Outcome } from "../../../shared/records/members.ts";
import { foldGuests, foldNamed } from "../../../tools/mt-boot/client/fold.ts";
import { type Call, decodeFrame, encodeFrame } from "../../../tools/mt-boot/guest/calls.ts";
import { fillFields } from "../../../tools/mt-boot/guest/fields.ts";
import { guestMark } from "../../../tools/mt-boot/machine/guest-files.ts";
import { DEFAULT_CMDLINE, qemuArgv } from "../../../tools/mt-boot/platforms/linux-x86/argv.ts";
import { checkFacts, linkCalls, selfCalls } from "../../../tools/mt-boot/platforms/linux-x86/identity.ts";
import { linuxX86 } from "../../../tools/mt-boot/platforms/linux-x86/linux-x86.ts";
import { Slots } from "../../../tools/mt-boot/supervisor/slots.ts";

const RANGE: Guest = {
  kind: "guest",
  id: "g[0-3]",
  host: "kn1",
  index: 10,
  image: "tux",
  cores: 1,
  mem_mib: 128,
  interfaces: [{ segment: "lan", ip: "10.1.0.10/16", gateway: "10.1.0.1" }, { segment: "bare" }],
};
const members = guestMembers(RANGE)._unsafeUnwrap();
const g2 = members[2]!;

describe("QEMU's command line", () => {
  const argv = qemuArgv({
    platform: linuxX86,
    experiment: "abilene",
    guest: g2,
    dir: "/run/a,b/g/g2",
    kernel: "/store/k",
    initrd: "/store/i",
    accelerator: "tcg",
  });
  const optionOf = (flag: string, starts = "") =>
    argv.find((w, i) => argv[i - 1] === flag && w.startsWith(starts));

  test("a link is a tap of its own name, with the MAC of the guest's index", () => {
    expect(optionOf("-netdev", "tap,id=nic1")).toBe(
      `tap,id=nic1,ifname=${tapName("abilene", "g2", 1)},script=no,downscript=no`,
    );
    expect(optionOf("-device", "virtio-net-pci,netdev=nic1")).toContain("mac=02:01:00:00:00:0c");
  });

  test("a comma in a directory does not become an option", () => {
    expect(optionOf("-chardev", "socket,id=qmp")).toContain("path=/run/a,,b/g/g2/qmp,server=on");
  });

  test("the mark stands in it, and not in that of a guest whose name goes on", () => {
    const cmdline = `qemu\0${argv.join("\0")}\0`;
    expect(cmdline).toContain(guestMark("/run/a,b/g/g2"));
    expect(cmdline.replaceAll("/g2/", "/g22/")).not.toContain(guestMark("/run/a,b/g/g2"));
  });

  test("an image without a command line gets the default", () => {
    expect(optionOf("-append")).toBe(DEFAULT_CMDLINE);
  });
});

describe("identity", () => {
  const right = ["hostname g2", "eth0 02:00:00:00:00:0c 10.1.0.12/16", "eth1 02:01:00:00:00:0c -"];
  const request = () => Buffer.alloc(40);
  const said = () => ({ mac: request(), address: request(), mask: request(), mtu: request() });

  test("a guest is ready only where its kernel says the same", () => {
    expect(checkFacts(g2, right).isOk()).toBe(true);
    const other = checkFacts(g2, [right[0]!, right[1]!.replace("10.1.0.12", "10.1.0.13"), right[2]!]);
    expect(other._unsafeUnwrapErr().message).toContain("10.1.0.13/16");
    expect(checkFacts(g2, right.slice(0, 2)).isErr()).toBe(true);
  });

  test("two guests told the same name get different seeds and machine ids", () => {
    const bytes = () =>
      selfCalls(g2, { uname: Buffer.alloc(390) }).flatMap((c) => c.args.filter((a) => typeof a !== "number"));
    // The time of day, 16 bytes, goes on between the two.
    const differing = bytes().filter((b, i) => b.length !== 16 && !b.equals(bytes()[i]!));
    expect(differing.map((b) => b.length)).toEqual([8 + 32, 33]);
  });

  test("MAC, address, netmask and gateway stand in the calls of a link", () => {
    const all = Buffer.concat(
      linkCalls(g2, 0, said())
        ._unsafeUnwrap()
        .flatMap((c) => c.args.filter((a) => typeof a !== "number")),
    ).toString("hex");
    for (const part of ["02000000000c", "0a01000c", "ffff0000", "0a010001"]) expect(all).toContain(part);
    const bare = linkCalls(g2, 1, said())._unsafeUnwrap();
    expect(bare.some((c) => c.what.startsWith("route"))).toBe(false);
  });

  test("a link's address that is none is an error, not a call", () => {
    const bad: Guest = { ...g2, interfaces: [{ segment: "lan", ip: "10.1.0.300/16" }] };
    expect(linkCalls(bad, 0, said())._unsafeUnwrapErr().message).toContain("10.1.0.300");
  });

  test("a frame: pointers are the guest's, results and bytes come back", () => {
    const bytes = Buffer.from("abcdefghijklmnop");
    const calls: Call[] = [
      { what: "x", number: 1, args: [4, bytes, 3], points: { at: 8, to: 2 } },
      { what: "y", number: 3, args: [5] },
    ];
    const frame = encodeFrame(calls, Buffer.from("12345678"));
    const at = 16 + 2 * 32 + 8;
    expect(frame.length).toBe(4096);
    expect(frame.toString("latin1", 0, 4) + frame.toString("latin1", 8, 16)).toBe("mtc112345678");
    expect(frame.readBigInt64LE(16 + 16)).toBe(BigInt(0x600000 + at));
    expect(frame.readBigInt64LE(at + 8)).toBe(BigInt(0x600000 + at + 2));
    expect(frame.readBigInt64LE(16 + 2 * 32)).toBe(-1n);
    frame.writeBigInt64LE(-17n, 16);
    frame.write("ABCD", at);
    expect(decodeFrame(frame, calls)).toEqual([-17, 3]);
    expect(bytes.toString("latin1", 0, 5)).toBe("ABCDe");
    expect(() => encodeFrame([{ what: "z", number: 1, args: [Buffer.alloc(4096)] }], bytes)).toThrow(
      /too long/,
    );
  });
});

describe("folding", () => {
  const lost: Outcome = {
    state: "failed",
    error: { by: "mt-boot", code: "lost", message: "Cannot boot {id}: x" },
  };

  test("neighbours with the same error are one record that names them", () => {
    const out = foldNamed(RANGE, [{ state: "ready" }, lost, lost, { state: "ready" }])._unsafeUnwrap();
    expect(out.map((g) => [g.id, g.state])).toEqual([
      ["g0", "ready"],
      ["g[1-2]", "failed"],
      ["g3", "ready"],
    ]);
    expect(out[1]!.error!.message).toBe("Cannot boot g[1-2]: x");
    expect(out[1]!.interfaces[0]!.ip).toBe("10.1.0.11/16");
  });

  test("guests fold without their range, where they are neighbours in everything", () => {
    const ready = members.map((m): Guest => ({ ...m, state: "ready" }));
    expect(foldGuests(ready)).toEqual([{ ...RANGE, state: "ready" }]);
    const stranger: Guest = { ...ready[3]!, mem_mib: 256 };
    expect(
      foldGuests([...ready.slice(0, 3), stranger, { ...stranger, id: "gw", index: 99 }]).map((g) => g.id),
    ).toEqual(["g[0-2]", "g3", "gw"]);
    const gap = ready.map((g, i): Guest => (i === 2 ? { ...g, index: 77 } : g));
    expect(foldGuests(gap).map((g) => g.id)).toEqual(["g[0-1]", "g2", "g3"]);
  });

  test("padded names stay padded", () => {
    const padded = guestMembers({ ...RANGE, id: "n[08-11]" })._unsafeUnwrap();
    expect(foldGuests(padded).map((g) => g.id)).toEqual(["n[08-11]"]);
  });
});

test("{field} is a field of the record, an array several words, text one word whatever stands in it", () => {
  const guest = { ...g2, targets: ["10.1.0.1", "10.1.0.2"], note: "a b; rm {id}" } as Guest;
  expect(fillFields(["ping", "{targets}", "{note}", "x{id}", "{id}"], guest)._unsafeUnwrap()).toEqual([
    "ping",
    "10.1.0.1",
    "10.1.0.2",
    "a b; rm {id}",
    "x{id}",
    "g2",
  ]);
});

test("braces that name no field of the record stay: those of awk, shells, JSON, find", () => {
  const typed = [
    "awk",
    "{print}",
    "{ print $1 }",
    "{}",
    "{a,b}",
    "$".concat("{HOME}"),
    '{"a":1}',
    "{toString}",
    "{__proto__}",
  ];
  expect(fillFields(typed, g2)._unsafeUnwrap()).toEqual(typed);
  const error = fillFields(["echo", "{note}"], { ...g2, note: null } as Guest)._unsafeUnwrapErr();
  expect(error).toMatchObject({ code: "data", hint: expect.stringContaining("--literal") });
});

test("turns: never more than the limit, in order, and a larger limit lets more in", async () => {
  const slots = new Slots(2);
  const order: number[] = [];
  const open: (() => void)[] = [];
  const all = [0, 1, 2, 3, 4].map((n) =>
    slots.take(async () => {
      order.push(n);
      await new Promise<void>((resolve) => open.push(resolve));
    }),
  );
  const settle = () => new Promise((resolve) => setImmediate(resolve));
  await settle();
  expect(order).toEqual([0, 1]);
  open.shift()!();
  await settle();
  expect(order).toEqual([0, 1, 2]);
  slots.resize(4);
  await settle();
  expect(order).toEqual([0, 1, 2, 3, 4]);
  for (const done of open) done();
  await Promise.all(all);
});
