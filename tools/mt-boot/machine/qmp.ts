/**
 * QMP, the control protocol of QEMU: JSON lines over a Unix socket. Greeting, `qmp_capabilities`, then
 * commands with ids, answers in any order, events in between. QEMU serves one client at a time.
 */
import { err, ok, type Result } from "neverthrow";
import { fail, type MtError, mtError } from "../../../shared/errors.ts";
import { openLines } from "./lines.ts";

export interface QmpEvent {
  event: string;
  data?: Record<string, unknown>;
}

export interface Qmp {
  /** Runs a command; gives what it returns. @param timeout_s default 20 */
  call(command: string, args?: object, timeout_s?: number): Promise<Result<unknown, MtError>>;
  close(): void;
}

interface QmpLine extends Partial<QmpEvent> {
  QMP?: unknown;
  id?: number;
  return?: unknown;
  error?: { class: string; desc: string };
}

/** Connects and negotiates capabilities, after which QEMU takes commands. */
export async function openQmp(
  path: string,
  options: {
    timeout_s: number;
    onClose?: () => void;
    onEvent?: (event: QmpEvent) => void;
    given_up?: () => boolean;
  },
): Promise<Result<Qmp, MtError>> {
  const waiting = new Map<number, (answer: QmpLine | undefined) => void>();
  let next_id = 1;
  let open = true;
  let greeted: (() => void) | undefined;
  const greeting = new Promise<void>((resolve) => {
    greeted = resolve;
  });
  const opened = await openLines(
    path,
    {
      onLine(bytes) {
        let line: QmpLine;
        try {
          line = JSON.parse(bytes.toString()) as QmpLine;
        } catch {
          return;
        }
        if (line.QMP !== undefined) greeted?.();
        else if (line.event !== undefined) options.onEvent?.({ event: line.event, data: line.data });
        else if (line.id !== undefined) waiting.get(line.id)?.(line);
      },
      onClose() {
        open = false;
        greeted?.();
        for (const answer of [...waiting.values()]) answer(undefined);
        options.onClose?.();
      },
    },
    options.timeout_s,
    options.given_up,
  );
  if (opened.isErr()) return err(opened.error);
  const socket = opened.value;

  const call: Qmp["call"] = (command, args, timeout_s = 20) =>
    new Promise((resolve) => {
      if (!open) return resolve(fail("lost", `Cannot ask QEMU to ${command}: it has gone`));
      const id = next_id++;
      const finish = (result: Result<unknown, MtError>) => {
        clearTimeout(timer);
        waiting.delete(id);
        resolve(result);
      };
      const timer = setTimeout(
        () => finish(fail("timeout", `Cannot ask QEMU to ${command}: no answer in ${timeout_s} s`)),
        timeout_s * 1000,
      );
      waiting.set(id, (answer) => {
        if (answer === undefined) finish(fail("lost", `Cannot ask QEMU to ${command}: it has gone`));
        else if (answer.error) finish(fail("failed", `Cannot ask QEMU to ${command}: ${answer.error.desc}`));
        else finish(ok(answer.return));
      });
      socket.send(
        `${JSON.stringify(args === undefined ? { execute: command, id } : { execute: command, arguments: args, id })}\n`,
      );
    });

  const late = await within(greeting, options.timeout_s);
  if (late) {
    socket.close();
    return fail(
      "timeout",
      `Cannot talk to QEMU: no greeting in ${options.timeout_s} s`,
      "another client may hold its QMP socket",
    );
  }
  const capable = await call("qmp_capabilities", undefined, options.timeout_s);
  if (capable.isErr()) {
    socket.close();
    return err(capable.error);
  }
  return ok({ call, close: socket.close });
}

/** Waits for a promise; gives an error when it takes longer than `timeout_s`. */
export async function within(promise: Promise<unknown>, timeout_s: number): Promise<MtError | undefined> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const limit = new Promise<MtError>((resolve) => {
    timer = setTimeout(
      () => resolve(mtError("timeout", `no answer in ${timeout_s} s`)),
      Math.max(0, timeout_s * 1000),
    );
  });
  try {
    return await Promise.race([promise.then(() => undefined), limit]);
  } finally {
    clearTimeout(timer);
  }
}
