import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { eventually } from '../lib/eventually.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import { needsMappings } from '../lib/registration.ts';

async function openPassthrough(fuse: FuseMount, client: Client): Promise<number> {
  await client.writeFile({ path: fuse.backing('f'), data: 'backing' });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  await client.pread({ fd, count: 7, offset: 0 });
  if ((await fuse.dataRequests()).length > 0) throw new Error('the file is not in passthrough mode');
  return fd;
}

/** Why the server stopped reading: it learns of the end of its connection in its own time. */
async function endOf(fuse: FuseMount): Promise<string | null> {
  const { ended } = await eventually(
    () => fuse.state(),
    (state) => state.ended !== null,
  );
  return ended;
}

guestTest('an aborted connection leaves open files readable and writable (H3)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  const fd = await openPassthrough(fuse, client);
  await fuse.abort();

  t.is(await client.pwrite({ fd, data: 'written', offset: 0 }), 7);
  t.is(text(await client.pread({ fd, count: 7, offset: 0 })), 'written');
  t.is(text(await client.readFile({ path: fuse.backing('f') })), 'written');
  t.is(await client.errno.fstat({ fd }), 'ENOTCONN');
  t.is(await client.errno.open({ path: fuse.file('f'), flags: 'O_RDONLY' }), 'ENOTCONN');
  t.is(await endOf(fuse), 'ENODEV', 'what the server is told');

  await client.errno.close({ fd });
  t.is(await guest.umountBacking(), 'EBUSY', 'the server’s own descriptor, and its id where ids last');
  t.is(await fuse.unmount(), 'ok');
  await fuse.server.kill();
  t.false(await guest.isBackingBusy());
  t.is(await fuse.waiting(), null);
});

guestTest(
  'with ABORT_ERROR the server of an aborted connection is told ECONNABORTED (H4)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ init: { addFlags: ['ABORT_ERROR'] } });
    await using client = await guest.client();
    const fd = await openPassthrough(fuse, client);
    await fuse.abort();
    t.is(await endOf(fuse), 'ECONNABORTED');
    t.is(text(await client.pread({ fd, count: 7, offset: 0 })), 'backing', 'the open file does not care');
    await client.errno.close({ fd });
  },
);

guestTest(
  'with ABORT_ERROR, too, a server whose mount is gone is told ENODEV, and not that it was aborted (H4)',
  async (t, guest) => {
    for (const flags of ['', 'MNT_FORCE']) {
      await using fuse = await guest.mountFuse({ init: { addFlags: ['ABORT_ERROR'] } });
      t.is(await fuse.unmount(flags), 'ok');
      t.is(await endOf(fuse), 'ENODEV', `unmounted with ${flags === '' ? 'no flag' : flags}`);
    }
  },
);

guestTest('BACKING_CLOSE works on an aborted connection (C12, H3)', async (t, guest) => {
  guest.needs(guest.expected.hasClose, 'BACKING_CLOSE');
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'x' });
  const id = await fuse.server.registerBacking({ path: fuse.backing('f'), flags: 'O_RDWR' });
  await fuse.abort();
  t.is(await guest.umountBacking(), 'EBUSY');
  t.is(await fuse.server.closeBacking(id), 'ok');
  t.false(await guest.isBackingBusy());
});

guestTest(
  'a request held by the server ends when the connection is aborted, open files go on (H3)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    const fd = await openPassthrough(fuse, client);
    const hold = await fuse.hold('GETATTR');
    const stat = client.errno.fstat({ fd });
    await hold.arrived();
    await fuse.abort();
    t.is(await stat, 'ECONNABORTED', 'it is not answered any more');
    t.is(text(await client.pread({ fd, count: 7, offset: 0 })), 'backing');
    await client.errno.close({ fd });
  },
);

guestTest(
  'after a lazy unmount the open file works on and its last close ends the connection (H5)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    const fd = await openPassthrough(fuse, client);
    t.is(await fuse.unmount(), 'EBUSY');
    t.is(await fuse.unmount('MNT_DETACH'), 'ok');

    t.is(await client.errno.stat({ path: fuse.file('f') }), 'ENOENT', 'the name is gone');
    t.is(await client.pwrite({ fd, data: 'written, longer', offset: 0 }), 15);
    t.is(text(await client.pread({ fd, count: 100, offset: 0 })), 'written, longer');
    t.is((await client.fstat({ fd })).size, 15, 'metadata too');
    t.not(await fuse.waiting(), null, 'the connection lives');
    t.deepEqual(await fuse.dataRequests(), []);
    t.is(await guest.umountBacking(), 'EBUSY');

    await client.close({ fd });
    t.is(await endOf(fuse), 'ENODEV');
    t.is(await fuse.waiting(), null, 'no connection left');
    await fuse.server.kill();
    t.false(await guest.isBackingBusy());
  },
);

guestTest(
  'after a lazy unmount a mapping alone does not keep the connection, only the backing file (C6, H5)',
  async (t, guest) => {
    needsMappings(guest);
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    const fd = await openPassthrough(fuse, client);
    const map = await client.mmap({ fd, length: 4096, prot: 'PROT_READ', flags: 'MAP_SHARED' });
    t.is(await fuse.unmount('MNT_DETACH'), 'ok');
    await client.close({ fd });
    t.is(text(await client.mread({ map, offset: 0, length: 7 })), 'backing');
    await fuse.server.kill();
    t.is(text(await client.mread({ map, offset: 0, length: 7 })), 'backing', 'and without any server');
    t.is(await guest.umountBacking(), 'EBUSY');
    await client.munmap({ map });
    t.false(await guest.isBackingBusy());
    t.is(
      await eventually(
        () => fuse.waiting(),
        (waiting) => waiting === null,
      ),
      null,
    );
  },
);

guestTest('a plain unmount with nothing open ends connection and registrations (C12)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  const fd = await openPassthrough(fuse, client);
  await client.close({ fd });
  await fuse.waitFor('RELEASE');
  t.is(await fuse.unmount(), 'ok');
  t.is(await endOf(fuse), 'ENODEV');
  t.is(await fuse.waiting(), null);
  t.false(await guest.isBackingBusy(), 'though the server has its device open');
  t.deepEqual(await fuse.opcodes('DESTROY'), [], 'an unmount waits for no word of the server');
});
