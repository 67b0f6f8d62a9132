/** Writes to stderr, for people: messages with a hint, as text or as JSON lines, and the progress bar. */
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
    // stderr is closed: there is nowhere else to tell.
  }
}

/** Lines that stay. On a terminal they overwrite a bar, ours or another tool's: the rest of the line is cleared. */
function put(text: string): void {
  const end = isTerminal(2) && process.env.TERM !== "dumb" ? "\x1b[K\n" : "\n";
  write(`${text}\n`.replaceAll("\n", end));
}

/** On a terminal: draws on the current line and leaves the cursor at its start, so that the next output replaces it. */
export function putBar(text: string): void {
  // Safe on a terminal: it is opened anew, so a mode set by this is not shared with other processes.
  const width = process.stderr.columns || COLUMNS;
  write(`\r${cutCells(plain(text), width - 1)}\x1b[K\r`);
}

/** Each line made plain; those after the first are indented, so that none looks like a message of its own. */
const lines = (text: string) => text.split("\n").map(plain).join("\n  ");

/** Prints an error: `mt-boot: Cannot … : …` and its hint. */
export function warn(error: MtError, tool = name): void {
  if (style === "json") put(plainJson({ time: new Date().toISOString(), tool, level: "error", ...error }));
  else put(`${tool}: ${lines(error.message)}${error.hint ? `\n  hint: ${lines(error.hint)}` : ""}`);
}

/** Prints something to know that is no error. */
export function inform(message: string): void {
  if (style === "json")
    put(plainJson({ time: new Date().toISOString(), tool: name, level: "info", message }));
  else put(`${name}: ${lines(message)}`);
}

export const stderrIsText = () => style === "text";
export const toolName = () => name;
