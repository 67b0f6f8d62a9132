/** A numbered stream without its links: what is lost, what comes twice, what waits for the window. */
import { expect, test } from "vitest";
import { CHUNK_BYTES } from "../../../tools/mt-tree/link/frames.ts";
import { Broadcast } from "../../../tools/mt-tree/session/broadcast.ts";
import { type Piece, StreamReceiver, StreamSender } from "../../../tools/mt-tree/session/stream.ts";

/** A sender with what it has sent since it was last looked at. */
function sender(window: number) {
  let sent: (Piece | { end: number })[] = [];
  const stream = new StreamSender(window, {
    piece: (piece) => sent.push(piece),
    end: (end) => sent.push({ end }),
  });
  const taken = () => {
    const all = sent;
    sent = [];
    return all;
  };
  const write = (text: string, fd: 1 | 2 = 1) => {
    stream.write(fd, Buffer.from(text));
    stream.flush();
  };
  return { stream, write, taken };
}
const shown = (sent: readonly (Piece | { end: number })[]) =>
  sent.map((s) => ("end" in s ? `end ${s.end}` : `${s.offset} ${s.fd} ${s.bytes}`));

test("pieces are numbered from the start of the stream; the end goes out once, after the last byte", () => {
  const { stream, write, taken } = sender(100);
  write("ab");
  write("cde", 2);
  write("");
  stream.close();
  stream.flush();
  stream.flush();
  expect(shown(taken())).toEqual(["0 1 ab", "2 2 cde", "end 5"]);
  // What is written after the end is no part of the stream.
  write("late");
  stream.resend(0);
  expect(shown(taken())).toEqual(["0 1 ab", "2 2 cde", "end 5"]);
});

test("no piece goes out while a window is unacknowledged; acknowledgements make room", () => {
  const { stream, write, taken } = sender(4);
  for (const text of ["abc", "def", "ghi"]) write(text);
  stream.close();
  // The window may be exceeded by the rest of one piece, so that pieces need not be cut to fit.
  expect(shown(taken())).toEqual(["0 1 abc", "3 1 def"]);
  expect([stream.waiting, stream.full]).toEqual([3, true]);
  expect(stream.acknowledge(2)).toBe(true);
  stream.flush();
  expect(taken()).toEqual([]);
  expect(stream.acknowledge(3)).toBe(true);
  stream.flush();
  expect(shown(taken())).toEqual(["6 1 ghi", "end 9"]);
  // Old and repeated acknowledgements change nothing.
  expect([stream.acknowledge(3), stream.acknowledge(1)]).toEqual([false, false]);
  expect([stream.acknowledge(9), stream.full]).toEqual([true, false]);
});

test("small writes that wait are joined, of one fd only; large ones are cut and not copied", () => {
  const { stream, write, taken } = sender(1);
  write("x");
  for (const [fd, text] of [
    [1, "a"],
    [1, "b"],
    [2, "c"],
    [1, "d"],
  ] as const)
    write(text, fd);
  taken();
  stream.acknowledge(1);
  stream.flush();
  stream.acknowledge(3);
  stream.flush();
  expect(shown(taken())).toEqual(["1 1 ab", "3 2 c"]);

  const large = sender(10 * CHUNK_BYTES);
  const bytes = Buffer.alloc(2 * CHUNK_BYTES + 5, "z");
  large.stream.write(0, bytes);
  large.stream.flush();
  const pieces = large.taken() as Piece[];
  expect(pieces.map((p) => [p.offset, p.bytes.length])).toEqual([
    [0, CHUNK_BYTES],
    [CHUNK_BYTES, CHUNK_BYTES],
    [2 * CHUNK_BYTES, 5],
  ]);
  expect(pieces.every((p) => p.bytes.buffer === bytes.buffer)).toBe(true);
});

test("after a link was lost the rest goes out again, whole pieces, and the end with it", () => {
  const { stream, write, taken } = sender(100);
  for (const text of ["abc", "def", "ghi"]) write(text);
  stream.close();
  stream.flush();
  taken();
  stream.acknowledge(3);
  stream.resend(4);
  expect(shown(taken())).toEqual(["3 1 def", "6 1 ghi", "end 9"]);
  stream.resend(9);
  expect(shown(taken())).toEqual(["end 9"]);
});

test("what is sent again goes before what is sent for the first time", () => {
  const { stream, write, taken } = sender(8);
  for (const text of ["abcd", "efgh", "ijkl"]) write(text);
  expect(shown(taken())).toEqual(["0 1 abcd", "4 1 efgh"]);
  // The first piece arrived; its acknowledgement and the second piece did not.
  stream.resend(4);
  expect(shown(taken())).toEqual(["4 1 efgh", "8 1 ijkl"]);
});

test("a receiver gives every byte once, whatever comes twice, late or behind a gap", () => {
  const stream = new StreamReceiver(1);
  const take = (offset: number, text: string) => stream.receive(offset, Buffer.from(text))?.toString();
  expect(take(0, "abc")).toBe("abc");
  expect(take(0, "abc")).toBeUndefined();
  expect(take(1, "bcde")).toBe("de");
  expect(take(6, "gh")).toBeUndefined();
  expect(take(5, "")).toBeUndefined();
  expect(stream.received).toBe(5);
  // The end may come while bytes before it are missing.
  stream.end(7);
  expect(stream.complete).toBe(false);
  expect(take(5, "fg")).toBe("fg");
  expect(stream.complete).toBe(true);
  expect(take(7, "behind the end")).toBeUndefined();
});

test("an acknowledgement is due for every step of bytes consumed, and says each offset once", () => {
  const stream = new StreamReceiver(4);
  stream.receive(0, Buffer.from("abcdefghij"));
  expect([stream.consume(3), stream.consume(4)]).toEqual([false, true]);
  expect([stream.acknowledge(), stream.acknowledge()]).toEqual([4, undefined]);
  expect([stream.consume(7), stream.acknowledge()]).toEqual([false, 7]);
  // A sync acknowledges what has come, consumed or not.
  expect(stream.sync()).toBe(10);
  expect([stream.consume(10), stream.acknowledge()]).toEqual([false, undefined]);
});

test("both ends over links that lose messages both ways, again and again: the same bytes, in order, once", () => {
  // A fixed order that looks random: the same every run.
  let state = 11;
  const random = (n: number) => (state = (state * 1103515245 + 12345) % 2147483648) % n;
  for (let run = 0; run < 50; run++) {
    const window = 16 + random(64);
    const text = Array.from({ length: 300 }, (_, i) => `line ${i}\n`).join("");
    let link: ({ piece: Piece } | { end: number })[] = [];
    const sending = new StreamSender(window, {
      piece: (piece) => link.push({ piece }),
      end: (end) => link.push({ end }),
    });
    const receiving = new StreamReceiver(window / 2);
    let written = 0;
    let got = "";
    for (let step = 0; !receiving.complete; step++) {
      expect(step).toBeLessThan(10_000);
      if (written < text.length && !sending.full) {
        const n = 1 + random(40);
        sending.write(1, Buffer.from(text.slice(written, written + n)));
        written += n;
        if (written >= text.length) sending.close();
      }
      sending.flush();
      // A link is lost with whatever was on it.
      const lost = random(10) === 0;
      const arrived = lost ? link.slice(0, random(link.length + 1)) : link;
      link = [];
      for (const message of arrived) {
        if ("end" in message) receiving.end(message.end);
        else got += receiving.receive(message.piece.offset, message.piece.bytes) ?? "";
        const due = receiving.consume(receiving.received) ? receiving.acknowledge() : undefined;
        // On a link that is lost acknowledgements are, too.
        if (due !== undefined && !lost) sending.acknowledge(due);
      }
      if (lost) sending.resend(receiving.sync());
    }
    expect(got).toBe(text);
  }
});

test("a broadcast keeps bytes until the slowest host has them, and waits for nobody who has ended", () => {
  const stream = new Broadcast(8, ["a", "b", "c"]);
  const texts = (pieces: readonly Piece[]) => pieces.map((p) => `${p.offset} ${p.bytes}`);
  expect(texts(stream.write(Buffer.from("abcde")))).toEqual(["0 abcde"]);
  expect(stream.hasRoom()).toBe(true);
  stream.write(Buffer.from("fghij"));
  expect(stream.hasRoom()).toBe(false);
  for (const host of ["a", "b"]) expect(stream.acknowledge(host, 10)).toBe(true);
  expect([stream.acknowledge("a", 10), stream.acknowledge("nobody", 10), stream.hasRoom()]).toEqual([
    false,
    false,
    false,
  ]);
  stream.acknowledge("c", 5);
  expect(stream.hasRoom()).toBe(true);
  expect(texts(stream.after(5))).toEqual(["5 fghij"]);
  expect(texts(stream.after(7))).toEqual(["5 fghij"]);
  stream.drop("c");
  expect([stream.hasRoom(), stream.after(0), stream.sent]).toEqual([true, [], 10]);
});
