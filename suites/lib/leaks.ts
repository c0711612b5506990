import type { BatchCall, Client } from './client.ts';

/** Times that something is done of which the kernel must not keep an object each: twice what else comes and goes. */
export const ROUNDS = 160;

/** The general caches of the kernel, by what is allocated there: for the kernel itself, and in a process's name. */
export const KMALLOC = ['8', '16', '32', '64', '96', '128', '192', '256', '512', '1k', '2k', '4k'].flatMap(
  (size) => [`kmalloc-${size}`, `kmalloc-cg-${size}`],
);

/** Calls that refer to each other know where in their batch they begin. */
export type Part = BatchCall | ((at: number) => readonly BatchCall[]);

/** Calls with a descriptor that the first of them opens. */
export function onOpen(args: BatchCall['args'], calls: (fd: object) => readonly BatchCall[]): Part {
  return (at) => [
    { call: 'open', args },
    ...calls({ ref: { of: at } }),
    { call: 'close', args: { fd: { ref: { of: at } } } },
  ];
}

/**
 * The calls, so many times. @returns those of a round that failed, in order: `mkdir: EEXIST, open: ENOENT`; what several
 * rounds gave alike is there once.
 */
export async function doRounds(client: Client, parts: readonly Part[], rounds: number): Promise<string[]> {
  const calls = inOrder(parts);
  const seen = new Set<string>();
  for (let round = 0; round < rounds; round++) {
    const results = await client.batch({ calls, digests: true, oneThread: true });
    const failed = results.flatMap((result, nth) =>
      'errno' in result ? [`${calls[nth]?.call}: ${result.errno}`] : [],
    );
    seen.add(failed.join(', '));
  }
  return [...seen];
}

/** One batch of them all. */
function inOrder(parts: readonly Part[]): readonly BatchCall[] {
  const all: BatchCall[] = [];
  for (const part of parts) all.push(...(typeof part === 'function' ? part(all.length) : [part]));
  return all;
}
