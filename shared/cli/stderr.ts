/** stderr is for people: messages with a hint, as text or as JSON lines; progress where it is wanted. */
import type { MtError } from "../errors.ts";
import { isTerminal } from "../stream/descriptors.ts";
import { writeAll } from "../stream/writer.ts";
import { cutCells, plain, plainJson } from "./plain.ts";

const COLUMNS = 80;

let name = "mt";
let style: "text" | "json" = "text";

export function stderrStyle(tool: string, how: "text" | "json"): void {
  name = tool;
  style = how;
}

function write(text: string): void {
  try {
    writeAll(2, Buffer.from(text));
  } catch {
    // Nobody listens: there is nowhere to say so.
  }
}

/** Lines that stay. On a terminal a bar may stand where they go, ours or another tool's: its rest is wiped. */
function put(text: string): void {
  const end = isTerminal(2) && process.env.TERM !== "dumb" ? "\x1b[K\n" : "\n";
  write(`${text}\n`.replaceAll("\n", end));
}

/** On a terminal: the line where the cursor stands, until anybody writes another; nothing wipes it. The cursor stays at its begin. */
export function putBar(text: string): void {
  // On a terminal asking this changes nothing that others share: it is opened anew.
  const width = process.stderr.columns || COLUMNS;
  write(`\r${cutCells(plain(text), width - 1)}\x1b[K\r`);
}

/** Each line of it plain; those after the first stand in, so that none looks like another message. */
const lines = (text: string) => text.split("\n").map(plain).join("\n  ");

/** Something is wrong: `mt-boot: Cannot … : …` and what to do. */
export function warn(error: MtError, tool = name): void {
  if (style === "json") put(plainJson({ time: new Date().toISOString(), tool, level: "error", ...error }));
  else put(`${tool}: ${lines(error.message)}${error.hint ? `\n  hint: ${lines(error.hint)}` : ""}`);
}

/** Something to know that is not wrong. */
export function inform(message: string): void {
  if (style === "json")
    put(plainJson({ time: new Date().toISOString(), tool: name, level: "info", message }));
  else put(`${name}: ${lines(message)}`);
}

export const stderrIsText = () => style === "text";
export const toolName = () => name;
