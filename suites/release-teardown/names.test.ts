import { text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';

guestTest(
  'an unlinked file is read and written until its last close, then its space is free (C8)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'backing' });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    await client.unlink({ path: fuse.file('f') });

    t.is(await client.errno.stat({ path: fuse.backing('f') }), 'ENOENT');
    t.is(text(await client.pread({ fd, count: 7, offset: 0 })), 'backing');
    t.is(await client.pwrite({ fd, data: 'orphan, longer', offset: 0 }), 14);
    t.is(text(await client.pread({ fd, count: 100, offset: 0 })), 'orphan, longer');
    const { nlink, size } = await client.fstat({ fd });
    t.deepEqual({ nlink, size }, { nlink: 0, size: 14 });
    t.is(await guest.umountBacking(), 'EBUSY');
    t.deepEqual(await fuse.dataRequests(), []);

    await client.close({ fd });
    await fuse.waitFor('RELEASE');
    t.is((await fuse.requests('RELEASE')).length, 1);
    t.false(await guest.isBackingBusy());
  },
);

guestTest(
  'a file made anew under the name of an unlinked open one is another file (C8, C14)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'old' });
    const old = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    await client.unlink({ path: fuse.file('f') });
    const made = await client.open({ path: fuse.file('f'), flags: 'O_RDWR|O_CREAT|O_EXCL' });
    await client.pwrite({ fd: made, data: 'new', offset: 0 });

    t.is(text(await client.pread({ fd: old, count: 9, offset: 0 })), 'old');
    t.is(text(await client.pread({ fd: made, count: 9, offset: 0 })), 'new');
    t.is(text(await client.readFile({ path: fuse.backing('f') })), 'new');
    await client.close({ fd: old });
    await client.close({ fd: made });
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest('a renamed file stays open on the same backing file (C9)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'backing' });
  await client.writeFile({ path: fuse.backing('over'), data: 'is replaced' });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  const replaced = await client.open({ path: fuse.file('over'), flags: 'O_RDONLY' });
  await client.rename({ from: fuse.file('f'), to: fuse.file('over') });

  await client.pwrite({ fd, data: 'written', offset: 0 });
  t.is(text(await client.readFile({ path: fuse.backing('over') })), 'written');
  t.is(text(await client.readFile({ path: fuse.file('over') })), 'written', 'opened again by the new name');
  t.is(text(await client.pread({ fd: replaced, count: 20, offset: 0 })), 'is replaced');
  t.is(await client.errno.stat({ path: fuse.file('f') }), 'ENOENT');
  await client.close({ fd });
  await client.close({ fd: replaced });
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('hard links of one file share inode, backing file and data (C9)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('one'), data: 'backing' });
  await client.link({ from: fuse.backing('one'), to: fuse.backing('other') });
  const one = await client.open({ path: fuse.file('one'), flags: 'O_RDWR' });
  const other = await client.open({ path: fuse.file('other'), flags: 'O_RDWR' });

  const nodes = (await fuse.requests('OPEN')).map(({ nodeid }) => nodeid);
  t.is(nodes[0], nodes[1]);
  await client.pwrite({ fd: one, data: 'through', offset: 0 });
  t.is(text(await client.pread({ fd: other, count: 7, offset: 0 })), 'through');
  await client.unlink({ path: fuse.file('one') });
  t.is(text(await client.pread({ fd: one, count: 7, offset: 0 })), 'through');
  await client.close({ fd: one });
  t.is(text(await client.pread({ fd: other, count: 7, offset: 0 })), 'through');
  await client.close({ fd: other });
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest(
  'a backing file replaced or unlinked behind the server stays the one that was registered (C10)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'registered' });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    await client.writeFile({ path: fuse.backing('new'), data: 'replacement' });
    await client.rename({ from: fuse.backing('new'), to: fuse.backing('f') });

    t.is(text(await client.pread({ fd, count: 20, offset: 0 })), 'registered');
    await client.pwrite({ fd, data: 'R', offset: 0 });
    t.is(text(await client.readFile({ path: fuse.backing('f') })), 'replacement', 'not written to');
    t.is(text(await client.pread({ fd, count: 20, offset: 0 })), 'Registered');
    await client.close({ fd });
    await fuse.waitFor('RELEASE');
    t.is(text(await client.readFile({ path: fuse.file('f') })), 'replacement', 'the next open');
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest('a backing file truncated behind the server is short at once (C10)', async (t, guest) => {
  await using fuse = await guest.mountFuse({ attrValidS: 3600 });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'registered' });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  await client.truncate({ path: fuse.backing('f'), length: 3 });

  t.is(text(await client.pread({ fd, count: 20, offset: 0 })), 'reg');
  t.is((await client.pread({ fd, count: 20, offset: 3 })).length, 0);
  await client.pwrite({ fd, data: '!', offset: 5 });
  t.is(text(await client.readFile({ path: fuse.backing('f') })), 'reg\0\0!');
  await client.close({ fd });
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest(
  'an inode that was forgotten and looked up again is opened in passthrough mode again (C14)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'first' });
    t.is(text(await client.readFile({ path: fuse.file('f') })), 'first');
    await fuse.waitFor('RELEASE');
    t.is(await fuse.notify({ parent: '/', name: 'f' }), 'ok');
    const forget = await fuse.waitFor({ opcode: ['FORGET', 'BATCH_FORGET'] }, 'arrived');
    t.truthy(forget);

    await client.writeFile({ path: fuse.backing('f'), data: 'second' });
    t.is(text(await client.readFile({ path: fuse.file('f') })), 'second');
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest(
  'an O_TMPFILE through FUSE is in passthrough mode and gone with its last close (A4, C8)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    const fd = await client.open({ path: fuse.path, flags: 'O_TMPFILE|O_RDWR', mode: 0o600 });
    await client.pwrite({ fd, data: 'nameless', offset: 0 });
    t.is(text(await client.pread({ fd, count: 20, offset: 0 })), 'nameless');
    t.is(await guest.umountBacking(), 'EBUSY');
    await client.close({ fd });
    await fuse.waitFor('RELEASE');
    t.deepEqual(await client.readdir({ path: fuse.root }), []);
    t.deepEqual(await fuse.dataRequests(), []);
    t.false(await guest.isBackingBusy());
  },
);
