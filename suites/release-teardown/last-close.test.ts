import { text } from '../lib/bytes.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import { openErrno } from '../lib/open-errno.ts';

/** Has the server answer one request, so that everything sent before it is in the log. */
async function barrier(fuse: FuseMount, stat: () => Promise<unknown>): Promise<void> {
  const after = await fuse.position();
  await stat();
  await fuse.waitFor({ opcode: 'GETATTR', after });
}

guestTest('the last close sends exactly one RELEASE and frees the backing file (C11)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'x' });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  await client.pwrite({ fd, data: 'written', offset: 0 });

  t.is(await guest.umountBacking(), 'EBUSY', 'while it is open');
  await client.close({ fd });
  const release = await fuse.waitFor('RELEASE');
  const [open] = await fuse.requests('OPEN');
  t.is(release.args['fh'], open?.reply?.open?.fh);
  t.is(text(await client.readFile({ path: fuse.backing('f') })), 'written');
  await barrier(fuse, () => client.stat({ path: fuse.path }));
  t.is((await fuse.requests('RELEASE')).length, 1);
  t.deepEqual((await fuse.state()).backingIds, []);
  t.false(await guest.isBackingBusy(), 'after the last close');
});

guestTest(
  'a duplicated descriptor keeps the file open until the last of both is closed (C5)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'backing' });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const copy = await client.dup({ fd });

    await client.close({ fd });
    await barrier(fuse, () => client.fstat({ fd: copy }));
    t.deepEqual(await fuse.requests('RELEASE'), [], 'after the first close');
    t.is(text(await client.pread({ fd: copy, count: 7, offset: 0 })), 'backing');
    t.is(await guest.umountBacking(), 'EBUSY');

    await client.close({ fd: copy });
    await fuse.waitFor('RELEASE');
    await barrier(fuse, () => client.stat({ path: fuse.path }));
    t.deepEqual(await fuse.opcodes({ opcode: ['OPEN', 'RELEASE'] }), ['OPEN', 'RELEASE']);
    t.deepEqual(await fuse.dataRequests(), []);
    t.false(await guest.isBackingBusy());
  },
);

guestTest('a descriptor passed to another process outlives the first one (C5, F5)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using one = await guest.client();
  await using other = await guest.client();
  await one.writeFile({ path: fuse.backing('f'), data: 'backing' });
  const fd = await one.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  const passed = await other.adoptFd({ pid: one.pid, fd });
  await one.kill();

  await barrier(fuse, () => other.fstat({ fd: passed }));
  t.deepEqual(await fuse.requests('RELEASE'), [], 'after the end of the process that opened it');
  await other.pwrite({ fd: passed, data: 'written', offset: 0 });
  t.is(text(await other.readFile({ path: fuse.backing('f') })), 'written');
  t.is(await guest.umountBacking(), 'EBUSY');

  await other.close({ fd: passed });
  await fuse.waitFor('RELEASE');
  await barrier(fuse, () => other.stat({ path: fuse.path }));
  t.is((await fuse.requests('RELEASE')).length, 1);
  t.deepEqual(await fuse.dataRequests(), []);
  t.false(await guest.isBackingBusy());
});

guestTest('descriptors inherited over fork cost one OPEN and one RELEASE (C5)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'one two ' });
  // The shell opens; a subshell and two programs inherit, write and end before it.
  const script = 'exec 3<>"$1"; (printf uno >&3; sh -c "printf due >&3"); printf tre >&3; exec 3>&-';
  await guest.run(['sh', '-c', script, 'sh', fuse.file('f')]);

  await fuse.waitFor('RELEASE');
  await barrier(fuse, () => client.stat({ path: fuse.path }));
  t.deepEqual(await fuse.opcodes({ opcode: ['OPEN', 'RELEASE'] }), ['OPEN', 'RELEASE']);
  t.is(text(await client.readFile({ path: fuse.backing('f') })), 'unoduetre', 'one file position for all');
  t.deepEqual(await fuse.dataRequests(), []);
  t.false(await guest.isBackingBusy());
});

guestTest('overlapping opens share one registration, and each has its own RELEASE (C3)', async (t, guest) => {
  guest.needs(guest.expected.idsAreReusable, 'ids that several opens share');
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'backing' });
  const first = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  const second = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
  const ids = (await fuse.requests('OPEN')).map(({ reply }) => reply?.open?.backingId);
  t.is(ids[0], ids[1], 'the same id');

  await client.close({ fd: first });
  const { seq: after } = await fuse.waitFor('RELEASE');
  t.deepEqual((await fuse.state()).backingIds, [ids[0]], 'still registered');
  t.is(text(await client.pread({ fd: second, count: 7, offset: 0 })), 'backing');
  await client.close({ fd: second });
  await fuse.waitFor({ opcode: 'RELEASE', after });
  t.deepEqual((await fuse.state()).backingIds, []);
  t.deepEqual(await fuse.dataRequests(), []);
  t.false(await guest.isBackingBusy());
});

guestTest('each close sends FLUSH, unless the open answer has NOFLUSH (C17)', async (t, guest) => {
  for (const [openFlags, flushes, flags] of [
    [0, 2, 'O_RDWR'],
    [0, 2, 'O_RDONLY'],
    [OpenFlag.NOFLUSH, 0, 'O_RDWR'],
  ] as const) {
    await using fuse = await guest.mountFuse({ openFlags });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'x' });
    const fd = await client.open({ path: fuse.file('f'), flags });
    const copy = await client.dup({ fd });
    await client.close({ fd: copy });
    await client.close({ fd });
    await fuse.waitFor('RELEASE');
    t.is((await fuse.requests('FLUSH')).length, flushes, `open flags ${openFlags}, ${flags}`);
  }
});

guestTest(
  'what the server answers to FLUSH is what close gives, and the file is closed',
  async (t, guest) => {
    for (const passthrough of ['auto', 'off'] as const) {
      await using fuse = await guest.mountFuse({ passthrough });
      await using client = await guest.client();
      await client.writeFile({ path: fuse.backing('f'), data: 'backing' });
      const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
      await fuse.fail('FLUSH', 'EDQUOT', 1);
      t.is(await client.errno.close({ fd }), 'EDQUOT', passthrough);
      t.is(await client.errno.close({ fd }), 'EBADF', `${passthrough}: closed all the same`);
      await fuse.waitFor('RELEASE');
    }
  },
);

guestTest(
  'a RELEASE that the server keeps waiting does not keep the file from being opened again (C13)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'backing' });
    const hold = await fuse.hold('RELEASE');
    t.is(await openErrno(client, fuse.file('f')), 'ok');
    const release = await hold.arrived();
    await hold.stop();

    t.is(text(await client.readFile({ path: fuse.file('f') })), 'backing');
    await client.unlink({ path: fuse.file('f') });
    await hold.release(release);
    await fuse.waitFor({ opcode: 'RELEASE', after: release.seq });
    t.deepEqual(await fuse.dataRequests(), []);
    t.deepEqual((await fuse.state()).handles, []);
    t.false(await guest.isBackingBusy());
  },
);

guestTest('many rounds of open, write and close leave nothing behind (C19)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: '' });
  for (let round = 0; round < 30; round++) {
    await client.writeFile({ path: fuse.file('f'), data: `round ${round}\n`, flags: 'O_WRONLY|O_APPEND' });
  }
  const { handles, backingIds } = await fuse.state();
  const lines = text(await client.readFile({ path: fuse.backing('f') }))
    .trimEnd()
    .split('\n');
  t.is(lines.length, 30);
  t.is((await fuse.requests('OPEN')).length, 30);
  t.true(handles.length <= 1 && backingIds.length <= 1, 'at most the last RELEASE is still on its way');
  t.deepEqual(await fuse.dataRequests(), []);
  const last = (await fuse.requests('OPEN')).at(-1)?.seq ?? 0;
  await fuse.waitFor({ opcode: 'RELEASE', after: last });
  t.false(await guest.isBackingBusy());
});
