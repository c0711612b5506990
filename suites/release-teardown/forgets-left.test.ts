import { dropCaches } from '../lib/drop-caches.ts';
import { guestTest } from '../lib/guest-test.ts';
import { makeAll } from '../lib/make-all.ts';
import { countObjects, staysGrown } from '../lib/object-counts.ts';

/** More than come and go with the rest of the machine. */
const NODES = 320;
/** What is kept of a node that the server is to forget is of 24 bytes. */
const CACHES = ['filp', 'kmalloc-32', 'kmalloc-cg-32'];

guestTest(
  `${NODES} nodes of which the server was not told to forget them leave nothing when the connection is aborted`,
  async (t, guest) => {
    await using client = await guest.client({ callMs: 60_000 });
    const names = Array.from({ length: NODES }, (_none, nth) => `f${nth}`);
    const root = await guest.directory('ext4', 'root');
    await makeAll(
      client,
      names.map((name) => ({ call: 'mknod', args: { path: `${root}/${name}`, mode: 0o100_644 } })),
    );
    const before = await countObjects(guest, CACHES);
    await using fuse = await guest.mountFuse({ root, entryValidS: 100_000, attrValidS: 100_000 });
    await makeAll(
      client,
      names.map((name) => ({ call: 'stat', args: { path: fuse.file(name) } })),
    );
    const device = await fuse.server.lendDevice(client);
    await fuse.server.kill('SIGSTOP');
    await dropCaches(client, 'names and inodes');
    t.is(await client.poll({ fd: device }), 'in|out', 'nodes wait to be forgotten');
    await fuse.abort();
    t.is(await client.errno.read({ fd: device, count: 2 << 20 }), 'ENODEV', 'nobody can read them any more');
    await client.close({ fd: device });
    await fuse.server.kill('SIGCONT');
    t.is(await fuse.unmount(), 'ok');
    await fuse.server.kill('SIGKILL');
    t.deepEqual(await staysGrown(guest, before, CACHES), []);
  },
);

guestTest(`${NODES} nodes that the server is told to forget one by one leave nothing`, async (t, guest) => {
  await using client = await guest.client({ callMs: 60_000 });
  await using fuse = await guest.mountFuse();
  const path = fuse.file('f');
  const round = [
    { call: 'mknod', args: { path, mode: 0o100_644 } },
    { call: 'unlink', args: { path } },
  ] as const;
  await makeAll(client, round);
  const before = await countObjects(guest, CACHES);
  const after = await fuse.position();
  await makeAll(client, Array.from({ length: NODES }, () => round).flat());
  const told = await fuse.opcodes({ opcode: ['FORGET', 'BATCH_FORGET'], after });
  t.true(told.filter((opcode) => opcode === 'FORGET').length > NODES / 2, `${told.length} in all`);
  t.deepEqual(await staysGrown(guest, before, CACHES), []);
});
