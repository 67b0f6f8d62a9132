/** Whether mt-topo place has seen a record: a plan that was never placed says nowhere what belongs to which host. */
import { type MtError, mtError } from "../errors.ts";
import { isKind, KINDS } from "./index.ts";
import type { Line } from "./line.ts";

/** A kind that belongs to one host and names none, or a segment that does not say whose it is. */
export function isUnplaced(line: Pick<Line, "kind" | "host" | "hosts"> & { members?: unknown }): boolean {
  if (line.kind === "segment") return line.hosts === undefined && line.members === undefined;
  return isKind(line.kind) && KINDS[line.kind].travel === "host" && line.host === undefined;
}

export const notPlaced = ({ kind, id }: Pick<Line, "kind" | "id">): MtError =>
  mtError(
    "data",
    `Cannot act on ${kind} ${id.slice(0, 60)}: it was never placed on a host`,
    "mt-topo place HOSTS says which host has what; give what it prints to this tool",
  );
