/** `exit` records of guests that did the same, as one record with their range. */
import { fold } from "../../../shared/nodeset/ranges.ts";
import type { Exit } from "../../../shared/records/index.ts";

/** Longest range that a record's schema takes. */
const RANGE_CHARACTERS_MAX = 4000;

/** Outcomes in the order of their first guests; `seconds` is the longest of each. */
export function foldExits(exits: readonly Exit[]): Exit[] {
  const groups = new Map<string, { common: Exit; ids: string[]; seconds: number }>();
  for (const { id, guest: _guest, seconds = 0, ...same } of exits) {
    const common = { ...same, id: "", error: renamed(same.error, id, "{id}") } as Exit;
    const key = JSON.stringify(common);
    const group = groups.get(key) ?? { common, ids: [], seconds: 0 };
    group.ids.push(id);
    group.seconds = Math.max(group.seconds, seconds);
    groups.set(key, group);
  }
  return [...groups.values()].flatMap(({ common, ids, seconds }) =>
    rangesOf(ids).map((id): Exit => {
      const { kind, host, code, error, id: _id, ...rest } = common;
      return {
        kind,
        id,
        host,
        ...(id.includes("[") ? {} : { guest: id }),
        ...(code === undefined ? {} : { code }),
        ...rest,
        ...(error === undefined ? {} : { error: renamed(error, "{id}", id)! }),
        seconds,
      };
    }),
  );
}

function rangesOf(ids: readonly string[]): string[] {
  const ranges = fold(ids);
  if (ids.length === 1 || ranges.every((range) => range.length <= RANGE_CHARACTERS_MAX)) return ranges;
  const half = Math.ceil(ids.length / 2);
  return [...rangesOf(ids.slice(0, half)), ...rangesOf(ids.slice(half))];
}

/** The error with another name in its message: errors of several guests are equal but for their names. */
function renamed(error: Exit["error"], from: string, to: string): Exit["error"] {
  if (error === undefined) return undefined;
  const word = new RegExp(`(?<![\\w.-])${from.replaceAll(/[.{}]/g, "\\$&")}(?![\\w-])`, "g");
  return { ...error, message: error.message.replaceAll(word, () => to) };
}
