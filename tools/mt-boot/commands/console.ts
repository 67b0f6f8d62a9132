/**
 * `mt-boot console`: a terminal on the serial console of one guest. Prints the last lines, then what comes; keys go to
 * the guest until Ctrl-]. Without a terminal it sends stdin, and prints what comes until the guest is silent.
 * QEMU serves one client at a time, so a lock makes sure that there is one.
 */
import { existsSync } from "node:fs";
import type { Socket } from "node:net";
import { join } from "node:path";
import { ok, type Result } from "neverthrow";
import type { Run } from "../../../shared/cli/invocation.ts";
import { inform } from "../../../shared/cli/stderr.ts";
import { EXIT, fail, type MtError, MtFailure, mtError, orThrow } from "../../../shared/errors.ts";
import { lock } from "../../../shared/host/lock.ts";
import { guestDir } from "../../../shared/host/names.ts";
import { parseRange } from "../../../shared/nodeset/ranges.ts";
import { connectOwn } from "../../../shared/own-place.ts";
import { writeAll } from "../../../shared/stream/writer.ts";
import { theExperiment } from "../client/client.ts";
import { whoIsHere } from "../client/who-is-here.ts";
import { lastLines } from "../guest/console-file.ts";
import { guestFiles } from "../machine/guest-files.ts";
import { guestsKnown } from "../persist/ledger.ts";
import type { spec } from "../spec.ts";

/** Ctrl-], as in telnet. */
const DETACH = 0x1d;
const CONNECT_S = 5;
/** Long enough for a second try, which takes over the lock of a process that was killed. */
const LOCK_S = 1;

export const console: Run<typeof spec, "console"> = async ({ args, signal }) => {
  const { id, lines, wait: silent_s } = args;
  const range = orThrow(parseRange(id));
  if (range.spans.length > 0)
    throw new MtFailure(mtError("usage", `Cannot attach to ${id}: a console is of one guest`, "mt-boot log"));
  const experiment = orThrow(await theExperiment(args.experiment));
  const known = await guestsKnown(experiment);
  const cannot = (why: string, hint: string) =>
    new MtFailure(mtError("failed", `Cannot attach to the console of ${id}: ${why}`, hint));
  if (!known.has(id)) throw cannot("the guest is not there", whoIsHere(id, known));
  const dir = guestDir(experiment, id);
  const files = guestFiles(dir);
  if (!existsSync(files.tty)) throw cannot("it does not run", "mt-boot up");
  const unlock = orThrow(
    (await lock(join(dir, "tty.lock"), `mt-boot console ${id}`, LOCK_S)).mapErr((error) => ({
      ...error,
      message: error.message.replace(/^Cannot lock .*?: /, `Cannot attach to the console of ${id}: `),
    })),
  );
  const unraw = rawTerminal();
  try {
    const socket = orThrow(await attach(id, files.tty));
    if (process.stdin.isTTY)
      inform(`attached to the console of ${id}: Ctrl-] detaches, Enter asks for a prompt\r`);
    writeAll(1, lastLines(files.console, lines));
    const error = await relay(socket, { id, signal, silent_s });
    socket.destroy();
    unraw();
    // Begin a new line after the guest's prompt.
    if (process.stdin.isTTY) writeAll(2, Buffer.from("\n"));
    if (error) throw new MtFailure(error);
    if (process.stdin.isTTY) inform(`detached from the console of ${id}`);
    return EXIT.ok;
  } finally {
    unraw();
    unlock();
  }
};

/** Sets the terminal to raw mode: keys go to the guest one by one, without echo. The function returned restores it. */
function rawTerminal(): () => void {
  if (!process.stdin.isTTY) return () => {};
  process.stdin.setRawMode(true);
  const back = () => {
    process.off("exit", back);
    process.stdin.setRawMode(false);
  };
  process.on("exit", back);
  return back;
}

function attach(id: string, path: string): Promise<Result<Socket, MtError>> {
  return new Promise((resolve) => {
    const socket = connectOwn(path);
    const no = (why: string) => {
      socket.destroy();
      resolve(fail("failed", `Cannot attach to the console of ${id}: ${why}`, "mt-boot up"));
    };
    socket.setTimeout(CONNECT_S * 1000, () => no(`no answer in ${CONNECT_S} s`));
    socket.once("error", (thrown: NodeJS.ErrnoException) =>
      no(thrown.code === "ECONNREFUSED" || thrown.code === "ENOENT" ? "its QEMU has ended" : thrown.message),
    );
    socket.once("connect", () => {
      socket.setTimeout(0);
      socket.removeAllListeners("error");
      resolve(ok(socket));
    });
  });
}

/** Copies both ways until Ctrl-], a signal, silence after the end of stdin, or the end of the guest, which is an error. */
function relay(
  socket: Socket,
  { id, signal, silent_s }: { id: string; signal: AbortSignal; silent_s: number },
): Promise<MtError | undefined> {
  const { stdin } = process;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let input_ended = false;
  return new Promise<MtError | undefined>((resolve, reject) => {
    const quiet = () => {
      clearTimeout(timer);
      if (input_ended) timer = setTimeout(() => resolve(undefined), silent_s * 1000);
    };
    const lost = () =>
      resolve(
        mtError(
          "lost",
          `Cannot stay on the console of ${id}: its QEMU ended`,
          "mt-boot ls says how it is now",
        ),
      );
    socket.on("data", (bytes) => {
      quiet();
      try {
        writeAll(1, bytes);
      } catch (thrown) {
        reject(thrown);
      }
    });
    socket.once("error", lost);
    socket.once("close", lost);
    socket.on("drain", () => stdin.resume());
    stdin.on("data", (bytes: Buffer) => {
      const end = stdin.isTTY ? bytes.indexOf(DETACH) : -1;
      if (!socket.write(end < 0 ? bytes : bytes.subarray(0, end))) stdin.pause();
      if (end >= 0) resolve(undefined);
    });
    stdin.once("end", () => {
      input_ended = true;
      // The terminal is gone: nobody reads any more.
      if (stdin.isTTY) resolve(undefined);
      else quiet();
    });
    stdin.once("error", () => resolve(undefined));
    signal.addEventListener("abort", () => resolve(undefined), { once: true });
  }).finally(() => {
    clearTimeout(timer);
    stdin.removeAllListeners("data");
    stdin.pause();
  });
}
