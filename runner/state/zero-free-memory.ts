import type { Guest } from '#runner/guest/guest.ts';

/** Before the slowdown: writing all of a guest's memory once. Milliseconds. */
const LIMIT_MS = 20_000;

/**
 * So much more than is free is filled: the kernel then takes it from the pages of programs that were not used for
 * longest, which a copy reads again from its disk if it ever wants them. What is mapped of Node alone is twice
 * that. MiB.
 */
const TAKEN_MIB = 64;

/**
 * A page that nobody uses still has what was in it last, and QEMU saves every page that is not zero. So the page
 * cache gives away what no program has mapped, and all that is free is filled with zeros once.
 */
const SCRIPT = [
  'sync; echo 3 >/proc/sys/vm/drop_caches',
  "free=$(awk '/^MemFree:/ { print int($2 / 1024) }' /proc/meminfo)",
  'dir=/run/fusegate/zeros; mkdir $dir && mount -t tmpfs -o size=100% zeros $dir || exit 0',
  `dd if=/dev/zero of=$dir/file bs=1M count=$((free + ${TAKEN_MIB})) 2>/dev/null`,
  'umount $dir && rmdir $dir',
].join('\n');

/**
 * Makes a machine that is about to be saved small on disk, and its copies quick to load.
 *
 * @throws Failure as `Guest.call`.
 */
export async function zeroFreeMemory(guest: Guest, signal: AbortSignal): Promise<void> {
  const timeoutMs = Math.round(LIMIT_MS * guest.slowdown);
  await guest.call('run', { argv: ['sh', '-c', SCRIPT], timeoutMs }, { timeoutMs: timeoutMs * 2, signal });
}
