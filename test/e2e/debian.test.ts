/**
 * Debian guests with disks: built, the same bytes each time and without a network; two of them are two machines
 * on one image; what one writes is its own and outlives its QEMU; a disk that is missing, read-only or full.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { digestOf } from "../../shared/host/store.ts";
import { Lab, type Rec, records, until } from "./lab.ts";

const CACHE = "/var/lib/megatux/cache/packages";
const EXPERIMENT = `te-debian-${process.pid}`;
const BUILD_S = 400;
const ABSENT = `sha256:${"0d".repeat(32)}`;
const PROBE = "hostname; cat /etc/machine-id; cat /etc/ssh/ssh_host_ed25519_key.pub; stat -c %d:%i /";

describe.skipIf(process.getuid?.() !== 0)("guests with disks (needs root)", () => {
  let lab: Lab;
  let image: Rec;
  let base: string;
  const disks = () => join(lab.dir, "state/disks");

  beforeAll(() => {
    lab = new Lab();
    lab.env.MT_HOST = "te1";
    lab.sh(`mkdir -p ${disks()} small`);
    const built = lab.sh(`mt-image build debian --cache ${CACHE}`, BUILD_S);
    expect(built.stderr).toBe("");
    expect(built.code).toBe(0);
    image = records(built.stdout)[0]!;
    base = join(lab.dir, "state/store/sha256", filesOf(image).disk!.slice("sha256:".length));
  }, BUILD_S * 1000);
  afterAll(() => {
    lab?.sh(`mt-boot down --experiment ${EXPERIMENT}; mt-vnet down --experiment ${EXPERIMENT}`);
    lab?.sh(`for dir in ${disks()} $PWD/small; do mountpoint -q $dir && umount $dir; done`);
    lab?.remove();
  });

  const filesOf = (record: Rec) => record.files as Record<string, string>;
  function writePlan(name: string, disk = filesOf(image).disk): void {
    const members = [{ host: "te1", underlay: "127.0.0.1", index: 0, count: 2 }];
    const guest = { index: 0, image: "debian", cores: 1, mem_mib: 128 };
    const plan = [
      { kind: "experiment", id: EXPERIMENT, version: 1, seed: 1 },
      { ...image, files: { ...filesOf(image), disk }, hosts: ["te1"] },
      { kind: "segment", id: "lan", hosts: ["te1"], vni: 4711, prefix: "10.88.0.0/24", members },
      {
        ...{ kind: "guest", id: "d[0-1]", host: "te1", ...guest },
        interfaces: [{ segment: "lan", ip: "10.88.0.10/24" }],
      },
      { kind: "end", id: EXPERIMENT, counts: { image: 1, segment: 1, guest: 2 } },
    ];
    writeFileSync(join(lab.dir, name), plan.map((record) => `${JSON.stringify(record)}\n`).join(""));
  }
  const guestsOf = (stdout: string) => records(stdout).filter((r) => r.kind === "guest");
  const ls = () => guestsOf(lab.sh("mt-boot ls").stdout);
  const stateOf = (id: string) => ls().find((r) => r.id === id || r.id === "d[0-1]")?.state;
  /** What a command says in each guest. */
  function inGuests(set: string, script: string): Record<string, string> {
    const done = lab.sh(`mt-boot exec '${set}' -- sh -c '${script}'`);
    const exits = records(done.stdout);
    for (const { code, stderr } of exits) expect([code, stderr]).toEqual([0, ""]);
    return Object.fromEntries(exits.map((r) => [String(r.guest), String(r.stdout)]));
  }
  const up = (plan: string, words = "") =>
    lab.sh(`mt-vnet up <${plan} | mt-boot up --accel tcg ${words} --only`, 230);

  test(
    "the same packages give the same bytes: elsewhere, without a network, on another file system",
    () => {
      const line = `mount -t tmpfs -o size=400m tmpfs small && umask 077 &&
        TZ=Pacific/Kiritimati LC_ALL=C MT_STATE=$PWD/small unshare --net mt-image build debian --cache ${CACHE}`;
      const again = lab.sh(line, BUILD_S);
      expect(again.stderr).toBe("");
      expect(records(again.stdout)).toEqual([image]);
      const known = lab.sh(`MT_STATE=$PWD/small mt-image build debian --missing --cache ${CACHE}`);
      expect([known.code, known.stdout]).toEqual([0, again.stdout]);
      expect(records(lab.sh("MT_STATE=$PWD/small mt-image ls").stdout)).toEqual([image]);
      lab.sh("umount small");
    },
    BUILD_S * 1000,
  );

  test(
    "an image that is not known, a cold cache without a network, and a full disk are told",
    () => {
      const unknown = lab.sh("mt-image build sarge");
      expect([unknown.code, unknown.stdout]).toEqual([64, ""]);
      expect(unknown.stderr).toMatch(/Cannot use IMAGE "sarge": expected tux or debian/);
      writeFileSync(join(lab.dir, "apt.conf"), 'Acquire::Retries "0";\n');
      const cold = lab.sh(
        "mkdir cold; APT_CONFIG=$PWD/apt.conf MT_STATE=$PWD/cold unshare --net mt-image build debian",
      );
      expect([cold.code, cold.stdout]).toEqual([69, ""]);
      expect(cold.stderr).toMatch(/^mt-image: Cannot download linux-image-cloud-amd64: /);
      const full = lab.sh(
        `mount -t tmpfs -o size=80m tmpfs small && MT_STATE=$PWD/small mt-image build debian --cache ${CACHE}`,
        BUILD_S,
      );
      expect([full.code, full.stdout]).toEqual([74, ""]);
      expect(full.stderr).toMatch(
        /^mt-image: Cannot make the root file system: the disk is full\n {2}hint: free /,
      );
      // The unfinished build is removed.
      expect(lab.sh("ls small/store; umount small").stdout).toBe("");
    },
    BUILD_S * 1000,
  );

  test("two guests of one disk are two machines, with ssh keys of their own", () => {
    writePlan("plan");
    const done = up("plan");
    expect(done.stderr).not.toMatch(/Cannot/);
    expect(guestsOf(done.stdout)).toMatchObject([{ id: "d[0-1]", state: "ready" }]);
    const said = inGuests("d[0-1]", PROBE);
    const [first, second] = [said.d0!.split("\n"), said.d1!.split("\n")];
    expect([first[0], second[0]]).toEqual(["d0", "d1"]);
    expect(first[1]).toMatch(/^[0-9a-f]{32}$/);
    expect(first[2]).toMatch(/^ssh-ed25519 /);
    for (const line of [1, 2]) expect(first[line]).not.toBe(second[line]);
    // And that is the key that a neighbour sees.
    const seen = inGuests("d0", "ssh-keyscan -t ed25519 10.88.0.11 2>&-").d0!;
    expect(seen.split(" ").slice(1).join(" ").trim()).toBe(second[2]!.split(" ").slice(0, 2).join(" "));
  });

  test("what a guest writes is its own, and is there after kill -9 of its QEMU", async () => {
    const before = inGuests("d[0-1]", PROBE);
    inGuests("d[0-1]", "hostname >/root/mine; head -c 8m /dev/urandom >/root/big; sync");
    const sums = inGuests("d[0-1]", "cat /root/mine; sha256sum /root/big");
    expect(sums.d0).not.toBe(sums.d1);
    const pid = lab.guests().get("d0")!;
    process.kill(pid, "SIGKILL");
    await until("the end of that QEMU", () => lab.guests().get("d0") !== pid);
    await until("d0 to be ready again", () => stateOf("d0") === "ready", 120);
    expect(inGuests("d[0-1]", "cat /root/mine; sha256sum /root/big")).toEqual(sums);
    expect(inGuests("d[0-1]", PROBE)).toEqual(before);
    expect(await digestOf(base)).toBe(filesOf(image).disk);
    // No overlay is damaged, and each has only the base file below it.
    const info = lab.sh(`for d in ${disks()}/*/*; do qemu-img check -q -U $d && stat -c %a $d; done`);
    expect([info.code, info.stdout]).toEqual([0, "600\n600\n"]);
  });

  test("a saved guest goes on with its disk as it was then", () => {
    inGuests("d1", "echo then >/root/when; echo in-memory >/run/when");
    expect(records(lab.sh("mt-boot save kept d1").stdout)).toMatchObject([{ guest: "d1", code: 0 }]);
    inGuests("d1", "echo later >/root/when; echo later >/run/when; sync");
    const sums = inGuests("d1", "sha256sum /root/big").d1;
    expect(lab.sh("mt-boot down --only <plan").code).toBe(0);
    const back = lab.sh("mt-boot restore kept");
    expect(guestsOf(back.stdout)).toMatchObject([{ id: "d1", state: "ready" }]);
    expect(
      inGuests("d1", "cat /root/when /run/when; echo 3 >/proc/sys/vm/drop_caches; cat /root/when").d1,
    ).toBe("then\nin-memory\nthen\n");
    expect(inGuests("d1", "sha256sum /root/big").d1).toBe(sums);
    expect(lab.sh("qemu-img check -q -U state/disks/*/d1.qcow2").code).toBe(0);
  });

  test("down takes the disks away; a missing, a read-only and a full one are told on the record", () => {
    expect(lab.sh("mt-boot down --only <plan; mt-boot down --only <plan").code).toBe(0);
    expect(lab.sh(`ls -A ${disks()}`).stdout).toBe("");
    writePlan("absent", ABSENT);
    const failed = (plan: string) => {
      const done = up(plan, "--retries 0");
      expect(done.code).toBe(1);
      return guestsOf(done.stdout)[0]!.error as { code: string; message: string; hint: string };
    };
    expect(failed("absent")).toMatchObject({
      message: "Cannot boot d[0-1]: image debian is not on this host",
      hint: "mt-push",
    });
    lab.sh(`mount -t tmpfs -o ro,mode=700 tmpfs ${disks()}`);
    expect(failed("plan").message).toMatch(/^Cannot boot d\[0-1\]: its disk: .*read-only/);
    lab.sh(`umount ${disks()}; mount -t tmpfs -o size=8k,mode=700 tmpfs ${disks()}`);
    expect(failed("plan")).toMatchObject({ code: "io" });
    expect(failed("plan").message).toMatch(/^Cannot boot d\[0-1\]: its disk.*: .*(space|full)/);
    expect(lab.sh(`umount ${disks()}; mt-boot down --only <plan`).code).toBe(0);
  });

  test("a disk that becomes full stops its guest, says so, and lets it go on where it was", async () => {
    lab.sh(`mount -t tmpfs -o size=24m,mode=700 tmpfs ${disks()}`);
    expect(guestsOf(up("plan").stdout)).toMatchObject([{ state: "ready" }]);
    const booted = Number(inGuests("d0", "cut -d. -f1 /proc/uptime").d0);
    const writing = lab.start("mt-boot", [
      ...["exec", "d0", "--timeout", "100", "--", "sh", "-c"],
      "head -c 40m /dev/zero | tr '\\0' x >/root/big; sync; wc -c </root/big; cut -d. -f1 /proc/uptime",
    ]).done;
    await until("d0 to fail", () => stateOf("d0") === "failed");
    const [d0, d1] = ls();
    expect(d0).toMatchObject({
      error: { code: "io", message: "Cannot keep d0 running: the disk that its own disk is on is full" },
    });
    expect(d1).toMatchObject({ id: "d1", state: "ready" });
    inGuests("d1", "true");
    lab.sh(`mount -o remount,size=200m ${disks()}`);
    await until("d0 to go on", () => stateOf("d0") === "ready", 60);
    const { code, stdout } = await writing;
    expect(code).toBe(0);
    const [bytes, uptime] = String(records(stdout)[0]!.stdout).trim().split("\n").map(Number);
    expect(bytes).toBe(40 * 1024 * 1024);
    expect(uptime).toBeGreaterThan(booted);
    expect(lab.sh("mt-boot down --only <plan").code).toBe(0);
    expect(lab.sh(`ls -A ${disks()}`).stdout).toBe("");
    // A thread of a QEMU that has ended may not be gone yet.
    await until("nobody to use that file system", () => lab.sh(`umount ${disks()}`).code === 0);
  });
});
