/** stderr is for people: messages with a hint, as text or as JSON lines; progress where it is wanted. */
import type { MtError } from "../errors.ts";
import { writeAll } from "../stream/writer.ts";

let name = "mt";
let style: "text" | "json" = "text";

export function stderrStyle(tool: string, how: "text" | "json"): void {
  name = tool;
  style = how;
}

function put(text: string): void {
  try {
    writeAll(2, Buffer.from(`${text}\n`));
  } catch {
    // Nobody listens: there is nowhere to say so.
  }
}

/** Something is wrong: `mt-boot: Cannot … : …` and what to do. */
export function warn(error: MtError, tool = name): void {
  if (style === "json")
    put(JSON.stringify({ time: new Date().toISOString(), tool, level: "error", ...error }));
  else put(`${tool}: ${error.message}${error.hint ? `\n  hint: ${error.hint}` : ""}`);
}

/** Something to know that is not wrong. */
export function inform(message: string): void {
  if (style === "json")
    put(JSON.stringify({ time: new Date().toISOString(), tool: name, level: "info", message }));
  else put(`${name}: ${message}`);
}

export const stderrIsText = () => style === "text";
