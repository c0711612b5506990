/** Who waits until there is room: the first who comes goes first, and whoever gives up leaves. */
export class WaitingLine<Who> {
  readonly #waiting: { readonly who: Who; readonly go: () => void }[] = [];

  /** Until `who` is called. @throws the reason of `signal` when that fires before. */
  async wait(who: Who, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    const turn = Promise.withResolvers<undefined>();
    const waiting = { who, go: () => turn.resolve(undefined) };
    this.#waiting.push(waiting);
    const leave = (): void => {
      if (this.#remove(waiting)) turn.reject(signal.reason as Error);
    };
    signal.addEventListener('abort', leave, { once: true });
    try {
      await turn.promise;
    } finally {
      signal.removeEventListener('abort', leave);
    }
  }

  /** The first goes on. @returns whether there was one. */
  callFirst(): boolean {
    const first = this.#waiting.shift();
    first?.go();
    return first !== undefined;
  }

  /** The first goes on, and all who are the same with it. @returns who that is; undefined when nobody waits. */
  callFirstAndAlike(): Who | undefined {
    const first = this.#waiting[0];
    if (first === undefined) return undefined;
    for (const each of this.#waiting.filter(({ who }) => who === first.who)) {
      this.#remove(each);
      each.go();
    }
    return first.who;
  }

  #remove(waiting: { readonly who: Who; readonly go: () => void }): boolean {
    const at = this.#waiting.indexOf(waiting);
    if (at < 0) return false;
    this.#waiting.splice(at, 1);
    return true;
  }
}
