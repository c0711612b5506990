import type { ExecutionContext } from 'ava';
import type { BatchCall, Client } from './client.ts';
import { eventually } from './eventually.ts';
import type { TestGuest } from './guest.ts';
import { countObjects, memoryInUse, staysGrown } from './object-counts.ts';

/** Times that something is done of which the kernel must not keep an object each: twice what else comes and goes. */
export const ROUNDS = 160;
/** So many rounds are one request to the guest. */
const AT_ONCE = 8;

/** The general caches of the kernel, by what is allocated there: for the kernel itself, and in a process's name. */
export const KMALLOC = [
  '8',
  '16',
  '32',
  '64',
  '96',
  '128',
  '192',
  '256',
  '512',
  '1k',
  '2k',
  '4k',
  '8k',
].flatMap((size) => [`kmalloc-${size}`, `kmalloc-cg-${size}`]);

/** Calls that refer to each other know where in their batch they begin. */
export type Part = BatchCall | ((at: number) => readonly BatchCall[]);

/** A call on a path. */
export function on(call: BatchCall['call'], path: string, more: BatchCall['args'] = {}): BatchCall {
  return { call, args: { path, ...more } };
}

/** Calls with a descriptor that the first of them opens, which is number `at` of their batch. */
export function onOpen(
  args: BatchCall['args'],
  calls: (fd: object, at: number) => readonly BatchCall[],
): Part {
  return (at) => [
    { call: 'open', args },
    ...calls({ ref: { of: at } }, at),
    { call: 'close', args: { fd: { ref: { of: at } } } },
  ];
}

/**
 * The calls, so many times. @returns those of a round that failed, in order: `mkdir: EEXIST, open: ENOENT`; what several
 * rounds gave alike is there once.
 */
export async function doRounds(client: Client, parts: readonly Part[], rounds: number): Promise<string[]> {
  const length = inOrder(parts).length;
  const seen = new Set<string>();
  for (let done = 0; done < rounds; done += AT_ONCE) {
    const calls = inOrder(Array.from({ length: Math.min(AT_ONCE, rounds - done) }, () => parts).flat());
    const results = await client.batch({ calls, digests: true, oneThread: true });
    const said = results.map((result, nth) =>
      'errno' in result ? [`${calls[nth]?.call}: ${result.errno}`] : [],
    );
    for (let at = 0; at < said.length; at += length) {
      seen.add(
        said
          .slice(at, at + length)
          .flat()
          .join(', '),
      );
    }
  }
  return [...seen];
}

/** Asserts of many rounds that they fail in the calls that they should, and leave no objects in these caches. */
export async function leaveNothing(
  t: ExecutionContext,
  { guest, client, caches }: { guest: TestGuest; client: Client; caches: readonly string[] },
  round: readonly Part[],
  fails: readonly string[] = [],
): Promise<void> {
  t.deepEqual(await doRounds(client, round, 1), [fails.join(', ')], 'once');
  const before = await countObjects(guest, caches);
  t.deepEqual(await doRounds(client, round, ROUNDS), [fails.join(', ')], 'each of them');
  t.deepEqual(await staysGrown(guest, before, caches), []);
}

/** One batch of them all. */
export function inOrder(parts: readonly Part[]): readonly BatchCall[] {
  const all: BatchCall[] = [];
  for (const part of parts) all.push(...(typeof part === 'function' ? part(all.length) : [part]));
  return all;
}

/** Pages of a page cache are counted by nobody once somebody has them by himself: so many are used so often. */
export const PAGES = 256;
export const TIMES = 16;
/** KiB. Half of what is used. */
const MARGIN_OF_MEMORY = (PAGES * TIMES * 4) / 2;

/** Asserts that `PAGES` pages, used by a call `TIMES` times, are not in use for nothing afterwards. */
export async function leavesNoMemory(
  t: ExecutionContext,
  guest: TestGuest,
  { client, calls }: { readonly client: Client; readonly calls: readonly BatchCall[] },
): Promise<void> {
  // What is in caches from now on is there before.
  t.deepEqual(await doRounds(client, calls, 1), [''], 'once');
  const before = await memoryInUse(guest);
  t.deepEqual(await doRounds(client, calls, TIMES), [''], 'each time');
  const more = async () => (await memoryInUse(guest)) - before;
  const left = await eventually(more, (kib) => kib < MARGIN_OF_MEMORY, 20);
  t.true(left < MARGIN_OF_MEMORY, `${left} KiB more are in use for nothing that the kernel counts`);
}
