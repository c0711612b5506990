import type { TestGuest } from './guest.ts';

/** Objects of the kernel as SLUB counts them, by cache. */
export type Counts = Readonly<Record<string, number>>;

/** What other processes of the machine come and go with meanwhile: what is done to find a leak is done twice as often. */
export const MARGIN = 80;
/** Much is freed late, by RCU: asked again so often. Each question takes a while. */
const TRIES = 20;

/** Ends the test as skipped where the kernel does not count. Caches that it has merged are counted under any name. */
export async function countObjects(guest: TestGuest, caches: readonly string[]): Promise<Counts> {
  // What is given to kfree_rcu() may stay for five seconds, and longer if more comes; its shrinker lets it go.
  // Until it is shrunk a cache counts the free objects in the slabs of the CPUs as used. No program is started for
  // a cache: every process leaves something to kfree_rcu().
  const script = `cd /sys/kernel/slab 2>/dev/null || exit 0
    set -e
    echo 2 >/proc/sys/vm/drop_caches
    for c in ${caches.join(' ')}; do
      if [ -e $c ]; then echo 1 >$c/shrink; read -r objects nodes <$c/objects; echo $c $objects; fi
    done`;
  const { stdout } = await guest.run(['sh', '-c', script]);
  const lines = stdout
    .trim()
    .split('\n')
    .map((line) => line.split(' '));
  const counts = Object.fromEntries(lines.map(([name = '', objects = '']) => [name, Number(objects)]));
  if (!('filp' in counts)) guest.skip('this kernel does not count its objects');
  return counts;
}

/** Caches with more objects than before, in words. */
export function grown(before: Counts, after: Counts, margin = MARGIN): string[] {
  return Object.entries(before).flatMap(([name, then]) => {
    const more = (after[name] ?? 0) - then;
    return more > margin ? [`${name}: ${more} more`] : [];
  });
}

/** The same, asked until there are none or it has been asked often enough. */
export async function staysGrown(
  guest: TestGuest,
  before: Counts,
  caches: readonly string[],
  margin = MARGIN,
): Promise<string[]> {
  const more = async () => grown(before, await countObjects(guest, caches), margin);
  let found = await more();
  for (let tried = 1; tried < TRIES && found.length > 0; tried++) found = await more();
  return found;
}

/** Of /proc/meminfo: what is free, and what has its use told. */
const ACCOUNTED =
  /^(?:MemFree|Active|Inactive|Unevictable|Slab|KernelStack|PageTables|SecPageTables|Percpu): +(\d+) kB$/gmu;

/** KiB of memory that are neither free nor anything that the kernel counts: single pages that somebody has, above all. */
export async function memoryInUse(guest: TestGuest): Promise<number> {
  const meminfo = (await guest.run(['cat', '/proc/meminfo'])).stdout;
  const zones = (await guest.run(['cat', '/proc/zoneinfo'])).stdout;
  const sum = (found: Iterable<RegExpExecArray>): number =>
    [...found].reduce((all, [, number = '0']) => all + Number(number), 0);
  // Free pages that a CPU has for itself are not in MemFree.
  const ofCpus = 4 * sum(zones.matchAll(/^ +count: +(\d+)$/gmu));
  return sum(meminfo.matchAll(/^MemTotal: +(\d+) kB$/gmu)) - sum(meminfo.matchAll(ACCOUNTED)) - ofCpus;
}
