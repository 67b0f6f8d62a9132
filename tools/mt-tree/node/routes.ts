/**
 * Which link leads to which host. A host is where it was told of last; what other links that are still open have told
 * of it stays behind that, and counts again when the later one is gone: whoever has a host's key for a while, or an
 * agent that was started beside one that lives, takes its place only for as long as it is there itself.
 */
import type { Presence } from "../link/messages.ts";

export interface Route<L> {
  presence: Presence;
  link: L;
}

export class Routes<L> {
  readonly #now = new Map<string, Route<L>>();
  /** By host, one a link, the one that counts next at the end. */
  readonly #behind = new Map<string, Route<L>[]>();

  get(host: string): Route<L> | undefined {
    return this.#now.get(host);
  }

  has(host: string): boolean {
    return this.#now.has(host);
  }

  hosts(): IterableIterator<string> {
    return this.#now.keys();
  }

  all(): IterableIterator<Route<L>> {
    return this.#now.values();
  }

  /** A link tells of a host. Gives whether this is where the host is now, and whose place it took. */
  tell(presence: Presence, link: L): { taken: boolean; displaced?: Route<L> } {
    const { host } = presence;
    const now = this.#now.get(host);
    // A late word about an older link of the same agent.
    if (now && now.presence.epoch === presence.epoch && now.presence.join > presence.join) {
      if (now.link !== link) this.#keep({ presence, link }, 0);
      return { taken: false };
    }
    this.#forget(host, link);
    this.#now.set(host, { presence, link });
    if (!now || now.link === link) return { taken: true };
    this.#keep(now, this.#behind.get(host)?.length ?? 0);
    return { taken: true, displaced: now };
  }

  /** What a link told of a host does not hold any more. Gives what of it counted, and what counts instead. */
  untell(presence: Presence, link: L): { gone: Presence; instead?: Route<L> } | undefined {
    const { host, epoch, join } = presence;
    const is = (r: Route<L>) => r.link === link && r.presence.epoch === epoch && r.presence.join <= join;
    const now = this.#now.get(host);
    if (!now || !is(now)) {
      this.#forget(host, link, is);
      return undefined;
    }
    const behind = this.#behind.get(host);
    const instead = behind?.pop();
    if (behind?.length === 0) this.#behind.delete(host);
    if (instead) this.#now.set(host, instead);
    else this.#now.delete(host);
    return { gone: now.presence, instead };
  }

  /** All that a link that has ended has told and that counts. */
  over(link: L): Presence[] {
    for (const host of this.#behind.keys()) this.#forget(host, link);
    return [...this.#now.values()].flatMap((r) => (r.link === link ? [r.presence] : []));
  }

  #keep(route: Route<L>, at: number): void {
    const { host } = route.presence;
    this.#forget(host, route.link);
    const behind = this.#behind.get(host);
    if (behind) behind.splice(at, 0, route);
    else this.#behind.set(host, [route]);
  }

  #forget(host: string, link: L, which: (r: Route<L>) => boolean = () => true): void {
    const behind = this.#behind.get(host);
    if (!behind) return;
    const left = behind.filter((r) => r.link !== link || !which(r));
    if (left.length > 0) this.#behind.set(host, left);
    else this.#behind.delete(host);
  }
}
