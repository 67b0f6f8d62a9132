/** Two experiments on the same hosts, started at the same moment; a changed plan; a head that dies. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Lab, records } from "../lab.ts";

describe.skipIf(process.getuid?.() !== 0)("two experiments at once (needs root)", () => {
  let lab: Lab;
  const up = (id: string) => ["up", `${id}.jsonl`, "--hosts", "tw[1-2]", "--guests", "2"];
  const told = (stdout: string) => records(stdout).map((r) => [r.id, r.ready, r.converged, r.pairs_reached]);
  beforeAll(() => {
    lab = new Lab();
    lab.image();
    for (const id of ["red", "blue"])
      expect(lab.sh(`mt-topo gen ring --routers 2 --id ${id} >${id}.jsonl`).code).toBe(0);
    expect(lab.sh("mt-status snapshot >before").code).toBe(0);
  });
  afterAll(() => {
    lab?.sh("mt-launch down red; mt-launch down blue");
    lab?.remove();
  });

  test("same ids, same addresses, same hosts: they do not meet", async () => {
    const both = await Promise.all(["red", "blue"].map((id) => lab.start("mt-launch", up(id)).done));
    for (const done of both) expect(done.stderr).not.toMatch(/Cannot/);
    expect(both.map((d) => d.code)).toEqual([0, 0]);
    expect(both.flatMap((d) => told(d.stdout))).toEqual([
      ["red", 2, 2, 2],
      ["blue", 2, 2, 2],
    ]);
    const names = lab.sh("mt-tree exec 'tw[1-2]' -- mt-boot ls").stdout;
    const guests = records(names).flatMap((r) => records(String(r.stdout)));
    expect(guests.map((g) => `${g.experiment} ${g.id}`).sort()).toEqual([
      "blue g0",
      "blue g1",
      "red g0",
      "red g1",
    ]);
  });

  test("mt-launch check says what hosts can do, proven by a guest, and what mends what is missing", () => {
    const fine = lab.sh("mt-launch check");
    expect(fine.stdout).toMatch(/^HOST .*GUESTS BOOT ON.*\ntw\d .* (tcg|kvm) .*\ntw\d .* (tcg|kvm) /);
    expect(fine.code).toBe(0);
    const line = "mount --bind /dev/null $(command -v bird || echo /usr/sbin/bird) && exec mt-launch check";
    const bare = lab.sh(`MT_RUN=$PWD/bare unshare --mount bash -c '${line}'`);
    expect([bare.code, bare.stdout]).toEqual([69, expect.stringContaining("mend: apt-get install bird2")]);
  });

  test("another plan under the same name is refused, and nothing of the first is lost", () => {
    const plan = readFileSync(join(lab.dir, "state/plans/red.plan"), "utf8");
    const done = lab.sh("mt-launch up red.jsonl --guests 4");
    expect(done.code).toBe(75);
    expect(done.stderr).toMatch(/up with another plan; mt-launch down red first/);
    expect(readFileSync(join(lab.dir, "state/plans/red.plan"), "utf8")).toBe(plan);
  });

  test("the head of the tree dies: what needs it says so, and the next mt-launch mends it", () => {
    process.kill(Number(readFileSync(join(lab.dir, "run/tree/head.pid"), "utf8")), "SIGKILL");
    const push = lab.sh("mt-push --only <state/plans/red.plan");
    expect([push.code, push.stderr]).toEqual([
      69,
      expect.stringMatching(/its head is gone[\s\S]*mt-tree up mends it/),
    ]);
    expect(told(lab.sh("mt-launch up red.jsonl --guests 2").stdout)).toEqual([["red", 2, 2, 2]]);
  });

  test("a store file that was damaged is not present, and is mended", () => {
    const kernel = "state/hosts/tw2/store/sha256/*";
    expect(lab.sh(`for f in ${kernel}; do truncate -s 1000 $f; done`).code).toBe(0);
    const push = lab.sh("mt-push --only <state/plans/red.plan");
    expect(push.code).toBe(0);
    const copies = records(push.stdout).map((r) => [r.host, r.state, Number(r.bytes) > 0]);
    expect(copies.sort()).toEqual([
      ["tw1", "present", false],
      ["tw2", "present", true],
    ]);
  });

  test("one goes, the other stays; the tree goes with the last", () => {
    expect(lab.sh("mt-launch down red").code).toBe(0);
    expect(told(lab.sh("mt-launch check blue").stdout)).toEqual([["blue", 2, 2, 2]]);
    expect(lab.sh("mt-launch down blue").code).toBe(0);
    expect(records(lab.sh("mt-status left --since before </dev/null").stdout)[0]).toMatchObject({
      left_behind: 0,
    });
  });
});
