import type { ChildId, ChildOptions, ExitRecord } from '../../protocol/calls.ts';
import { RpcRefusal } from '../../protocol/peer.ts';
import { Child, type Role } from './child.ts';
import { isStopped } from './forensics.ts';
import { until } from './until.ts';

/** How long a process may take to become as new before it is killed instead. Milliseconds. */
const RENEW_DEADLINE_MS = 500;
/** How long a process may take to start before it is handed out all the same. Milliseconds. */
const UP_DEADLINE_MS = 20_000;
/** Idle processes of a role that are worth their memory, some 45 MB each. */
const MAX_IDLE: Readonly<Record<Role, number>> = { server: 2, client: 3 };

/**
 * All servers and clients that the test has asked for. Node takes longer to start than most tests take to
 * run: a process that can be brought back to how it started serves the next test too, and one of each role is
 * kept started in advance.
 */
export class Children {
  readonly #children = new Map<ChildId, Child>();
  readonly #idle: Readonly<Record<Role, Child[]>> = { server: [], client: [] };
  /** Disposed of since the last clean-up: whoever does it twice means no harm. */
  readonly #disposed = new Set<ChildId>();
  #nextId = 1;

  /** Between tests: starting node takes all of a small machine. */
  prepare(): void {
    for (const role of ['server', 'client'] as const) this.#prepare(role);
  }

  /** Ends the processes that wait for the next test. */
  async clearIdle(deadlineMs: number): Promise<void> {
    const idle = [...this.#idle.server.splice(0), ...this.#idle.client.splice(0)];
    for (const child of idle) child.kill('SIGKILL');
    await Promise.all(idle.map((child) => within(child.exited, deadlineMs)));
  }

  /** The test is done with it: kept for the next when it is as good as new, else killed. */
  async dispose(id: ChildId, deadlineMs: number): Promise<{ kept: boolean }> {
    if (this.#disposed.has(id)) return { kept: true };
    const child = this.get(id);
    const idle = this.#idle[child.role];
    if (idle.length < MAX_IDLE[child.role] && (await child.renew(RENEW_DEADLINE_MS))) {
      this.#children.delete(id);
      this.#disposed.add(id);
      idle.push(child);
      return { kept: true };
    }
    child.kill('SIGKILL');
    await within(child.exited, deadlineMs);
    return { kept: false };
  }

  /**
   * One that is kept, or a new one, which is up then: it takes seconds of an emulated machine, and a test that asks
   * again and again what its first call has come to would take most of them.
   */
  async start(role: Role, options: ChildOptions): Promise<{ id: ChildId; pid: number }> {
    const special = options.launcher !== undefined || options.env !== undefined;
    const child = special ? new Child(role, options) : this.#takeIdle(role);
    const id = this.#nextId++;
    this.#children.set(id, child);
    await child.up(UP_DEADLINE_MS);
    return { id, pid: child.pid };
  }

  find(id: ChildId): Child | undefined {
    return this.#children.get(id);
  }

  get(id: ChildId): Child {
    const child = this.find(id);
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
    this.#disposed.clear();
    return children.filter((_child, index) => ends[index] === null);
  }

  #takeIdle(role: Role): Child {
    const idle = this.#idle[role];
    let child = idle.pop();
    while (child?.alive === false) child = idle.pop();
    return child ?? new Child(role, {});
  }

  #prepare(role: Role): void {
    const idle = this.#idle[role];
    if (!idle.some((child) => child.alive)) idle.push(new Child(role, {}));
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
