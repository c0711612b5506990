import type { ChildId, ChildOptions, ExitRecord } from '../../protocol/calls.ts';
import { RpcRefusal } from '../../protocol/peer.ts';
import { Child, type Role } from './child.ts';
import { isStopped } from './forensics.ts';
import { until } from './until.ts';

/**
 * All servers and clients that the test has asked for. One of each is kept started in advance: node takes
 * longer to start than most tests take to run.
 */
export class Children {
  readonly #children = new Map<ChildId, Child>();
  readonly #spare = new Map<Role, Child>();
  #nextId = 1;

  prepare(): void {
    for (const role of ['server', 'client'] as const) this.#prepare(role);
  }

  start(role: Role, options: ChildOptions): { id: ChildId; pid: number } {
    const special = options.launcher !== undefined || options.env !== undefined;
    const child = special ? new Child(role, options) : this.#takeSpare(role);
    const id = this.#nextId++;
    this.#children.set(id, child);
    return { id, pid: child.pid };
  }

  get(id: ChildId): Child {
    const child = this.#children.get(id);
    if (child === undefined) throw new RpcRefusal('no-such-child', `there is no process ${id}`);
    return child;
  }

  /** @returns how it ended, or null when the signal does not end it within the deadline. */
  async kill(id: ChildId, signal: NodeJS.Signals, deadlineMs: number): Promise<ExitRecord | null> {
    const child = this.get(id);
    child.kill(signal);
    if (signal === 'SIGCONT') return null;
    if (signal === 'SIGSTOP') {
      // kill(2) returns before the threads have stopped: until then they go on answering.
      await until(() => isStopped(child.pid), deadlineMs);
      return null;
    }
    return within(child.exited, deadlineMs);
  }

  entries(): [ChildId, Child][] {
    return [...this.#children];
  }

  /** Kills what is left, and forgets all of it. @returns those that would not die. */
  async clear(deadlineMs: number): Promise<Child[]> {
    const children = [...this.#children.values()].filter((child) => child.alive);
    for (const child of children) child.kill('SIGKILL');
    const ends = await Promise.all(children.map((child) => within(child.exited, deadlineMs)));
    this.#children.clear();
    return children.filter((_child, index) => ends[index] === null);
  }

  #takeSpare(role: Role): Child {
    const spare = this.#spare.get(role);
    const child = spare?.alive === true ? spare : new Child(role, {});
    this.#spare.delete(role);
    // Not before the test has had its turn: starting node takes all of a small machine.
    setTimeout(() => this.#prepare(role), 50);
    return child;
  }

  #prepare(role: Role): void {
    if (this.#spare.get(role)?.alive !== true) this.#spare.set(role, new Child(role, {}));
  }
}

async function within<T>(promise: Promise<T>, deadlineMs: number): Promise<T | null> {
  const late = Promise.withResolvers<null>();
  const timer = setTimeout(() => late.resolve(null), deadlineMs);
  try {
    return await Promise.race([promise, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
