/**
 * Node sets beside the programs whose syntax they use: random sets, from a seed, through ClusterShell and Slurm, which
 * `.ci/deps test` installs. Differences are described in mt-tree(1), and tested here too.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { findProgram } from "../../shared/host/process.ts";
import { foldNodes } from "../../shared/nodeset/fold.ts";
import { expandNodes } from "../../shared/nodeset/nodeset.ts";

const SEED = 20260917;
let state = SEED;
const below = (n: number) => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return Math.floor((state / 2 ** 32) * n);
};
const oneOf = <T>(list: readonly T[]): T => list[below(list.length)]!;
const repeat = (least: number, most: number, make: () => string, between: string) =>
  Array.from({ length: least + below(most - least + 1) }, make).join(between);

/** A number, or a range with both ends padded alike, which all of them read alike. */
function span(blank: () => string, steps: boolean): string {
  const width = oneOf([0, 0, 2, 3]);
  const lo = below(30);
  const hi = lo + below(15);
  const text = (n: number) => blank() + String(n).padStart(width, "0") + blank();
  if (below(3) === 0) return text(lo);
  return `${text(lo)}-${text(hi)}${steps && below(4) === 0 ? `/${blank()}${1 + below(5)}${blank()}` : ""}`;
}
const bracket = (blank: () => string, steps: boolean) => `[${repeat(1, 3, () => span(blank, steps), ",")}]`;
const none = () => "";

function clusterTerm(): string {
  const blank = below(4) === 0 ? () => oneOf(["", " ", "  "]) : none;
  const name = oneOf(["n", "rack", "a-", "x.y", "gw"]);
  const dimension = () => `${oneOf(["", "-", "n", ".r"])}${bracket(blank, true)}`;
  if (below(5) === 0) return name + below(40);
  return `${name}${bracket(blank, true)}${below(3) === 0 ? `${oneOf(["c", "-", "_n"])}${dimension().replace(/^[^[]*/, "")}` : ""}${oneOf(["", "", "-ib", ".lan"])}`;
}

const sorted = (names: Iterable<string>) => [...names].sort();
const ours = (set: string) => sorted(expandNodes(set)._unsafeUnwrap());

const PYTHON = "/usr/bin/python3";
const SCRIPT = `
import sys
from ClusterShell.NodeSet import NodeSet, RESOLVER_NOGROUP
for line in sys.stdin:
    try: print(" ".join(NodeSet(line.rstrip("\\n"), resolver=RESOLVER_NOGROUP)))
    except Exception as e: print("!", e)
`;
const clusterShell = (sets: readonly string[]) => {
  const done = spawnSync(PYTHON, ["-c", SCRIPT], {
    input: sets.map((set) => `${set}\n`).join(""),
    encoding: "utf8",
    timeout: 60_000,
    maxBuffer: 2 ** 28,
  });
  expect([done.status, done.stderr]).toEqual([0, ""]);
  return done.stdout.split("\n").slice(0, -1);
};

describe.skipIf(findProgram("nodeset").isErr())("ClusterShell", () => {
  test("1,000 random sets with operators, steps, blanks and several dimensions", () => {
    const sets = Array.from({ length: 1000 }, () => {
      let set = clusterTerm();
      for (let more = below(4); more > 0; more--)
        set += `${oneOf([",", ",", "!", "&", "^", " , ", " ! "])}${clusterTerm()}`;
      return set;
    });
    const theirs = clusterShell(sets);
    expect(theirs.filter((line) => line.startsWith("!"))).toEqual([]);
    for (const [i, set] of sets.entries())
      expect(ours(set), `seed ${SEED}: ${set}`).toEqual(
        // It names one twice where spans of different padding overlap.
        sorted(new Set(theirs[i]!.split(" ").filter(Boolean))),
      );
  });

  test("what we fold it reads back", () => {
    const lists = Array.from({ length: 200 }, () => ours(`${clusterTerm()},${clusterTerm()}`));
    const theirs = clusterShell(lists.map((list) => foldNodes(list)));
    for (const [i, list] of lists.entries()) expect(sorted(new Set(theirs[i]!.split(" ")))).toEqual(list);
  });

  test("the table of differences is true: a digit before a bracket, an empty set", () => {
    const [many = "", empty] = clusterShell(["n1[9-12]", ""]);
    expect(many.split(" ")).toHaveLength(94);
    expect(ours("n1[9-12]")).toEqual(["n110", "n111", "n112", "n19"]);
    expect([empty, ours("")]).toEqual(["", []]);
  });
});

describe.skipIf(findProgram("scontrol").isErr())("Slurm", () => {
  const dir = mkdtempSync(join(tmpdir(), "mtt-slurm-"));
  afterAll(() => rmSync(dir, { recursive: true }));
  const SLURM_CONF = join(dir, "slurm.conf");
  // Enough for a command that asks no daemon.
  writeFileSync(
    SLURM_CONF,
    "ClusterName=x\nSlurmctldHost=localhost\nNodeName=n1\nPartitionName=p Nodes=n1\n",
  );
  const slurm = (set: string) => {
    const done = spawnSync("scontrol", ["show", "hostnames", set], {
      encoding: "utf8",
      timeout: 30_000,
      env: { ...process.env, SLURM_CONF },
    });
    expect([done.status, done.stderr], set).toEqual([0, ""]);
    return sorted(new Set(done.stdout.split("\n").filter(Boolean)));
  };

  test("100 random sets, digits before brackets among them", () => {
    for (let round = 0; round < 100; round++) {
      const set = repeat(
        1,
        4,
        () => {
          const name = oneOf(["n", "n1", "rack0", "a-", "prod-2", "x.y"]);
          return below(4) === 0 ? name + below(40) : name + bracket(none, false);
        },
        ",",
      );
      expect(ours(set), `seed ${SEED}: ${set}`).toEqual(slurm(set));
    }
  });

  test.each(["n1[9-12]", "prod-2[10-320]", "n0[8-11]", "n[1-3][1-2]", "n[001-44]"])(
    "%s is read as Slurm reads it",
    (set) => {
      expect(ours(set)).toEqual(slurm(set));
    },
  );
});
