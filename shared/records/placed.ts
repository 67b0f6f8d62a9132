/** Records that mt-topo place has not placed: they do not say which host they belong to. */
import { type MtError, mtError } from "../errors.ts";
import { isKind, KINDS } from "./index.ts";
import type { Line } from "./line.ts";

/** Whether a record belongs to one host but names none, or is a segment without `hosts` and `members`. */
export function isUnplaced(line: Pick<Line, "kind" | "host" | "hosts"> & { members?: unknown }): boolean {
  if (line.kind === "segment") return line.hosts === undefined && line.members === undefined;
  return isKind(line.kind) && KINDS[line.kind].travel === "host" && line.host === undefined;
}

/** The error of such a record. */
export const notPlaced = ({ kind, id }: Pick<Line, "kind" | "id">): MtError =>
  mtError(
    "data",
    `Cannot act on ${kind} ${id.slice(0, 60)}: it was never placed on a host`,
    "mt-topo place HOSTS says which host has what; give what it prints to this tool",
  );
