/** Limits how many run at a time, first come, first served. */
export class Slots {
  limit: number;
  #taken = 0;
  readonly #queue: (() => void)[] = [];

  constructor(limit: number) {
    this.limit = limit;
  }

  /** Runs `work` when its turn has come. */
  async take<T>(work: () => Promise<T>): Promise<T> {
    // `#next` counts a waiting one when it hands the turn over, so that no other takes it in between.
    if (this.#taken < this.limit) this.#taken++;
    else await new Promise<void>((resolve) => this.#queue.push(resolve));
    try {
      return await work();
    } finally {
      this.#taken--;
      this.#next();
    }
  }

  /** A new limit; those that run already go on. */
  resize(limit: number): void {
    this.limit = Math.max(1, limit);
    while (this.#taken < this.limit && this.#queue.length > 0) this.#next();
  }

  #next(): void {
    const next = this.#taken < this.limit ? this.#queue.shift() : undefined;
    if (!next) return;
    this.#taken++;
    next();
  }
}
