/**
 * A router's kernel table, read from /proc/<pid>/net/route of its daemon: that shows the router's namespace, so no
 * process has to be started in it.
 */
import { readFileSync } from "node:fs";
import { formatCidr } from "../../../shared/addresses.ts";

const RTF_UP = 0x1;
const RTF_REJECT = 0x200;

/** Little-endian hex, as /proc/net/route has it: `0000FF0A` → 10.255.0.0 as a number. */
function address(hex: string): number {
  return Buffer.from(hex, "hex").readUInt32LE();
}

/** The prefixes in the text of a /proc/net/route: those that lead somewhere, without the default route. */
export function parseTable(text: string): Set<string> {
  const prefixes = new Set<string>();
  for (const line of text.split("\n").slice(1)) {
    const [, destination, , flags, , , , mask] = line.split("\t");
    if (destination?.length !== 8 || mask?.length !== 8) continue;
    const bits = Number.parseInt(flags ?? "0", 16);
    if ((bits & RTF_UP) === 0 || (bits & RTF_REJECT) !== 0) continue;
    const ones = address(mask);
    if (ones === 0) continue;
    const length = 32 - Math.log2(2 ** 32 - ones);
    prefixes.add(formatCidr({ address: address(destination), length }));
  }
  return prefixes;
}

/** The table of the namespace that this process is in; undefined where the process has gone. */
export function readTable(pid: number): Set<string> | undefined {
  try {
    return parseTable(readFileSync(`/proc/${pid}/net/route`, "utf8"));
  } catch {
    return undefined;
  }
}
