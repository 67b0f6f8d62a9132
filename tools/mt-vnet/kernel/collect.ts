/**
 * Work in batches: what comes while a batch is worked on makes the next one. So a thousand records in one chunk
 * cost one round, and a single record starts at once.
 */
export interface Collector<T> {
  /** Resolves when the batch that the item was in is done. */
  add(item: T): Promise<void>;
  /** Resolves when nothing is left. */
  idle(): Promise<void>;
}

export function collect<T>(work: (items: T[]) => Promise<void>): Collector<T> {
  let items: T[] = [];
  let next: Promise<void> | undefined;
  let last: Promise<void> = Promise.resolve();
  const turn = async (before: Promise<void>) => {
    await before.catch(() => {});
    // Lets the rest of the chunk that is being read come in first.
    await new Promise((resolve) => setImmediate(resolve));
    const batch = items;
    items = [];
    next = undefined;
    await work(batch);
  };
  return {
    add(item) {
      items.push(item);
      if (!next) {
        next = turn(last);
        last = next;
      }
      return next;
    },
    async idle() {
      for (let seen: Promise<void> | undefined; seen !== last; ) {
        seen = last;
        await seen.catch(() => {});
      }
    },
  };
}
