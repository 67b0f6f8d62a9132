/**
 * What one host was sent and gave back. A filter gives most lines back as they were, in order: what was sent
 * waits as bytes, and what comes back is compared with it, a run at a time. Where a line was changed it is
 * told by kind and id; where the order was, what was sent before it goes into the accounts (accounts.ts).
 */
import type { Line } from "../../../shared/records/line.ts";
import { lineAt } from "../../../shared/stream/record-line.ts";
import { Accounts } from "./accounts.ts";

interface Sent {
  bytes: Buffer;
  /** Where the first line begins that has not come back. */
  at: number;
  as: As;
}

/**
 * What lines are to the host that they are sent to. `own`: its records, which have to come back. `context`: it has
 * come out already, and its copies are dropped. `passing`: it comes out where the host gives it back. `instead`: it is
 * not sent at all, and comes out in its place among the others.
 */
export type As = "own" | "context" | "passing" | "instead";

/** What waits for its place at most, before it goes out of turn: a filter may give nothing back until the end. */
const INSTEAD_BYTES_MAX = 16 * 2 ** 20;

/** What becomes of a line that came back, told apart from what was sent. */
export type Verdict = "emit" | "drop";

export class Tally {
  #sent: Sent[] = [];
  readonly #accounts = new Accounts();
  /** Lines that come out in their place: those whose place has been passed, and the bytes of all of them. */
  #due: Buffer[] = [];
  #insteadBytes = 0;

  /** Lines come out in their place; `emit` gets those whose turn it is. */
  instead(bytes: Buffer, emit: (run: Buffer) => void): void {
    this.#sent.push({ bytes, at: 0, as: "instead" });
    this.#insteadBytes += bytes.length;
    if (this.#insteadBytes > INSTEAD_BYTES_MAX) {
      for (const sent of this.#sent) if (sent.as === "instead") this.#due.push(sent.bytes);
      this.#sent = this.#sent.filter((sent) => sent.as !== "instead");
    }
    for (const run of this.#takeDue()) emit(run);
  }

  #takeDue(): Buffer[] {
    while (this.#sent[0]?.as === "instead") this.#due.push(this.#sent.shift()!.bytes);
    const due = this.#due;
    if (due.length === 0) return due;
    this.#due = [];
    for (const { length } of due) this.#insteadBytes -= length;
    return due;
  }

  /** Whole lines went to the host. */
  sent(bytes: Buffer, as: As): void {
    this.#sent.push({ bytes, at: 0, as });
  }

  /**
   * Whole lines came back, each with its newline.
   * @param emit gets runs of them that were sent as they are
   * @param other is asked about every other line; `settle` says whether it is one of those sent
   */
  came(bytes: Buffer, emit: (run: Buffer) => void, other: (line: Buffer) => Verdict): void {
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
          if (head.as === "context") {
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
      if (head && head.as !== "context" && sameLine(head, bytes, at, end)) {
        this.#pop(head);
        at = end;
        continue;
      }
      const verdict = other(bytes.subarray(at, end));
      inPlace();
      if (verdict === "drop") {
        emitted();
        from = end;
      }
      at = end;
    }
    inPlace();
    emitted();
  }

  /** A record came back: settles it among those that were sent. */
  settle(line: Pick<Line, "kind" | "id">): void {
    const head = this.#sent[0];
    if (head?.as === "own") {
      const first = recordAt(head);
      if (first?.kind === line.kind && first.id === line.id) return this.#pop(head);
    }
    if (this.#accounts.size > 0 && this.#accounts.came(line)) return;
    // Not the next one: what was sent before it may come later.
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
    if (head.as === "instead") {
      this.#due.push(this.#sent.shift()!.bytes);
      return;
    }
    const line = recordAt(head);
    const from = head.at;
    this.#pop(head);
    if (head.as === "own" && line) this.#accounts.sent(line, lineText(head.bytes, from));
  }

  /**
   * Nothing more comes back: gives what still waits for its place, in order.
   * @param passing also what was only passing and has not come back
   */
  takeRest(passing: boolean): Buffer[] {
    const rest: Buffer[] = [];
    for (const { as, at, bytes } of this.#sent)
      if (as === "instead" || (as === "passing" && passing)) rest.push(bytes.subarray(at));
    this.#sent = this.#sent.filter(({ as }) => as === "own");
    return [...this.#takeDue(), ...rest];
  }

  /** What did not come back, as the lines that it was (ranges cut to what is missing). */
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

/** Whether the line that came is the first that waits, whatever was written after both. */
function sameLine(head: Sent, bytes: Buffer, at: number, end: number): boolean {
  const { length } = head.bytes;
  const to = head.at + end - at;
  return to <= length && head.bytes[to - 1] === 10 && bytes.compare(head.bytes, head.at, to, at, end) === 0;
}

/** What the first line that waits says of itself. */
function recordAt(head: Sent): Pick<Line, "kind" | "id"> | undefined {
  const line = lineAt(head.bytes, head.at).head();
  return line === "blank" ? undefined : line;
}
