import type { Client } from '../lib/client.ts';
import { eventually } from '../lib/eventually.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { mountWithModes, openAs, register } from '../lib/open-modes.ts';

/** Whether direct writes of one file are under way at once depends on who has it cached. */

const PARALLEL = OpenFlag.DIRECT_IO | OpenFlag.PARALLEL_DIRECT_WRITES;

/** Whether a client whose only call is a write stands before the server, for the lock of the inode. */
function waitsForLock(where: string): boolean {
  return /fuse_(file|direct)_write_iter|fuse_dio_lock/.test(where) && !where.includes('request_wait_answer');
}

/** Where a cached open waits for direct writes that are under way. */
const WAITS_FOR_WRITES = /fuse_\w*io_open|fuse_finish_open/;

async function openParallel(fuse: FuseMount, client: Client): Promise<number> {
  await fuse.answerOpen('OPEN', { openFlags: PARALLEL }, 1);
  return client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
}

interface Writers {
  readonly fuse: FuseMount;
  readonly first: { readonly client: Client; readonly fd: number };
  readonly second: { readonly client: Client; readonly fd: number };
}

/** Two writes of two processes, the first held at the server: whether the second comes there before it is answered. */
async function howTheyWrite(guest: TestGuest, { fuse, first, second }: Writers): Promise<string> {
  const after = await fuse.position();
  const hold = await fuse.hold('WRITE');
  const one = first.client.pwrite({ fd: first.fd, data: 'ab', offset: 0 });
  const request = await hold.arrived();
  const other = second.client.pwrite({ fd: second.fd, data: 'cd', offset: 4 });
  other.catch(() => undefined);
  const both = async () => (await fuse.requests({ opcode: 'WRITE', after })).length === 2;
  const seen = await eventually(
    async () => ((await both()) ? 'at once' : await guest.where(second.client.pid)),
    (where) => where === 'at once' || waitsForLock(where),
  );
  await hold.release(request);
  await hold.release(await hold.arrived());
  await hold.stop();
  await Promise.all([one, other]);
  if (seen === 'at once') return seen;
  return waitsForLock(seen) ? 'one after the other' : seen;
}

guestTest(
  'direct writes are parallel again once the last cached open is closed, and not before (D8)',
  async (t, guest) => {
    await using fuse = await mountWithModes(guest);
    await using client = await guest.client();
    await using other = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: '0123456789' });
    const writers: Writers = {
      fuse,
      first: { client, fd: await openParallel(fuse, client) },
      second: { client: other, fd: await openParallel(fuse, other) },
    };
    t.is(await howTheyWrite(guest, writers), 'at once', 'no cached open');
    const cached = [
      await openAs(client, fuse, { name: 'f', mode: 'cached' }),
      await openAs(client, fuse, { name: 'f', mode: 'cached' }),
    ];
    t.is(await howTheyWrite(guest, writers), 'one after the other', 'two cached opens');
    await client.close({ fd: cached[0] ?? -1 });
    t.is(await howTheyWrite(guest, writers), 'one after the other', 'one cached open');
    await client.close({ fd: cached[1] ?? -1 });
    t.is(await howTheyWrite(guest, writers), 'at once', 'none any more');
    await client.close({ fd: writers.first.fd });
    await other.close({ fd: writers.second.fd });
  },
);

guestTest(
  'a cached open that waits keeps further direct writes from being parallel (D8)',
  async (t, guest) => {
    await using fuse = await mountWithModes(guest);
    await using client = await guest.client();
    await using other = await guest.client();
    await using opener = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: '0123456789' });
    const [one, two] = [await openParallel(fuse, client), await openParallel(fuse, other)];
    const hold = await fuse.hold('WRITE');
    const first = client.pwrite({ fd: one, data: 'ab', offset: 0 });
    const request = await hold.arrived();
    const opening = openAs(opener, fuse, { name: 'f', mode: 'cached' });
    opening.catch(() => undefined);
    const openerAt = await eventually(
      () => guest.where(opener.pid),
      (where) => WAITS_FOR_WRITES.test(where),
    );
    t.regex(openerAt, WAITS_FOR_WRITES, 'the cached open waits for the first write');
    const second = other.pwrite({ fd: two, data: 'cd', offset: 4 });
    second.catch(() => undefined);
    const writes = async () => (await fuse.requests('WRITE')).length;
    const where = await eventually(
      async () => ((await writes()) === 2 ? 'at the server' : await guest.where(other.pid)),
      (seen) => seen === 'at the server' || waitsForLock(seen),
    );
    t.true(
      waitsForLock(where),
      `the second write waits, else writers could keep the open waiting for ever: ${where}`,
    );
    await hold.stop();
    await hold.release(request);
    t.deepEqual(await Promise.all([first, second]), [2, 2]);
    await opener.close({ fd: await opening });
    await client.close({ fd: one });
    await other.close({ fd: two });
  },
);

guestTest('a direct open counts once as cached, however often it is mapped shared (D7)', async (t, guest) => {
  await using fuse = await mountWithModes(guest, { init: { addFlags: ['DIRECT_IO_ALLOW_MMAP'] } });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: '0123456789' });
  const id = await register(fuse, 'f');
  const fd = await openAs(client, fuse, { name: 'f', mode: 'direct' });
  for (let round = 0; round < 3; round++) {
    const map = await client.mmap({ fd, length: 4096, prot: 'PROT_READ', flags: 'MAP_SHARED' });
    await client.munmap({ map });
  }
  const refused = await openAs(client, fuse, { name: 'f', mode: 'passthrough', id }).catch(String);
  t.regex(String(refused), /EIO/, 'it is open');
  await client.close({ fd });
  const opened = await openAs(client, fuse, { name: 'f', mode: 'passthrough', id }).catch(String);
  t.is(typeof opened, 'number', `after its only close the file can be in passthrough mode: ${opened}`);
  await client.close({ fd: Number(opened) });
});
