import type { RunResult } from '#rootfs/protocol/calls.ts';
import type { Guest } from '#runner/guest/guest.ts';
import { Failure } from '#runner/lib/failure.ts';

/** Before the slowdown: writing all of a guest's memory once. Milliseconds. */
const LIMIT_MS = 20_000;

/** So much of programs and other files stays in memory; with nothing left of them the OOM killer would be called. MiB. */
const FILES_MIB = 16;

/**
 * A page that nobody uses still has what was in it last, and QEMU saves every page that is not zero. So the page
 * cache gives away what no program has mapped, and all that is free is filled with zeros once. Then the kernel is
 * made to take pages from programs, those that were not used for longest, which a copy reads again from its disk
 * if it ever wants them. In small steps: what a kernel counts as free is not all that it has.
 */
const FILL = [
  // What is wanted again meanwhile shall come alone, not with half a megabyte of what lies beside it.
  'ahead=/sys/block/vda/queue/read_ahead_kb; echo 16 >$ahead',
  // Nor is more kept free than the kernel cannot do without.
  'reserve=/proc/sys/vm/min_free_kbytes; cat $reserve >/run/fusegate/reserve; echo 1024 >$reserve',
  'sync; echo 3 >/proc/sys/vm/drop_caches',
  'dir=/run/fusegate/zeros; mkdir $dir && mount -t tmpfs -o size=100% zeros $dir || exit 0',
  'fill() { dd if=/dev/zero of=$dir/$1 bs=1M count=$2 2>/dev/null; }',
  "fill all $(awk '/^MemFree:/ { print int($2 / 1024) }' /proc/meminfo)",
  "files() { awk '/^Cached:/ { kib += $2 } /^Shmem:/ { kib -= $2 } END { print int(kib / 1024) }' /proc/meminfo; }",
  `for step in $(seq 24); do [ $(files) -gt ${FILES_MIB} ] || break; fill $step 4; done`,
].join('\n');

/** A call of its own: a machine that was filled and is not emptied again has no memory for any of its copies. */
const EMPTY = [
  'umount -l /run/fusegate/zeros; rmdir /run/fusegate/zeros',
  'echo 128 >/sys/block/vda/queue/read_ahead_kb',
  'cat /run/fusegate/reserve >/proc/sys/vm/min_free_kbytes; rm -f /run/fusegate/reserve',
  '! [ -e /run/fusegate/zeros ]',
].join('\n');

/**
 * Makes a machine that is about to be saved small on disk, and its copies quick to load. Where there is no time to
 * fill all of its memory the state is larger.
 *
 * @throws Failure as `Guest.call`; E_NOT_CLEAN when the memory is not given back.
 */
export async function zeroFreeMemory(guest: Guest, signal: AbortSignal): Promise<void> {
  const timeoutMs = Math.round(LIMIT_MS * guest.slowdown);
  const run = (script: string): Promise<unknown> => {
    return guest.call('run', { argv: ['sh', '-c', script], timeoutMs }, { timeoutMs: timeoutMs * 2, signal });
  };
  await run(FILL);
  const { code } = (await run(EMPTY)) as RunResult;
  if (code !== 0) throw new Failure('E_NOT_CLEAN', 'infra', 'memory that was filled with zeros stays so');
}
