import type { SyscallName, Syscalls } from '#rootfs/protocol/syscalls.ts';
import type { Client } from './client.ts';
import type { TestGuest } from './guest.ts';

/** More allocations than any one of these calls makes; beyond it the loop is wrong, not the kernel. */
const MOST = 200;

/** One try: the errno or `ok`, and what the call gave. */
export interface Try {
  readonly nth: number;
  readonly errno: string;
  readonly value: unknown;
  /** Its nth allocation was reached, and failed. */
  readonly injected: boolean;
}

/** Allocations of a client's calls that fail on purpose. */
export class FailingAllocations {
  readonly #client: Client;
  /** The client's `/proc/self/fail-nth`. */
  readonly #counter: number;

  private constructor(client: Client, counter: number) {
    this.#client = client;
    this.#counter = counter;
  }

  /**
   * For a client that is still root: the counter that the kernel has for it can be opened by nobody else. Ends the
   * test as skipped where the kernel cannot fail on purpose.
   */
  static async of(guest: TestGuest, client: Client): Promise<FailingAllocations> {
    const failslab = '/sys/kernel/debug/failslab';
    const { code } = await guest.tryRun(['test', '-d', failslab]);
    guest.needsBuilt(code === 0, 'fault injection: the debug profiles have it');
    // Allocations that may sleep fail as well; no stack trace for each.
    await guest.run(['sh', '-c', `echo N >${failslab}/ignore-gfp-wait && echo 0 >${failslab}/verbose`]);
    return new FailingAllocations(
      client,
      await client.open({ path: '/proc/self/fail-nth', flags: 'O_RDWR' }),
    );
  }

  /**
   * Makes a call again and again, its first allocation failing, its second, and so on, until it comes to its end
   * without. `after` is told of each try, and cleans up what it made.
   */
  async each<K extends SyscallName>(
    call: K,
    args: Syscalls[K]['args'],
    after: (made: Try) => Promise<void>,
  ): Promise<readonly Try[]> {
    const tries: Try[] = [];
    for (let nth = 1; nth <= MOST; nth++) {
      const made = { nth, ...(await this.#client.failNth({ counter: this.#counter, nth, call, args })) };
      tries.push(made);
      await after(made);
      if (!made.injected) return tries;
    }
    throw new Error(`${call} made more than ${MOST} allocations`);
  }
}

/** For messages: `ENOMEM at 1, 2, 5; ok at 3, 4`. */
export function inWords(tries: readonly Try[]): string {
  const by = Map.groupBy(tries, ({ errno }) => errno);
  return [...by].map(([errno, list]) => `${errno} at ${list.map(({ nth }) => nth).join(', ')}`).join('; ');
}
