/** Turns: at most so many at a time, in the order in which they were asked for. */

export class Slots {
  limit: number;
  #taken = 0;
  readonly #queue: (() => void)[] = [];

  constructor(limit: number) {
    this.limit = limit;
  }

  /** Runs `work` when its turn has come. */
  async take<T>(work: () => Promise<T>): Promise<T> {
    // Who waited is counted when its turn is handed over, so that nobody slips in between.
    if (this.#taken < this.limit) this.#taken++;
    else await new Promise<void>((resolve) => this.#queue.push(resolve));
    try {
      return await work();
    } finally {
      this.#taken--;
      this.#next();
    }
  }

  /** A new limit holds for who comes next. */
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
