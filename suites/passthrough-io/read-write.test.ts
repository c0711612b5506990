import { bytes, concat, firstDifference, pattern, text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';

guestTest('a read gives the backing file and sends no READ', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'from the backing file' });

  t.is(text(await client.readFile({ path: fuse.file('f') })), 'from the backing file');
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('a write lands in the backing file and sends no WRITE', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: '0123456789' });

  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  t.is(await client.pwrite({ fd, data: 'abc', offset: 4 }), 3);
  t.is(text(await client.readFile({ path: fuse.backing('f') })), '0123abc789');
  await client.close({ fd });
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('a file made by CREATE is in passthrough mode at once', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();

  await client.writeFile({ path: fuse.file('new'), data: 'written through CREATE', mode: 0o600 });
  t.is(text(await client.readFile({ path: fuse.backing('new') })), 'written through CREATE');
  t.deepEqual(await fuse.dataRequests(), []);
  const [create] = await fuse.requests('CREATE');
  t.truthy(create?.reply?.open?.backingId, 'CREATE was answered with a backing file');
});

guestTest('pread and pwrite at scattered offsets agree with a model', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  const model = pattern(64 * 1024);
  await client.writeFile({ path: fuse.backing('f'), data: model });

  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  for (const [index, offset] of [0, 1, 4095, 4096, 12_345, 40_000, 65_535].entries()) {
    const data = pattern(Math.min(3000, model.length - offset), index + 2);
    t.is(await client.pwrite({ fd, data, offset }), data.length);
    model.set(data, offset);
    const back = await client.pread({ fd, offset: Math.max(0, offset - 10), count: 4000 });
    const expected = model.subarray(Math.max(0, offset - 10)).subarray(0, 4000);
    t.is(firstDifference(back, expected), undefined, `around offset ${offset}`);
  }
  await client.close({ fd });
  t.is(firstDifference(await client.readFile({ path: fuse.backing('f') }), model), undefined);
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('two writers with O_APPEND lose nothing', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using one = await guest.client();
  await using other = await guest.client();
  await one.writeFile({ path: fuse.backing('log'), data: '' });

  const append = { path: fuse.file('log'), flags: 'O_WRONLY|O_APPEND' };
  const fds = [await one.open(append), await other.open(append)] as const;
  for (let round = 0; round < 8; round++) {
    await Promise.all([
      one.write({ fd: fds[0], data: `one ${round}\n` }),
      other.write({ fd: fds[1], data: `two ${round}\n` }),
    ]);
  }
  await one.close({ fd: fds[0] });
  await other.close({ fd: fds[1] });

  const lines = text(await one.readFile({ path: fuse.backing('log') }))
    .trimEnd()
    .split('\n');
  const expected = [...Array(8).keys()].flatMap((round) => [`one ${round}`, `two ${round}`]);
  t.deepEqual(lines.sort(), expected.sort());
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('readv and writev move all their parts', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR|O_CREAT' });

  const chunks = [bytes('first '), bytes('second '), bytes('third')];
  t.is(await client.writev({ fd, chunks }), 18);
  await client.lseek({ fd, offset: 0, whence: 'SEEK_SET' });
  const back = await client.readv({ fd, counts: [3, 10, 100] });
  t.is(text(back), 'first second third');
  await client.close({ fd });
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('a read at the end and beyond gives nothing', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'four' });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });

  t.is((await client.pread({ fd, count: 10, offset: 4 })).length, 0);
  t.is((await client.pread({ fd, count: 10, offset: 1 << 20 })).length, 0);
  t.is((await client.pread({ fd, count: 0, offset: 0 })).length, 0);
  t.is(text(await client.pread({ fd, count: 10, offset: 2 })), 'ur');
  await client.close({ fd });
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('size and mtime are right at once after an extending write', async (t, guest) => {
  // The kernel may believe attributes for an hour: it has to know by itself that these have changed.
  await using fuse = await guest.mountFuse({ attrValidS: 3600 });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'short' });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_WRONLY' });
  const before = await client.fstat({ fd });

  const data = concat(pattern(5000), bytes('end'));
  await client.pwrite({ fd, data, offset: 0 });
  const after = await client.fstat({ fd });
  const backing = await client.stat({ path: fuse.backing('f') });
  t.is(before.size, 5);
  t.is(after.size, data.length);
  t.is(after.mtimeNs, backing.mtimeNs);
  await client.close({ fd });
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('a read larger than any FUSE request is not cut', async (t, guest) => {
  await using fuse = await guest.mountFuse({ init: { maxWrite: 4096, maxPages: 1 } });
  await using client = await guest.client();
  const data = pattern(300 * 1024);

  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR|O_CREAT' });
  t.is(await client.pwrite({ fd, data, offset: 0 }), data.length);
  const back = await client.pread({ fd, count: data.length, offset: 0 });
  t.is(firstDifference(back, data), undefined);
  await client.close({ fd });
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('without passthrough the same file system does see READ and WRITE', async (t, guest) => {
  // What makes "no READ, no WRITE" in the other tests worth something.
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.file('f'), data: 'through the server' });

  t.is(text(await client.readFile({ path: fuse.file('f') })), 'through the server');
  const seen = new Set((await fuse.dataRequests()).map(({ opcode }) => opcode));
  t.deepEqual([...seen].sort(), ['READ', 'WRITE']);
});
