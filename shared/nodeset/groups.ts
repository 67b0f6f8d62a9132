/**
 * Host sets on command lines: node sets with the groups of this machine's files (a line each, `name: node set`; `#`
 * begins a comment; groups may refer to groups) and `@all`, the hosts of the tree.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { err, ok, type Result } from "neverthrow";
import { didYouMean } from "../cli/did-you-mean.ts";
import { fail, type MtError, toMtError } from "../errors.ts";
import { homeDir, treeFile } from "../host/names.ts";
import { readOwnJson } from "../own-place.ts";
import { emptySet, expandNodes, type GroupOf } from "./nodeset.ts";

/** The deepest nesting of groups: deeper is taken for a mistake. */
const DEPTH_MAX = 32;
const GROUP_NAMES_SHOWN = 8;

/** By group: its node sets and where they are written. Given twice in a file, the union counts. */
type Definitions = Map<string, { text: string; where: string }[]>;

/** The hosts of a set, each once, in order, at least one. Errors: `usage`, `data` (in a groups file), `io`. */
export function namedHosts(text: string): Result<string[], MtError> {
  return nodesNamed(text).andThen((names) => (names.size > 0 ? ok([...names]) : err(emptySet(text))));
}

/** As `namedHosts`, but the set may be empty. Groups files are read only if a group is named. */
export function nodesNamed(text: string): Result<Set<string>, MtError> {
  return expandNodes(text, { group: groupsOfThisMachine() });
}

/** `$MT_GROUPS`, else the machine's file and the user's, whose groups replace the machine's of the same name. */
function groupFiles(): string[] {
  if (process.env.MT_GROUPS) return [process.env.MT_GROUPS];
  const home = homeDir();
  const config = process.env.XDG_CONFIG_HOME || (home && join(home, ".config"));
  return ["/etc/megatux/groups", ...(config ? [join(config, "megatux/groups")] : [])].filter((file) =>
    existsSync(file),
  );
}

function groupsOfThisMachine(): GroupOf {
  let read: GroupOf | undefined;
  return (name) => {
    if (!read) {
      const files = groupFiles();
      const definitions = readGroups(files);
      if (definitions.isErr()) return err(definitions.error);
      read = groupResolver(definitions.value, files, hostsOfTree);
    }
    return read(name);
  };
}

/** The hosts of the tree, up or not; undefined if there is no tree here. */
function hostsOfTree(): string[] | undefined {
  const tree = readOwnJson(treeFile()) as { hosts?: { id: string }[] } | undefined;
  return tree?.hosts?.map((h) => h.id);
}

/** The groups of these files; later files replace groups of earlier ones. Errors: `data` and those of reading. */
export function readGroups(files: readonly string[]): Result<Definitions, MtError> {
  const all: Definitions = new Map();
  for (const file of files) {
    let content: string;
    try {
      content = readFileSync(file, "utf8");
    } catch (thrown) {
      const { code, message } = toMtError(thrown);
      const why = code === "data" ? "it is no file" : message;
      return fail(
        code,
        `Cannot read groups ${file}: ${why}`,
        "MT_GROUPS names a file of lines like gpu: kn[1-4]",
      );
    }
    const here: Definitions = new Map();
    for (const [i, line] of content.split("\n").entries()) {
      const text = line.replace(/#.*/, "").trim();
      if (text === "") continue;
      const where = `${file} line ${i + 1}`;
      const m = /^([A-Za-z0-9_][A-Za-z0-9._-]*)\s*:(.*)$/.exec(text);
      if (!m) return fail("data", `Cannot read ${where}: it is no "group: node set"`, "as gpu: kn[1-4],kn9");
      const definition = { text: m[2]!.trim(), where };
      const known = here.get(m[1]!);
      if (known) known.push(definition);
      else here.set(m[1]!, [definition]);
    }
    for (const [name, definition] of here) all.set(name, definition);
  }
  return ok(all);
}

/**
 * A function that resolves groups, each once. Its errors: `usage` (no such group), `data`, `unavailable` (no tree).
 * @param files where the definitions come from, for messages
 * @param tree the hosts of `@all`; if it gives none, a group named `all` counts
 */
export function groupResolver(
  definitions: Definitions,
  files: readonly string[],
  tree: () => readonly string[] | undefined,
): GroupOf {
  const known = new Map<string, ReadonlySet<string>>();
  const path: string[] = [];
  const group: GroupOf = (asked) => {
    const name = asked === "*" ? "all" : asked;
    const before = known.get(name);
    if (before) return ok(before);
    const hosts = name === "all" ? tree() : undefined;
    const lines = definitions.get(name);
    if (!hosts && !lines) return notFound(name);
    if (path.includes(name))
      return fail(
        "data",
        `Cannot use group @${path[0]}: it names itself, @${[...path.slice(path.indexOf(name)), name].join(" → @")}`,
        files.join(", "),
      );
    if (path.length >= DEPTH_MAX)
      return fail(
        "data",
        `Cannot use group @${path[0]}: groups in groups, more than ${DEPTH_MAX} deep`,
        files.join(", "),
      );
    const members = new Set(hosts);
    path.push(name);
    const parts = (hosts ? [] : lines!)
      .filter(({ text }) => text !== "")
      .map(({ text, where }) => expandNodes(text, { group, where }));
    path.pop();
    for (const part of parts) {
      if (part.isErr()) return err(part.error);
      for (const host of part.value) members.add(host);
    }
    known.set(name, members);
    return ok(members);
  };
  const notFound = (name: string): Result<ReadonlySet<string>, MtError> => {
    if (name === "all") return fail("unavailable", "Cannot use @all: no tree is up here", "mt-tree up HOSTS");
    const names = [...definitions.keys()];
    if (files.length === 0)
      return fail(
        "usage",
        `Cannot use group @${name}: there is no file of groups`,
        `lines like ${name}: kn[1-4] in ~/.config/megatux/groups, /etc/megatux/groups or $MT_GROUPS`,
      );
    const some = names.slice(0, GROUP_NAMES_SHOWN).map((n) => `@${n}`);
    const list = `${files.join(", ")} has ${some.join(" ") || "none"}${names.length > some.length ? " …" : ""}`;
    return fail(
      "usage",
      `Cannot use group @${name}: no such group`,
      didYouMean(
        `@${name}`,
        names.map((n) => `@${n}`),
      ) ?? list,
    );
  };
  return group;
}
