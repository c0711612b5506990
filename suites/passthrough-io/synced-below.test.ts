import type { Client } from '../lib/client.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { WITHOUT_PASSTHROUGH } from '../lib/registration.ts';

/** A second FUSE server below says which writes were to be on the disk before they returned. */

const DATASYNC = 1;

async function syncsBelow(
  guest: TestGuest,
  client: Client,
  openFlags: string,
  write: (fd: number) => Promise<unknown>,
): Promise<readonly string[]> {
  await using below = await guest.mountFuse({ passthrough: 'off', init: WITHOUT_PASSTHROUGH });
  await using fuse = await guest.mountFuse({ root: below.path, init: { maxStackDepth: 1 } });
  await client.writeFile({ path: below.backing('f'), data: '0123456789' });
  const fd = await client.open({ path: fuse.file('f'), flags: openFlags });
  await write(fd);
  const syncs = await fsyncs(below);
  await client.close({ fd });
  return syncs;
}

async function fsyncs(below: FuseMount): Promise<readonly string[]> {
  const requests = await below.requests({ opcode: 'FSYNC' });
  return requests.map(({ args }) => (Number(args['fsync_flags']) & DATASYNC ? 'data' : 'all'));
}

guestTest('O_DSYNC, RWF_DSYNC and RWF_SYNC of a write reach the backing file (A7)', async (t, guest) => {
  await using client = await guest.client();
  const below = (openFlags: string, write: (fd: number) => Promise<unknown>) =>
    syncsBelow(guest, client, openFlags, write);
  const data = new Uint8Array([1]);
  const written = (flags: string) => (fd: number) =>
    client.pwritev2({ fd, chunks: [data], offset: 0, flags });
  t.deepEqual(await below('O_RDWR', written('')), [], 'without a flag nothing is synced');
  t.deepEqual(await below('O_RDWR', written('RWF_DSYNC')), ['data'], 'RWF_DSYNC syncs the data');
  t.deepEqual(await below('O_RDWR', written('RWF_SYNC')), ['all'], 'RWF_SYNC syncs the attributes, too');
  t.deepEqual(await below('O_RDWR|O_DSYNC', written('')), ['data'], 'O_DSYNC syncs the data');
  const aio = (fd: number) => client.aio({ operations: [{ op: 'pwrite', fd, data, offset: 0 }] });
  t.deepEqual(await below('O_RDWR|O_DSYNC', aio), ['data'], 'O_DSYNC counts for asynchronous writes');
});
