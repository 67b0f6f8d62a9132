/**
 * A host's place in the tree when another peer uses its name: the one that came last has it while it is connected, then
 * the one before, if that still is. Real nodes over links in memory, and a peer that uses a host's name.
 */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Link } from "../../../tools/mt-tree/link/link.ts";
import { PROTOCOL, type Presence } from "../../../tools/mt-tree/link/messages.ts";
import type { CommandEnd, Launch } from "../../../tools/mt-tree/node/command.ts";
import { Routes } from "../../../tools/mt-tree/node/routes.ts";
import { memoryTree, type Tree } from "../../support/memory-net.ts";

const SILENCE_MS = 1_000;
let tree: Tree;
/** Commands that run now, by host. */
const running = new Map<string, number>();
const count = (host: string, by: number) => running.set(host, (running.get(host) ?? 0) + by);
/** `say` says its host and ends; anything else runs until it is ended. */
const launch =
  (host: string): Launch =>
  (command, events) => {
    let over = false;
    count(host, 1);
    const end = (code: number) => {
      if (over) return;
      over = true;
      count(host, -1);
      setImmediate(() => events.end({ code }));
    };
    if (command.argv[0] === "say") {
      setImmediate(() => events.output(1, Buffer.from(host)));
      setImmediate(() => end(0));
    }
    return {
      write: (_bytes, taken) => taken(),
      endInput() {},
      pause() {},
      resume() {},
      kill: () => end(143),
    };
  };

beforeEach(async () => {
  running.clear();
  // n0-n3 under the head, n4-n7 under n0, n8-n11 under n1, and so on.
  tree = await memoryTree(20, 4, 0, launch, { silence_ms: SILENCE_MS });
});
afterEach(() => tree.end());

const presence = (host: string, more: Partial<Presence> = {}): Presence => ({
  ...{ host, epoch: "f".repeat(16), join: 1, parent: "head", release: "0" },
  ...more,
});
/** A peer that uses this host's name, connected to this node; returns a function that ends it. */
async function claim(host: string, to: string, more: Partial<Presence> = {}): Promise<() => void> {
  const dialled = await tree.net.transport(host).dial({ name: to, addr: "", port: 0 }, 1_000);
  const link = new Link(
    dialled._unsafeUnwrap(),
    { message: () => {}, close: () => {} },
    "watches",
    SILENCE_MS,
  );
  const presences = [presence(host, { parent: to, ...more })];
  link.send({ type: "hello", protocol: PROTOCOL, release: "0", presences });
  return () => link.close();
}
const statusOf = async (host: string) =>
  (await tree.client.list())._unsafeUnwrap().find((h) => h.host === host)!;
const shows = (host: string, is: object) =>
  vi.waitFor(async () => expect(await statusOf(host)).toMatchObject(is), { timeout: 3_000, interval: 5 });
function run(host: string, argv: string[]) {
  let said = "";
  let resolve: (how: CommandEnd) => void = () => {};
  const exit = new Promise<CommandEnd>((r) => (resolve = r));
  const events = {
    output: (_h: string, _fd: 1 | 2, bytes: Buffer) => void (said += bytes),
    exit: (_h: string, how: CommandEnd) => resolve(how),
  };
  tree.client.session({ argv, env: {}, stdin: true }, events, 1).run([host]);
  return { exit, said: () => said };
}

test.each([
  ["one level up", "n5", "head"],
  ["at its own parent", "n5", "n0"],
  ["at the head, which is its parent", "n2", "head"],
  ["further down, at another's", "n2", "n1"],
])("an agent that lost its place has it again when the other is gone: %s", async (_, host, at) => {
  const { epoch, parent } = await statusOf(host);
  const leave = await claim(host, at);
  await shows(host, { present: true, epoch: "f".repeat(16), parent: at });
  leave();
  await shows(host, { present: true, epoch, parent });
  const { exit, said } = run(host, ["say"]);
  expect([(await exit).code, said()]).toEqual([0, host]);
});

test("also where the other took its very epoch, and where two others came and go in any order", async () => {
  const { epoch, parent } = await statusOf("n5");
  const same = await claim("n5", "head", { epoch: epoch!, join: 1_000 });
  await shows("n5", { epoch, parent: "head" });
  same();
  await shows("n5", { epoch, parent });
  for (const first of [0, 1]) {
    const others = [await claim("n5", "head", { epoch: "a".repeat(16) })];
    await shows("n5", { epoch: "a".repeat(16) });
    others.push(await claim("n5", "n0", { epoch: "b".repeat(16) }));
    await shows("n5", { epoch: "b".repeat(16) });
    others[first]!();
    // Where the later peer ends first, its node reports the real host to the head last.
    await shows("n5", { epoch: first === 0 ? "b".repeat(16) : epoch });
    others[1 - first]!();
    await shows("n5", { epoch, parent });
  }
});

test("one that died meanwhile does not come back; its children have another way", async () => {
  const leave = await claim("n0", "head");
  await shows("n0", { epoch: "f".repeat(16) });
  tree.kill("n0");
  await shows("n5", { present: true, parent: "head" });
  leave();
  await shows("n0", { present: false });
  expect((await run("n5", ["say"]).exit).code).toBe(0);
});

test("what it ran when it lost its place is told lost, and ended once it is back: nobody waits for it", async () => {
  const { exit } = run("n5", ["wait"]);
  await vi.waitFor(() => expect(running.get("n5")).toBe(1));
  const leave = await claim("n5", "head");
  expect((await exit).error?.code).toBe("lost");
  leave();
  await vi.waitFor(() => expect(running.get("n5")).toBe(0), { timeout: 3_000 });
});

test("routes: what is behind is bounded by the links that are open, and goes with them", () => {
  const routes = new Routes<string>();
  const tell = (epoch: string, join: number, link: string) =>
    routes.tell(presence("h", { epoch, join }), link).taken;
  expect(tell("e", 1, "a")).toBe(true);
  // The same agent by another route; then a late message about the older one.
  expect(tell("e", 2, "b")).toBe(true);
  expect(tell("e", 1, "a")).toBe(false);
  expect(routes.get("h")).toMatchObject({ link: "b" });
  // The old route ends, the new one stays.
  expect(routes.untell(presence("h", { epoch: "e", join: 1 }), "a")).toBeUndefined();
  expect(routes.untell(presence("h", { epoch: "e", join: 2 }), "b")).toMatchObject({ instead: undefined });
  expect(routes.has("h")).toBe(false);

  for (let i = 0; i < 1_000; i++) tell(`e${i}`, 1, i % 2 ? "a" : "b");
  for (const link of ["a", "b"]) for (const p of routes.over(link)) routes.untell(p, link);
  expect([...routes.all()]).toEqual([]);
});
