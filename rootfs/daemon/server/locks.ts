import { struct } from '../fuse/reply.ts';
import { numberField, type Request } from '../fuse/request.ts';
import { SystemError } from '../sys/syscall.ts';
import { NOTHING } from './file-system.ts';

const F_RDLCK = 0;
const F_UNLCK = 2;

interface Held {
  readonly owner: string;
  readonly start: number;
  readonly end: number;
  readonly type: number;
  readonly pid: number;
}

/** POSIX and flock locks that the kernel has handed to the server (POSIX_LOCKS, FLOCK_LOCKS). */
export class LockTable {
  /** Keyed by node and family: POSIX and flock locks do not see each other. */
  readonly #bySpace = new Map<string, Held[]>();
  #waiters: { readonly unique: number; readonly wake: () => void }[] = [];
  readonly #interrupted = new Set<number>();

  getlk(request: Request): Uint8Array {
    const wanted = wantedOf(request);
    const conflict = this.#conflict(spaceOf(request), wanted);
    if (conflict === undefined) return struct('lk', { ...wanted, type: F_UNLCK, pid: 0 });
    return struct('lk', { start: conflict.start, end: conflict.end, type: conflict.type, pid: conflict.pid });
  }

  setlk(request: Request): Uint8Array {
    const wanted = wantedOf(request);
    if (this.#conflict(spaceOf(request), wanted) !== undefined) throw new SystemError('lock', 'EAGAIN');
    this.#apply(spaceOf(request), wanted);
    return NOTHING;
  }

  async setlkw(request: Request): Promise<Uint8Array> {
    const wanted = wantedOf(request);
    while (this.#conflict(spaceOf(request), wanted) !== undefined) {
      await new Promise<void>((wake) => this.#waiters.push({ unique: request.unique, wake }));
      if (this.#interrupted.delete(request.unique)) throw new SystemError('lock', 'EINTR');
    }
    this.#apply(spaceOf(request), wanted);
    return NOTHING;
  }

  /** The kernel no longer wants the answer to a SETLKW. */
  interrupt(unique: number): void {
    if (!this.#waiters.some((waiter) => waiter.unique === unique)) return;
    this.#interrupted.add(unique);
    this.#wakeAll();
  }

  /** FLUSH and RELEASE carry the owner whose locks end. */
  dropOwner(nodeid: number, owner: string): void {
    for (const space of [posixSpace(nodeid), flockSpace(nodeid)]) {
      const held = this.#bySpace.get(space) ?? [];
      const kept = held.filter((lock) => lock.owner !== owner);
      this.#bySpace.set(space, kept);
    }
    this.#wakeAll();
  }

  #conflict(space: string, wanted: Held): Held | undefined {
    if (wanted.type === F_UNLCK) return undefined;
    return this.#bySpace.get(space)?.find((lock) => {
      const shared = lock.type === F_RDLCK && wanted.type === F_RDLCK;
      return lock.owner !== wanted.owner && !shared && overlaps(lock, wanted);
    });
  }

  #apply(space: string, wanted: Held): void {
    const kept = (this.#bySpace.get(space) ?? []).flatMap((lock) =>
      lock.owner === wanted.owner && overlaps(lock, wanted) ? cutOut(lock, wanted) : [lock],
    );
    this.#bySpace.set(space, wanted.type === F_UNLCK ? kept : [...kept, wanted]);
    this.#wakeAll();
  }

  #wakeAll(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const { wake } of waiters) wake();
  }
}

const FUSE_LK_FLOCK = 1;

function spaceOf(request: Request): string {
  const flock = (numberField(request, 'lk_flags') & FUSE_LK_FLOCK) !== 0;
  return flock ? flockSpace(request.nodeid) : posixSpace(request.nodeid);
}

function posixSpace(nodeid: number): string {
  return `posix ${nodeid}`;
}

function flockSpace(nodeid: number): string {
  return `flock ${nodeid}`;
}

function wantedOf(request: Request): Held {
  return {
    owner: String(request.fields['owner']),
    start: numberField(request, 'start'),
    end: numberField(request, 'end'),
    type: numberField(request, 'type'),
    pid: numberField(request, 'pid'),
  };
}

function overlaps(one: Held, other: Held): boolean {
  return one.start <= other.end && other.start <= one.end;
}

/** What is left of a lock when a range of it is replaced. */
function cutOut(lock: Held, range: Held): Held[] {
  const before = lock.start < range.start ? [{ ...lock, end: range.start - 1 }] : [];
  const after = lock.end > range.end ? [{ ...lock, start: range.end + 1 }] : [];
  return [...before, ...after];
}
