import { basename, dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { RpcRefusal } from '#rootfs/protocol/peer.ts';
import type { MachineShare } from '#runner/lease/messages.ts';
import { SkipTest, TestGuest } from './guest.ts';
import { Lease } from './lease.ts';

/** Waiting for a machine is not the test's time: machines are few, and one may have to boot. */
const LEASE_BUDGET_MS = 30 * 60_000;
/**
 * On a machine of normal speed. Every call has a deadline of its own in the guest, well below; this one is for
 * a guest that has stopped to answer at all. AVA's own would end the test and leave its machine leased.
 */
const TEST_BUDGET_MS = 30_000;

class TestTimeout extends Error {
  override readonly name = 'TestTimeout';
}

export type GuestTest = (t: ExecutionContext, guest: TestGuest) => Promise<void>;

/**
 * A test on a leased machine. Whatever it leaves behind (a mount, a process, a reference to the backing
 * filesystem, a complaint of the kernel) fails it.
 */
export function guestTest(title: string, body: GuestTest): void {
  test.serial(title, (t) => runOnGuest(t, { title, share: 'shared' }, body));
}

/**
 * The same on a machine that has booted for this test alone, for what can be seen only once in a kernel's life.
 * Others get a copy of a machine on which a first mount has been made already. It costs a boot.
 */
guestTest.cold = (title: string, body: GuestTest): void => {
  test.serial(title, (t) => runOnGuest(t, { title, share: 'cold' }, body));
};

/**
 * The same on a machine that serves this test alone, for stacks of filesystems. lockdep has one class of locks for
 * each type of filesystem and never forgets an order: to a kernel that has had FUSE over ecryptfs, ecryptfs over
 * FUSE is a circle.
 */
guestTest.alone = (title: string, body: GuestTest): void => {
  test.serial(title, (t) => runOnGuest(t, { title, share: 'alone' }, body));
};

async function runOnGuest(
  t: ExecutionContext,
  { title, share }: { readonly title: string; readonly share: MachineShare },
  body: GuestTest,
): Promise<void> {
  t.timeout(LEASE_BUDGET_MS, 'waiting for a machine');
  const lease = await Lease.acquire(testId(title), share);
  const outcome = await settle(t, lease, body);
  const { findings } = await finish(lease, outcome);
  if (outcome instanceof Error) throw outcome;
  if (findings.length > 0) t.fail(findings.map(({ message }) => message).join('\n'));
}

/** @returns what the test threw, if anything. A skipped test has passed as far as AVA is concerned. */
async function settle(t: ExecutionContext, lease: Lease, body: GuestTest): Promise<Error | undefined> {
  try {
    await inTime(body(t, new TestGuest(lease)), lease.scaled(TEST_BUDGET_MS));
    return undefined;
  } catch (error) {
    if (error instanceof SkipTest) {
      await lease.skip(error.message);
      t.pass(`skipped: ${error.message}`);
      return undefined;
    }
    return error instanceof Error ? error : new Error(String(error));
  }
}

async function inTime(work: Promise<void>, limitMs: number): Promise<void> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    late.reject(new TestTimeout(`the test did not end in ${Math.round(limitMs / 1000)} s`));
  }, limitMs);
  try {
    await Promise.race([work, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** When the machine is gone, the test's own failure says more than that nothing could be checked. */
async function finish(
  lease: Lease,
  outcome: Error | undefined,
): Promise<Awaited<ReturnType<Lease['finish']>>> {
  try {
    return await lease.finish({ passed: outcome === undefined, timedOut: outcome instanceof TestTimeout });
  } catch (error) {
    if (outcome !== undefined && error instanceof RpcRefusal) return { findings: [], evidence: [] };
    throw error;
  }
}

/** `area/file: title`; the area is the file's directory. */
function testId(title: string): string {
  const file = fileURLToPath(test.meta.file);
  return `${basename(dirname(file))}/${basename(file).replace(/\.test\.ts$/, '')}: ${title}`;
}
