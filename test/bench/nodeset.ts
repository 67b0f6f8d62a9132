/**
 * Node sets: names parsed, folded and routed (looked up one by one, as a node of the tree does), and the whole
 * command beside ClusterShell's nodeset (Debian package clustershell).
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { foldNodes } from "../../shared/nodeset/fold.ts";
import { expandNodes } from "../../shared/nodeset/nodeset.ts";
import { DIST, has, median, report, timed } from "./measure.ts";

const NAMES = 10_000;
const LINKS = 16;
/** The first is measured cold, as a command that runs once is. */
const KINDS: Record<string, (i: number) => string> = {
  // Words and numbers in no order, as of machines that people and clouds named.
  irregular: (i) =>
    i % 2 === 0
      ? `${((i * 2654435761) % 2 ** 32).toString(36)}-${((i * 40503) % 65536).toString(16)}x`
      : `ip-10-${(i * 37) % 251}-${(i * 91) % 241}-${(i * 13) % 239}`,
  regular: (i) => `kn${i}`,
  "rack and node": (i) => `rack${Math.floor(i / 100)}n${String(i % 100).padStart(2, "0")}`,
};

function parseFoldRoute(text: string, routes: ReadonlyMap<string, number>): void {
  const names = expandNodes(text)._unsafeUnwrap();
  const folded = foldNodes(names);
  const byLink = new Map<number, string[]>();
  for (const name of names) {
    const link = routes.get(name);
    if (link === undefined) throw new Error(`${name} was lost`);
    const hosts = byLink.get(link);
    if (hosts) hosts.push(name);
    else byLink.set(link, [name]);
  }
  if (names.size !== NAMES || folded === "" || byLink.size !== LINKS) throw new Error("names were lost");
}

/** How long the peer gets: it compares all names of several dimensions with each other. */
const PEER_S = 20;

/** Milliseconds of a command that reads names and prints a node set; undefined where it took too long. */
function command(words: readonly string[], input: string): number | undefined {
  let late = false;
  const run = () => {
    if (late) return;
    const done = spawnSync(words[0]!, words.slice(1), { input, encoding: "utf8", timeout: PEER_S * 1000 });
    late = done.signal !== null;
    if (!late && (done.status !== 0 || done.stdout === "")) throw new Error(`${words[0]}: ${done.stderr}`);
  };
  const took = timed(5, run);
  return late ? undefined : 1000 * median(took);
}

for (const [kind, name] of Object.entries(KINDS)) {
  const list = [...new Set(Array.from({ length: 2 * NAMES }, (_, i) => name(i)))].slice(0, NAMES);
  const [text, input] = [list.join(","), list.join("\n")];
  const routes = new Map(list.map((host, i) => [host, i % LINKS]));
  const [first = 0] = timed(1, () => parseFoldRoute(text, routes));
  report(`10,000 ${kind} names: parse, fold, route`, first * 1000, "ms", { atMost: 100 });
  const own = command([join(DIST, "mt-tree"), "nodes", "-"], input);
  if (own === undefined) throw new Error(`mt-tree nodes took more than ${PEER_S} s`);
  report("– folded by mt-tree nodes, whole command", own, "ms");
  if (!has("nodeset")) continue;
  const peer = command(["nodeset", "--fold"], input);
  if (peer !== undefined) report("– beside: by ClusterShell's nodeset", peer, "ms");
  else report("– beside: by ClusterShell's nodeset, not done after", PEER_S * 1000, "ms");
}
