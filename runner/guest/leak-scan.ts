import { z } from 'zod';
import type { Guest } from './guest.ts';

/** Before the slowdown: a scan reads all of the guest's memory. Milliseconds. */
const SCAN_MS = 60_000;

/**
 * Objects count as leaked when nothing has pointed to them in two scans, and only five seconds after they were
 * made (mm/kmemleak.c, MSECS_MIN_AGE): the wait is the kernel's, and no event ends it.
 */
const SCAN = [
  'k=/sys/kernel/debug/kmemleak',
  '[ -w $k ] || exit 0',
  'sleep 5; echo scan >$k; echo scan >$k; cat $k',
].join('\n');
const FORGET = `${SCAN} >/dev/null; [ ! -w $k ] || echo clear >$k`;

const Outcome = z.looseObject({ stdout: z.instanceof(Uint8Array) });

/** What kmemleak has found that no earlier scan told; nothing on a kernel without it. Lines. */
export async function scanForLeaks(guest: Guest, signal: AbortSignal): Promise<readonly string[]> {
  const stdout = await shell(guest, `${SCAN}; [ ! -w $k ] || echo clear >$k`, signal);
  return stdout.split('\n').filter((line) => line !== '');
}

/** Whatever the boot left is not any test's doing. */
export async function forgetLeaks(guest: Guest, signal: AbortSignal): Promise<void> {
  await shell(guest, FORGET, signal);
}

async function shell(guest: Guest, script: string, signal: AbortSignal): Promise<string> {
  const timeoutMs = Math.round(SCAN_MS * guest.slowdown);
  const answer = await guest.call(
    'run',
    { argv: ['sh', '-c', script], timeoutMs },
    { timeoutMs: timeoutMs + SCAN_MS, signal },
  );
  return Buffer.from(Outcome.parse(answer).stdout).toString('utf8');
}
