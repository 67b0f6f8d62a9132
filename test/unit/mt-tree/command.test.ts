/** A command as an agent runs it: a group of processes that ends as a whole. */
import { expect, test } from "vitest";
import { startTime } from "../../../shared/host/lock.ts";
import { type CommandEnd, endAsked, launcher } from "../../../tools/mt-tree/node/command.ts";

test("what an agent asked to end ends before the agent does, whatever it ignores", async () => {
  let said: (line: string) => void = () => {};
  const ready = new Promise<string>((resolve) => {
    said = resolve;
  });
  const ended = new Promise<CommandEnd>((end) => {
    const argv = ["sh", "-c", 'trap "" TERM; sleep 100 & echo $!; wait'];
    const running = launcher()(
      { argv, env: {}, stdin: false },
      { output: (_fd, bytes) => said(String(bytes)), outputPaused: () => false, end },
    );
    ready.then(() => running!.kill("SIGTERM"));
  });
  const child = Number(await ready);
  await endAsked(0.2);
  expect(await ended).toMatchObject({ signal: "SIGKILL" });
  // Whichever process adopts orphans may not have reaped it yet.
  await expect.poll(() => startTime(child)).toBeUndefined();
});
