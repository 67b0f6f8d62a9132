/**
 * Finds guests that are ready and do not answer any more. An agent that has been silent for a while is asked; where it
 * leaves the question unanswered for --answer-timeout, the guest is dead, whatever its QEMU says: halted, hung, stopped,
 * without an agent. Time in which its QEMU waited for a processor of this host counts a tenth: slow is not dead.
 */
import { readdirSync, readFileSync } from "node:fs";
import { type MtError, mtError } from "../../../shared/errors.ts";
import type { Pulse } from "../guest/agent.ts";
import { kernelPanic, type Machine } from "../machine/machine.ts";
import type { Entry } from "./entry.ts";

export const LOOK_MS = 1_000;
/** An agent that has been silent this long is asked; an answer costs a translated guest some milliseconds. */
const ASK_AFTER_MS = 10_000;
/** Time limit of one question: other requests wait behind it. */
const ASK_S = 10;
/** At most this much counts between two looks: when more has passed, this process was stopped, or the machine slept. */
const LOOK_S_MAX = 2;
/** How much of the time without a processor counts; not 0, so that there is an end. */
const STARVED_COUNTS = 0.1;
/** QEMU's threads are looked at only after this much silence. */
const LOOK_CLOSER_S = 0.5;
const QMP_S = 10;
/** A silent guest whose QEMU used more than this part of a processor is called busy. */
const BUSY = 0.5;

/** How long a guest has left a question unanswered, as counted above. */
export class Silence {
  #counted_s = 0;
  #looked_at: number | undefined;
  #since: number | undefined;

  /**
   * @param pulse its agent's
   * @param starved the part of the time since the last look in which it waited for a processor; called only after
   * LOOK_CLOSER_S of silence
   * @returns how long it has been silent, in seconds
   */
  look({ unanswered_since }: Pulse, now_ms: number, starved: () => number): number {
    const looked_at = this.#looked_at ?? now_ms;
    this.#looked_at = now_ms;
    if (unanswered_since === undefined || unanswered_since !== this.#since) {
      this.#since = unanswered_since;
      this.#counted_s = 0;
      return 0;
    }
    const passed_s = Math.min(LOOK_S_MAX, Math.max(0, (now_ms - looked_at) / 1000));
    const part = this.#counted_s > LOOK_CLOSER_S ? Math.min(1, Math.max(0, starved())) : 0;
    this.#counted_s += passed_s * (1 - part * (1 - STARVED_COUNTS));
    return this.#counted_s;
  }
}

/** What the kernel counts for a process's threads, in nanoseconds: each one's wait for a processor, and the time used by all. */
interface Scheduled {
  at_ms: number;
  waited: Map<string, number>;
  used: number;
}

interface Watched {
  machine: Machine;
  silence: Silence;
  scheduled?: Scheduled;
  /** When its silence began. */
  first?: Scheduled;
  judging?: boolean;
}

export class Heartbeat {
  readonly #watched = new Map<Entry, Watched>();
  readonly #dead: (entry: Entry, machine: Machine, error: MtError) => void;

  /** @param dead called for a guest that is silent for too long */
  constructor(dead: (entry: Entry, machine: Machine, error: MtError) => void) {
    this.#dead = dead;
  }

  /** To be called every LOOK_MS. */
  look(entries: Iterable<Entry>): void {
    const seen = new Set<Entry>();
    for (const entry of entries) {
      const { machine, answer_timeout_s } = entry;
      // A drive has time limits of its own; a guest that is being saved is stopped and cannot answer.
      if (entry.state !== "ready" || !machine || entry.driving || entry.being_saved || answer_timeout_s === 0)
        continue;
      seen.add(entry);
      let watched = this.#watched.get(entry);
      if (watched?.machine !== machine) {
        watched = { machine, silence: new Silence() };
        this.#watched.set(entry, watched);
      }
      this.#lookAt(entry, watched);
    }
    for (const entry of this.#watched.keys()) if (!seen.has(entry)) this.#watched.delete(entry);
  }

  #lookAt(entry: Entry, watched: Watched): void {
    const { machine, silence } = watched;
    const pulse = machine.agent.pulse();
    const now = Date.now();
    const owes = pulse.unanswered_since !== undefined;
    if (pulse.idle && (owes || now - pulse.heard_at >= ASK_AFTER_MS)) void machine.agent.sync(ASK_S);
    const silent_s = silence.look(pulse, now, () => starvedOf(watched));
    if (silent_s === 0) {
      watched.scheduled = undefined;
      watched.first = undefined;
    }
    if (silent_s < entry.answer_timeout_s || watched.judging) return;
    watched.judging = true;
    void this.#judge(entry, watched).finally(() => {
      watched.judging = false;
    });
  }

  /** Calls `dead`, unless somebody has stopped the guest. */
  async #judge(entry: Entry, { machine, first, scheduled }: Watched): Promise<void> {
    const asked = await machine.qmp.call("query-status", undefined, QMP_S);
    if (asked.isErr() && asked.error.code === "lost") return;
    const status = asked.isOk() ? (asked.value as { status: string }).status : undefined;
    if (status === "paused" || status === "io-error") return;
    if (entry.machine !== machine || entry.state !== "ready" || entry.being_saved) return;
    if (machine.agent.pulse().unanswered_since === undefined) return;
    const whose = status === undefined ? "its QEMU" : "its agent";
    const panic = kernelPanic(entry.dir);
    const why =
      panic !== undefined
        ? `, its kernel panicked: ${panic}`
        : status === undefined || !first || !scheduled || first === scheduled
          ? ""
          : busyBetween(first, scheduled)
            ? ", and it is busy"
            : ", and it is idle";
    const message = `Cannot keep {id} running: ${whose} has not answered for ${entry.answer_timeout_s} s${why}`;
    this.#dead(entry, machine, mtError("timeout", message, "it is started again"));
  }
}

const busyBetween = (first: Scheduled, last: Scheduled): boolean =>
  last.used - first.used > BUSY * 1e6 * (last.at_ms - first.at_ms);

/** The part of the time since the last look that QEMU's most delayed thread waited for a processor. */
function starvedOf(watched: Watched): number {
  const before = watched.scheduled;
  const now = scheduledOf(watched.machine.pid);
  watched.scheduled = now;
  watched.first ??= now;
  if (!before || !now) return 0;
  let most = 0;
  for (const [thread, waited] of now.waited)
    most = Math.max(most, waited - (before.waited.get(thread) ?? waited));
  return most / 1e6 / Math.max(1, now.at_ms - before.at_ms);
}

/** Undefined where the process has ended, or the kernel does not count this (CONFIG_SCHED_INFO). */
function scheduledOf(pid: number): Scheduled | undefined {
  const scheduled: Scheduled = { at_ms: Date.now(), waited: new Map(), used: 0 };
  try {
    for (const thread of readdirSync(`/proc/${pid}/task`)) {
      const [used, waited] = readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ");
      scheduled.used += Number(used);
      scheduled.waited.set(thread, Number(waited));
    }
    return scheduled;
  } catch {
    return undefined;
  }
}
