/**
 * Which ancestor a node tries to join next, and what it does when none lets it in. It has no clock: `now` is ms, from
 * wherever the caller takes it.
 */

/** A node that has found no parent for this long ends its commands; after the second time it ends itself. */
const END_COMMANDS_MS = 10_000;
const GIVE_UP_MS = 60_000;

export class JoinPlan {
  readonly #ancestors: number;
  #first = 0;
  #orphanedAt: number;

  /** @param ancestors how many there are; 0 is the nearest */
  constructor(ancestors: number, now: number) {
    this.#ancestors = ancestors;
    this.#orphanedAt = now;
  }

  /** All ancestors, in the order in which to try them. */
  order(): number[] {
    return Array.from({ length: this.#ancestors }, (_, i) => (this.#first + i) % this.#ancestors);
  }

  /** The link to this ancestor was lost. One that was silent may be frozen and take connections: it is tried last. */
  lost(ancestor: number, silent: boolean, now: number): void {
    this.#first = silent ? ancestor + 1 : 0;
    this.#orphanedAt = now;
  }

  /** No ancestor has let it in. */
  failed(now: number): "try again" | "end commands" | "give up" {
    this.#first = 0;
    const orphaned_ms = now - this.#orphanedAt;
    if (orphaned_ms > GIVE_UP_MS) return "give up";
    return orphaned_ms > END_COMMANDS_MS ? "end commands" : "try again";
  }
}
