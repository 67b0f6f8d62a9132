/**
 * The state of a guest as a file, by QEMU's migration. Memory that is a shared file already may be left out. Our QEMU
 * may start no program and migrate to no file: the state goes out over a socket that we listen on, and comes in by a
 * descriptor that QEMU was started with.
 */
import { createWriteStream, rmSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { err, ok, type Result } from "neverthrow";
import { fail, type MtError, toMtError } from "../../../shared/errors.ts";
import { waitFor } from "../../../shared/host/process.ts";
import { listenOwn, socketName } from "../../../shared/own-place.ts";
import { STATE_FD } from "./guest-files.ts";
import { type Qmp, within } from "./qmp.ts";

/** How long QEMU may take to write a guest's state. */
export const SAVE_S = 120;
/** In the guest's directory, while its state is written. */
export const STATE_SOCKET = "state.sock";

const ignoreShared = (state: boolean) =>
  ["migrate-set-capabilities", { capabilities: [{ capability: "x-ignore-shared", state }] }] as const;

/**
 * Stops a guest and writes its state to `path`, 0600, made anew. The guest stays stopped.
 * @param but_memory leaves out memory that is a shared file
 * @param dir the guest's own directory, where its QEMU runs: the socket is made there
 */
export async function saveState(
  qmp: Qmp,
  path: string,
  but_memory: boolean,
  dir = dirname(path),
): Promise<Result<void, MtError>> {
  const socket = join(dir, STATE_SOCKET);
  const receiver = await receive(socket, path);
  try {
    for (const [command, args] of [
      ["stop"],
      ignoreShared(but_memory),
      ["migrate", { uri: `unix:${socketName(socket)}` }],
    ] as const) {
      const done = await qmp.call(command, args);
      if (done.isErr()) return err(done.error);
    }
    const end = await waitFor(async () => {
      const asked = await qmp.call("query-migrate");
      if (asked.isErr()) return { status: "failed", "error-desc": asked.error.message };
      const now = asked.value as { status: string; "error-desc"?: string };
      return now.status === "completed" || now.status === "failed" ? now : undefined;
    }, SAVE_S);
    // Our own write error says more than QEMU's, which only saw the socket close.
    const late = end?.status === "completed" ? await within(receiver.received, SAVE_S) : undefined;
    const unwritten = receiver.error();
    if (unwritten) return err(unwritten);
    if (end === undefined) return fail("timeout", `its state was not written in ${SAVE_S} s`);
    if (end.status === "failed") return fail("io", `its state was not written: ${end["error-desc"]}`);
    return late ? err(late) : ok(undefined);
  } finally {
    receiver.close();
    rmSync(socket, { force: true });
  }
}

interface Receiver {
  received: Promise<void>;
  /** Why it could not be written. */
  error(): MtError | undefined;
  close(): void;
}

async function receive(socket: string, path: string): Promise<Receiver> {
  let server: Server | undefined;
  let error: MtError | undefined;
  const received = new Promise<void>((resolve) => {
    server = createServer((connection) => {
      pipeline(connection, createWriteStream(path, { flags: "wx", mode: 0o600, flush: true }))
        .catch((thrown) => {
          error = toMtError(thrown);
        })
        .finally(resolve);
    });
  });
  await listenOwn(server!, socket);
  return { received, error: () => error, close: () => void server!.close() };
}

/**
 * Makes a QEMU that was started with `-incoming defer` load the state from its STATE_FD, and waits until it has; the
 * guest is stopped then, as it was when it was saved.
 */
export async function restoreState(
  qmp: Qmp,
  but_memory: boolean,
  timeout_s: number,
): Promise<Result<void, MtError>> {
  for (const [command, args] of [
    ignoreShared(but_memory),
    ["migrate-incoming", { uri: `fd:${STATE_FD}` }],
  ] as const) {
    const done = await qmp.call(command, args, timeout_s);
    if (done.isErr()) return err(done.error);
  }
  const restored = await waitFor(
    async () => {
      const asked = await qmp.call("query-status", undefined, timeout_s);
      if (asked.isErr()) return err<void, MtError>(asked.error);
      return (asked.value as { status: string }).status === "inmigrate"
        ? undefined
        : ok<void, MtError>(undefined);
    },
    timeout_s,
    4,
  );
  return restored ?? fail("timeout", `Cannot boot {id}: its state was not restored in ${timeout_s} s`);
}
