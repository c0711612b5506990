import { text } from '../lib/bytes.ts';
import { eventually } from '../lib/eventually.ts';
import type { FdSource } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import { needsSingleUseIds, openWithId } from '../lib/registration.ts';

/** io_uring tries to read without waiting, asks by POLL where that is refused, and leaves the rest to a thread. */

guestTest('who submits a read to io_uring does not wait for the lower file in it (A26)', async (t, guest) => {
  needsSingleUseIds(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  const [end, start] = await client.pipe({});
  await client.writeFile({ path: fuse.backing('f'), data: 'served' });
  const id = await fuse.server.registerBacking({ pid: client.pid, fd: end });
  const fd = await openWithId(guest, client, { fuse, id, flags: 'O_RDONLY' });
  const reading = client.uringChain({ operations: [{ op: 'pread', fd, count: 100, offset: 0 }] });
  reading.catch(() => undefined);
  const where = await eventually(
    () => guest.where(client.pid),
    (seen) => seen.includes('io_wq_submit_work'),
  );
  t.regex(where, /io_wq_submit_work/, 'a thread of io_uring waits for the pipe');
  await client.write({ fd: start, data: 'at last' });
  const [done] = await reading;
  t.is(text(done?.data ?? new Uint8Array()), 'at last');
  for (const each of [fd, end, start]) await client.close({ fd: each });
  t.deepEqual(await fuse.dataRequests(), []);
});

interface Refusal {
  readonly lower: FdSource;
  readonly flags: string;
  readonly refused: boolean;
}

guestTest(
  'a read without waiting is refused where the lower file cannot promise it, and made all the same (A26)',
  async (t, guest) => {
    needsSingleUseIds(guest);
    await using client = await guest.client();
    const tmpfs = `${await guest.directory('tmpfs')}/lower`;
    await client.writeFile({ path: tmpfs, data: new Uint8Array(10) });
    const zero = { path: '/dev/zero', flags: 'O_RDWR' };
    const cases: Readonly<Record<string, Refusal>> = {
      '/dev/zero': { lower: zero, flags: 'O_RDWR', refused: false },
      // There is no direct I/O below, and what is done instead might wait.
      '/dev/zero, directly': { lower: zero, flags: 'O_RDWR|O_DIRECT', refused: true },
      tmpfs: { lower: { path: tmpfs, flags: 'O_RDWR' }, flags: 'O_RDWR', refused: true },
    };
    for (const [what, { lower, flags, refused }] of Object.entries(cases)) {
      // Asked once each: this server does not know POLL.
      await using fuse = await guest.mountFuse({ passthrough: 'off' });
      await client.writeFile({ path: fuse.backing('f'), data: 'served' });
      const fd = await openWithId(guest, client, {
        fuse,
        id: await fuse.server.registerBacking(lower),
        flags,
      });
      const [done] = await client.uringChain({ operations: [{ op: 'pread', fd, count: 10, offset: 0 }] });
      t.deepEqual(done?.data, new Uint8Array(10), what);
      t.deepEqual(await fuse.opcodes('POLL'), refused ? ['POLL'] : [], `${what}: whether it was refused`);
      await client.close({ fd });
      t.deepEqual(await fuse.dataRequests(), []);
    }
  },
);
