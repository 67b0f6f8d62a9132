/**
 * The lines that one host was sent and has not given back. A filter gives most lines back unchanged and in order, so
 * what was sent is kept as bytes, and what comes back is compared with it, many lines at a time. A line that was changed
 * is found by kind and id; where the order was changed, lines sent before it move to the accounts (accounts.ts).
 */
import type { Line } from "../../../shared/records/line.ts";
import { lineAt } from "../../../shared/stream/record-line.ts";
import { Accounts } from "./accounts.ts";

interface Sent {
  bytes: Buffer;
  /** Where the first line begins that has not come back. */
  at: number;
  role: Role;
}

/**
 * What lines are for the host. `own`: its records, which have to come back. `context`: put out already, so its copies are
 * dropped. `passing`: put out where the host gives it back. `inserted`: not sent to the host at all, and put out in its
 * place among the others.
 */
export type Role = "own" | "context" | "passing" | "inserted";

/** How many bytes wait for their place before they go out of turn: a filter may give nothing back until the end. */
const INSERTED_BYTES_MAX = 16 * 2 ** 20;

/** What to do with a line that came back. */
export type Handling = "emit" | "drop";

export class InFlight {
  #sent: Sent[] = [];
  readonly #accounts = new Accounts();
  /** Inserted lines whose place has been reached. */
  #due: Buffer[] = [];
  /** Of all inserted lines that are not put out. */
  #insertedBytes = 0;

  /** Adds lines that come out in their place; `emit` gets those whose turn it is. */
  insert(bytes: Buffer, emit: (run: Buffer) => void): void {
    this.#sent.push({ bytes, at: 0, role: "inserted" });
    this.#insertedBytes += bytes.length;
    if (this.#insertedBytes > INSERTED_BYTES_MAX) {
      for (const sent of this.#sent) if (sent.role === "inserted") this.#due.push(sent.bytes);
      this.#sent = this.#sent.filter((sent) => sent.role !== "inserted");
    }
    for (const run of this.#takeDue()) emit(run);
  }

  #takeDue(): Buffer[] {
    while (this.#sent[0]?.role === "inserted") this.#due.push(this.#sent.shift()!.bytes);
    const due = this.#due;
    if (due.length === 0) return due;
    this.#due = [];
    for (const { length } of due) this.#insertedBytes -= length;
    return due;
  }

  /** Whole lines went to the host. */
  sent(bytes: Buffer, role: Role): void {
    this.#sent.push({ bytes, at: 0, role });
  }

  /**
   * Whole lines came back, each with its newline.
   * @param emit gets those that are unchanged and in order, many at a time
   * @param other is asked about every other line, and calls `settle` where it is a record
   */
  came(bytes: Buffer, emit: (run: Buffer) => void, other: (line: Buffer) => Handling): void {
    let from = 0;
    let at = 0;
    const emitted = () => {
      if (at > from) emit(bytes.subarray(from, at));
    };
    const inPlace = () => {
      const due = this.#takeDue();
      if (due.length === 0) return;
      emitted();
      from = at;
      for (const run of due) emit(run);
    };
    while (at < bytes.length) {
      inPlace();
      const head = this.#sent[0];
      if (head) {
        const n = Math.min(head.bytes.length - head.at, bytes.length - at);
        if (bytes.compare(head.bytes, head.at, head.at + n, at, at + n) === 0) {
          if (head.role === "context") {
            emitted();
            from = at + n;
          }
          at += n;
          head.at += n;
          if (head.at === head.bytes.length) this.#sent.shift();
          continue;
        }
      }
      const end = lineEnd(bytes, at);
      if (head && head.role !== "context" && sameLine(head, bytes, at, end)) {
        this.#pop(head);
        at = end;
        continue;
      }
      const handling = other(bytes.subarray(at, end));
      inPlace();
      if (handling === "drop") {
        emitted();
        from = end;
      }
      at = end;
    }
    inPlace();
    emitted();
  }

  /** A record came back: it is not missing any more. */
  settle(line: Pick<Line, "kind" | "id">): void {
    const head = this.#sent[0];
    if (head?.role === "own") {
      const first = recordAt(head);
      if (first?.kind === line.kind && first.id === line.id) return this.#pop(head);
    }
    if (this.#accounts.size > 0 && this.#accounts.came(line)) return;
    // It is not the next one: those that were sent before it may come later.
    while (this.#sent.length > 0) {
      this.#toAccounts();
      if (this.#accounts.came(line)) return;
    }
  }

  #pop(head: Sent): void {
    head.at = lineEnd(head.bytes, head.at);
    if (head.at === head.bytes.length) this.#sent.shift();
  }

  #toAccounts(): void {
    const head = this.#sent[0]!;
    if (head.role === "inserted") {
      this.#due.push(this.#sent.shift()!.bytes);
      return;
    }
    const line = recordAt(head);
    const from = head.at;
    this.#pop(head);
    if (head.role === "own" && line) this.#accounts.sent(line, lineText(head.bytes, from));
  }

  /**
   * Nothing more comes back: gives inserted lines that still wait for their place, in order.
   * @param passing whether to give also passing lines that have not come back
   */
  takeRest(passing: boolean): Buffer[] {
    const rest: Buffer[] = [];
    for (const { role, at, bytes } of this.#sent)
      if (role === "inserted" || (role === "passing" && passing)) rest.push(bytes.subarray(at));
    this.#sent = this.#sent.filter(({ role }) => role === "own");
    return [...this.#takeDue(), ...rest];
  }

  /** The lines that did not come back, as they were sent (ranges cut to what is missing). */
  *missing(): Generator<string> {
    while (this.#sent.length > 0) this.#toAccounts();
    yield* this.#accounts.missing();
  }
}

/** Where the line that begins at `at` ends, its newline included. */
function lineEnd(bytes: Buffer, at: number): number {
  const newline = bytes.indexOf(10, at);
  return newline < 0 ? bytes.length : newline + 1;
}

/** That line, without its newline. */
function lineText(bytes: Buffer, at: number): string {
  const end = lineEnd(bytes, at);
  return bytes.toString("utf8", at, bytes[end - 1] === 10 ? end - 1 : end);
}

/** Whether the line that came is the same as the first that waits, whatever follows both. */
function sameLine(head: Sent, bytes: Buffer, at: number, end: number): boolean {
  const { length } = head.bytes;
  const to = head.at + end - at;
  return to <= length && head.bytes[to - 1] === 10 && bytes.compare(head.bytes, head.at, to, at, end) === 0;
}

/** Kind and id of the first line that waits. */
function recordAt(head: Sent): Pick<Line, "kind" | "id"> | undefined {
  const line = lineAt(head.bytes, head.at).head();
  return line === "blank" ? undefined : line;
}
