/**
 * How a line becomes a record, or why it is none: every tool gives the same answer in the same words. Kind, id and host
 * are read off the bytes where the scanner is sure; JSON.parse does the rest.
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
      /** Names of fields that are nested too deeply: they are left out of `line`. */
      deep?: readonly string[];
    }
  | { why: string };

/** Only JSON's white space is blank: spaces, tabs, carriage returns. Any other white space makes the line an error. */
const BLANK = /^[ \t\r]*$/;
export const isBlank = (text: string): boolean => BLANK.test(text);

/** Parses one line; undefined if it is blank. */
export function readRecord({ text, bad }: RawLine): ReadLine | undefined {
  if (bad !== undefined) return { why: bad };
  // Cheaper than the regular expression; nearly every line begins so.
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

/** Parses a line that is nested too deeply, leaving out the fields that are. */
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

/** Fields that say where a record goes: without them it cannot be passed on. */
const READ_BY_ALL = ["kind", "id", "host", "hosts"];

/** Why a field cannot be read, for the message of an error. */
export const whyTooDeep = (field: string): string => `${field}: nested deeper than ${DEPTH_MAX} levels`;

/**
 * Checks a record against the schema of its kind.
 * @param deep names of its fields that are nested too deeply: none may be a field of the schema
 * @returns the record, typed; the error (`data`) names the field and what was expected
 */
export function checkRecord<K extends Kind>(
  kind: K,
  record: unknown,
  deep: readonly string[] | undefined,
): Result<RecordByKind[K], MtError> {
  const field = deep?.find((name) => Object.hasOwn(KINDS[kind].schema.properties, name));
  return field === undefined ? validate(kind, record) : fail("data", `${kind} ${whyTooDeep(field)}`);
}

/** The fields of a record that say where it goes. */
export type Head = Pick<Line, "kind" | "id" | "host">;

const NEWLINE = 0x0a;

/**
 * The lines of a block of bytes, one at a time: `next` goes to a line, the fields and methods then describe that line.
 * It is parsed or decoded only on request. The bytes must not change while it is in use.
 */
export class RecordLines implements Scanned {
  /** All lines, each with its newline. */
  readonly bytes: Buffer;
  /** Offsets of the current line: its first byte, and the one after its newline. */
  from = 0;
  to = 0;
  /** Whether the scanner found the line to be a record. If not, ask `read`: the next four fields are meaningless. */
  sure = false;
  kind = "";
  host: string | undefined = undefined;
  idFrom = 0;
  idTo = 0;
  /** Whether all bytes are known to be UTF-8. */
  readonly utf8: boolean;
  /** Why the current line cannot be read. */
  private bad: string | undefined = undefined;
  /** Why the line was cut, where the block is one overlong line. */
  private readonly cut: string | undefined;

  /**
   * @param from offset at which the first line begins
   * @param utf8 whether the bytes are known to be UTF-8; absent: they are checked
   */
  constructor(block: Block, from = 0, utf8?: boolean) {
    const isBytes = Buffer.isBuffer(block);
    const bytes = isBytes ? block : Buffer.from(block.text);
    this.bytes = bytes.at(-1) === NEWLINE ? bytes : Buffer.concat([bytes, Buffer.of(NEWLINE)]);
    this.cut = isBytes ? undefined : block.bad;
    this.utf8 = utf8 ?? isUtf8(bytes);
    this.to = from;
  }

  /** Goes to the next line; false at the end. */
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

  /** A line of a block that is not all UTF-8, or an overlong line. */
  #nextDoubtful(): void {
    const { bytes, from } = this;
    this.to = bytes.indexOf(NEWLINE, from) + 1;
    this.bad = this.cut ?? (isUtf8(bytes.subarray(from, this.to)) ? undefined : "it is no UTF-8");
    this.sure = this.bad === undefined && scanRecord(bytes, from, this) >= 0;
  }

  /** The current line without its newline; bytes that are not UTF-8 become U+FFFD. */
  get text(): string {
    return this.bytes.toString("utf8", this.from, this.to - 1);
  }

  /** The id of the current record, if `sure`. */
  get id(): string {
    return this.bytes.toString("latin1", this.idFrom, this.idTo);
  }

  /** Parses the current line; undefined if it is blank. */
  read(): ReadLine | undefined {
    // The scanner has already checked that it is a record and not too deep.
    if (this.sure) return { line: JSON.parse(this.text) };
    return readRecord(this.bad === undefined ? { text: this.text } : { text: this.text, bad: this.bad });
  }

  /** Kind, id and host of the current line; undefined if it is neither a record nor blank. */
  head(): Head | "blank" | undefined {
    if (this.sure)
      return { kind: this.kind, id: this.id, ...(this.host === undefined ? {} : { host: this.host }) };
    const read = this.read();
    if (read === undefined) return "blank";
    return "line" in read ? read.line : undefined;
  }
}

/** Bytes that are one line, with or without its newline. */
export function lineIn(bytes: Buffer): RecordLines {
  const line = new RecordLines(bytes);
  line.next();
  return line;
}

/** The line that begins at `from`, in bytes that are whole lines of UTF-8. */
export function lineAt(bytes: Buffer, from: number): RecordLines {
  const line = new RecordLines(bytes, from, true);
  line.next();
  return line;
}

const RAW_CHARACTERS_MAX = 4096;

/** For a line that is no record: the `error` record that replaces it, and the error that the tool ends with. */
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
