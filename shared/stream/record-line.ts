/**
 * How a line becomes a record, or why it is none: the same answer, in the same words, from everybody who reads
 * records. What says where a record goes is read off its bytes where the scanner is sure; JSON.parse reads the rest.
 */
import type { Result } from "neverthrow";
import { fail, type MtError } from "../errors.ts";
import { KINDS, type Kind, type RecordByKind } from "../records/index.ts";
import type { Line } from "../records/line.ts";
import { validate } from "../records/validate.ts";
import { isDeeper, isJson, membersOf } from "./json-text.ts";
import { type Block, isUtf8, type RawLine } from "./lines.ts";
import { DEPTH_MAX, type Scanned, scanRecord } from "./scan.ts";

export { DEPTH_MAX };

/** What a line is. */
export type ReadLine =
  | {
      line: Line;
      /** The fields that are nested too deeply: they are in the text, not in `line`. */
      deep?: readonly string[];
    }
  | { why: string };

/** Blank is what is blank in JSON: spaces, tabs and a carriage return. Other white space is no record. */
const BLANK = /^[ \t\r]*$/;
export const isBlank = (text: string): boolean => BLANK.test(text);

/** Reads one line whole; undefined where it is blank. */
export function readRecord({ text, bad }: RawLine): ReadLine | undefined {
  if (bad !== undefined) return { why: bad };
  // Most lines begin with a record.
  if (text[0] !== "{" && isBlank(text)) return undefined;
  if (isDeeper(text, DEPTH_MAX)) return readDeep(text);
  let line: unknown;
  try {
    line = JSON.parse(text);
  } catch {
    return { why: "it is no JSON" };
  }
  return asRecord(line);
}

/** Reads a line that is nested too deeply for JSON.parse, but for the fields that are. */
function readDeep(text: string): ReadLine {
  const members = membersOf(text);
  if (members === undefined) return { why: isJson(text) ? "it is no JSON object" : "it is no JSON" };
  const deep = members.flatMap(({ name, depth }) => (depth < DEPTH_MAX ? [] : [name]));
  const lost = deep.find((name) => READ_BY_ALL.includes(name));
  if (lost !== undefined) return { why: whyTooDeep(lost) };
  const shallow = members.flatMap(({ name, value, to }) =>
    deep.includes(name) ? [] : [[name, JSON.parse(text.slice(value, to))]],
  );
  const read = asRecord(Object.fromEntries(shallow));
  return "why" in read ? read : { ...read, deep };
}

function asRecord(value: unknown): ReadLine {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    return { why: "it is no JSON object" };
  const line = value as Line;
  if (typeof line.kind !== "string" || line.kind === "") return { why: "kind: expected a string" };
  if (typeof line.id !== "string" || line.id === "") return { why: "id: expected a string" };
  return { line };
}

/** What says where a record goes. */
const READ_BY_ALL = ["kind", "id", "host", "hosts"];

/** Why a field cannot be read. */
export const whyTooDeep = (field: string): string => `${field}: nested deeper than ${DEPTH_MAX} levels`;

/**
 * Checks a record against the schema of its kind. The error says which field is wrong and what was expected.
 * @param deep its fields that are nested too deeply: none may be a field of its kind
 */
export function checkRecord<K extends Kind>(
  kind: K,
  record: unknown,
  deep: readonly string[] | undefined,
): Result<RecordByKind[K], MtError> {
  const field = deep?.find((name) => Object.hasOwn(KINDS[kind].schema.properties, name));
  return field === undefined ? validate(kind, record) : fail("data", `${kind} ${whyTooDeep(field)}`);
}

/** What a record says of where it goes. */
export type Head = Pick<Line, "kind" | "id" | "host">;

const NEWLINE = 0x0a;

/**
 * Lines among bytes, one after another. Nothing is decoded or made of a line before it is asked for: it is the same
 * object that tells of each. The bytes must not change before the last line has been dealt with.
 */
export class RecordLines implements Scanned {
  /** All lines, each with its newline. */
  readonly bytes: Buffer;
  /** The line in hand, from its first byte to the one after its newline. */
  from = 0;
  to = 0;
  /** Whether that is plainly a record; else only `read` can tell, and the four fields below say nothing. */
  sure = false;
  kind = "";
  host: string | undefined = undefined;
  idFrom = 0;
  idTo = 0;
  /** Whether all bytes are known to be UTF-8. */
  readonly utf8: boolean;
  /** Why the line in hand can't be read. */
  private bad: string | undefined = undefined;
  /** Why the one line that all this is was cut. */
  private readonly cut: string | undefined;

  /**
   * @param from where the first line begins
   * @param utf8 whether all is known to be UTF-8
   */
  constructor(block: Block, from = 0, utf8?: boolean) {
    const isBytes = Buffer.isBuffer(block);
    const bytes = isBytes ? block : Buffer.from(block.text);
    this.bytes = bytes.at(-1) === NEWLINE ? bytes : Buffer.concat([bytes, Buffer.of(NEWLINE)]);
    this.cut = isBytes ? undefined : block.bad;
    this.utf8 = utf8 ?? isUtf8(bytes);
    this.to = from;
  }

  /** Goes on to the next line; false where there is none. */
  next(): boolean {
    const { bytes } = this;
    const from = this.to;
    if (from === bytes.length) return false;
    this.from = from;
    if (this.utf8 && this.cut === undefined) {
      const end = scanRecord(bytes, from, this);
      this.sure = end >= 0;
      this.to = (end < 0 ? bytes.indexOf(NEWLINE, from) : end) + 1;
    } else this.#nextDoubtful();
    return true;
  }

  /** One of those that are not all UTF-8, or a line that was cut. */
  #nextDoubtful(): void {
    const { bytes, from } = this;
    this.to = bytes.indexOf(NEWLINE, from) + 1;
    this.bad = this.cut ?? (isUtf8(bytes.subarray(from, this.to)) ? undefined : "it is no UTF-8");
    this.sure = this.bad === undefined && scanRecord(bytes, from, this) >= 0;
  }

  /** The line in hand without its newline; bytes that are no UTF-8 are replaced. */
  get text(): string {
    return this.bytes.toString("utf8", this.from, this.to - 1);
  }

  /** The id of the record in hand, where that is sure. */
  get id(): string {
    return this.bytes.toString("latin1", this.idFrom, this.idTo);
  }

  /** All of the line in hand; undefined where it is blank. */
  read(): ReadLine | undefined {
    // What was scanned is a record, and not too deep.
    if (this.sure) return { line: JSON.parse(this.text) };
    return readRecord(this.bad === undefined ? { text: this.text } : { text: this.text, bad: this.bad });
  }

  /** What the record in hand says of where it goes; undefined where it is none. */
  head(): Head | "blank" | undefined {
    if (this.sure)
      return { kind: this.kind, id: this.id, ...(this.host === undefined ? {} : { host: this.host }) };
    const read = this.read();
    if (read === undefined) return "blank";
    return "line" in read ? read.line : undefined;
  }
}

/** The one line that bytes are, with its newline or without. */
export function lineIn(bytes: Buffer): RecordLines {
  const line = new RecordLines(bytes);
  line.next();
  return line;
}

/** The line that begins there, among whole lines that are UTF-8. */
export function lineAt(bytes: Buffer, from: number): RecordLines {
  const line = new RecordLines(bytes, from, true);
  line.next();
  return line;
}

const RAW_CHARACTERS_MAX = 4096;

/** The record that stands for a line that is none, and its error, which is that of the stream too. */
export function refusedLine(
  by: string,
  number: number,
  text: string,
  why: string,
): { record: string; error: MtError } {
  const error: MtError = { code: "data", message: `Cannot read line ${number}: ${why}` };
  const record = JSON.stringify({
    kind: "error",
    id: `${by}.line-${number}`,
    line: number,
    raw: text.slice(0, RAW_CHARACTERS_MAX),
    error: { by, ...error },
  });
  return { record, error: { ...error, hint: "the line stands in the stream as an error record" } };
}
