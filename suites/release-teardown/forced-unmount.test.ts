import { text } from '../lib/bytes.ts';
import { eventually } from '../lib/eventually.ts';
import { guestTest } from '../lib/guest-test.ts';

guestTest(
  'a forced unmount ends the connection, and files that are open go on until their last close (H6)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'backing' });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const hold = await fuse.hold('GETATTR');
    const waiting = client.errno.stat({ path: fuse.file('f') });
    await hold.arrived();

    t.is(await fuse.unmount('MNT_FORCE'), 'EBUSY', 'it is busy, and has no server any more');
    t.is(await waiting, 'ECONNABORTED', 'who waited for an answer waits no longer');
    t.is(await client.errno.open({ path: fuse.file('f'), flags: 'O_RDONLY' }), 'ENOTCONN');
    t.is(await client.errno.fstat({ fd }), 'ENOTCONN');
    t.is(await client.pwrite({ fd, data: 'BACK', offset: 0 }), 4);
    t.is(text(await client.pread({ fd, count: 7, offset: 0 })), 'BACKing');
    t.is(text(await client.readFile({ path: fuse.backing('f') })), 'BACKing');
    await client.errno.close({ fd });
    t.is(await fuse.unmount(), 'ok', 'after the last close');
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest(
  'a mount that lives on in another mount namespace keeps its server, and passes through there (H6)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    const other = await guest.client({ launcher: ['unshare', '--mount', '--propagation', 'private'] });
    await using _other = other;
    await other.writeFile({ path: fuse.backing('f'), data: 'backing' });
    const before = await other.open({ path: fuse.file('f'), flags: 'O_RDWR' });

    t.is(await fuse.unmount(), 'ok', 'nothing here holds it');
    t.is(text(await other.pread({ fd: before, count: 7, offset: 0 })), 'backing', 'what was open');
    const fd = await other.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    t.is(await other.pwrite({ fd, data: 'BACK', offset: 0 }), 4, 'what is opened now');
    t.is((await other.fstat({ fd })).size, 7, 'the server answers');
    t.not(await fuse.waiting(), null, 'the connection lives');
    t.deepEqual(await fuse.dataRequests(), []);
    for (const each of [before, fd]) await other.close({ fd: each });

    await other.kill();
    const end = await eventually(
      () => fuse.waiting(),
      (waiting) => waiting === null,
    );
    t.is(end, null, 'it ends with the namespace');
    await fuse.server.kill();
    t.false(await guest.isBackingBusy());
  },
);
