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
  readonly #byNode = new Map<number, Held[]>();
  #waiters: { readonly unique: number; readonly wake: () => void }[] = [];
  readonly #interrupted = new Set<number>();

  getlk(request: Request): Uint8Array {
    const wanted = wantedOf(request);
    const conflict = this.#conflict(request.nodeid, wanted);
    if (conflict === undefined) return struct('lk', { ...wanted, type: F_UNLCK, pid: 0 });
    return struct('lk', { start: conflict.start, end: conflict.end, type: conflict.type, pid: conflict.pid });
  }

  setlk(request: Request): Uint8Array {
    const wanted = wantedOf(request);
    if (this.#conflict(request.nodeid, wanted) !== undefined) throw new SystemError('lock', 'EAGAIN');
    this.#apply(request.nodeid, wanted);
    return NOTHING;
  }

  async setlkw(request: Request): Promise<Uint8Array> {
    const wanted = wantedOf(request);
    while (this.#conflict(request.nodeid, wanted) !== undefined) {
      await new Promise<void>((wake) => this.#waiters.push({ unique: request.unique, wake }));
      if (this.#interrupted.delete(request.unique)) throw new SystemError('lock', 'EINTR');
    }
    this.#apply(request.nodeid, wanted);
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
    const held = this.#byNode.get(nodeid);
    if (held === undefined) return;
    this.#byNode.set(
      nodeid,
      held.filter((lock) => lock.owner !== owner),
    );
    this.#wakeAll();
  }

  #conflict(nodeid: number, wanted: Held): Held | undefined {
    if (wanted.type === F_UNLCK) return undefined;
    return this.#byNode.get(nodeid)?.find((lock) => {
      const shared = lock.type === F_RDLCK && wanted.type === F_RDLCK;
      return lock.owner !== wanted.owner && !shared && overlaps(lock, wanted);
    });
  }

  #apply(nodeid: number, wanted: Held): void {
    const kept = (this.#byNode.get(nodeid) ?? []).flatMap((lock) =>
      lock.owner === wanted.owner && overlaps(lock, wanted) ? cutOut(lock, wanted) : [lock],
    );
    this.#byNode.set(nodeid, wanted.type === F_UNLCK ? kept : [...kept, wanted]);
    this.#wakeAll();
  }

  #wakeAll(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const { wake } of waiters) wake();
  }
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
