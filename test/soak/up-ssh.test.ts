/** `mt-tree up --via ssh` mends what is not as on local hosts: agents are found and ended over ssh. Real sshd. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Rec, records, until } from "../e2e/lab.ts";
import { Testbed } from "../e2e/testbed.ts";

const root = process.getuid?.() === 0;
const messageOf = (r: Rec | undefined) => (r?.error as { message: string } | undefined)?.message;

describe.skipIf(!root)("mt-tree up by ssh, in states of its own (needs root)", { timeout: 120_000 }, () => {
  const NAME = "mtum";
  let bed: Testbed;
  const agent = (signal: string) => `kill -${signal} "$(cat /run/megatux/agents/*/agent.pid)"`;
  const states = (text: string) => records(text).map((r) => [r.id, r.state]);
  const all = [1, 2].map((k) => [`${NAME}${k}`, "up"]);
  const head = (line: string) => bed.on(0, line);
  const missing = () => until("a host missing", () => head("mt-tree status >/dev/null").code === 1, 20);
  const mended = () => {
    const done = head("mt-tree up");
    expect([done.code, done.stderr, states(done.stdout)]).toEqual([0, "", all]);
    for (const k of [1, 2])
      expect(bed.processes(k).filter((p) => p.includes("agent --config"))).toHaveLength(1);
    expect(head("mt-tree exec @all -- true").code).toBe(0);
  };

  beforeAll(() => {
    bed = new Testbed(NAME, 2);
    expect(head(`mt-tree up '${NAME}[1-2]' --via ssh`).code).toBe(0);
  });
  afterAll(() => {
    bed?.on(0, "mt-tree down");
    bed?.down();
  });

  test("an agent that is frozen, or whose directory is gone too; a head that is frozen", async () => {
    bed.on(1, agent("STOP"));
    await missing();
    mended();
    bed.on(2, `${agent("STOP")}; rm -rf /run/megatux`);
    await missing();
    mended();
    bed.on(1, "rm -rf /run/megatux");
    mended();
    // No file names its pid any more; the process table is that of all hosts.
    const ours =
      '[ "$p/ns/net" -ef /proc/self/ns/net ] && tr "\\0" " " <$p/cmdline | grep -q "[a]gent --config"';
    expect(bed.on(1, `for p in /proc/[0-9]*; do if ${ours}; then kill -9 \${p#/proc/}; fi; done`).code).toBe(
      0,
    );
    await missing();
    mended();
    head("kill -STOP $(cat /run/megatux/tree/head.pid)");
    mended();
  });

  test("a host that cannot join says why in the words of its agent; half a tree file is told, and down ends the agents", () => {
    // Another tree, whose head is said to be where nobody is.
    const other = "MT_RUN=/run/other mt-tree";
    const told = head(`${other} up ${NAME}1 --via ssh --port 7421 --head 10.77.9.9 --timeout 6`);
    const [host] = records(told.stdout);
    expect([told.code, host?.state]).toEqual([1, "failed"]);
    expect(messageOf(host)).toMatch(
      new RegExp(
        `^Cannot join host ${NAME}1: its agent did not come in 6 s: Cannot join \\(head\\) at 10\\.77\\.9\\.9:7421 as ${NAME}1: `,
      ),
    );
    expect(head(`${other} down`).code).toBe(0);
    mended();
    const lost = head("truncate -s 200 /run/megatux/tree/tree.json; mt-tree up");
    expect([lost.code, lost.stdout]).toEqual([65, ""]);
    expect(lost.stderr).toMatch(/tree\.json: it is damaged\n {2}hint: mt-tree down/);
    expect(head("mt-tree down")).toMatchObject({ code: 0, stderr: "" });
    for (const k of [1, 2]) expect(bed.processes(k)).toEqual([]);
  });
});
