/**
 * Every example of the man pages runs, on the compiled tools, as it is written there; only smaller (44 guests are
 * 4), and on hosts of a name of their own (kn is me). What has `<!-- no test: why -->` before it is left out; what
 * has `<!-- run with: page -->` are commands of a block of that page, and run there, once.
 */
import { cpSync, existsSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Lab } from "./lab.ts";

const root = resolve(import.meta.dirname, "../..");

/** A block of a page's EXAMPLES, as the mark before it says: run, left out, or run with another page. */
interface Block {
  script: string;
  mark?: string;
}
function allBlocks(page: string): Block[] {
  const text = readFileSync(join(root, "man", `${page}.md`), "utf8");
  const section = text.split(/^## /m).find((s) => s.startsWith("EXAMPLES"));
  if (!section) throw new Error(`${page} has no EXAMPLES`);
  return [...section.matchAll(/^(?:<!-- (.+) -->\n+)?((?: {4}.*\n)+)/gm)].map(([, mark, block]) => ({
    mark,
    script: block!
      .replaceAll(/^ {4}/gm, "")
      .replaceAll("kn", "me")
      .replaceAll(/\b44\b/g, "4"),
  }));
}
const blocks = (page: string) => allBlocks(page).flatMap((b) => (b.mark === undefined ? [b.script] : []));

/** A plan for this host alone, named me1: what a tool does without a tree. */
const HERE =
  "mt-topo import examples/abilene.gml | mt-topo guests 4 --image tux | mt-topo place me1 >abilene.plan";
const NETWORK = `${HERE}; mt-vnet up <abilene.plan >/dev/null`;
const HERE_DOWN = "mt-boot down <abilene.plan | mt-route down | mt-vnet down | mt-ksm down >/dev/null";

/** What must be there before the first block, or before each of some. */
type Before = string | Readonly<Record<number, string>>;

/** In the order in which a reader would need them; what must be there before, and what to do after. */
const PAGES: { page: string; before?: Before; after?: string; here?: boolean }[] = [
  { page: "mt-image.1" },
  {
    page: "mt-topo.1",
    // What mt-tree up prints, without the tree.
    before: "mt-topo gen ring --routers 4 | mt-topo place 'me[1-4]' | grep '\"kind\":\"host\"' >hosts.jsonl",
  },
  { page: "mt-tree.1", before: "test -s abilene.plan" },
  { page: "mt-push.1", before: "mt-tree up 'me[1-4]' >hosts.jsonl", after: "mt-tree down" },
  { page: "mt-vnet.1", before: HERE, after: HERE_DOWN, here: true },
  { page: "mt-boot.1", before: NETWORK, after: HERE_DOWN, here: true },
  { page: "mt-ksm.1", before: NETWORK, after: HERE_DOWN, here: true },
  { page: "mt-route.1", before: HERE, after: HERE_DOWN, here: true },
  {
    page: "mt-status.1",
    before: {
      0: `${HERE}; mt-vnet up <abilene.plan | mt-boot up | mt-route up >abilene.now`,
      // What a run leaves behind is counted from before it.
      2: HERE_DOWN,
    },
    after: HERE_DOWN,
    here: true,
  },
  { page: "mt-launch.1", after: "mt-tree down" },
  { page: "megatux.7", after: "mt-tree down" },
];

test("no page with examples is left out", () => {
  const tools = readFileSync(join(root, "tools/mt/tools.ts"), "utf8").match(/"mt-[a-z]+"/g) ?? [];
  expect(PAGES.map((p) => p.page).sort()).toEqual(
    [...tools.map((t) => `${t.slice(1, -1)}.1`), "mt-launch.1", "megatux.7"].sort(),
  );
});

test("every mark is one that is known; what runs with another page stands there, in that order", () => {
  for (const { page } of PAGES)
    for (const { script, mark } of allBlocks(page)) {
      const [, other] = /^run with: (\S+)$/.exec(mark ?? "") ?? [];
      if (other === undefined) {
        expect(mark ?? "no test: none", page).toMatch(/^no test: \S/);
        continue;
      }
      const lines = script.trim().split("\n");
      const found = blocks(other).map((b) => b.split("\n").filter((line) => lines.includes(line)));
      expect(found, page).toContainEqual(lines);
    }
});

describe.skipIf(process.getuid?.() !== 0)("examples of the man pages (needs root)", () => {
  let lab: Lab;
  beforeAll(() => {
    lab = new Lab();
    const cache = "/var/lib/megatux/cache/packages";
    if (existsSync(cache)) lab.env.MT_CACHE = cache;
    cpSync(join(root, "examples"), join(lab.dir, "examples"), { recursive: true });
  });
  afterAll(() => {
    lab?.sh(`MT_HOST=me1; export MT_HOST; ${HERE_DOWN}; mt-launch down abilene; mt-tree down`);
    lab?.remove();
  });

  const run = (script: string, here = false) => {
    const done = lab.sh(`set -e -o pipefail${here ? "; export MT_HOST=me1" : ""}\n${script}`);
    expect(done.code, `${script}\n${done.stdout}${done.stderr}`).toBe(0);
  };

  test.each(PAGES)("$page", ({ page, before, after, here }) => {
    const scripts = blocks(page);
    expect(scripts.length).toBeGreaterThan(0);
    try {
      for (const [i, script] of scripts.entries()) {
        const first = typeof before === "object" ? before[i] : i === 0 && before;
        if (first) run(first, here);
        run(script, here);
      }
    } finally {
      if (after) lab.sh(`${here ? "export MT_HOST=me1; " : ""}${after}`);
    }
  });
});
