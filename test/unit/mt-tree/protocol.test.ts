/** The tree's protocol among many nodes in one process: whichever node dies, nothing is lost and nothing is done twice. */
import { afterEach, expect, test } from "vitest";
import { ReduceCoordinator } from "../../../tools/mt-tree/map/reduce-coordinator.ts";
import { type CommandEnd, type Launch, launcher } from "../../../tools/mt-tree/node/command.ts";
import { RunningReducer } from "../../../tools/mt-tree/session/running-reducer.ts";
import type { Session } from "../../../tools/mt-tree/session/session.ts";
import { memoryTree, type Tree } from "../../support/memory-net.ts";

const TIMING = { silence_ms: 250, rejoin_ms: 3_000 };
let tree: Tree | undefined;
afterEach(() => tree?.end());

/** How often a command was started on a host, by host. */
const starts = new Map<string, number>();
/** Commands that have not ended. */
const running = new Map<string, number>();
const count = (map: Map<string, number>, host: string, by: number) =>
  map.set(host, (map.get(host) ?? 0) + by);

/** `echo`: gives back its stdin with the host's name before each chunk; `say`: says its host; ends when told. */
const launch =
  (host: string): Launch =>
  (command, events) => {
    count(starts, host, 1);
    count(running, host, 1);
    let over = false;
    const end = (code: number) => {
      if (over) return;
      over = true;
      count(running, host, -1);
      setImmediate(() => events.end({ code }));
    };
    if (command.argv[0] === "say") {
      setImmediate(() => events.output(1, Buffer.from(`${host}\n`)));
      setImmediate(() => end(0));
    }
    return {
      write(bytes, taken) {
        events.output(1, Buffer.from(bytes));
        setImmediate(taken);
      },
      endInput: () => end(0),
      pause() {},
      resume() {},
      kill: () => end(143),
    };
  };

interface Outcome {
  output: Map<string, string>;
  exits: Map<string, CommandEnd>;
  session: Session;
  done: Promise<void>;
}

function run(t: Tree, argv: string[], hosts: string[], keep_output = false): Outcome {
  const output = new Map<string, string>();
  const exits = new Map<string, CommandEnd>();
  let resolve: () => void = () => {};
  const done = new Promise<void>((r) => (resolve = r));
  const session = t.client.session(
    { argv, env: {}, stdin: true, keep_output },
    {
      output: (h, _fd, bytes) => output.set(h, (output.get(h) ?? "") + bytes),
      exit(h, how) {
        expect(exits.has(h)).toBe(false);
        exits.set(h, how);
        if (exits.size === hosts.length) resolve();
      },
    },
    hosts.length,
  );
  session.run(hosts);
  return { output, exits, session, done };
}

const text = (host: string, lines: number) =>
  Array.from({ length: lines }, (_, i) => `${host} line ${i}\n`).join("");
const pause = (ms: number) => new Promise((r) => setTimeout(r, ms));

test("a command on 300 hosts, three levels deep, says its name once a host", async () => {
  tree = await memoryTree(300, 6, 0, launch);
  const { output, exits, done } = run(tree, ["say"], tree.names);
  await done;
  expect([...output].every(([h, out]) => out === `${h}\n`)).toBe(true);
  expect(exits.size).toBe(300);
  const depths = (await tree.client.list())._unsafeUnwrap().map((h) => h.depth!);
  expect(Math.max(...depths)).toBe(4);
});

test("an inner node dies in mid-stream: its own host is lost, all others have every byte once", async () => {
  tree = await memoryTree(60, 4, 0.2, launch, TIMING);
  starts.clear();
  const { names } = tree;
  const { output, exits, session, done } = run(tree, ["echo"], names);
  for (const h of names) session.write(h, Buffer.from(text(h, 2000)));
  await pause(4);
  tree.kill("n1");
  for (const h of names) session.write(h, Buffer.from(text(h, 2000)));
  session.end();
  await done;
  for (const h of names) {
    if (h === "n1") {
      expect(exits.get(h)!.error!.code).toBe("lost");
      continue;
    }
    expect(exits.get(h)).toMatchObject({ code: 0 });
    expect(output.get(h)).toBe(text(h, 2000) + text(h, 2000));
    expect(starts.get(h)).toBe(1);
  }
  const parents = new Set((await tree.client.list())._unsafeUnwrap().map((h) => h.parent));
  expect(parents.has("n1")).toBe(false);
});

test("a node that was cut off is fenced: it is told lost, what it ran is ended when it is back, nothing runs twice", async () => {
  tree = await memoryTree(20, 4, 0, launch, TIMING);
  starts.clear();
  running.clear();
  const { names, net } = tree;
  const { exits, session, done } = run(tree, ["echo"], names);
  await pause(20);
  net.cut("n0");
  await pause(400);
  // Its children have joined other nodes meanwhile, and stay there.
  const listed = (await tree.client.list())._unsafeUnwrap();
  expect(listed.filter((h) => !h.present).map((h) => h.host)).toEqual(["n0"]);
  for (let i = 0; i < 100 && !exits.has("n0"); i++) await pause(20);
  expect(exits.get("n0")!.error!.code).toBe("lost");
  expect(running.get("n0")).toBe(1);
  net.heal("n0");
  for (let i = 0; i < 200 && running.get("n0") !== 0; i++) await pause(20);
  expect(running.get("n0")).toBe(0);
  session.end();
  await done;
  for (const h of names) {
    expect(starts.get(h)).toBe(1);
    if (h !== "n0") expect(exits.get(h)).toMatchObject({ code: 0 });
  }
  expect((await tree.client.list())._unsafeUnwrap().every((h) => h.present)).toBe(true);
});

test("nodes die and are cut off at random while every host echoes: each is whole, or lost and told", async () => {
  tree = await memoryTree(80, 3, 0.1, launch, TIMING);
  starts.clear();
  const { names, net } = tree;
  const { output, exits, session, done } = run(tree, ["echo"], names);
  const sent = new Map<string, string>(names.map((h) => [h, ""]));
  // A fixed order that looks random: the same every run.
  let state = 7;
  const pick = () => names[(state = (state * 1103515245 + 12345) % 2147483648) % names.length]!;
  const killed = new Set<string>();
  for (let round = 0; round < 12; round++) {
    for (const h of names) {
      const bytes = text(`${h} ${round}`, 200);
      sent.set(h, sent.get(h)! + bytes);
      session.write(h, Buffer.from(bytes));
    }
    const victim = pick();
    if (round % 3 === 0) {
      killed.add(victim);
      tree.kill(victim);
    } else {
      net.cut(victim);
      // Shorter than what counts as silence, and longer.
      await pause(round % 3 === 1 ? 60 : 350);
      net.heal(victim);
    }
    await pause(5);
  }
  session.end();
  await done;
  let lost = 0;
  for (const h of names) {
    const how = exits.get(h)!;
    expect(starts.get(h) ?? (how.error ? 1 : 0)).toBe(1);
    if (how.error) {
      lost++;
      expect(how.error.code).toBe("lost");
      expect(sent.get(h)!.startsWith(output.get(h) ?? "")).toBe(true);
    } else expect(output.get(h)).toBe(sent.get(h));
  }
  for (const h of killed) expect(exits.get(h)!.error).toBeDefined();
  expect(lost).toBeLessThan(killed.size + 9);
}, 30_000);

/** Reduces what all hosts hold with `cat`, by the real reducer at every node; `meanwhile` happens when it has begun. */
async function reduced(
  hosts: number,
  meanwhile: (t: Tree) => void,
): Promise<{ out: string[]; lost: string[] }> {
  const real = launcher();
  // No node is frozen in this test: a busy machine that starts all these processes must not look so.
  tree = await memoryTree(hosts, 3, 0, () => real, { rejoin_ms: 3_000 });
  const { names } = tree;
  let coordinator: ReduceCoordinator | undefined;
  let endedHosts = 0;
  let allEnded: () => void = () => {};
  const all = new Promise<void>((r) => (allEnded = r));
  const session: Session = tree.client.session(
    { argv: ["cat"], env: {}, stdin: true, keep_output: true },
    {
      output() {},
      exit(_h, how) {
        expect(how.code).toBe(0);
        if (++endedHosts === hosts) allEnded();
      },
      reduced: (m, payload) => coordinator?.reduced(m, payload),
      moved: (h, gone) => coordinator?.moved(h, gone),
    },
    hosts,
  );
  session.run(names);
  for (const h of names) session.write(h, Buffer.from(text(h, 3)));
  session.end();
  await all;
  let out = "";
  coordinator = new ReduceCoordinator(tree.client, session, { argv: ["sort"], env: {} }, names, (bytes) => {
    out += bytes;
  });
  const done = coordinator.run();
  meanwhile(tree);
  const ended = await done;
  if (ended.isErr()) throw new Error(ended.error.message);
  const lost = ended.value;
  return { out: out.trimEnd().split("\n"), lost };
}

test("a reduction has every line of every host once", async () => {
  const { out, lost } = await reduced(40, () => {});
  expect(lost).toEqual([]);
  const expected = Array.from({ length: 40 }, (_, i) => text(`n${i}`, 3).trimEnd().split("\n")).flat();
  expect([...out].sort()).toEqual(expected.sort());
});

test("a reduction over a tree that loses an inner node is done again without it, and says so", async () => {
  const { out, lost } = await reduced(40, (t) => setTimeout(() => t.kill("n0"), 3));
  expect(lost).toEqual(["n0"]);
  const expected = Array.from({ length: 39 }, (_, i) =>
    text(`n${i + 1}`, 3)
      .trimEnd()
      .split("\n"),
  ).flat();
  expect([...out].sort()).toEqual(expected.sort());
});

test("a reducer that fails says why", async () => {
  let reducer: RunningReducer | undefined;
  await new Promise<void>((resolve) => {
    const argv = ["sh", "-c", "cat >/dev/null; echo no such thing >&2; exit 3"];
    reducer = new RunningReducer(launcher(), { argv, env: {} }, undefined, [], {
      pull() {},
      progress: resolve,
    });
  });
  const hint = "it said: no such thing";
  expect(reducer?.done?.error).toMatchObject({ message: "Cannot reduce: sh ended with exit code 3", hint });
});
