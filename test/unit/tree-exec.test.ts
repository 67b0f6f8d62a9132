/** What mt-tree exec and mt-boot exec make of a command's output: lines for people, text and bytes for records. */
import { existsSync } from "node:fs";
import { expect, test } from "vitest";
import { startTime } from "../../shared/lock.ts";
import { namedHosts } from "../../shared/nodeset-groups.ts";
import { printed } from "../../shared/records/output.ts";
import { nameHosts } from "../../tools/mt-push/cluster.ts";
import { type CommandEnd, endAsked, launcher } from "../../tools/mt-tree/command.ts";
import { Bytes, wholeLines } from "../../tools/mt-tree/exec-output.ts";
import { withEnv } from "./shared-fixtures.ts";

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

test("more hosts than fit into a word are named by a group, for as long as the call takes", () => {
  const letters = (i: number) => String(10_000 + i).replaceAll(/\d/g, (d) => "abcdefghij"[Number(d)]!);
  const hosts = Array.from({ length: 8_000 }, (_, i) => `host-of-a-cloud-${letters(i)}`);
  expect(nameHosts(["kn1", "kn2"])).toMatchObject({ set: "kn[1-2]" });
  const { set, env, done } = nameHosts(hosts);
  expect([set, env!.MT_GROUPS]).toEqual(["@these", expect.stringMatching(/groups$/)]);
  withEnv({ MT_GROUPS: env!.MT_GROUPS });
  expect(namedHosts(set)._unsafeUnwrap().sort()).toEqual([...hosts].sort());
  done();
  expect(existsSync(env!.MT_GROUPS!)).toBe(false);
});

test("what an agent asked to end ends before the agent does, whatever it ignores", async () => {
  let said: (line: string) => void = () => {};
  const ready = new Promise<string>((resolve) => {
    said = resolve;
  });
  const ended = new Promise<CommandEnd>((end) => {
    const argv = ["sh", "-c", 'trap "" TERM; sleep 100 & echo $!; wait'];
    const running = launcher()(
      { argv, env: {}, stdin: false },
      { output: (_fd, bytes) => said(String(bytes)), heldBack: () => false, end },
    );
    ready.then(() => running!.kill("SIGTERM"));
  });
  const child = Number(await ready);
  await endAsked(0.2);
  expect(await ended).toMatchObject({ signal: "SIGKILL" });
  // Whoever takes in orphans may still have to take note of its end.
  await expect.poll(() => startTime(child)).toBeUndefined();
});
