import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { eventually } from '../lib/eventually.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { mountWithModes, openAs, register } from '../lib/open-modes.ts';

const DIRECT = OpenFlag.DIRECT_IO | OpenFlag.PARALLEL_DIRECT_WRITES;
/** Where a cached open, and the first shared mapping of a direct one, wait for parallel direct writes. */
const WAITING = 'fuse_file_cached_io_open';
/** Trips to the guest in which a task that was woken certainly comes to run. */
const PATIENCE = 60;

async function waits(guest: TestGuest, client: Client, tries?: number): Promise<boolean> {
  const where = await eventually(
    () => guest.where(client.pid),
    (stack) => stack.includes(WAITING) === (tries === undefined),
    tries,
  );
  return where.includes(WAITING);
}

async function openDirect(fuse: FuseMount, client: Client): Promise<number> {
  await fuse.answerOpen('OPEN', { openFlags: DIRECT, backingId: 0 }, 1);
  return client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
}

guestTest(
  'a cached open that waits for a direct write is refused when a passthrough open overtakes it (D8)',
  async (t, guest) => {
    await using fuse = await mountWithModes(guest);
    await using client = await guest.client();
    await using other = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const id = await register(fuse, 'f');
    const direct = await openDirect(fuse, client);
    const hold = await fuse.hold('WRITE');
    const writing = client.pwrite({ fd: direct, data: 'CON', offset: 0 });
    writing.catch(() => undefined);
    const request = await hold.arrived();
    const opening = openAs(other, fuse, { name: 'f', mode: 'cached' }).then(
      () => 'opened',
      (error: unknown) => String(error),
    );
    t.true(await waits(guest, other), 'the cached open waits for the writer');
    const passthrough = await openAs(client, fuse, { name: 'f', mode: 'passthrough', id });
    await hold.release(request);
    await hold.stop();
    t.is(await writing, 3);

    const stillWaits = await waits(guest, other, PATIENCE);
    t.is(text(await client.pread({ fd: passthrough, count: 8, offset: 0 })), 'CONtents');
    for (const fd of [passthrough, direct]) await client.close({ fd });
    const outcome = await opening;
    t.false(stillWaits, 'the writer is done, the file in passthrough mode: nothing is left to wait for');
    t.regex(outcome, /EIO/, 'refused, as any cached open beside a passthrough one');
  },
);
