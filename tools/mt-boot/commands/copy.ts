/**
 * `mt-boot copy`: copies files of this host into guests, or files of guests into a directory here, which gets a directory
 * for each guest. Writes an `exit` record for each guest when it is done. Names are taken literally: no patterns, no shell.
 */
import { mkdirSync, statSync } from "node:fs";
import { basename, isAbsolute, join, resolve } from "node:path";
import { ok, type Result } from "neverthrow";
import type { Run } from "../../../shared/cli/invocation.ts";
import { startProgress } from "../../../shared/cli/progress.ts";
import { fail, type MtError, orThrow, toMtError } from "../../../shared/errors.ts";
import { parseSet } from "../../../shared/nodeset/ranges.ts";
import { jobsOf } from "../client/jobs.ts";
import { askExits, overGuests } from "../client/targets.ts";
import type { CopyFile } from "../protocol.ts";
import type { spec } from "../spec.ts";

/** What to copy: into guests, or where `dir` is set, out of them into that directory. */
export interface CopyPlan {
  /** Guests; empty: those of the records on stdin. */
  set: string;
  dir?: string;
  files: CopyFile[];
}

const FORMS = "mt-boot copy FILE 'g[0-3]:/tmp/', or mt-boot copy 'g[0-3]:/var/log/x' DIR";

export const copy: Run<typeof spec, "copy"> = async (invocation) => {
  const { args, words } = invocation;
  const jobs = jobsOf(args, 4);
  const { timeout: timeout_s } = args;
  const { set, dir, files } = orThrow(copyPlan(words, args));
  orThrow(dir === undefined ? filesThere(files) : directoryThere(dir));
  const progress = startProgress("guests", args.progress);
  const code = await overGuests(invocation, {
    set,
    changes: true,
    example: FORMS,
    jobs,
    work: (group) => {
      const request = { dir, files, jobs: jobs.count(), timeout_s };
      return askExits(
        group,
        dir === undefined ? "copy into it" : "copy out of it",
        "copy",
        request,
        progress,
      );
    },
  });
  progress.stop();
  return code;
};

/** Reads the words of the command line. Local paths are made absolute. Errors: usage. */
export function copyPlan(
  words: readonly string[],
  flags: { to?: string; from?: string },
): Result<CopyPlan, MtError> {
  if (flags.to !== undefined) {
    if (words.length === 0)
      return usage("Cannot copy: FILE is missing", "mt-boot copy --to /tmp/ FILE <PLAN");
    return intoGuests("", words, flags.to);
  }
  if (flags.from !== undefined) {
    if (words.length !== 1)
      return usage(
        "Cannot copy: it takes one DIR with --from",
        "mt-boot copy --from /etc/hostname DIR <PLAN",
      );
    return outOfGuests("", [flags.from], words[0]!);
  }
  if (words.length < 2) return usage("Cannot copy: what and where to are missing", FORMS);
  const places = words.map(placeOf);
  const to = places.pop()!;
  const sets = new Set(places.map((place) => place?.set));
  if (to) {
    if (places.some((place) => place !== undefined))
      return usage("Cannot copy from guests to guests: one side is this host", FORMS);
    return parseSet(to.set).andThen(() => intoGuests(to.set, words.slice(0, -1), to.path));
  }
  if (sets.has(undefined) && sets.size > 1)
    return usage("Cannot copy from guests and from this host at once", FORMS);
  if (sets.has(undefined)) return usage("Cannot copy from this host to this host: one side is guests", FORMS);
  if (sets.size > 1)
    return usage(
      "Cannot copy from two sets of guests at once",
      "a set may have several names: g[0-3],gw:/PATH",
    );
  const set = [...sets][0]!;
  const paths = places.map((place) => place!.path);
  return parseSet(set).andThen(() => outOfGuests(set, paths, words[words.length - 1]!));
}

/** Splits `g[0-3]:/tmp/`; undefined for a path of this host. A local name with a colon in it is written `./a:b`. */
function placeOf(word: string): { set: string; path: string } | undefined {
  const m = /^([^/:]+):([\s\S]*)$/.exec(word);
  return m ? { set: m[1]!, path: m[2]! } : undefined;
}

function intoGuests(set: string, locals: readonly string[], to: string): Result<CopyPlan, MtError> {
  const bad = notAbsolute(to);
  if (bad) return bad;
  const into_directory = to.endsWith("/");
  if (locals.length > 1 && !into_directory)
    return usage(
      `Cannot copy ${locals.length} files to ${to}: it is one file`,
      `a directory ends with /: ${to}/`,
    );
  const files = locals.map((local) => ({
    from: resolve(local),
    to: into_directory ? to + basename(resolve(local)) : to,
  }));
  return twice(files) ?? ok({ set, files });
}

function outOfGuests(set: string, paths: readonly string[], dir: string): Result<CopyPlan, MtError> {
  if (dir === "") return usage("Cannot copy: DIR is empty", FORMS);
  const files: CopyFile[] = [];
  for (const path of paths) {
    const bad = notAbsolute(path);
    if (bad) return bad;
    const name = path.slice(path.lastIndexOf("/") + 1);
    // The file must be below the guest's own directory.
    if (name === "" || name === "." || name === "..")
      return usage(`Cannot copy ${JSON.stringify(path)}: it names no file`, "files are copied, one by one");
    files.push({ from: path, to: name });
  }
  return twice(files) ?? ok({ set, dir: resolve(dir), files });
}

function notAbsolute(path: string): Result<never, MtError> | undefined {
  if (path.includes("\0")) return usage("Cannot copy: a path has a zero byte in it", FORMS);
  if (isAbsolute(path)) return undefined;
  return usage(`Cannot use ${JSON.stringify(path)} in a guest: it does not begin with /`, FORMS);
}

function twice(files: readonly CopyFile[]): Result<never, MtError> | undefined {
  const names = files.map((file) => file.to);
  const again = names.find((name, i) => names.indexOf(name) < i);
  if (again === undefined) return undefined;
  return usage(`Cannot copy two files to ${again}: they have the same name`, "copy them one after the other");
}

function filesThere(files: readonly CopyFile[]): Result<void, MtError> {
  for (const { from } of files) {
    try {
      if (statSync(from).isFile()) continue;
    } catch (thrown) {
      const { code, message } = toMtError(thrown);
      return fail(code, `Cannot copy ${from}: ${message.replace(/^\w+: (.*), stat.*$/, "$1")}`);
    }
    return fail("data", `Cannot copy ${from}: it is no regular file`, "files are copied, one by one");
  }
  return ok(undefined);
}

function directoryThere(dir: string): Result<void, MtError> {
  try {
    mkdirSync(dir, { recursive: true });
    if (statSync(join(dir, ".")).isDirectory()) return ok(undefined);
  } catch (thrown) {
    const { code, hint } = toMtError(thrown);
    const why = (thrown as NodeJS.ErrnoException).code;
    if (code !== "bug") return fail(code, `Cannot copy into ${dir}: ${why}`, hint);
  }
  return fail("data", `Cannot copy into ${dir}: it is no directory`);
}

const usage = (message: string, hint: string) => fail<never>("usage", message, hint);
