/** How mt-tree exec and mt-boot exec print a command's output: lines for people, text and bytes for records. */
import { expect, test } from "vitest";
import { printed } from "../../../shared/records/output.ts";
import { Bytes, wholeLines } from "../../../tools/mt-tree/commands/exec-output.ts";

test("lines are printed when they are whole, wherever the pieces were cut", () => {
  const tail = new Bytes();
  const text = Buffer.from("grün\n\nzwei\ndrei");
  const lines = [...text].flatMap((byte) => wholeLines(tail, Buffer.from([byte])));
  expect(lines).toEqual(["grün", "", "zwei"]);
  expect(tail.all.toString()).toBe("drei");
  expect(wholeLines(tail, Buffer.from("!\nvier\nf"))).toEqual(["drei!", "vier"]);
  expect(tail.all.toString()).toBe("f");
});

test("bytes stand in base64 only where text would lose some", () => {
  expect(printed("stdout", Buffer.from("\ufeffgrün\0"), false)).toEqual({ stdout: "\ufeffgrün\0" });
  const half = Buffer.from("grü").subarray(0, 3);
  expect(printed("stdout", half, true)).toEqual({ stdout: "gr" });
  expect(printed("stderr", half, false)).toEqual({
    stderr: "gr\ufffd",
    stderr_base64: half.toString("base64"),
  });
});
