/**
 * Which nodes may speak for which hosts: each for its own, and an ancestor for a host that lists it in a pass, which
 * the authority has signed.
 */
import type { Pass } from "../link/authority.ts";
import type { Presence } from "../link/messages.ts";

export class Passes {
  readonly #passes = new Map<string, Pass>();
  readonly #holds: ((presence: Presence) => boolean) | undefined;

  /** @param holds whether the authority has signed the pass in a presence; undefined: every node may speak for all hosts */
  constructor(holds: ((presence: Presence) => boolean) | undefined) {
    this.#holds = holds;
  }

  /** Remembers the pass in a presence where the authority has signed it. One that is known is not checked again. */
  learn(presence: Presence): void {
    const { host, pass } = presence;
    if (!pass || !this.#holds || pass.signature === this.#passes.get(host)?.signature) return;
    if (this.#holds(presence)) this.#passes.set(host, pass);
  }

  /** Whether a child may speak for a host. */
  maySpeak(child: string, host: string): boolean {
    if (child === host || !this.#holds) return true;
    return this.#passes.get(host)?.relays.includes(child) === true;
  }
}
