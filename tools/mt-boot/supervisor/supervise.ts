/**
 * The supervisor's process: one a host and experiment, started by the first mt-boot command that needs it.
 * Serves boot.sock in the experiment's directory; ends with the last guest and removes its files. When it ends
 * otherwise, or that directory was removed, the guests live on.
 */
import { rmSync } from "node:fs";
import type { Server } from "node:http";
import { availableParallelism } from "node:os";
import { hostOf } from "../../../shared/cli/filter-command.ts";
import type { Run } from "../../../shared/cli/invocation.ts";
import { inform, warn } from "../../../shared/cli/stderr.ts";
import { EXIT, exitCodeOf, MtFailure, mtError } from "../../../shared/errors.ts";
import { holdsStill, lock } from "../../../shared/host/lock.ts";
import { experimentDir, supervisorSocket } from "../../../shared/host/names.ts";
import type { Exit } from "../../../shared/records/index.ts";
import { type Asked, copyWith, execIn } from "../guest/exec.ts";
import { type Handler, serveUnix } from "../http.ts";
import { removeDirectory, removeFiles, supervisorLock } from "../persist/files.ts";
import { openLedger } from "../persist/ledger.ts";
import { saveGuests } from "../persist/save.ts";
import {
  type ConfirmRequest,
  type DownRequest,
  type PauseRequest,
  type ReplyLine,
  type ResumeRequest,
  type SaveRequest,
  type Target,
  TICK_MS,
  type UpRequest,
} from "../protocol.ts";
import type { spec } from "../spec.ts";
import { listLineOf } from "./entry-lines.ts";
import { LOOK_MS } from "./heartbeat.ts";
import { meanMemory } from "./memory.ts";
import { Slots } from "./slots.ts";
import { Supervisor } from "./supervisor.ts";

/** How long a supervisor without guests waits for a request. */
const UNUSED_MS = 20_000;
/** An earlier supervisor may still be removing its files. */
const LOCK_S = 10;

export const supervise: Run<typeof spec, "supervise"> = async ({ args, signal, ...invocation }) => {
  const { experiment } = args;
  const host = hostOf({ args, ...invocation });
  const unlock = await lock(supervisorLock(experiment), `the supervisor of ${experiment}`, LOCK_S);
  if (unlock.isErr()) {
    warn(unlock.error);
    return exitCodeOf(unlock.error.code);
  }
  const ledger = await openLedger(experiment, { host });
  const isInPlace = () => holdsStill(supervisorLock(experiment));
  const supervisor = new Supervisor(experiment, ledger, isInPlace);
  const path = supervisorSocket(experiment);
  let asked = 0;
  /** `watch` requests; they do not keep the supervisor running. */
  const watching = new Set<() => void>();
  let unused: ReturnType<typeof setTimeout> | undefined;
  let finish: () => void = () => {};
  const finished = new Promise<void>((resolve) => {
    finish = resolve;
  });
  let ending = false;
  const end = () => {
    ending = true;
    for (const stop of watching) stop();
    finish();
  };
  /** Ends when there are no guests and no requests. */
  const maybeEnd = (at_once: boolean) => {
    clearTimeout(unused);
    if (asked > watching.size || supervisor.entries.size > 0) return;
    if (at_once) end();
    else unused = setTimeout(() => maybeEnd(true), UNUSED_MS);
  };
  // Every request waits for this, so that its answer is true.
  let adopted: Promise<void> | undefined;

  const answering = (
    work: (body: never, send: (line: ReplyLine) => void, gone: AbortSignal) => Promise<void>,
  ): Handler => {
    return async (body, send, gone) => {
      if (ending)
        throw new MtFailure(
          mtError("unavailable", `Cannot ask the supervisor of ${experiment}: it is ending`),
        );
      asked++;
      clearTimeout(unused);
      const tick = setInterval(() => send({ kind: "tick" }), TICK_MS);
      try {
        await adopted;
        await work(body as never, send, gone);
        send({ kind: "done", left: supervisor.entries.size });
      } finally {
        clearInterval(tick);
        asked--;
        maybeEnd(false);
      }
    };
  };

  /** Does something in each of the request's guests, `jobs` at a time: an `exit` record for each. */
  const inEach = <R extends { targets: Target[]; jobs: number }>(
    work: (here: Asked, target: Target, request: R) => Promise<Exit>,
  ): Handler =>
    answering(async (request: R, send, gone) => {
      const slots = new Slots(request.jobs);
      const here = { entries: supervisor.entries, host, gone };
      await Promise.all(
        request.targets.map((target) => slots.take(async () => send(await work(here, target, request)))),
      );
    });

  const server = await serveUnix(path, {
    ping: answering(async () => {}),
    up: answering(async (request: UpRequest, send, gone) => supervisor.up(request, send, gone)),
    resume: answering(async (request: ResumeRequest, send) => supervisor.resume(request, send)),
    confirm: answering(async (request: ConfirmRequest, send, gone) =>
      supervisor.confirm(request, send, gone),
    ),
    ls: answering(async (_: undefined, send) => {
      for (const entry of supervisor.entries.values()) send(listLineOf(entry));
    }),
    watch: answering(async (_: undefined, send, gone) => {
      for (const entry of supervisor.entries.values()) send(listLineOf(entry));
      const stop = supervisor.watch((entry) => send(listLineOf(entry)));
      let leave: () => void = () => {};
      const left = new Promise<void>((resolve) => {
        leave = resolve;
      });
      watching.add(leave);
      if (gone.aborted) leave();
      gone.addEventListener("abort", leave, { once: true });
      await left;
      watching.delete(leave);
      stop();
    }),
    stats: answering(async (_: undefined, send) => {
      const entries = [...supervisor.entries.values()];
      const pids = entries.flatMap(({ pid }) => pid ?? []);
      const restored = entries.flatMap(({ restored_ms }) => restored_ms ?? []).sort((a, b) => a - b);
      const used = process.cpuUsage();
      send({
        kind: "stats",
        guests: pids.length,
        forked: entries.filter((entry) => entry.forked && entry.pid !== undefined).length,
        ...(restored.length === 0 ? {} : { restored_ms: restored[Math.floor(restored.length / 2)]! }),
        ...meanMemory(pids),
        supervisor_cpu_s: (used.user + used.system) / 1e6,
      });
    }),
    exec: inEach(execIn),
    copy: inEach(copyWith),
    save: answering(async (request: SaveRequest, send) =>
      saveGuests({ entries: supervisor.entries, experiment, host }, request, send),
    ),
    pause: answering(async (request: PauseRequest, send) => supervisor.pause(request, send)),
    reset: answering(async (request: ResumeRequest, send) => supervisor.reset(request, send)),
    down: answering(async ({ ids }: DownRequest) => {
      const left = await supervisor.down(ids);
      if (left.length > 0) throw new MtFailure(orFail(left.map(({ pid }) => pid)));
      if (supervisor.entries.size === 0) queueMicrotask(() => setTimeout(() => maybeEnd(true), 0));
    }),
  });
  adopted = supervisor.adopt(2 * availableParallelism());
  await adopted;
  maybeEnd(false);
  const look = setInterval(() => (isInPlace() ? supervisor.look() : finish()), LOOK_MS);
  await Promise.race([
    finished,
    new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true })),
  ]);
  clearInterval(look);
  clearTimeout(unused);
  // The socket that is there now is another supervisor's: closing the server would remove it.
  if (!isInPlace()) {
    inform(`ended: ${experimentDir(experiment)} was removed; the guests live on`);
    return EXIT.ok;
  }
  await close(server);
  ledger.close();
  rmSync(path, { force: true });
  if (ending) removeFiles(experiment);
  else inform("ended by a signal; the guests live on");
  unlock.value();
  if (ending) removeDirectory(experiment);
  return 0;
};

const orFail = (pids: number[]) =>
  mtError("failed", `Cannot end QEMU ${pids.join(", ")}: still there after SIGKILL`);

/** Closes the server; answers that are under way get a second to go out. */
function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    setTimeout(() => {
      server.closeAllConnections?.();
      resolve();
    }, 1000).unref();
  });
}
